"""Options of a step: the numbers of its dataclass, each within bounds that keep its work bounded."""

from dataclasses import Field, field, fields
from typing import Any, TypeVar

from glam.errors import GlamError

Number = TypeVar("Number", int, float)
Made = TypeVar("Made")


def option(default: Number, least: Number, most: Number) -> Number:
    """A field of a step's dataclass, from ``least`` to ``most``."""
    number: Number = field(default=default, metadata={"least": least, "most": most})
    return number


def make_step(kind: type[Made], name: str, options: dict[str, str]) -> Made:
    """A step with these options, the others at their defaults.

    Args:
        kind: its dataclass.
        name: what a message calls it.
        options: texts by the name of the option.

    Raises:
        GlamError: there is no such option, or its text is not a number within its bounds.
    """
    known = {known.name: known for known in fields(kind)}  # type: ignore[arg-type]
    for unknown in options.keys() - known.keys():
        raise GlamError(f"{name} has no option {unknown!r}, only {', '.join(known) or 'none'}")
    return kind(**{key: _number(known[key], f"{name}:{key}", text) for key, text in options.items()})


def _number(known: "Field[Any]", name: str, text: str) -> int | float:
    least, most = known.metadata["least"], known.metadata["most"]
    whole = isinstance(known.default, int)
    try:
        number = int(text) if whole else float(text)
        if least <= number <= most:
            return number
    except ValueError:
        pass
    raise GlamError(f"{name}={text}: it takes a {'whole ' if whole else ''}number from {least} to {most}")
