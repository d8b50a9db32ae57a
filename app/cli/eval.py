"""`glam eval ...`: evaluate models and descriptors."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from glam.app.cli.help import Command, CommandGroup
from glam.app.cli.options import (
    DEFAULT_MODEL,
    AsJson,
    Device,
    Exclude,
    FollowLinks,
    ModelName,
    NamesLandmarks,
    Scales,
    Size,
    scan_options,
    settings_of,
)
from glam.app.cli.tokens import hide_argument

if TYPE_CHECKING:
    from glam.datasets.collection import Collection
    from glam.eval.folder import FolderReport
    from glam.eval.revisitop import ProtocolScores
    from glam.eval.top_k import TopKBenchmark
    from glam.index.rerank.chain import Chain

app = typer.Typer(cls=CommandGroup, help="Evaluate a model, an index, a service, or descriptors.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="roxford5k, rparis6k, or the name of your own benchmark.")]
ResultFile = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the result as a JSON file.")]
Distractors = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE", help="Descriptors of images that are never positive; can be repeated."),
]

Rerank = Annotated[
    str | None,
    typer.Option(metavar="STEPS", help='Re-rank the results: "default", or steps such as aqe,superglobal.'),
]

SearchedIndex = Annotated[
    Path | None,
    typer.Option("--index", metavar="INDEX", help="Search this index, and compare with exact ranking."),
]
Service = Annotated[
    str | None, typer.Option(metavar="URL", help="Search with this running service, and compare with exact ranking.")
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="GLAM_READ_TOKEN", callback=hide_argument, metavar="TOKEN", help="Access token of the service."
    ),
]
Depth = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Maximum number of results per query of an index or service.", show_default="5000"
    ),
]
GroundTruth = Annotated[Path, typer.Argument(metavar="FILE", help="Ground truth, gnd_NAME.pkl or gnd_NAME.json.")]


class EvalCommand(Command):
    """A command that still takes ``--json FILE``, the former name of ``--out FILE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the arguments, with the former option rewritten."""
        return super().parse_args(ctx, self._without_json_file(ctx, args))

    def _without_json_file(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts ``--out FILE`` for ``--json FILE``, which is recognized by one argument too many."""
        for i, arg in enumerate(args):
            if arg.startswith("--json="):
                renamed = [*args[:i], f"--out{arg.removeprefix('--json')}", *args[i + 1 :]]
            elif arg == "--json" and not "".join(args[i + 1 : i + 2]).startswith("-") and self._has_extra(ctx, args):
                renamed = [*args[:i], "--out", *args[i + 1 :]]
            else:
                continue
            typer.echo("--json FILE is now --out FILE.", err=True)
            return renamed
        return args

    def _has_extra(self, ctx: Any, args: list[str]) -> bool:
        """Whether there are more arguments than the command takes."""
        _, extra, _ = self.make_parser(ctx).parse_args(args=list(args))
        return bool(extra)


@app.command("folder", cls=EvalCommand)
def eval_folder(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", readable=False, help="Folder with one sub-folder per landmark, or a CSV manifest."
        ),
    ],
    model: ModelName = DEFAULT_MODEL,
    distractors: Annotated[
        Path | None, typer.Option(metavar="FOLDER", readable=False, help="Folder of further database images.")
    ] = None,
    exclude: Exclude = None,
    follow_links: FollowLinks = False,
    landmark_from: NamesLandmarks = None,
    size: Size = None,
    scales: Scales = None,
    device: Device = None,
    rerank: Rerank = None,
    index: SearchedIndex = None,
    service: Service = None,
    token: Token = None,
    depth: Depth = None,
    out: ResultFile = None,
    json: AsJson = False,
) -> None:
    """Evaluate a folder of landmarks: each image queries all others (mAP, recall@1, mP@10)."""
    _check_result_file(out, folder, Path(model))
    scan = scan_options(exclude, follow_links, landmark_from)
    if index is not None or service is not None:
        from glam.app.cli.eval_search import SearchEvaluation, eval_folder_search

        options = SearchEvaluation(index, service, token, rerank, depth, model, device, size, scales, out, json)
        eval_folder_search(folder, options, distractors, scan)
        return

    import glam
    from glam.app.cli import terminal
    from glam.app.cli.eval_folders import read_folders, report_skipped, skipped_before_error
    from glam.eval.folder import evaluate_folder
    from glam.eval.report import folder_result

    chain = _chain(rerank)
    opened = glam.load(model, device)
    settings = settings_of(opened, size, scales)
    landmarks, others = read_folders(folder, distractors, scan)
    with skipped_before_error(landmarks, others), terminal.progress("describing") as progress:
        report = evaluate_folder(opened, landmarks, others, settings=settings, chain=chain, progress=progress)
    skipped = report_skipped(landmarks, others, report)
    finish({**folder_result(str(folder), report, opened, settings), **skipped}, out, json)
    if not json:
        _print_scores(model, landmarks, report)
    terminal.exit_if_incomplete(landmarks, others, errors=report.unreadable)


