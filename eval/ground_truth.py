"""Ground truth of the Revisited Oxford and Paris protocol, as the published pickle or as JSON.

`docs/evaluate.md` describes the JSON format. Pickles are read without running any code from them.
"""

import json
import math
import pickle
import reprlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.datasets.pickles import read_plain_pickle
from glam.errors import GlamError, system_reason
from glam.images import Box, read_regular_file
from glam.output import OutputKind, write_output
from glam.strict_json import parse_json

FORMAT = 1
"""Version of the JSON format."""
GRADES = ("easy", "hard", "junk")
"""Grades of judged database images."""
_CURE = "Use a published pickle, or JSON as described in docs/evaluate.md."


@dataclass(frozen=True)
class BenchmarkQuery:
    """A query and its judged database images.

    A row is in at most one of ``easy``, ``hard``, and ``junk``. Images in none of them do not show the landmark.

    Attributes:
        name: name of the query image.
        box: x1, y1, x2, y2 of the region to search with, in pixels; None for the whole image.
        easy: rows of database images that clearly show the landmark.
        hard: rows of database images that show the landmark under difficult conditions.
        junk: rows of database images that are ignored, because they hardly show the landmark.
    """

    name: str
    box: Box | None
    easy: tuple[int, ...]
    hard: tuple[int, ...]
    junk: tuple[int, ...]

    def indices(self, *grades: str) -> NDArray[np.int64]:
        """(n,) rows of the database images of the given grades, grade by grade.

        Args:
            grades: any of `GRADES`.
        """
        return np.array([row for grade in grades for row in getattr(self, grade)], dtype=np.int64)


@dataclass(frozen=True)
class GroundTruth:
    """Queries and their judgments over a database.

    Attributes:
        images: (n,) names of the database images, by row.
        queries: (q,) queries, in order.

    Raises:
        GlamError: a name occurs twice, or a query lists a row that does not exist or lists a row twice.
    """

    images: tuple[str, ...]
    queries: tuple[BenchmarkQuery, ...]

    def __post_init__(self) -> None:
        _check_unique("database images", self.images)
        _check_unique("queries", [query.name for query in self.queries])
        for query in self.queries:
            judged = query.indices(*GRADES)
            if len(judged) and not 0 <= judged.min() <= judged.max() < len(self.images):
                raise GlamError(
                    f"the query {_short(query.name)} lists a row outside the {len(self.images)} images. "
                    "Correct this row."
                )
            _check_unique(f"images judged for the query {_short(query.name)}", judged.tolist())


def read_ground_truth(path: Path) -> GroundTruth:
    """Reads a ground truth.

    Args:
        path: a ``.json`` file, or a pickle such as the published ``gnd_roxford5k.pkl``.

    Raises:
        GlamError: the file cannot be read, is not a ground truth, or contradicts itself (see `GroundTruth`).
    """
    table = _read_json(path) if path.suffix.lower() == ".json" else read_plain_pickle(path)
    try:
        if path.suffix.lower() != ".json":
            return _from_pickle(table)
        if table["format"] != FORMAT:
            raise GlamError(
                f"the file has format {_short(table['format'])}, but this version of glam reads format {FORMAT}. "
                "Update glam."
            )
        return _from_json(table)
    except GlamError as error:
        raise GlamError(f"{path}: {error}") from error
    except KeyError as error:
        raise GlamError(f"{path} is not a ground truth, because {_short(error.args[0])} is missing. {_CURE}") from error
    except Exception as error:  # any value may be anywhere in a file from elsewhere
        raise GlamError(f"{path} is not a ground truth ({error}). {_CURE}") from error


