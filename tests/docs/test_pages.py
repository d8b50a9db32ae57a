"""Pages of the manual: their lengths, the navigation, the names and messages in them."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.docs.command_check import check_command
from tests.docs.pages import DOCS, ROOT, user_pages, word_count
from tests.test_layout import modules

MOST_LINES, MOST_WORDS = 120, 900
LONG = frozenset({"troubleshooting.md"})
CODE_FILE = re.compile(r"docs/([\w/]+\.md)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", user_pages(), ids=name_of)
def test_a_page_is_short(page: Path) -> None:
    if page.name not in LONG and page.parent.name != "reference":
        assert word_count(page) <= MOST_WORDS


def test_every_page_is_in_the_navigation() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = [page for entry in config["nav"] for page in entries(entry)]
    assert sorted(named) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def entries(entry: dict[str, object] | str) -> list[str]:
    """Pages in an entry of the navigation."""
    if isinstance(entry, str):
        return [entry]
    (value,) = entry.values()
    return [page for part in value for page in entries(part)] if isinstance(value, list) else [str(value)]


@pytest.mark.parametrize("page", user_pages(), ids=name_of)
def test_modules_and_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`(glam(?:\.[a-z_]+)+)`", text):
        package, _, last = name.rpartition(".")
        assert importlib.util.find_spec(package), name
        found = importlib.import_module(package)
        assert importlib.util.find_spec(name) if hasattr(found, "__path__") and not hasattr(found, last) else True
        assert hasattr(found, last) or importlib.util.find_spec(name), name
    for name in re.findall(r"`((?:benchmarks|tests|docs)/[\w/.*]+)`", text):
        assert list(ROOT.glob(name.rstrip("/"))), name
    for name in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / name).exists(), name


@pytest.mark.parametrize("folder", ["app", "datasets", "eval", "glam", "index", "kernels", "training"])
def test_pages_that_code_and_help_texts_name_exist(folder: str) -> None:
    for file in (ROOT / folder).rglob("*"):
        if file.suffix in (".py", ".yaml") and file.resolve().is_relative_to(ROOT / folder):
            for name in CODE_FILE.findall(file.read_text(encoding="utf-8")):
                assert (DOCS / name).exists(), f"{file.relative_to(ROOT)} names docs/{name}"


@pytest.fixture(scope="module")
def messages() -> list[str]:
    """Every string in the code, the values in it as ``...``."""
    found = []
    for file in modules():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


@pytest.fixture(scope="module")
def entries_of_troubleshooting() -> dict[str, list[str]]:
    """The lines below each message of the page for troubleshooting."""
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    found = re.findall(r"^### `(.+)`\n\n((?:.+\n)+)", text, re.MULTILINE)
    assert len(found) == len(dict(found)) == text.count("\n### ")
    return {message: lines.splitlines() for message, lines in found}


def test_messages_of_the_troubleshooting_page_are_those_of_the_code(
    messages: list[str], entries_of_troubleshooting: dict[str, list[str]]
) -> None:
    assert len(entries_of_troubleshooting) >= 40
    code = [plain(message) for message in messages]
    for message in entries_of_troubleshooting:
        pattern = re.compile(".*".join(re.escape(plain(part)) for part in message.split("...")), re.DOTALL)
        assert any(pattern.search(sentence) for sentence in code), message


def plain(text: str) -> str:
    """A message without quotes and backticks, which pages cannot show in a heading."""
    return " ".join(re.sub(r"['\"`]", "", text).split())


def test_the_troubleshooting_page_has_a_cause_and_a_cure_for_each_message(
    entries_of_troubleshooting: dict[str, list[str]],
) -> None:
    for message, lines in entries_of_troubleshooting.items():
        assert len(lines) == 2, message
        assert "`" in lines[1], f"{message}: the cure has no command or name"
        for command in re.findall(r"`(glam .+?)`", lines[1]):
            check_command(shlex.split(command))
