"""Nothing unreachable: every public function and class of the package has a user other than itself."""

import ast
import re
from collections import defaultdict
from collections.abc import Container, Iterator
from contextlib import suppress

from tests.test_layout import ROOT, modules

EXCEPTIONS: dict[str, str] = {}
"""Definitions without a user, and why they stay."""

CONFIGS = ROOT / "training" / "configs"

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def used_names(node: ast.AST) -> Iterator[str]:
    """Names that are read, attributes, and the names in annotations that are strings; an import is no use."""
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            yield child.id
        elif isinstance(child, ast.Attribute):
            yield child.attr
        elif isinstance(child, ast.arg | ast.AnnAssign | ast.FunctionDef):
            annotation = child.returns if isinstance(child, ast.FunctionDef) else child.annotation
            for part in ast.walk(annotation) if annotation is not None else ():
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    with suppress(SyntaxError):  # the help of an option is no annotation
                        yield from used_names(ast.parse(part.value, mode="eval"))


def exported_names(tree: ast.Module) -> Iterator[str]:
    """What ``__all__`` lists."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            yield from ast.literal_eval(node.value)


def unreachable(sources: dict[str, str], texts: str = "", internal: Container[str] = ()) -> set[str]:
    """Public module-level definitions that nothing else uses, by name.

    Args:
        sources: Python source by module.
        texts: further text that names definitions, such as configurations.
        internal: modules whose ``__all__`` is for the package itself, so that it makes no name reachable.
    """
    trees = {name: ast.parse(source) for name, source in sources.items()}
    users: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for module, tree in trees.items():
        for node in tree.body:
            for name in used_names(node):
                users[name].add((module, getattr(node, "name", "")))
    words = set(re.findall(r"\w+", texts))
    exported = {name for module, tree in trees.items() if module not in internal for name in exported_names(tree)}
    return {
        node.name
        for module, tree in trees.items()
        for node in tree.body
        if isinstance(node, Definition)
        and not node.name.startswith("_")
        and not any(isinstance(decorator, ast.Call) for decorator in node.decorator_list if not is_class(node))
        and node.name not in exported
        and node.name not in words
        and users[node.name] <= {(module, node.name)}
    }


def is_class(node: Definition) -> bool:
    """A decorator with arguments registers a function, as a command or a route; it does not register a class."""
    return isinstance(node, ast.ClassDef)


def test_every_public_definition_is_used() -> None:
    sources = {str(path): path.read_text(encoding="utf-8") for path in modules()}
    texts = "".join(path.read_text(encoding="utf-8") for path in [*CONFIGS.glob("*.yaml"), ROOT / "pyproject.toml"])
    found = unreachable(sources, texts, internal=[str(ROOT / "kernels" / "__init__.py")])
    assert found == EXCEPTIONS.keys()


def test_a_definition_without_a_user_is_found() -> None:
    sources = {
        "a": "def used(): ...\ndef alone(): return alone()\nclass Typed: ...\n@app.command('x')\ndef command(): ...",
        "b": "from a import alone, used\ndef f(x: 'list[Typed]') -> None: used()\n__all__ = ['f']",
    }
    assert unreachable(sources, texts="not_alone") == {"alone"}
