"""Pictures of a run, drawn anew after every epoch: OUT/plots/loss.svg, map.svg and worst_queries.webp.

The curves are those of the run's logs, so that a resumed run continues them. A worst query is a validation image with a
low AP, one per landmark. Its row shows the query, the first results, and the nearest image of its landmark, each with
its rank from 1.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import numpy as np
from lightning.pytorch.loggers import CSVLogger
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torchmetrics.utilities import dim_zero_cat

from glam.datasets.collection import Collection
from glam.errors import ImageError
from glam.eval.metrics import average_precision, positive_ranks
from glam.images import read_image
from glam.output import write_output
from glam.training.charts import Curve, line_chart
from glam.training.module import LandmarkModule

MAX_SHOWN = 12
"""Most queries that are shown; arbitrary."""
MAX_QUERIES = 1000
"""Most queries that the worst are chosen from; arbitrary."""
RESULTS_SHOWN = 5
"""Results that are shown per query; arbitrary."""
TILE = 144
"""Pixels a side."""
RIGHT, WRONG, PAPER, INK = "#1a7f37", "#cf222e", "#ffffff", "#24292f"


class Plots(L.Callback):
    """Draws a run's loss, its validation scores and its worst queries after every epoch.

    Args:
        out: folder of the run, with its logs in ``csv``; the pictures go to its sub-folder ``plots``.
    """

    def __init__(self, out: Path) -> None:
        self.out = out

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the worst queries, while the descriptors are still there."""
        assert isinstance(pl_module, LandmarkModule)
        scores = pl_module.retrieval
        with scores.sync_context():  # of all processes; every one takes part
            order = dim_zero_cat(scores.indices).argsort()
            descriptors = dim_zero_cat(scores.descriptors)[order].cpu().numpy()
            landmark_ids = dim_zero_cat(scores.landmark_ids)[order].cpu().numpy()
        if trainer.is_global_zero:
            draw_worst(
                pl_module.data.val, worst_queries(descriptors, landmark_ids), self.out / "plots" / "worst_queries.webp"
            )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the curves as far as they are logged."""
        self._draw_curves(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the curves with the last epoch's mean loss, which is logged after the epoch's end."""
        self._draw_curves(trainer)

    def _draw_curves(self, trainer: L.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                logger.save()
        draw_curves(self.out)


def draw_curves(out: Path) -> None:
    """Draws ``out``/plots/loss.svg and map.svg from the logs in ``out``/csv; of a step done twice the last counts,
    and what is not finite is left out."""
    logs = list(_read_logs(out / "csv"))

    def curve(x: str, y: str, start: int, scale: float = 1) -> Curve:
        points = {float(row[x]) + start: scale * float(row[y]) for row in logs if row.get(y)}
        return sorted(point for point in points.items() if math.isfinite(point[1]))

    losses = {"at a step": curve("step", "loss", 1), "mean of an epoch": curve("step", "epoch_loss", 1)}
    line_chart(out / "plots" / "loss.svg", "Loss", losses, "steps")
    scores = {"mAP": curve("epoch", "val_map", 1, 100), "recall@1": curve("epoch", "val_recall_at_1", 1, 100)}
    line_chart(out / "plots" / "map.svg", "Validation, %", scores, "epochs")


def _read_logs(folder: Path) -> Iterator[dict[str, str]]:
    """The rows of a run's logs, one after another where it was resumed."""
    versions = sorted(folder.glob("version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1]))
    for path in versions:
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


@dataclass(frozen=True)
class WorstQuery:
    """A query and its results; images are given by their indices in the collection, ranks from 1.

    Attributes:
        index: of the query.
        ap: average precision of the query.
        first: indices of the first results.
        right: for each of the first results, whether it is of the query's landmark.
        nearest: index of the first image of the query's landmark.
        rank: of the first image of the query's landmark.
    """

    index: int
    ap: float
    first: tuple[int, ...]
    right: tuple[bool, ...]
    nearest: int
    rank: int


def worst_queries(descriptors: NDArray[np.float32], landmark_ids: NDArray[np.int64]) -> list[WorstQuery]:
    """The queries with the lowest AP, worst first, one for each landmark.

    Args:
        descriptors: (n, dim), of unit length; each is a query for all others.
        landmark_ids: (n,) landmark of each descriptor.
    """
    sample = np.random.default_rng(0).permutation(len(landmark_ids))[:MAX_QUERIES]
    found = [
        _score_query(int(query), descriptors, landmark_ids)
        for query in sample
        if (landmark_ids == landmark_ids[query]).sum() > 1
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
    """Draws a row for each query as a WebP file, wholly or not at all; an image that cannot be read is left empty.

    Args:
        collection: that the queries' images are of.
        queries: as `worst_queries` gives them.
        path: of the file.
    """
    gap, line = 10, 20
    height = line + TILE + 2 * line
    sheet = Image.new("RGB", (gap + (TILE + gap) * (RESULTS_SHOWN + 2), max(1, height * len(queries))), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, query in enumerate(queries):
        top = row * height
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
