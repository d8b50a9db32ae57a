"""Ground truth of ILIAS, from its published lists of image ids.

Source: G. Kordopatis-Zilos et al., "ILIAS: Instance-Level Image retrieval At Scale", CVPR 2025 (arXiv 2502.11748).
Files and metric follow the authors' program (``evaluation/`` in https://github.com/ilias-vrg/ilias): AP over the first
1,000 results, divided by min(m, 1,000) for m positives. The only difference is that results of equal score share one
precision there and rank by row here.
"""

from collections.abc import Iterator
from pathlib import Path

from glam.datasets.tables import csv_rows, open_text
from glam.errors import GlamError
from glam.eval.ground_truth import BenchmarkQuery, GroundTruth
from glam.eval.top_k import TopKBenchmark

K = 1_000
"""Results that count (Kordopatis-Zilos et al.)."""

POSITIVES = "positive_ids.txt"


def read_ilias(queries: Path) -> TopKBenchmark:
    """Reads the ground truth of ILIAS.

    The positives of a query are the images of its instance, the folder in their ids.

    Args:
        queries: ``image_ids/image_query_ids.txt`` or ``image_ids/text_query_ids.txt``; the queries are in its order.
            ``positive_ids.txt`` next to it lists the database, in its order. All other images are distractors.

    Raises:
        GlamError: a file cannot be read, has no line, or has a malformed line or an id twice.
    """
    positives = queries.parent / POSITIVES
    images = tuple(_ids(positives))
    rows: dict[str, list[int]] = {}
    for row, image in enumerate(images):
        rows.setdefault(_instance(image), []).append(row)
    found = [BenchmarkQuery(id, None, tuple(rows.get(_instance(id), ())), (), ()) for id in _ids(queries)]
    return TopKBenchmark(GroundTruth(images, tuple(found)), K)


def _instance(id: str) -> str:
    return id.partition("/")[0]


def _ids(path: Path) -> Iterator[str]:
    """Yields the first field of each line, the id INSTANCE/IMAGE; the scale and clutter of a positive may follow.

    Raises:
        GlamError: see `read_ilias`.
    """
    seen = set()
    with open_text(path) as text:
        for line, (id, *_) in csv_rows(text, path):
            if not all(id.partition("/")):
                raise GlamError(f"{path}: line {line} has {id!r} in place of INSTANCE/IMAGE. Download the file again.")
            if id in seen:
                raise GlamError(f"{path}: line {line} lists {id!r} again. Download the file again.")
            seen.add(id)
            yield id
    if not seen:
        raise GlamError(f"{path} is empty. Download the file again.")
