"""Ground truth of the two benchmarks of Google Landmarks v2, from its published tables.

Source: T. Weyand et al., "Google Landmarks Dataset v2", CVPR 2020 (arXiv 2004.01804); the columns are described at
https://github.com/cvdfoundation/google-landmark. Queries marked ``Ignored`` are left out, as by the authors' program.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from glam.datasets.tables import header_of, open_text
from glam.errors import GlamError
from glam.eval.ground_truth import BenchmarkQuery, GroundTruth
from glam.eval.recognition import RecognitionQuery
from glam.eval.top_k import TopKBenchmark

K = 100
"""Results that count in retrieval (Weyand et al.)."""

RETRIEVAL_HEADER = ["id", "images", "Usage"]
"""Columns of ``retrieval_solution_v2.1.csv``; ``images`` holds ids separated by spaces; None if it is ignored."""
RECOGNITION_HEADER = ["id", "landmarks", "Usage"]
"""Columns of ``recognition_solution_v2.1.csv``; ``landmarks`` holds ids separated by spaces, or nothing."""
SPLITS = {"Public": "public", "Private": "private"}
IGNORED = "Ignored"
_CURE = "Download the table again."


def read_gldv2_retrieval(solution: Path, index: Path | None = None) -> TopKBenchmark:
    """Reads the ground truth of retrieval.

    Args:
        solution: ``retrieval_solution_v2.1.csv``. The queries are in its order, without the ignored ones.
        index: table with a column ``id``, whose order is that of the database: ``index.csv`` or
            ``index_image_to_landmark.csv``; by default ``index.csv`` next to the solution.

    Raises:
        GlamError: a file cannot be read, is another table, or has a malformed line, an id twice, or the id of an image
            that is not in the index.
    """
    images = _index_ids(index or solution.parent / "index.csv")
    row_of = {id: row for row, id in enumerate(images)}
    queries, splits = [], []
    for line, id, positives, split in _solution(solution, RETRIEVAL_HEADER):
        missing = next((image for image in positives if image not in row_of), None)
        if missing is not None:
            raise GlamError(f"{solution}: line {line} names the image {missing!r}, which is not in the index. {_CURE}")
        queries.append(BenchmarkQuery(id, None, tuple(row_of[image] for image in positives), (), ()))
        splits.append(split)
    return TopKBenchmark(GroundTruth(images, tuple(queries)), K, tuple(splits))


def read_gldv2_recognition(solution: Path) -> dict[str, RecognitionQuery]:
    """Reads the ground truth of recognition.

    Args:
        solution: ``recognition_solution_v2.1.csv``.

    Returns:
        The queries by id, in the order of the file.

    Raises:
        GlamError: the file cannot be read, is another table, or has a malformed line or an id twice.
    """
    return {
        id: RecognitionQuery(frozenset(landmarks), split)
        for _, id, landmarks, split in _solution(solution, RECOGNITION_HEADER)
    }


def _solution(path: Path, header: Sequence[str]) -> Iterator[tuple[int, str, list[str], str]]:
    """Yields the line number, id, right answers, and split of each query that is not ignored."""
    found = header_of(path)
    if found != header:
        raise GlamError(f"{path} has the columns {found}, but {list(header)} are needed. Choose another file.")
    for line, fields in _lines(path):
        if len(fields) != len(header):
            raise GlamError(f"{path}: line {line} has {len(fields)} of {len(header)} columns. {_CURE}")
        id, answers, usage = fields[0], fields[1].split(), fields[2]
        if usage not in (*SPLITS, IGNORED):
            raise GlamError(f"{path}: line {line} has the Usage {usage!r}, not Public, Private, or Ignored. {_CURE}")
        if usage == IGNORED:
            continue
        for answer in answers:
            _check_id(answer, path, line)
        if len(set(answers)) < len(answers):
            raise GlamError(f"{path}: line {line} lists one of the {header[1]} twice. {_CURE}")
        yield line, id, answers, SPLITS[usage]


def _index_ids(path: Path) -> tuple[str, ...]:
    header = header_of(path)
    if header[:1] != ["id"]:
        raise GlamError(f"{path} has the columns {header}, but the first must be 'id'. Choose another file.")
    return tuple(id for _, (id, *_) in _lines(path))


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the lines after the header that are not blank, each with its number and fields; the first is a unique id.

    The csv module is not used: it refuses fields of more than 131,072 characters, the ids of 7,710 images.
    """
    seen = set()
    with open_text(path) as text:
        lines = ((number, line.rstrip("\r\n")) for number, line in enumerate(text, start=1) if line.strip())
        next(lines)
        for number, line in lines:
            fields = line.split(",")
            _check_id(fields[0], path, number)
            if fields[0] in seen:
                raise GlamError(f"{path}: line {number} lists the id {fields[0]!r} again. {_CURE}")
            seen.add(fields[0])
            yield number, fields


def _check_id(id: str, path: Path, line: int) -> None:
    if not id.isalnum():
        raise GlamError(f"{path}: line {line} has {id!r} in place of an id. {_CURE}")
