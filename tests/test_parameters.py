"""Signatures: no function takes more parameters than a reader keeps in mind."""

import ast
from collections.abc import Iterator

from tests.test_layout import ROOT, modules

MOST_PARAMETERS = 8

FREE = ("kernels", "app/cli")
"""Folders without a limit: Triton kernels take a pointer and its strides per array, and Typer makes an option of each
parameter of a command."""


def parameter_count(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """All parameters but ``self`` and ``cls``."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    collected = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return sum(argument.arg not in ("self", "cls") for argument in [*named, *collected])


def functions(node: ast.AST, names: tuple[str, ...] = ()) -> Iterator[tuple[str, int]]:
    """The dotted name and the number of parameters of each function in a tree, also of methods and inner ones."""
    for child in ast.iter_child_nodes(node):
        inner = names
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = (*names, child.name)
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield ".".join(inner), parameter_count(child)
        yield from functions(child, inner)


def test_no_function_has_more_than_eight_parameters() -> None:
    paths = {path.relative_to(ROOT).as_posix(): path for path in modules()}
    checked = {name: path for name, path in paths.items() if not name.startswith(tuple(f"{free}/" for free in FREE))}
    assert len(checked) > 150
    found = {
        f"{name}:{function}"
        for name, path in checked.items()
        for function, count in functions(ast.parse(path.read_text(encoding="utf-8")))
        if count > MOST_PARAMETERS
    }
    assert not found


def test_all_kinds_of_parameters_are_counted() -> None:
    source = """
class Layer:
    def __init__(self, a, /, b, *c, d=1, **e): ...
    async def wait(self):
        def inner(f, g): ...
if True:
    def top(): ...
"""
    assert dict(functions(ast.parse(source))) == {
        "Layer.__init__": 5,
        "Layer.wait": 0,
        "Layer.wait.inner": 2,
        "top": 0,
    }
