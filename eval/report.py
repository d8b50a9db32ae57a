"""Result files: the scores, the protocol, the model, and the versions of the libraries, as JSON."""

import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glam.inference.pipeline import Settings
from glam.output import OutputKind, has_json_keys

if TYPE_CHECKING:  # the index imports FAISS, which a report does not need
    from glam.eval.benchmark import BenchmarkReport
    from glam.eval.folder import FolderReport, FolderScores
    from glam.eval.revisitop import ProtocolScores
    from glam.eval.search_evaluation import SearchReport

LIBRARIES = ("glam-retrieval", "torch", "torchvision", "timm", "faiss-cpu", "numpy", "pillow")
"""Packages whose versions are recorded."""

RANKING = {
    "ties": "lower row first, distractors after the database",
    "nan": "last, a positive after all others; so is a zero descriptor",
    "interval": "95% bootstrap over queries",
}
"""Ranking rules of the Revisited Oxford and Paris protocol, for the result file."""


class ModelFacts(Protocol):
    """The facts about a model that a result file records, such as those of a `glam.model.Model`."""

    @property
    def name(self) -> str:
        """Name or path that the model was loaded by."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of architecture and weights."""

    @property
    def dim(self) -> int:
        """Dimension of the descriptors."""


@dataclass(frozen=True)
class IndexModel:
    """The model that an index was built with.

    Attributes:
        name: name or path that the model was loaded by.
        fingerprint: fingerprint of architecture and weights.
        dim: dimension of the descriptors.
    """

    name: str
    fingerprint: str
    dim: int


def folder_result(
    dataset: str,
    report: "FolderReport",
    model: ModelFacts,
    settings: Settings,
    search: "SearchReport[FolderScores] | None" = None,
) -> dict[str, Any]:
    """Builds the result file of `glam.eval.folder.evaluate_folder`. Scores are fractions, not percent.

    Args:
        dataset: name of the data set.
        report: result of the evaluation.
        model: the model that was evaluated.
        settings: image size and scales of the evaluation.
        search: result of the evaluation of an index or a service; None for exact ranking only.

    Returns:
        A dict that can be written as JSON.
    """
    protocol = {
        "query": "every image",
        "junk": "the query itself",
        "distractors": report.distractors,
        "rerank": report.rerank,
    }
    return {
        **heading(dataset, {**protocol, **_settings(settings)}, _model(model)),
        **_results(report, search, partial(_folder, paths=report.paths)),
    }


def benchmark_result(
    dataset: str,
    report: "BenchmarkReport",
    model: ModelFacts,
    settings: Settings,
    search: "SearchReport[dict[str, ProtocolScores]] | None" = None,
) -> dict[str, Any]:
    """Builds the result file of `glam.eval.benchmark.evaluate_benchmark`. Scores are fractions, not percent.

    Args:
        dataset: name of the data set.
        report: result of the evaluation.
        model: the model that was evaluated.
        settings: image size and scales of the evaluation.
        search: result of the evaluation of an index or a service; None for exact ranking only.

    Returns:
        A dict that can be written as JSON.
    """
    facts = {"distractors": report.distractors, "rerank": report.rerank}
    protocol = {"crop": report.crop, **_settings(settings), **facts, **RANKING}
    return {
        **heading(dataset, protocol, _model(model)),
        **_results(report, search, partial(_protocols, queries=report.queries)),
    }


def descriptors_result(
    dataset: str, scores: "dict[str, ProtocolScores]", queries: Sequence[str], dim: int, files: dict[str, Any]
) -> dict[str, Any]:
    """Builds the result file of descriptors that were read from files. Unknown facts are null.

    Args:
        dataset: name of the data set.
        scores: scores by protocol, see `glam.eval.revisitop.score_revisited`.
        queries: (q,) names of the queries.
        dim: dimension of the descriptors.
        files: further entries of the protocol: the files and the number of distractors.

    Returns:
        A dict that can be written as JSON.
    """
    protocol = {"crop": None, "size": None, "scales": None, **files, **RANKING}
    return {
        **heading(dataset, protocol, {"name": None, "fingerprint": None, "dim": dim}),
        "results": _protocols(scores, queries),
    }


def heading(dataset: str, protocol: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """The entries that every result file starts with.

    Args:
        dataset: name of the data set.
        protocol: settings of the evaluation, by name.
        model: facts about the model, by name.
    """
    return {"dataset": dataset, "protocol": protocol, "model": model, "versions": versions()}


def versions() -> dict[str, str]:
    """Versions of Python and of the installed `LIBRARIES`."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES if _has(name)}}


RESULT = OutputKind(
    "a result file of `glam eval`",
    partial(has_json_keys, keys=("dataset", "protocol", "model", "versions", "results")),
)


def _results(
    report: "FolderReport | BenchmarkReport",
    search: "SearchReport[Any] | None",
    as_json: Callable[[Any], dict[str, Any]],
) -> dict[str, Any]:
    """Unreadable images, the scores of exact ranking, and those of an index or service if there are any."""
    return {
        "unreadable": {error.source: error.reason for error in report.unreadable},
        "results": as_json(report.scores),
        **({} if search is None else {"searched": {**search.searched, "results": as_json(search.scores)}}),
    }


def _settings(settings: Settings) -> dict[str, Any]:
    return {"size": settings.size, "scales": list(settings.scales)}


def _model(model: ModelFacts) -> dict[str, Any]:
    return {"name": model.name, "fingerprint": model.fingerprint, "dim": model.dim}


def _folder(scores: "FolderScores", paths: Sequence[str]) -> dict[str, Any]:
    return {
        "map": scores.mean_ap,
        "interval": list(scores.interval),
        "recall_at_1": scores.recall_at_1,
        "mp_at_10": scores.precision_at_10,
        "ap": _by_name(paths, scores.ap),
    }


def _protocols(scores: "dict[str, ProtocolScores]", queries: Sequence[str]) -> dict[str, Any]:
    return {
        name: {
            "map": _number(protocol.mean_ap),
            "interval": [_number(end) for end in protocol.interval],
            "mp": {str(k): _number(precision) for k, precision in protocol.precision.items()},
            "ap": _by_name(queries, protocol.ap),
        }
        for name, protocol in scores.items()
    }


def _by_name(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in zip(names, values.tolist(), strict=True)}


def _number(value: float) -> float | None:
    """Replaces NaN, which JSON lacks, by None."""
    return None if math.isnan(value) else value


def _has(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
