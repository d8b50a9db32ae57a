"""The user's pages, README among them, and the fenced blocks in them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

FENCE = re.compile(
    r"^(?P<indent> *)(?P<marks>`{3,})(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)(?P=marks)$",
    re.MULTILINE | re.DOTALL,
)
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: path of its page, relative to the repository.
        line: line number of its fence.
        language: ``sh``, ``python``, ``text``, ...
        text: its content.
        not_run: why it is not run: the comment before it; "" if it is run.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str

    @property
    def place(self) -> str:
        """Where it is: ``README.md:12``."""
        return f"{self.page}:{self.line}"


def user_pages() -> list[Path]:
    """README, CONTRIBUTING, and the pages of the manual, without the laboratory notes."""
    files = sorted(file for file in DOCS.rglob("*.md") if "lab" not in file.relative_to(DOCS).parts)
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *files]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, top to bottom."""
    content = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(content):
        before = content[: match.start()]
        reason = NOT_RUN.search(before)
        place = (str(page.relative_to(ROOT)), before.count("\n") + 1)
        found.append(Block(*place, match["language"], match["text"], reason[1] if reason else ""))
    return found


def prose(page: Path) -> str:
    """A page without its blocks and comments."""
    return re.sub(r"<!--.*?-->", " ", FENCE.sub(" ", page.read_text(encoding="utf-8")), flags=re.DOTALL)


def word_count(page: Path) -> int:
    """Words of a page, without its blocks."""
    return len(re.findall(r"[A-Za-z][A-Za-z'-]*", prose(page)))
