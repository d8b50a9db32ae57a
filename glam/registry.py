"""Registries: attentions, poolings, and losses by name, so that a new one is one new file.

    @ATTENTIONS.register("mine")                     in a file of the package's folder, or of anybody's
    class Mine(Attention): ...

    --model.attention '{name: mine, width: 3}'  -->  ATTENTIONS.create({"name": "mine", "width": 3}, channels)

The modules of the registry's own package are imported on first use; other files have to be imported before, see
`import_plugin`.
"""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from glam.errors import GlamError

Made = TypeVar("Made")
Factory = TypeVar("Factory", bound=Callable[..., Any])


class Registry(Generic[Made]):
    """Factories by name.

    Args:
        kind: what the factories make, for messages, such as ``attention``.
        base: class of all that they make.
        package: name of the package whose modules register the factories that glam has.
    """

    def __init__(self, kind: str, base: type[Made], package: str) -> None:
        self.kind = kind
        self._base = base
        self._package = package
        self._factories: dict[str, Callable[..., Made]] = {}
        self._is_complete = False

    def register(self, name: str) -> Callable[[Factory], Factory]:
        """Returns a decorator that registers a class or function under a name.

        Args:
            name: name in options and model files.

        Raises:
            GlamError: the name is taken, or means that there is nothing.
        """

        def add(factory: Factory) -> Factory:
            if not factory.__module__.startswith(f"{self._package}."):
                self._import_package()  # whose names are taken
            if name in ("", "none"):
                raise GlamError(f"{name!r} cannot name the {self.kind}. Choose another name.")
            if name in self._factories:
                raise GlamError(f"The {self.kind} {name!r} is already registered. Choose another name.")
            self._factories[name] = factory
            return factory

        return add

    def names(self) -> list[str]:
        """Returns all registered names, sorted."""
        self._import_package()
        return sorted(self._factories)

    def create(self, choice: Mapping[str, Any], *arguments: Any) -> Made:
        """Makes what a choice names.

        Args:
            choice: ``name``, and the options of the factory by name.
            *arguments: arguments that all factories of the registry take.

        Raises:
            GlamError: nothing is registered under the name.
            TypeError: the factory has no such option.
            ValueError: the factory refuses the value of an option, or makes something else.
        """
        options = dict(choice)
        name = options.pop("name")
        self._import_package()
        if not isinstance(name, str) or name not in self._factories:
            raise GlamError(
                f"There is no {self.kind} named {name!r}. Choose one of {', '.join(self.names())}, or name the Python "
                "file that registers it: glam --plugin FILE ..."
            )
        try:
            made = self._factories[name](*arguments, **options)
        except (GlamError, TypeError, ValueError):
            raise
        except Exception as error:  # of a library, or of the user's code
            raise ValueError(f"{type(error).__name__} {error}".strip()) from error
        if not isinstance(made, self._base):
            raise ValueError(f"{name} makes a {type(made).__name__}, not a {self._base.__name__}")
        return made

    def _import_package(self) -> None:
        if self._is_complete:
            return
        self._is_complete = True
        for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__):
            importlib.import_module(f"{self._package}.{module.name}")


def as_choice(value: str | Mapping[str, Any] | None, default: str) -> dict[str, Any] | None:
    """Returns an option that names an entry of a registry in its full form: ``name``, and options by name.

    Args:
        value: a name, or options by name, maybe with a ``name``; None or "none" for nothing.
        default: name of options without one.
    """
    choice = {"name": value} if isinstance(value, str) else value
    if choice is None or choice.get("name", default) in (None, "none"):
        return None
    return {"name": default, **choice}


PLUGINS: list[Path] = []
"""Files that `import_plugin` ran in this process; the command that resumes a run names them."""


def import_plugin(file: Path) -> None:
    """Runs a Python file that registers attentions, poolings, or losses; only once per process.

    Args:
        file: a file that the user trusts.

    Raises:
        GlamError: there is no such file, or it raises an exception.
    """
    if not file.is_file():
        raise GlamError(f"{file}: no such plug-in. Check the path.")
    if file.resolve() in PLUGINS:
        return
    name = f"glam_plugin_{len(PLUGINS)}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise GlamError(f"{file}: a plug-in has to be a Python file. Name one that ends with .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # of the user's code
        del sys.modules[name]
        raise GlamError(
            f"{file}: the plug-in cannot be imported ({type(error).__name__}: {error}). Correct it."
        ) from error
    PLUGINS.append(file.resolve())
