"""Lazy exports: packages import their public names on first use (PEP 562), so that importing a package is fast."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Returns a module-level ``__getattr__`` that imports names on first use.

    Args:
        package: ``__name__`` of the package.
        homes: module that defines each exported name, relative to the package: {name: module}.
    """

    def find(name: str) -> Any:
        if name in homes:
            return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
