"""Evaluation of a model on Revisited Oxford or Paris, or on another benchmark with a ground truth in their format."""

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
    """A ground truth with the files of its images.

    Attributes:
        name: name in the report.
        truth: queries and judgments.
        images: (n,) file of each database image, in the order of ``truth.images``.
        queries: (q,) file of each query image, in the order of ``truth.queries``.
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
        name: name of the benchmark, such as ``roxford5k``.
        root: folder that contains the ground truth, directly or in the sub-folder ``name``: ``gnd_NAME.pkl``,
            ``gnd_NAME.json``, or a single file ``gnd_NAME*``. Required without ``ground_truth``.
        ground_truth: file of the ground truth; by default it is looked for in ``root``.
        images: folder of the database images; by default ``jpg`` or ``db`` next to the ground truth.
        queries: folder of the query images; by default ``queries`` next to the ground truth or, without one, the folder
            of the database images.

    Raises:
        GlamError: the ground truth, a folder, or an image cannot be found.
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
    """Result of an evaluation of a model on a benchmark.

    Attributes:
        scores: scores by protocol, see `glam.eval.revisitop.score_revisited`.
        queries: (q,) names of the queries, in the order of ``ap`` in the scores.
        crop: whether the queries were cropped to their boxes.
        distractors: number of distractors in the database.
        unreadable: errors of unreadable database images, which are ranked last for every query.
        rerank: the chain that re-ranked the results; None without re-ranking.
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
    """Computes the descriptors of a benchmark's images and scores their exact ranking.

    Args:
        model: computes the descriptors.
        benchmark: the images and the ground truth, see `open_benchmark`.
        distractors: arrays of (m, dim) descriptors, computed by the same model, of images that are never positive.
        settings: image size and scales; those of the model by default.
        crop: whether each query is cropped to its box first, as the protocol requires.
        chain: re-ranks the result of each query, once for all protocols; None for no re-ranking.
        progress: called with images done and total images; with a chain, each query counts as one more image.

    Raises:
        ImageError: a query cannot be read.
        GlamError: a query has no box to crop it to, the distractors do not have the dimension of the model, or a step
            of the chain lacks its input.
    """
    settings = settings or model.settings()
    queries = benchmark.truth.queries
    for part in distractors:
        if part.shape[1] != model.dim:
            raise GlamError(
                f"The distractors have {part.shape[1]} dimensions, but {model.name} computes {model.dim}. "
                "Compute them with this model: `glam describe`."
            )
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
    """The region of each query image to search with.

    Args:
        truth: the queries.
        crop: whether queries are cropped to their boxes.

    Returns:
        (q,) x1, y1, x2, y2 in pixels for each query; None for the whole image if ``crop`` is false.

    Raises:
        GlamError: ``crop`` is true and a query has no box.
    """
    for query in truth.queries:
        if crop and query.box is None:
            raise GlamError(f"the query {query.name!r} has no box. Add one, or evaluate with --no-crop.")
    return [query.box if crop else None for query in truth.queries]


def _find_ground_truth(name: str, root: Path | None) -> Path:
    if root is None:
        raise GlamError("The benchmark cannot be found. Name its folder (--root) or its ground truth (--gnd).")
    for folder in (root, root / name):
        for pattern in (f"gnd_{name}.pkl", f"gnd_{name}.json", f"gnd_{name}*"):
            found = sorted(folder.glob(pattern))
            if len(found) == 1:
                return found[0]
    raise GlamError(
        f"{root} contains no ground truth: neither gnd_{name}.pkl nor gnd_{name}.json, directly or in {name}/. "
        "Choose another --root, or name the file with --gnd."
    )


def _first_folder(folders: Sequence[Path]) -> Path:
    for folder in folders:
        if folder.is_dir():
            return folder
    raise GlamError(
        f"No folder of images: {' and '.join(map(str, folders))} do not exist. Name the folder of the images."
    )


def _files(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """Finds the files of images, whose names may omit the suffix.

    Raises:
        GlamError: an image does not exist, or its name leads out of the folder.
    """
    files = [_file(folder, name) for name in names]
    missing = [name for name, file in zip(names, files, strict=True) if file is None]
    if missing:
        raise GlamError(
            f"{folder}: {len(missing)} of {len(names)} images are not in it, the first is {missing[0]!r}. "
            "Add the images, or choose another folder."
        )
    return tuple(file for file in files if file is not None)


def _file(folder: Path, name: str) -> Path | None:
    safe_path(name, folder)
    return next((file for suffix in SUFFIXES if (file := folder / f"{name}{suffix}").is_file()), None)
