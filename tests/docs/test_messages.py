"""Every error message of the package says what is wrong, and then what to do."""

import ast
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.docs.pages import ROOT
from tests.test_layout import modules

VERBS = """
    add build change check choose close compute convert copy correct create delete describe divide download evaluate
    fix free get give install keep leave make move name normalize pass put remove rename restore resume run save search
    see send separate set shorten simplify store sync update upgrade use wait write
"""
"""Verbs that tell the reader what to do."""

CURE = re.compile(rf"(?:[.;:]|, so|[.;:] If [^.;:]+,) (?i:{'|'.join(VERBS.split())})\b")
"""An order at the start of a sentence or clause that is not the first: the first says what is wrong."""

EXCEPTIONS = {
    ("app/client.py", "...: ..."): "quotes the message of the service",
    ("datasets/download.py", "its ... is not the published ..."): "becomes a part of '... could not be downloaded'",
    ("datasets/download.py", "no md5 found in it"): "becomes a part of '... could not be downloaded'",
    ("eval/ground_truth.py", "...: ..."): "adds the path to a message about one query or image",
    ("index/milvus/sync.py", "... The changes are saved in ...; the next command that writes to it updates Milvus."): (
        "follows a message of index/milvus/connection.py"
    ),
    ("training/data.py", "..."): "repeats the message of the reader of the images",
    ("training/compute_once.py", "..."): "repeats the message of another process",
    ("index/storage/filters.py", "The filter ... cannot be used: ..."): "the reason, from SQLite or glam, has the cure",
}
"""Reasons why a message, by file and text, does not say itself what to do."""

MOST_NESTED = 4
"""Deepest chain of names and calls that is followed to find the text of a message; arbitrary."""


@dataclass(frozen=True)
class Message:
    """An error message in the code.

    Attributes:
        file: path relative to the repository.
        line: line number.
        text: the text, each value in it as ``...``.
    """

    file: str
    line: int
    text: str

    @property
    def says_what_to_do(self) -> bool:
        return CURE.search(self.text) is not None

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.text}"


Function = ast.FunctionDef | ast.AsyncFunctionDef


class Code:
    """The source files of the package.

    Attributes:
        trees: syntax tree of each file, by its path relative to the repository.
        errors: names of `GlamError` and its subclasses, `ImageError` excepted: its reasons are a few words per file.
    """

    def __init__(self) -> None:
        self.trees = {
            str(file.relative_to(ROOT)): ast.parse(file.read_text(encoding="utf-8"))
            for file in modules()
            if "tests" not in file.relative_to(ROOT).parts and "benchmarks" not in file.relative_to(ROOT).parts
        }
        self.functions: defaultdict[str, list[tuple[Function, ast.Module]]] = defaultdict(list)
        self.errors = {"GlamError"}
        classes = []
        for tree in self.trees.values():
            for node in ast.walk(tree):
                if isinstance(node, Function):
                    self.functions[node.name].append((node, tree))
                elif isinstance(node, ast.ClassDef) and node.name != "ImageError":
                    classes.append(node)
        while found := [c.name for c in classes if c.name not in self.errors and self.errors & set(map(last, c.bases))]:
            self.errors.update(found)

    def messages(self) -> Iterator[Message]:
        """Every message of an error that the package raises."""
        for file, tree in self.trees.items():
            for scope in [tree, *(node for node in ast.walk(tree) if isinstance(node, Function))]:
                for node in own_nodes(scope):
                    if isinstance(node, ast.Call) and last(node.func) in self.errors and node.args:
                        for text in sorted(self.texts(node.args[0], [scope, tree])):
                            yield Message(file, node.lineno, text)

    def texts(self, node: ast.expr, scopes: list[ast.AST], depth: int = 0) -> set[str]:
        """The texts that an expression can have; what cannot be told from the code is ``...``."""
        if depth > MOST_NESTED:
            return {"..."}
        match node:
            case ast.Constant(value=str() as text):
                return {text}
            case ast.JoinedStr(values=parts):
                return joined([self.texts(part, scopes, depth) for part in parts])
            case ast.FormattedValue(value=value):
                return self.texts(value, scopes, depth)
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                return joined([self.texts(left, scopes, depth), self.texts(right, scopes, depth)])
            case ast.IfExp(body=body, orelse=other):
                return self.texts(body, scopes, depth) | self.texts(other, scopes, depth)
            case ast.Name(id=name):
                values = [value for scope in scopes for value in assigned(scope, name)]
                return set().union(*(self.texts(value, scopes, depth + 1) for value in values)) or {"..."}
            case ast.Call(func=ast.Name(id=name)) if len(self.functions[name]) == 1:
                function, tree = self.functions[name][0]
                returned = [n.value for n in own_nodes(function) if isinstance(n, ast.Return) and n.value]
                return set().union(*(self.texts(value, [function, tree], depth + 1) for value in returned)) or {"..."}
        return {"..."}


def joined(parts: list[set[str]]) -> set[str]:
    return {"".join(chosen) for chosen in itertools.product(*parts)}


def last(node: ast.expr) -> str:
    """The last name of a dotted one."""
    return ast.unparse(node).rpartition(".")[2]


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module or function without those of the functions inside."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, Function):
            yield child
            yield from own_nodes(child)


def assigned(scope: ast.AST, name: str) -> list[ast.expr]:
    """The values that a module or function assigns to a name."""
    return [
        node.value
        for node in own_nodes(scope)
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
    ]


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    return list(Code().messages())


def test_every_message_says_what_to_do(messages: list[Message]) -> None:
    assert len(messages) > 200
    silent = [
        str(message)
        for message in messages
        if not message.says_what_to_do and (message.file, message.text) not in EXCEPTIONS
    ]
    assert silent == []


def test_every_exception_is_needed(messages: list[Message]) -> None:
    silent = {(message.file, message.text) for message in messages if not message.says_what_to_do}
    assert [place for place in EXCEPTIONS if place not in silent] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("...: no such file. Check the path.", True),
        ("... is damaged; delete it, and it is built again.", True),
        ("Milvus needs the package pymilvus. Install it: ...", True),
        ("Scores are cosines, so give a number from -1 to 1.", True),
        ("... is damaged. If a writer is active, wait until it has finished.", True),
        ("...: no such file", False),
        ("The size must be positive, not ....", False),
        ("Choose another name.", False),  # what is wrong?
        ("... is not a picture. Pictures are written as ....", False),
    ],
)
def test_a_cure_is_an_order_after_what_is_wrong(text: str, expected: bool) -> None:
    assert Message("", 0, text).says_what_to_do == expected
