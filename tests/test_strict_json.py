"""JSON texts from elsewhere: each is a value of the declared type, or a ValueError."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest

from glam.strict_json import from_values, parse_json


@dataclass(frozen=True)
class Inner:
    name: str


@dataclass(frozen=True)
class Outer:
    count: int
    share: float
    names: tuple[str, ...] = ()
    inner: Inner | None = None
    by_name: dict[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    pairs: tuple[tuple[str, int], ...] = ()
    kind: Literal["folder", "list"] = "list"


def test_values_of_the_declared_types_are_taken() -> None:
    text = '{"count": 3, "share": 1, "names": ["a"], "inner": {"name": "b"}, "by_name": {"c": 1}}'
    assert from_values(Outer, parse_json(text)) == Outer(3, 1.0, ("a",), Inner("b"), {"c": 1})
    assert from_values(Outer, {"count": 3, "share": 0.5}) == Outer(3, 0.5)
    text = '{"count": 3, "share": 1, "counts": {"c": 1}, "pairs": [["a", 1], ["b", 2]], "kind": "folder"}'
    expected = Outer(3, 1.0, counts={"c": 1}, pairs=(("a", 1), ("b", 2)), kind="folder")
    assert from_values(Outer, parse_json(text)) == expected
    assert from_values(Outer, {"count": 3, "share": 0.5, "inner": None}) == Outer(3, 0.5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "null",
        "[" * 200_000,
        '{"a": ' * 200_000,
        '{"count": 1}',
        '{"share": 1}',
        *(f'{{"count": {value}, "share": 1}}' for value in ("1.0", "true", '"1"', "null", "[]", "1" * 5_000)),
        *(
            f'{{"count": 1, "share": {value}}}'
            for value in ("NaN", "Infinity", "1e999", "true", '"1"', "1" + "0" * 400)
        ),
        *(
            f'{{"count": 1, "share": 1, {more}}}'
            for more in (
                '"more": 1',
                '"names": "a"',
                '"names": [1]',
                '"names": ["\\ud800"]',
                '"names": ["\\u0000"]',
                '"inner": {}',
                '"inner": {"name": 1}',
                '"inner": []',
                '"by_name": []',
                '"by_name": {"a": "b"}',
                '"by_name": {"\\u0000": 1}',
                '"counts": [["a", 1]]',
                '"counts": {"a": true}',
                '"pairs": [["a"]]',
                '"pairs": [["a", 1, 2]]',
                '"pairs": [[1, "a"]]',
                '"pairs": [[]]',
                '"pairs": {"a": 1}',
                '"kind": "other"',
                '"kind": ["list"]',
                '"kind": null',
            )
        ),
    ],
    ids=lambda text: text[:40],
)
def test_anything_else_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_values(Outer, parse_json(text))
    with pytest.raises(ValueError, match=r"."):
        parse_json(b"\xff\xfe\xfa")


def test_names_that_are_not_utf_8_are_taken_as_the_system_gives_them() -> None:
    name = os.fsdecode(b"photos \xe9")
    assert from_values(Inner, parse_json(json.dumps({"name": name}))) == Inner(name)
