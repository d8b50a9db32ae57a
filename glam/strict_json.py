"""JSON texts from files that may be damaged or hostile, and dataclasses made of them.

    parse_json(text) --> values --from_values(cls)--> a dataclass whose fields have the types that it declares

Both raise ValueError for anything else, whatever the text holds.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, NoReturn, TypeVar

T = TypeVar("T")


def parse_json(text: bytes | str) -> Any:
    """Parses a JSON text.

    Args:
        text: the text; bytes are UTF-8.

    Raises:
        ValueError: it is not JSON, holds NaN or Infinity, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def from_values(cls: type[T], values: Any) -> T:
    """Makes a dataclass of a JSON object.

    Args:
        cls: dataclass with fields of the types str, int, float, bool, ``tuple[X, ...]``, ``tuple[X, Y]``,
            ``dict[str, X]``, ``Mapping[str, X]``, ``Literal`` of texts, ``X | None``, and other such dataclasses.
        values: the object. Fields that have a default may be missing.

    Raises:
        ValueError: a field is missing or has another type, a number is not finite, a text is none that the operating
            system can give, or a key is not a field.
    """
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise ValueError(f"it has the unknown key {name[:40]!r}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ValueError(f"it has no {name!r}")
    return cls(**{name: _typed(hints[name], value, name) for name, value in values.items()})


def _typed(kind: Any, value: Any, name: str) -> Any:
    """The value as the type ``kind``; raises ValueError if it is of another type."""
    if isinstance(kind, types.UnionType):
        if value is None and types.NoneType in kind.__args__:
            return None
        (kind,) = (one for one in kind.__args__ if one is not types.NoneType)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(_typed(one_kind, one, name) for one_kind, one in zip(kinds, value, strict=True))
    elif origin in (dict, Mapping) and isinstance(value, dict):
        return {_typed(str, key, name): _typed(arguments[1], one, name) for key, one in value.items()}
    elif origin is Literal and isinstance(value, str) and value in arguments:
        return value
    if dataclasses.is_dataclass(kind):
        return from_values(typing.cast("type[Any]", kind), value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            if math.isfinite(value):
                return float(value)
        except OverflowError:
            pass
    elif kind is str and isinstance(value, str):
        value.encode("utf-8", "surrogateescape")  # other surrogates than those for bytes of a name raise a ValueError
        if "\0" not in value:
            return value
    elif type(value) is kind:
        return value
    raise ValueError(f"{name!r} has a value that it cannot have")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}")
