"""Pip constraints that pin each direct dependency to the lower bound in ``pyproject.toml``.

    python -m tests.lowest_versions > constraints.txt
    pip install --constraint constraints.txt --editable '.[dev]'

Only the standard library is imported, because the constraints are printed before anything is installed.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

OWN = "glam-retrieval"
"""The project, whose extras name one another."""

FREE = frozenset({"mypy", "ruff", "torch", "torchvision"})
"""Dependencies without a pin: PyTorch and torchvision have to match the machine, and only one version of a linter and
of a type checker agrees with the code."""

REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?:\[[\w,-]+\])?>=(?P<bound>[\d.]+)(?:,<[\d.]+)?")


def requirements() -> Iterator[str]:
    """The requirements of the package, of each of its extras, and of its build, as ``pyproject.toml`` writes them."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    yield from table["build-system"]["requires"]
    yield from table["project"]["dependencies"]
    for extra in table["project"]["optional-dependencies"].values():
        yield from (text for text in extra if not text.startswith(OWN))


def lower_bounds() -> dict[str, str]:
    """The lower bound of each direct dependency, by name.

    Raises:
        ValueError: a requirement has no lower bound, or two requirements of one package differ in it.
    """
    bounds: dict[str, str] = {}
    for text in requirements():
        match = REQUIREMENT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} has no lower bound. Write NAME>=VERSION or NAME>=VERSION,<VERSION.")
        if bounds.setdefault(match["name"], match["bound"]) != match["bound"]:
            raise ValueError(f"{match['name']} has two lower bounds. Write the same bound in each place.")
    return bounds


def constraints() -> list[str]:
    """Pip constraints for the lower bounds of all direct dependencies except those in `FREE`."""
    return [f"{name}=={bound}" for name, bound in sorted(lower_bounds().items()) if name not in FREE]


if __name__ == "__main__":
    print("\n".join(constraints()))
