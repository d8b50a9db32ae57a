"""The language of everything a person reads: words that the style guide rules out, per 10,000 words.

README and docs (without docs/lab/), docstrings, messages, help texts, and the texts of the page are counted. The list
of words may grow; it may not shrink.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.test_layout import ROOT, modules

LIMIT = 12
"""Most hits per 10,000 words."""

CLIPPED = [
    "whole", "alike", "anew", "likewise", "beside", "so many", "of which", "stands?", "stood", "lies", "wants?",
    "wanted", "told", "goes on", "go on", "going on", "at first", "as it is", "for want of", "where there is one",
    "where there is none", "where there are none", "from now on", "that which", "is asked", "are asked", "of now",
    "of before", "of its like", "of their like", "not one of", "all the same",
]  # fmt: skip
"""Particles, adverbs, and verbs of a translated English."""

GLOSSARY = [
    "photographs?", "photographed", "reranks", "reranked", "reranking", "neighbours?", "colours?", "centres?",
    "catalogues?", "behaviours?", "grey", r"normalis\w+", r"organis\w+", r"recognis\w+", r"initialis\w+",
    r"optimis\w+", r"favour\w*", "analys(?:e|ed|es|ing)", "labelled", "labelling", "modelling", "cancelled",
    "artefacts?", "metres?", "whilst", "learnt",
]  # fmt: skip
"""Words for which the glossary has another, and British spellings."""

TRANSLATED = [
    r"who (?:runs|does|asks|reads|needs|wants|calls)", r"what (?:it|that|this|they) (?:is|are|was|were) (?:asked|told)",
    r"an? (?:image|query|second|group|landmark|row|batch|worker|step|line) (?:each|a (?:query|step|group|second))",
    r"a (?:query|step|landmark|second) a (?:query|step|group|row|device)", "knows? nothing of", "brings? to",
    "(?:is|are) brought to", "takes? in", "made again", "make again", "of one's own", "lets? go of",
]  # fmt: skip
"""Turns of phrase that nobody says."""

LIST = re.compile(rf"(?<![\w-])(?:{'|'.join([*CLIPPED, *GLOSSARY, *TRANSLATED])})(?![\w-])", re.IGNORECASE)

ALLOWED = re.compile(r"whole\s+(?:numbers?|image|photo)\b|`[^`]*`|\]\([^)]*\)|https?://\S+", re.IGNORECASE)
"""Standard terms (a whole number, a whole photo as opposed to a region), code, and the targets of links."""

WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")


SCRIPT_STRING = re.compile(r"([\"'`])((?:(?!\1)[^\\\n]|\\.)*)\1")


def docs() -> Iterator[tuple[str, str]]:
    """README and docs: file and text, without code blocks."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for file in files:
        if "lab" not in file.relative_to(ROOT).parts:
            text = re.sub(r"```.*?```", " ", file.read_text(encoding="utf-8"), flags=re.DOTALL)
            yield str(file.relative_to(ROOT)), re.sub(r"^(?: {4}|\t).*$", " ", text, flags=re.MULTILINE)


def strings() -> Iterator[tuple[str, str]]:
    """Docstrings, help texts, and messages: every string constant of at least three words."""
    for file in modules():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") >= 2:
                yield f"{file.relative_to(ROOT)}:{node.lineno}", node.value


def page() -> Iterator[tuple[str, str]]:
    """Texts of the page: between tags, and strings of at least three words in scripts."""
    folder = ROOT / "app" / "page"
    for file in folder.rglob("*.html"):
        yield (
            str(file.relative_to(ROOT)),
            re.sub(r"<(?:script|style).*?</|<[^>]*>", " ", file.read_text(encoding="utf-8")),
        )
    for file in folder.rglob("*.js"):
        if "vendor" not in file.parts:
            for match in SCRIPT_STRING.finditer(file.read_text(encoding="utf-8")):
                if match[2].count(" ") >= 2:
                    yield str(file.relative_to(ROOT)), match[2]


def hits(text: str) -> list[str]:
    """The listed words in a text, in lower case."""
    return [match[0].lower() for match in LIST.finditer(ALLOWED.sub(" ", text))]


def rate(texts: list[tuple[str, str]]) -> tuple[float, Counter[str]]:
    """Hits per 10,000 words, and how often each word was hit."""
    words = sum(len(WORD.findall(text)) for _, text in texts)
    counts = Counter(hit for _, text in texts for hit in hits(text))
    return 10_000 * sum(counts.values()) / max(words, 1), counts


def test_words_are_those_of_the_style_guide() -> None:
    found, counts = rate([*docs(), *strings(), *page()])
    assert found <= LIMIT, f"{found:.1f} per 10,000 words: {counts.most_common(20)}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The folder stands beside the whole.", ["stands", "beside", "whole"]),
        ("A whole number of photographs", ["photographs"]),
        ("Search with a whole photo", []),
        ("the option `beside` of besides", []),
        ("Ask who runs it", ["who runs"]),
        ("Goes\non", []),
    ],
)
def test_hits(text: str, expected: list[str]) -> None:
    assert hits(text) == expected


def main() -> None:
    """Prints each hit with its place: ``python -m tests.test_language [FOLDER ...]``."""
    texts = [
        text for text in (*docs(), *strings(), *page()) if not sys.argv[1:] or text[0].startswith(tuple(sys.argv[1:]))
    ]
    for where, text in texts:
        for hit in hits(text):
            print(f"{where}: {hit}")
    print(f"{rate(texts)[0]:.1f} per 10,000 words")


if __name__ == "__main__":
    main()
