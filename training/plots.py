"""Plots of a run, redrawn after every epoch: OUT/plots/loss.svg, map.svg, and worst_queries.webp.

The curves are drawn from the logs of the run, so that a resumed run continues them. The worst queries are the
validation images with the lowest AP, one per landmark. Each line of the picture shows a query, its first results, and
the nearest image of its landmark, each with its rank, counted from 1.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import lightning as L
import numpy as np
from lightning.pytorch.loggers import CSVLogger
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from glam.datasets.collection import Collection
from glam.errors import ImageError
from glam.eval.metrics import average_precision, positive_ranks
from glam.images import read_image
from glam.output import write_output
from glam.training.charts import Curve, line_chart
from glam.training.module import LandmarkModule

MAX_SHOWN = 12
"""Maximum number of worst queries (arbitrary)."""
MAX_QUERIES = 1000
"""Maximum number of validation images that the worst queries are selected from (arbitrary)."""
RESULTS_SHOWN = 5
"""Results per query (arbitrary)."""
TILE = 144
"""Side of an image in the picture, in pixels (arbitrary)."""
RIGHT, WRONG, PAPER, INK = "#1a7f37", "#cf222e", "#ffffff", "#24292f"


class Plots(L.Callback):
    """Draws the loss, the validation scores, and the worst queries of a run after every epoch.

    Args:
        out: folder of the run. The logs are read from its sub-folder ``csv``, the plots are written to ``plots``.
    """

    def __init__(self, out: Path) -> None:
        self.out = out

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the worst queries, before the descriptors are discarded."""
        assert isinstance(pl_module, LandmarkModule)
        scores = pl_module.retrieval
        with scores.sync_context():  # collective: every process has to enter it
            descriptors, landmark_ids, indices = scores.collected()
        if trainer.is_global_zero:
            read = replace(pl_module.data.val, images=tuple(pl_module.data.val.images[i] for i in indices))
            draw_worst(read, worst_queries(descriptors, landmark_ids), self.out / "plots" / "worst_queries.webp")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the curves from the logs so far."""
        self._draw_curves(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the curves with the mean loss of the last epoch, which is logged after the end of the epoch."""
        self._draw_curves(trainer)

    def _draw_curves(self, trainer: L.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                logger.save()
        draw_curves(self.out)


def draw_curves(out: Path) -> None:
    """Draws ``plots/loss.svg`` and ``plots/map.svg`` from the logs in ``csv``.

    If a step was logged twice, the last value is used. Values that are not finite are skipped.

    Args:
        out: folder of the run.
    """
    logs = list(_read_logs(out / "csv"))

    def curve(x: str, y: str, start: int, scale: float = 1) -> Curve:
        points = {float(row[x]) + start: scale * float(row[y]) for row in logs if row.get(y)}
        return sorted(point for point in points.items() if math.isfinite(point[1]))

    losses = {"per step": curve("step", "loss", 1), "mean per epoch": curve("step", "epoch_loss", 1)}
    line_chart(out / "plots" / "loss.svg", "Loss", losses, "steps")
    scores = {"mAP": curve("epoch", "val_map", 1, 100), "recall@1": curve("epoch", "val_recall_at_1", 1, 100)}
    line_chart(out / "plots" / "map.svg", "Validation, %", scores, "epochs")


def _read_logs(folder: Path) -> Iterator[dict[str, str]]:
    """Yields the lines of the logs of a run; a resumed run has several logs."""
    versions = sorted(folder.glob("version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1]))
    for path in versions:
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


@dataclass(frozen=True)
class WorstQuery:
    """A query with a low AP and its results. Indices are those of the collection.

    Attributes:
        index: index of the query.
        ap: average precision of the query, 0 to 1.
        first: indices of the first results, best first.
        right: for each of the first results, whether it shows the landmark of the query.
        nearest: index of the best result that shows the landmark of the query.
        rank: rank of this result, counted from 1.
    """

    index: int
    ap: float
    first: tuple[int, ...]
    right: tuple[bool, ...]
    nearest: int
    rank: int


def worst_queries(descriptors: NDArray[np.float32], landmark_ids: NDArray[np.int64]) -> list[WorstQuery]:
    """Finds the queries with the lowest AP, worst first, one per landmark and at most `MAX_SHOWN`.

    Args:
        descriptors: (n, dim) float32 descriptors of unit length; each is a query against all others.
        landmark_ids: (n,) landmark id of each descriptor; negative for a distractor.
    """
    sample = np.random.default_rng(0).permutation(len(landmark_ids))[:MAX_QUERIES]
    found = [
        _score_query(int(query), descriptors, landmark_ids)
        for query in sample
        if landmark_ids[query] >= 0 and (landmark_ids == landmark_ids[query]).sum() > 1
    ]
    worst: dict[int, WorstQuery] = {}
    for query in sorted(found, key=lambda query: (query.ap, query.index)):
        worst.setdefault(int(landmark_ids[query.index]), query)
    return list(worst.values())[:MAX_SHOWN]


def _score_query(query: int, descriptors: NDArray[np.float32], landmark_ids: NDArray[np.int64]) -> WorstQuery:
    scores = descriptors @ descriptors[query]
    is_query = np.arange(len(landmark_ids)) == query
    right = (landmark_ids == landmark_ids[query]) & ~is_query
    ranks = positive_ranks(scores, right, is_query)
    order = np.argsort(-np.where(is_query, -np.inf, scores), kind="stable")
    first = order[: min(RESULTS_SHOWN, len(order) - 1)]
    return WorstQuery(
        query,
        average_precision(ranks),
        tuple(first.tolist()),
        tuple(right[first].tolist()),
        int(order[ranks[0]]),
        int(ranks[0]) + 1,
    )


def draw_worst(collection: Collection, queries: Sequence[WorstQuery], path: Path) -> None:
    """Draws a picture with a line per query and writes it as a WebP file, atomically. Unreadable images stay blank.

    Args:
        collection: the images.
        queries: the queries, from `worst_queries`.
        path: path of the file.

    Raises:
        GlamError: the file cannot be written.
    """
    gap, line = 10, 20
    height = line + TILE + 2 * line
    sheet = Image.new("RGB", (gap + (TILE + gap) * (RESULTS_SHOWN + 2), max(1, height * len(queries))), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for i, query in enumerate(queries):
        top = i * height
        image = collection.images[query.index]
        pen.text((gap, top + 2), f"{image.path}, AP {query.ap:.3f}", INK, font)
        tiles = [(query.index, "query", INK)]
        tiles += [
            (index, f"{rank}, {'right' if right else 'wrong'}", RIGHT if right else WRONG)
            for rank, (index, right) in enumerate(zip(query.first, query.right, strict=True), start=1)
        ]
        if query.rank > len(query.first):
            tiles.append((query.nearest, f"{query.rank}, right", RIGHT))
        for column, (index, words, color) in enumerate(tiles):
            left = gap + column * (TILE + gap)
            sheet.paste(_tile(collection, index), (left, top + line))
            pen.rectangle((left, top + line, left + TILE - 1, top + line + TILE - 1), outline=color, width=3)
            pen.text((left, top + line + TILE + 2), words, color, font)
    with write_output(path) as partial:
        sheet.save(partial, "WEBP", quality=80)


def _tile(collection: Collection, index: int) -> Image.Image:
    try:
        return ImageOps.pad(read_image(collection.file(index)), (TILE, TILE), color=PAPER)
    except ImageError:
        return Image.new("RGB", (TILE, TILE), PAPER)