def write_ground_truth(path: Path, truth: GroundTruth) -> None:
    """Writes a ground truth.

    Args:
        path: file ending in ``.json``, or in ``.pkl`` for the benchmark's own evaluation program.
        truth: the ground truth.

    Raises:
        GlamError: the suffix is neither of these, the file cannot be written, or a query has no box, which the pickle
            requires.
    """
    if path.suffix.lower() == ".json":
        content = (json.dumps(_to_json(truth), indent=1, ensure_ascii=False) + "\n").encode()
    elif path.suffix.lower() == ".pkl":
        content = pickle.dumps(_to_pickle(truth), protocol=2)
    else:
        raise GlamError(f"{path} has an unknown suffix. Choose a name that ends in .json or .pkl.")
    with write_output(path) as partial:
        partial.write_bytes(content)


def _is_ground_truth(path: Path) -> bool:
    return bool(read_ground_truth(path))


GROUND_TRUTH = OutputKind("a ground truth", _is_ground_truth)


def _read_json(path: Path) -> Any:
    try:
        return parse_json(read_regular_file(path))
    except OSError as error:
        raise GlamError(f"{path} cannot be opened: {system_reason(error)}. Check the path.") from error
    except ValueError as error:
        raise GlamError(f"{path} is not valid JSON ({error}). Correct it, or write it again.") from error


def _from_pickle(table: Any) -> GroundTruth:
    judged = zip(table["qimlist"], table["gnd"], strict=True)
    queries = [
        BenchmarkQuery(_name(name), _box(entry["bbx"]), *(tuple(_rows(entry[grade])) for grade in GRADES))
        for name, entry in judged
    ]
    return GroundTruth(tuple(map(_name, table["imlist"])), tuple(queries))


def _to_pickle(truth: GroundTruth) -> dict[str, Any]:
    for query in truth.queries:
        if query.box is None:
            raise GlamError(f"the query {query.name!r} has no box, but the pickle requires one. Write .json instead.")
    entries = [
        {"bbx": list(query.box or ()), **{grade: query.indices(grade).tolist() for grade in GRADES}}
        for query in truth.queries
    ]
    return {"gnd": entries, "imlist": list(truth.images), "qimlist": [query.name for query in truth.queries]}


def _from_json(table: Any) -> GroundTruth:
    images = tuple(map(_name, table["images"]))
    row_of = {name: row for row, name in enumerate(images)}
    queries = []
    for entry in table["queries"]:
        try:
            grades = (tuple(row_of[name] for name in entry.get(grade, ())) for grade in GRADES)
            queries.append(BenchmarkQuery(_name(entry["name"]), _box(entry.get("box")), *grades))
        except KeyError as error:
            raise GlamError(
                f"the query {_short(entry.get('name'))}: {_short(error.args[0])} is missing. "
                "Add it, or remove the reference to it."
            ) from error
    return GroundTruth(images, tuple(queries))


def _to_json(truth: GroundTruth) -> dict[str, Any]:
    queries = [
        {
            "name": query.name,
            "box": None if query.box is None else list(query.box),
            **{grade: [truth.images[row] for row in query.indices(grade)] for grade in GRADES},
        }
        for query in truth.queries
    ]
    return {"format": FORMAT, "images": list(truth.images), "queries": queries}


def _name(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value or ".." in value.split("/") or value.startswith("/") or not value:
        raise TypeError(f"expected the name of an image, not {_short(value)}")
    value.encode()  # a lone surrogate raises a ValueError
    return value


def _rows(values: Any) -> Iterator[int]:
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"expected the row of an image, not {_short(value)}")
        yield value


def _box(values: Any) -> Box | None:
    if values is None:
        return None
    x1, y1, x2, y2 = values
    numbers = all(type(value) in (int, float) and math.isfinite(value) for value in values)
    if not numbers or x1 >= x2 or y1 >= y2:
        raise TypeError(f"expected a box, not {_short(values)}")
    return x1, y1, x2, y2


def _short(value: Any) -> str:
    """The value as Python writes it, shortened."""
    return reprlib.repr(value)


def _check_unique(what: str, values: Sequence[Any]) -> None:
    if len(set(values)) < len(values):
        double = Counter(values).most_common(1)[0][0]
        raise GlamError(f"{_short(double)} is listed twice among the {what}. Remove one of the two.")