@app.command("revisited", cls=EvalCommand)
def eval_revisited(
    name: Name,
    root: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", readable=False, help="Folder of the benchmark, with gnd_NAME.pkl or .json."),
    ] = None,
    model: ModelName = DEFAULT_MODEL,
    gnd: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Ground truth.", show_default="the one in --root")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of the database images.", show_default="jpg in --root"),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of the query images.", show_default="that of the database"),
    ] = None,
    distractors: Distractors = None,
    crop: Annotated[
        bool, typer.Option("--crop/--no-crop", help="Crop queries to their boxes, as the protocol requires.")
    ] = True,
    size: Size = None,
    scales: Scales = None,
    device: Device = None,
    rerank: Rerank = None,
    index: SearchedIndex = None,
    service: Service = None,
    token: Token = None,
    depth: Depth = None,
    out: ResultFile = None,
    json: AsJson = False,
) -> None:
    """Evaluate a model on Revisited Oxford or Paris: mAP and mP@k for Easy, Medium, and Hard."""
    import glam
    from glam.app.cli import terminal
    from glam.eval.benchmark import evaluate_benchmark, open_benchmark
    from glam.eval.descriptor_readers import read_descriptors
    from glam.eval.report import benchmark_result

    _check_result_file(out, Path(model), *filter(None, [gnd, *map(Path, distractors or ())]))
    benchmark = open_benchmark(name, root, ground_truth=gnd, images=images, queries=queries)
    if index is not None or service is not None:
        from glam.app.cli.eval_search import SearchEvaluation, eval_benchmark_search

        options = SearchEvaluation(index, service, token, rerank, depth, model, device, size, scales, out, json)
        eval_benchmark_search(benchmark, options, distractors or (), crop)
        return
    chain = _chain(rerank)
    others = [read_descriptors(source, "distractors") for source in distractors or ()]
    opened = glam.load(model, device)
    settings = settings_of(opened, size, scales)
    with terminal.progress("describing") as progress:
        report = evaluate_benchmark(
            opened, benchmark, others, settings=settings, crop=crop, chain=chain, progress=progress
        )
    terminal.unreadable([(error.source, error.reason) for error in report.unreadable])
    cut = "queries cropped" if crop else "queries NOT cropped: not comparable with published results"
    how = f"{model}, {cut}, {settings.size} px at scales {', '.join(f'{scale:g}' for scale in settings.scales)}"
    finish(benchmark_result(name, report, opened, settings), out, json)
    if not json:
        others_note = terminal.count(report.distractors, "distractor")
        _print_protocols(f"{name}, {others_note}: {how}{_rerank_note(report.rerank)}", report.scores)


@app.command("descriptors", cls=EvalCommand)
def eval_descriptors(
    name: Name,
    gnd: Annotated[Path, typer.Option(metavar="FILE", help="Ground truth, such as gnd_NAME.pkl or gnd_NAME.json.")],
    queries: Annotated[
        str, typer.Option(metavar="FILE", help="Descriptors of the queries, in the order of the ground truth.")
    ],
    database: Annotated[
        str, typer.Option(metavar="FILE", help="Descriptors of the database, in the order of the ground truth.")
    ],
    distractors: Distractors = None,
    protocol: Annotated[
        Literal["revisited", "gldv2-retrieval", "ilias"],
        typer.Option(metavar="revisited|gldv2-retrieval|ilias", help="Protocol of the benchmark, and format of --gnd."),
    ] = "revisited",
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu, cuda, or cuda:N.")] = "cpu",
    rerank: Rerank = None,
    out: ResultFile = None,
    json: AsJson = False,
) -> None:
    """Evaluate descriptors of any system: .npy, .npz, .safetensors, or .h5 files (FILE:ARRAY picks an array)."""
    import numpy as np

    from glam.app.cli import terminal
    from glam.eval.descriptor_readers import read_descriptors
    from glam.eval.ground_truth import read_ground_truth
    from glam.eval.report import descriptors_result
    from glam.eval.rerank import rerank_descriptors
    from glam.eval.revisitop import score_revisited
    from glam.eval.tie_break import without_direction
    from glam.eval.top_k import score_top_k

    chain = _chain(rerank)
    _check_result_file(out, gnd, *map(Path, [queries, database, *(distractors or ())]))
    benchmark = _top_k_benchmark(protocol, gnd)
    truth = read_ground_truth(gnd) if benchmark is None else benchmark.truth
    asked, images = read_descriptors(queries, "queries"), read_descriptors(database, "database")
    others = [read_descriptors(source, "distractors") for source in distractors or ()]
    count = sum(len(part) for part in others)
    lists = None
    if chain is not None:
        with terminal.progress("re-ranking") as progress:
            lists = rerank_descriptors(chain, asked, [images, *others], progress)
    with terminal.progress("comparing") as progress:
        if benchmark is None:
            scores = score_revisited(truth, asked, images, others, lists=lists, device=device, progress=progress)
        else:
            scores = score_top_k(benchmark, asked, images, others, lists=lists, device=device, progress=progress)
    reranked = None if chain is None else str(chain)
    sources = {"queries": queries, "database": database, "distractors": distractors or []}
    names = ([query.name for query in truth.queries], truth.images)
    lost = [names[i][row] for i, rows in enumerate((asked, images)) for row in np.flatnonzero(without_direction(rows))]
    if lost:
        are = terminal.count(len(lost), "descriptor is", "descriptors are")
        terminal.note(f"{are} zero or not a number; these images rank last and find nothing: {', '.join(lost)}")
    metric = "mAP" if benchmark is None else f"mAP@{benchmark.k}"
    facts = {
        "name": protocol, "metric": metric, "ground_truth": str(gnd), "descriptors": sources, "distractors": count,
        "rerank": reranked, "lost": lost,
    }  # fmt: skip
    finish(descriptors_result(name, scores, [q.name for q in truth.queries], images.shape[1], facts), out, json)
    if not json:
        title = f"{name}, {terminal.count(count, 'distractor')}{_rerank_note(reranked)}"
        _print_protocols(title, scores, "protocol" if benchmark is None else "split", metric)


