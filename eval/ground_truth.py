"""Ground truth of the Revisited Oxford and Paris protocol, as the published pickle or as JSON; `docs/evaluation.md`
describes the JSON. A pickle is read without running anything that it may name."""

import json
import pickle
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.datasets.pickles import read_plain_pickle
from glam.errors import GlamError
from glam.images import Box
from glam.output import OutputKind, write_output

FORMAT = 1
GRADES = ("easy", "hard", "junk")


@dataclass(frozen=True)
class BenchmarkQuery:
    """A query and the database images that were judged for it.

    Attributes:
        name: of its image.
        box: x1, y1, x2, y2 in pixels of the image: the part to search with; None for all of it.
        easy, hard, junk: indices of database images, none in two of them. An image in none does not show the landmark.
    """

    name: str
    box: Box | None
    easy: tuple[int, ...]
    hard: tuple[int, ...]
    junk: tuple[int, ...]

    def indices(self, *grades: str) -> NDArray[np.int64]:
        """Indices of the database images of these grades, in order."""
        return np.array([index for grade in grades for index in getattr(self, grade)], dtype=np.int64)


@dataclass(frozen=True)
class GroundTruth:
    """Queries over a database.

    Attributes:
        images: names of the database's images, in the order of the rows of their descriptors.
        queries: in order.
    """

    images: tuple[str, ...]
    queries: tuple[BenchmarkQuery, ...]

    def __post_init__(self) -> None:
        """Raises:
        GlamError: a name is there twice, or a judgment names an image that is not there or was already judged.
        """
        _check_unique("database images", self.images)
        _check_unique("queries", [query.name for query in self.queries])
        for query in self.queries:
            judged = query.indices(*GRADES)
            if len(judged) and not 0 <= judged.min() <= judged.max() < len(self.images):
                raise GlamError(f"the query {query.name!r} names an image outside the {len(self.images)} there are")
            _check_unique(f"images judged for the query {query.name!r}", judged.tolist())


def read_ground_truth(path: Path) -> GroundTruth:
    """Reads ``gnd_*.pkl`` as it was published, or ``.json``.

    Raises:
        GlamError: there is no such file, it is something else, or it contradicts itself (see `GroundTruth`).
    """
    table = _read_json(path) if path.suffix.lower() == ".json" else read_plain_pickle(path)
    try:
        if path.suffix.lower() != ".json":
            return _from_pickle(table)
        if table["format"] != FORMAT:
            raise GlamError(f"format {table['format']}, where this version of glam reads format {FORMAT}")
        return _from_json(table)
    except GlamError as error:
        raise GlamError(f"{path}: {error}") from error
    except KeyError as error:
        raise GlamError(f"{path}: not a ground truth: it lacks {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise GlamError(f"{path}: not a ground truth: {error}") from error


def write_ground_truth(path: Path, truth: GroundTruth) -> None:
    """Writes ``.json``, or ``.pkl`` for the programs of the benchmark.

    Raises:
        GlamError: the name ends in neither, a query has no box, which the pickle cannot say, or the file cannot be
            written.
    """
    if path.suffix.lower() == ".json":
        content = (json.dumps(_to_json(truth), indent=1, ensure_ascii=False) + "\n").encode()
    elif path.suffix.lower() == ".pkl":
        content = pickle.dumps(_to_pickle(truth), protocol=2)
    else:
        raise GlamError(f"{path}: a ground truth is written as .json or .pkl")
    with write_output(path) as partial:
        partial.write_bytes(content)


def _is_ground_truth(path: Path) -> bool:
    return bool(read_ground_truth(path))


GROUND_TRUTH = OutputKind("a ground truth", _is_ground_truth)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GlamError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise GlamError(f"{path}: not JSON: {error}") from error


def _from_pickle(table: Any) -> GroundTruth:
    judged = zip(table["qimlist"], table["gnd"], strict=True)
    queries = [
        BenchmarkQuery(_name(name), _box(entry["bbx"]), *(tuple(_indices(entry[grade])) for grade in GRADES))
        for name, entry in judged
    ]
    return GroundTruth(tuple(map(_name, table["imlist"])), tuple(queries))


def _to_pickle(truth: GroundTruth) -> dict[str, Any]:
    for query in truth.queries:
        if query.box is None:
            raise GlamError(f"the query {query.name!r} has no box; the pickle wants one")
    entries = [
        {"bbx": list(query.box or ()), **{grade: query.indices(grade).tolist() for grade in GRADES}}
        for query in truth.queries
    ]
    return {"gnd": entries, "imlist": list(truth.images), "qimlist": [query.name for query in truth.queries]}


def _from_json(table: Any) -> GroundTruth:
    images = tuple(map(_name, table["images"]))
    index_of = {name: index for index, name in enumerate(images)}
    queries = []
    for entry in table["queries"]:
        try:
            grades = (tuple(index_of[name] for name in entry.get(grade, ())) for grade in GRADES)
            queries.append(BenchmarkQuery(_name(entry["name"]), _box(entry.get("box")), *grades))
        except KeyError as error:
            raise GlamError(f"the query {entry.get('name')!r}: {error} is not there") from error
    return GroundTruth(images, tuple(queries))


def _to_json(truth: GroundTruth) -> dict[str, Any]:
    queries = [
        {
            "name": query.name,
            "box": None if query.box is None else list(query.box),
            **{grade: [truth.images[index] for index in query.indices(grade)] for grade in GRADES},
        }
        for query in truth.queries
    ]
    return {"format": FORMAT, "images": list(truth.images), "queries": queries}


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} where a name should be")
    return value


def _indices(values: Any) -> Iterator[int]:
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{value!r} where the number of an image should be")
        yield value


def _box(values: Any) -> Box | None:
    if values is None:
        return None
    x1, y1, x2, y2 = values
    if not all(isinstance(value, int | float) for value in values):
        raise TypeError(f"{values!r} where a box should be")
    return x1, y1, x2, y2


def _check_unique(what: str, values: Sequence[Any]) -> None:
    if len(set(values)) < len(values):
        double = Counter(values).most_common(1)[0][0]
        raise GlamError(f"{double!r} stands twice among the {what}")
