"""Evaluation of a model on the images of Revisited Oxford or Paris, or of another set with such a ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from glam.datasets.tables import safe_path
from glam.errors import GlamError, ImageError
from glam.eval.ground_truth import GroundTruth, read_ground_truth
from glam.eval.rerank import local_features_of, offset_progress, rerank_all
from glam.eval.revisitop import ProtocolScores, score_revisited
from glam.eval.tie_break import Descriptors
from glam.images import IMAGE_SUFFIXES, Box
from glam.index.rerank.base import Query
from glam.index.rerank.chain import Chain
from glam.index.rerank.memory_database import MemoryDatabase
from glam.inference.pipeline import Settings
from glam.model import Model
from glam.progress import Progress, no_progress

IMAGE_FOLDERS = ("jpg", "db")
QUERY_FOLDER = "queries"
SUFFIXES = ("", ".jpg", *sorted(IMAGE_SUFFIXES - {".jpg"}))


@dataclass(frozen=True)
class Benchmark:
    """A ground truth and its images.

    Attributes:
        name: what the report calls it.
        truth: the queries over the database.
        images: file of each database image.
        queries: file of each query image.
    """

    name: str
    truth: GroundTruth
    images: tuple[Path, ...]
    queries: tuple[Path, ...]


def open_benchmark(
    name: str,
    root: Path | None = None,
    *,
    ground_truth: Path | None = None,
    images: Path | None = None,
    queries: Path | None = None,
) -> Benchmark:
    """Finds a benchmark on disk.

    Args:
        name: as ``roxford5k``.
        root: folder that holds ``gnd_NAME.pkl`` (or ``.json``; or just one ``gnd_NAME*``), or whose sub-folder ``name``
            does.
        ground_truth: the file, instead of looking for it in the root.
        images: folder of the database images, instead of ``jpg`` or ``db`` beside the ground truth.
        queries: folder of the query images, instead of ``queries`` beside the ground truth or else that of the images.

    Raises:
        GlamError: something of it is not there.
    """
    truth_file = ground_truth or _find_ground_truth(name, root)
    folder = truth_file.parent
    image_folder = images or _first_folder([folder / image_folder for image_folder in IMAGE_FOLDERS])
    query_folder = queries or _first_folder([folder / QUERY_FOLDER, image_folder])
    truth = read_ground_truth(truth_file)
    return Benchmark(
        name,
        truth,
        _files(image_folder, truth.images),
        _files(query_folder, [query.name for query in truth.queries]),
    )


@dataclass(frozen=True)
class BenchmarkReport:
    """An evaluation of a model on a benchmark.

    Attributes:
        scores: by protocol, see `glam.eval.revisitop.score_revisited`.
        queries: names of the queries, in the order of the APs.
        crop: whether queries were cut to their boxes.
        distractors: images in the database beside the benchmark's.
        unreadable: database images that came last in every ranking, and why.
        rerank: the chain that reranked the lists; None without one.
    """

    scores: dict[str, ProtocolScores]
    queries: tuple[str, ...]
    crop: bool
    distractors: int
    unreadable: tuple[ImageError, ...]
    rerank: str | None = None


def evaluate_benchmark(
    model: Model,
    benchmark: Benchmark,
    distractors: Sequence[Descriptors] = (),
    *,
    settings: Settings | None = None,
    crop: bool = True,
    chain: Chain | None = None,
    progress: Progress = no_progress,
) -> BenchmarkReport:
    """Describes the images of a benchmark and scores them.

    Args:
        model: describes the images.
        benchmark: see `open_benchmark`.
        distractors: descriptors by the same model of images that are never positive.
        settings: size and scales; the model's own by default.
        crop: cut each query to its box before anything else, as the protocol wants it.
        chain: reranks the list of each query, once for all protocols.
        progress: called with images done and images in all, as it goes; reranked queries count as further images.

    Raises:
        ImageError: a query cannot be read.
        GlamError: a query has no box to cut it to, the distractors are not of the model's dimension, or a step of the
            chain lacks what it needs.
    """
    settings = settings or model.settings()
    queries = benchmark.truth.queries
    for part in distractors:
        if part.shape[1] != model.dim:
            raise GlamError(f"the distractors have {part.shape[1]} dimensions and {model.name} gives {model.dim}")
    boxes = query_boxes(benchmark.truth, crop)
    errors: list[ImageError] = []
    descriptors = model.describe(
        [*benchmark.queries, *benchmark.images],
        boxes=[*boxes, *[None] * len(benchmark.images)],
        size=settings.size,
        scales=settings.scales,
        errors=errors,
        progress=lambda done, total: progress(done, total + (0 if chain is None else len(queries))),
    )
    unread = {error.source: error for error in errors}
    for file in benchmark.queries:
        if str(file) in unread:
            raise unread[str(file)]
    device = next(model.network.parameters()).device
    query_descriptors, database_descriptors = descriptors[: len(queries)], descriptors[len(queries) :]
    lists = None
    if chain is not None:
        query_features = local_features_of(benchmark.queries, boxes)
        rerank_queries = [
            Query(descriptor, partial(query_features, row)) for row, descriptor in enumerate(query_descriptors)
        ]
        memory = MemoryDatabase([database_descriptors, *distractors], local_features_of(benchmark.images))
        lists = rerank_all(chain, rerank_queries, lambda _: memory, offset_progress(progress, len(descriptors)))
    scores = score_revisited(
        benchmark.truth, query_descriptors, database_descriptors, distractors, lists=lists, device=device
    )
    names = tuple(query.name for query in queries)
    count = sum(len(part) for part in distractors)
    return BenchmarkReport(scores, names, crop, count, tuple(errors), None if chain is None else str(chain))


def query_boxes(truth: GroundTruth, crop: bool) -> list[Box | None]:
    """The part of each query image to search with: its box, or all of it without the crop.

    Raises:
        GlamError: a query has no box to crop it to.
    """
    for query in truth.queries:
        if crop and query.box is None:
            raise GlamError(f"the query {query.name!r} has no box; add one, or evaluate without the crop")
    return [query.box if crop else None for query in truth.queries]


def _find_ground_truth(name: str, root: Path | None) -> Path:
    if root is None:
        raise GlamError("name the folder of the benchmark (--root), or its ground truth (--gnd)")
    for folder in (root, root / name):
        for pattern in (f"gnd_{name}.pkl", f"gnd_{name}.json", f"gnd_{name}*"):
            found = sorted(folder.glob(pattern))
            if len(found) == 1:
                return found[0]
    raise GlamError(f"{root}: no ground truth in it; looked for gnd_{name}.pkl or .json, there and in {name}/")


def _first_folder(folders: Sequence[Path]) -> Path:
    for folder in folders:
        if folder.is_dir():
            return folder
    raise GlamError(f"no folder of images: looked for {' and '.join(map(str, folders))}")


def _files(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The files of images named with or without their suffix.

    Raises:
        GlamError: one of them is not there, or leads out of the folder.
    """
    files = [_file(folder, name) for name in names]
    missing = [name for name, file in zip(names, files, strict=True) if file is None]
    if missing:
        raise GlamError(f"{folder}: {len(missing)} of {len(names)} images are not in it, the first is {missing[0]!r}")
    return tuple(file for file in files if file is not None)


def _file(folder: Path, name: str) -> Path | None:
    safe_path(name, folder)
    return next((file for suffix in SUFFIXES if (file := folder / f"{name}{suffix}").is_file()), None)
