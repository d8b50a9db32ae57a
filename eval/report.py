"""Result files: what was measured, by which protocol, with which model and libraries."""

import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glam.inference.pipeline import Settings
from glam.output import OutputKind, has_json_keys, write_json

if TYPE_CHECKING:  # the index imports FAISS, which a report does not need
    from glam.eval.benchmark import BenchmarkReport
    from glam.eval.folder import FolderReport, FolderScores
    from glam.eval.revisitop import ProtocolScores
    from glam.eval.search_evaluation import SearchReport

LIBRARIES = ("glam-retrieval", "torch", "torchvision", "timm", "faiss-cpu", "numpy", "pillow")

RANKING = {
    "ties": "the lower number in the database first, distractors after it",
    "nan": "last",
    "interval": "95% bootstrap over queries",
}
"""How the rankings of the Revisited Oxford and Paris protocol are made, for the result file."""


class ModelFacts(Protocol):
    """What a result file says of a model; a `glam.model.Model` has it."""

    @property
    def name(self) -> str:
        """What it was loaded by."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of architecture and weights."""

    @property
    def dim(self) -> int:
        """Length of a descriptor."""


@dataclass(frozen=True)
class IndexModel:
    """The model that an index was built with.

    Attributes:
        name: what it was loaded by.
        fingerprint: of architecture and weights.
        dim: length of a descriptor.
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
    """The result file of `glam.eval.folder.evaluate_folder`. Fractions, not percent.

    Args:
        dataset: what to call it.
        report: the evaluation.
        model: that was evaluated.
        settings: it was evaluated with.
        search: the evaluation of an index or a service; None where only exact ranking was evaluated.
    """
    protocol = {
        "query": "every image",
        "junk": "the query itself",
        "distractors": report.distractors,
        "rerank": report.rerank,
    }
    return {
        **heading(dataset, {**protocol, **_settings(settings)}, _model(model)),
        "unreadable": {error.source: error.reason for error in report.unreadable},
        "results": _folder(report.scores, report.paths),
        **(
            {} if search is None else {"searched": {**search.searched, "results": _folder(search.scores, report.paths)}}
        ),
    }


def benchmark_result(
    dataset: str,
    report: "BenchmarkReport",
    model: ModelFacts,
    settings: Settings,
    search: "SearchReport[dict[str, ProtocolScores]] | None" = None,
) -> dict[str, Any]:
    """The result file of `glam.eval.benchmark.evaluate_benchmark`. Fractions, not percent.

    Args:
        dataset: what to call it.
        report: the evaluation.
        model: that was evaluated.
        settings: it was evaluated with.
        search: the evaluation of an index or a service; None where only exact ranking was evaluated.
    """
    facts = {"distractors": report.distractors, "rerank": report.rerank}
    protocol = {"crop": report.crop, **_settings(settings), **facts, **RANKING}
    return {
        **heading(dataset, protocol, _model(model)),
        "unreadable": {error.source: error.reason for error in report.unreadable},
        "results": _protocols(report.scores, report.queries),
        **(
            {}
            if search is None
            else {"searched": {**search.searched, "results": _protocols(search.scores, report.queries)}}
        ),
    }


def descriptors_result(
    dataset: str, scores: "dict[str, ProtocolScores]", queries: Sequence[str], dim: int, files: dict[str, Any]
) -> dict[str, Any]:
    """The result file of descriptors that came from elsewhere. What is not known of them is null.

    Args:
        dataset: what to call it.
        scores: see `glam.eval.revisitop.score_revisited`.
        queries: names of the queries.
        dim: of the descriptors.
        files: that were evaluated, and how many distractors there were.
    """
    protocol = {"crop": None, "size": None, "scales": None, **files, **RANKING}
    return {
        **heading(dataset, protocol, {"name": None, "fingerprint": None, "dim": dim}),
        "results": _protocols(scores, queries),
    }


def heading(dataset: str, protocol: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """What every result file begins with."""
    return {"dataset": dataset, "protocol": protocol, "model": model, "versions": versions()}


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES if _has(name)}}


RESULT = OutputKind(
    "a result file of `glam eval`",
    partial(has_json_keys, keys=("dataset", "protocol", "model", "versions", "results")),
)


def write(path: Path, result: dict[str, Any]) -> None:
    """Writes a result file.

    Raises:
        GlamError: it cannot be written.
    """
    write_json(path, result)


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
    """JSON has no NaN."""
    return None if math.isnan(value) else value


def _has(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
