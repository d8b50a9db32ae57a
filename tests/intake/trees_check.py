"""Compares what a command did with what a hostile tree expects: its exit code, its output, and the index."""

import json
from collections.abc import Collection, Iterator
from typing import Any

from glam.app.cli.terminal import escape
from glam.datasets.collection import printable_path
from tests.intake.hostile_tree import HostileTree
from tests.intake.trees_command import Result

TRACES = ("Traceback (most recent call last)", "Exception ignored in", "Fatal Python error")
"""Signs of an error that nobody expected."""


def command_faults(result: Result) -> Iterator[str]:
    """What is wrong with any command: it hangs, crashes, or ends with a traceback."""
    if result.code is None:
        yield f"did not end within {result.seconds:.0f} s"
    elif result.code not in (0, 1):
        yield f"exit code {result.code}"
    for trace in TRACES:
        if trace in result.out + result.err:
            yield trace


def index_faults(tree: HostileTree, indexed: Collection[str], result: Result) -> Iterator[str]:
    """What is wrong with a build or a sync.

    Args:
        tree: the tree, in the state in which the command saw it.
        indexed: paths that the index holds after the command.
        result: what the command did; its standard output is JSON.
    """
    at_rest = tree.at_rest()
    refused = sorted(path for path, expected in at_rest.items() if expected.refused)
    wanted = 1 if refused else 0
    if result.code != wanted:
        yield f"exit code {result.code}, not {wanted}; refused: {refused}"
    for path, expected in at_rest.items():
        if expected.indexed is not None and (path in indexed) != expected.indexed:
            yield f"{path!r} is {'missing' if expected.indexed else 'indexed, though it must not be'}"
    strange = sorted(path for path in indexed if path not in at_rest and not tree.is_moving(path))
    if strange:
        yield f"indexed, though they must not be: {strange}"
    yield from naming_faults(tree, result)


def naming_faults(tree: HostileTree, result: Result, *, of_index: bool = True) -> Iterator[str]:
    """What the output of a command should name and does not.

    Args:
        tree: the tree, in the state in which the command saw it.
        result: what the command did.
        of_index: whether the command updates an index, which leaves out more than other commands do.
    """
    texts = list(_texts(result))
    for expected in tree.at_rest().values():
        if expected.index_only and not of_index:
            continue
        if not any(form in text for form in _forms(expected.mention) for text in texts):
            yield f"{expected.mention!r} is not named"


def _texts(result: Result) -> Iterator[str]:
    """The output of a command: its text, or the strings of its JSON document."""
    yield result.err
    try:
        yield from _strings(json.loads(result.out))
    except ValueError:
        yield result.out


def _strings(value: Any) -> Iterator[str]:
    """The strings of a JSON value, with the keys of its objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        yield from _strings(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _forms(path: str) -> set[str]:
    """The forms in which the output may name a path: as it is in JSON, escaped elsewhere."""
    printable = printable_path(path)
    return {path, printable, escape(path), escape(printable)}
