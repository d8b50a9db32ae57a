"""The shape of the package: few modules per folder, names that say what a module holds, one meaning per class name."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("app", "datasets", "eval", "glam", "index", "kernels", "training")
LINKS = tuple(folder for folder in FOLDERS if folder != "glam")

MOST_MODULES = {"index": 6, "app": 4}
"""Modules directly in a folder; its other modules are in sub-folders."""

TERMS = frozenset({"matching", "padding", "pooling", "signed", "training", "tuning", "whitening"})
"""Standard terms of the field that look like a gerund or a participle."""

IRREGULAR = frozenset(
    {
        "built",
        "done",
        "drawn",
        "found",
        "given",
        "gone",
        "held",
        "kept",
        "known",
        "left",
        "made",
        "read",
        "sent",
        "written",
    }
)
"""Participles that do not end in -ed."""


def modules() -> list[Path]:
    return [
        path
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any((ROOT / parent).is_symlink() for parent in path.relative_to(ROOT).parents)
    ]


def is_participle_or_gerund(name: str) -> bool:
    words = name.strip("_").split("_")
    return any(word not in TERMS and (re.search(r"..(ing|ed)$", word) or word in IRREGULAR) for word in words)


@pytest.mark.parametrize("folder", MOST_MODULES)
def test_a_folder_has_few_modules_of_its_own(folder: str) -> None:
    own = [path.name for path in (ROOT / folder).glob("*.py")]
    assert len(own) <= MOST_MODULES[folder], own


def test_modules_are_nouns_or_the_usual_name_of_an_operation() -> None:
    names = {path.stem for path in modules()} | {path.parent.name for path in modules()}
    assert not sorted(name for name in names - set(FOLDERS) if is_participle_or_gerund(name))


@pytest.mark.parametrize("name", ["serving", "described", "kept", "fused_resnet", "_shared"])
def test_participles_and_gerunds_are_noticed(name: str) -> None:
    assert is_participle_or_gerund(name)


@pytest.mark.parametrize("name", ["build", "pooling", "tuning", "top_k", "bed", "_taps"])
def test_nouns_and_terms_are_not_taken_for_participles(name: str) -> None:
    assert not is_participle_or_gerund(name)


def test_a_class_name_has_one_meaning() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(path.relative_to(ROOT).as_posix())
    assert len(homes) > 200
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


@pytest.mark.parametrize("folder", LINKS)
def test_the_package_links_to_the_top_level_folders(folder: str) -> None:
    link = ROOT / "glam" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("..", folder)
