"""`glam eval folder|revisited` with ``--index`` or ``--service``: search compared with exact ranking."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import glam
from glam.app.cli import terminal
from glam.app.cli.eval import finish
from glam.app.cli.eval_folders import read_folders, report_skipped, skipped_before_error
from glam.app.cli.options import settings_of
from glam.app.cli.service_searcher import ServiceSearcher
from glam.datasets.collection import ScanOptions
from glam.errors import GlamError
from glam.eval.benchmark import Benchmark, evaluate_benchmark
from glam.eval.descriptor_readers import read_descriptors
from glam.eval.folder import evaluate_folder
from glam.eval.report import IndexModel, ModelFacts, benchmark_result, folder_result
from glam.eval.search_evaluation import DEPTH, rank_benchmark, rank_folder, search_benchmark, search_folder
from glam.eval.searcher import IndexSearcher
from glam.index import Index
from glam.index.rerank.chain import parse_chain
from glam.inference.pipeline import Settings


@dataclass(frozen=True)
class SearchEvaluation:
    """Options of an evaluation by search.

    Attributes:
        index: folder of the index to search; None for a service.
        service: address of the service to search; None for an index.
        token: access token of the service.
        rerank: re-ranking steps, such as ``aqe,superglobal``; None for plain search.
        depth: most results per query; None for the default.
        model: name of the model that describes the images for exact ranking, and the queries of an index.
        device: device of that model; None for the default.
        size: longest side in pixels, for a service; an index has its own.
        scales: scales separated by commas, for a service; an index has its own.
        out: result file to write; None for none.
        json: whether to print the result as JSON instead of a table.
    """

    index: Path | None
    service: str | None
    token: str | None
    rerank: str | None
    depth: int | None
    model: str
    device: str | None
    size: int | None
    scales: str | None
    out: Path | None
    json: bool

    def check(self, distractors: object) -> None:
        """Checks that the options fit together.

        Raises:
            GlamError: they do not.
        """
        if self.index is not None and self.service is not None:
            raise GlamError("--index and --service exclude each other. Evaluate one at a time.")
        if self.index is not None and distractors:
            raise GlamError("The other images of an index are its distractors. Leave out --distractors.")
        if self.index is not None and (self.size is not None or self.scales is not None):
            raise GlamError("An index has its own size and scales. Leave out --size and --scales.")


def eval_folder_search(folder: Path, options: SearchEvaluation, distractors: Path | None, scan: ScanOptions) -> None:
    """Evaluates an index or a service with a folder of landmarks."""
    options.check(distractors)
    collection, others = read_folders(folder, distractors, scan)
    depth = options.depth or DEPTH
    facts: ModelFacts
    if options.service is not None:
        service = ServiceSearcher(options.service, options.token, options.rerank)
        with terminal.progress("searching") as progress:
            search = search_folder(service, collection, depth=depth, progress=progress)
        opened = glam.load(options.model, options.device)
        settings = settings_of(opened, options.size, options.scales)
        with skipped_before_error(collection, others), terminal.progress("describing") as progress:
            report = evaluate_folder(opened, collection, others, settings=settings, progress=progress)
        check_size(service, len(report.paths) + report.distractors)
        facts = opened
    else:
        with open_index(options) as searcher:
            with terminal.progress("searching") as progress:
                search = search_folder(searcher, collection, depth=depth, progress=progress)
            report = rank_folder(searcher, collection)
            settings, facts = index_settings(searcher.index)
    skipped = report_skipped(collection, others, report)
    finish({**folder_result(str(folder), report, facts, settings, search), **skipped}, options.out, options.json)
    if not options.json:
        images = terminal.count(len(report.paths), "image")
        others_note = terminal.count(report.distractors, "distractor")
        print_comparison(
            f"{folder}: {images}, {others_note}, {searched_note(search.searched)}",
            [("mAP", report.scores.mean_ap, search.scores.mean_ap)],
        )
    terminal.exit_if_incomplete(collection, others, errors=report.unreadable)


def eval_benchmark_search(
    benchmark: Benchmark, options: SearchEvaluation, distractors: Sequence[str], crop: bool
) -> None:
    """Evaluates an index or a service with the queries of a benchmark."""
    options.check(distractors)
    depth = options.depth or DEPTH
    facts: ModelFacts
    opened = glam.load(options.model, options.device)
    if options.service is not None:
        service = ServiceSearcher(options.service, options.token, options.rerank)
        with terminal.progress("searching") as progress:
            search = search_benchmark(service, benchmark, crop=crop, depth=depth, progress=progress)
        settings = settings_of(opened, options.size, options.scales)
        others = [read_descriptors(source, "distractors") for source in distractors]
        with terminal.progress("describing") as progress:
            report = evaluate_benchmark(opened, benchmark, others, settings=settings, crop=crop, progress=progress)
        check_size(service, len(benchmark.images) + report.distractors)
        facts = opened
    else:
        with open_index(options, opened) as searcher:
            with terminal.progress("searching") as progress:
                search = search_benchmark(searcher, benchmark, crop=crop, depth=depth, progress=progress)
            report = rank_benchmark(searcher, benchmark, crop=crop)
            settings, facts = index_settings(searcher.index)
    cut = "queries cropped" if crop else "queries NOT cropped: not comparable with published results"
    finish(benchmark_result(benchmark.name, report, facts, settings, search), options.out, options.json)
    if not options.json:
        others_note = terminal.count(report.distractors, "distractor")
        print_comparison(
            f"{benchmark.name}, {others_note}: {cut}, {searched_note(search.searched)}",
            [(name, report.scores[name].mean_ap, search.scores[name].mean_ap) for name in report.scores],
        )


@contextmanager
def open_index(options: SearchEvaluation, model: "glam.Model | None" = None) -> Iterator[IndexSearcher]:
    """The index to search, open inside the block."""
    assert options.index is not None
    chain = None if options.rerank is None else parse_chain(options.rerank)
    with Index.open(options.index, device=options.device) as index:
        yield IndexSearcher(index, chain, model)


def index_settings(index: Index) -> tuple[Settings, IndexModel]:
    """The settings and the model that the images of an index were described with."""
    return Settings(index.size, index.scales), IndexModel(index.model_name, index.fingerprint, index.dim)


def check_size(service: ServiceSearcher, ranked: int) -> None:
    """Checks that a service and exact ranking search the same number of images.

    Raises:
        GlamError: they do not.
    """
    if len(service) != ranked:
        raise GlamError(
            f"{service.url} searches {len(service)} images, and exact ranking {ranked}. "
            "Name the other images of the index of the service with --distractors."
        )


def searched_note(searched: dict[str, Any]) -> str:
    """What was searched, for the title of a table."""
    source = searched["service"] or f"{searched['index']} ({searched['structure']})"
    rerank = "" if searched["rerank"] is None else f", re-ranked by {searched['rerank']}"
    return f"searched in {source}, depth {searched['depth']}{rerank}"


def print_comparison(title: str, rows: Sequence[tuple[str, float, float]]) -> None:
    """Prints the exact mAP, the searched mAP and their difference, in percent with two decimals."""
    cells = [
        [name, terminal.percent(exact, ".2f"), terminal.percent(found, ".2f"), terminal.percent(found - exact, "+.2f")]
        for name, exact, found in rows
    ]
    terminal.table(["", "exact mAP", "searched mAP", "difference"], cells, title=title)