@app.command("convert", cls=Command)
def eval_convert(
    source: GroundTruth,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, .json or .pkl.")],
) -> None:
    """Convert a ground truth from the pickle of Revisited Oxford and Paris to JSON, or back."""
    from glam.app.cli import terminal
    from glam.eval.ground_truth import GROUND_TRUTH, read_ground_truth, write_ground_truth
    from glam.output import check_output

    check_output(out, GROUND_TRUTH, [source])
    truth = read_ground_truth(source)
    write_ground_truth(out, truth)
    queries = terminal.count(len(truth.queries), "query", "queries")
    terminal.say(f"{out}: {queries} over {terminal.count(len(truth.images), 'image')}")


def finish(result: dict[str, Any], out: Path | None, json: bool) -> None:
    """Writes the result of an evaluation to a file, prints it as JSON, or both.

    Args:
        result: JSON object.
        out: file to write; None for none.
        json: whether to print it.
    """
    from glam.app.cli import terminal
    from glam.output import write_json

    if out is not None:
        write_json(out, result)
    if json:
        terminal.as_json(result)


def _check_result_file(out: Path | None, *inputs: Path) -> None:
    from glam.eval.report import RESULT
    from glam.output import check_output

    if out is not None:
        check_output(out, RESULT, inputs)


def _top_k_benchmark(protocol: str, gnd: Path) -> "TopKBenchmark | None":
    """The ground truth of a protocol that is scored by mAP@k; None for another protocol."""
    from glam.eval.gldv2 import read_gldv2_retrieval
    from glam.eval.ilias import read_ilias

    if protocol == "gldv2-retrieval":
        return read_gldv2_retrieval(gnd)
    return read_ilias(gnd) if protocol == "ilias" else None


def _chain(text: str | None) -> "Chain | None":
    from glam.index.rerank.chain import parse_chain

    return None if text is None else parse_chain(text)


def _rerank_note(chain: str | None) -> str:
    return "" if chain is None else f", re-ranked by {chain}"


def _print_scores(model: str, landmarks: "Collection", report: "FolderReport") -> None:
    from glam.app.cli import terminal

    scores = report.scores
    terminal.table(
        ["model", "mAP", "95% interval", "recall@1", "mP@10"],
        [[
            model,
            terminal.percent(scores.mean_ap),
            terminal.interval(*scores.interval),
            terminal.percent(scores.recall_at_1),
            terminal.percent(scores.precision_at_10),
        ]],
        title=f"{landmarks.source}: {terminal.count(len(report.paths), 'image')} of "
        f"{terminal.count(len(landmarks.landmarks), 'landmark')}, "
        f"{terminal.count(report.distractors, 'distractor')}{_rerank_note(report.rerank)}",
    )  # fmt: skip


def _print_protocols(
    title: str, scores: "dict[str, ProtocolScores]", kind: str = "protocol", metric: str = "mAP"
) -> None:
    from glam.app.cli import terminal

    first = next(iter(scores.values()))
    rows = [
        [
            name,
            terminal.percent(protocol.mean_ap),
            terminal.interval(*protocol.interval),
            *map(terminal.percent, protocol.precision.values()),
        ]
        for name, protocol in scores.items()
    ]
    terminal.table([kind, metric, "95% interval", *(f"mP@{k}" for k in first.precision)], rows, title=title)
