"""`glam eval ...`: evaluate models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glam.app.cli.options import DEFAULT_MODEL, Device, ModelName, Scales, Size, settings_of

if TYPE_CHECKING:
    from glam.eval.revisitop import ProtocolScores
    from glam.index.rerank.chain import Chain

app = typer.Typer(help="Measure a model.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="roxford5k, rparis6k, or what your own set is called.")]
ResultFile = Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Write the result file here.")]
Distractors = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE", help="Descriptors of images that are never positive; may be given several times."),
]

Rerank = Annotated[
    str | None,
    typer.Option(
        metavar="CHAIN", help="Re-rank each list: default, or steps as in aqe,superglobal (docs/reranking.md)."
    ),
]

SearchedIndex = Annotated[
    Path | None,
    typer.Option("--index", metavar="INDEX", help="Search this index, beside exact ranking of its descriptors."),
]
Service = Annotated[
    str | None, typer.Option(metavar="URL", help="Search through this running service, beside exact ranking.")
]
Token = Annotated[str | None, typer.Option(envvar="GLAM_READ_TOKEN", help="Access token of the service.")]
Depth = Annotated[
    int | None, typer.Option(min=1, help="Most images per searched list, 5000 by default; others count as not found.")
]


@app.command("folder")
def eval_folder(
    folder: Annotated[Path, typer.Argument(help="Folder with one sub-folder per landmark, or a CSV manifest.")],
    model: ModelName = DEFAULT_MODEL,
    distractors: Annotated[Path | None, typer.Option(help="Folder of further database images.")] = None,
    size: Size = None,
    scales: Scales = None,
    device: Device = None,
    rerank: Rerank = None,
    index: SearchedIndex = None,
    service: Service = None,
    token: Token = None,
    depth: Depth = None,
    json: ResultFile = None,
) -> None:
    """Every image queries all others: mAP with its interval, recall@1, mP@10."""
    _check_result_file(json, folder, Path(model))
    if index is not None or service is not None:
        from glam.app.cli.eval_search import SearchEvaluation, eval_folder_search

        options = SearchEvaluation(index, service, token, rerank, depth, model, device, size, scales, json)
        eval_folder_search(folder, options, distractors)
        return

    import glam
    from glam.app.cli import terminal
    from glam.datasets.readers import read_collection
    from glam.eval.folder import evaluate_folder
    from glam.eval.report import folder_result, write

    chain = _chain(rerank)
    opened = glam.load(model, device)
    settings = settings_of(opened, size, scales)
    others = None if distractors is None else read_collection(distractors)
    with terminal.progress("describing") as progress:
        landmarks = read_collection(folder)
        report = evaluate_folder(opened, landmarks, others, settings=settings, chain=chain, progress=progress)
    terminal.unreadable([(error.source, error.reason) for error in report.unreadable])
    scores = report.scores
    terminal.table(
        ["model", "mAP", "95% interval", "recall@1", "mP@10"],
        [[
            model,
            terminal.percent(scores.mean_ap),
            " - ".join(map(terminal.percent, scores.interval)),
            terminal.percent(scores.recall_at_1),
            terminal.percent(scores.precision_at_10),
        ]],
        title=f"{folder}: {len(report.paths)} images, {report.distractors} distractors{_rerank_note(report.rerank)}",
    )  # fmt: skip
    if json is not None:
        write(json, folder_result(str(folder), report, opened, settings))


@app.command("revisited")
def eval_revisited(
    name: Name,
    root: Annotated[Path | None, typer.Option(help="Folder of the benchmark, with gnd_NAME.pkl or .json.")] = None,
    model: ModelName = DEFAULT_MODEL,
    gnd: Annotated[Path | None, typer.Option(help="The ground truth, instead of the one in the root.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the database images.")] = None,
    queries: Annotated[Path | None, typer.Option(help="Folder of the query images.")] = None,
    distractors: Distractors = None,
    crop: Annotated[bool, typer.Option(help="Crop queries to their boxes, as the protocol requires.")] = True,
    size: Size = None,
    scales: Scales = None,
    device: Device = None,
    rerank: Rerank = None,
    index: SearchedIndex = None,
    service: Service = None,
    token: Token = None,
    depth: Depth = None,
    json: ResultFile = None,
) -> None:
    """Revisited Oxford and Paris: mAP with its interval and mP@k, Easy, Medium and Hard."""
    import glam
    from glam.app.cli import terminal
    from glam.eval.benchmark import evaluate_benchmark, open_benchmark
    from glam.eval.descriptor_readers import read_descriptors
    from glam.eval.report import benchmark_result, write

    _check_result_file(json, Path(model), *filter(None, [gnd, *map(Path, distractors or ())]))
    benchmark = open_benchmark(name, root, ground_truth=gnd, images=images, queries=queries)
    if index is not None or service is not None:
        from glam.app.cli.eval_search import SearchEvaluation, eval_benchmark_search

        options = SearchEvaluation(index, service, token, rerank, depth, model, device, size, scales, json)
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
    _print_protocols(f"{name}, {report.distractors} distractors: {how}{_rerank_note(report.rerank)}", report.scores)
    if json is not None:
        write(json, benchmark_result(name, report, opened, settings))


@app.command("descriptors")
def eval_descriptors(
    name: Name,
    gnd: Annotated[Path, typer.Option(help="The ground truth, gnd_NAME.pkl or .json.")],
    queries: Annotated[str, typer.Option(metavar="FILE", help="Descriptors of the queries, in its order.")],
    database: Annotated[str, typer.Option(metavar="FILE", help="Descriptors of the database, in its order.")],
    distractors: Distractors = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    rerank: Rerank = None,
    json: ResultFile = None,
) -> None:
    """The same from anyone's descriptors: .npy, .npz, .safetensors or .h5 (FILE:ARRAY chooses one of several)."""
    from glam.app.cli import terminal
    from glam.eval.descriptor_readers import read_descriptors
    from glam.eval.ground_truth import read_ground_truth
    from glam.eval.report import descriptors_result, write
    from glam.eval.rerank import rerank_descriptors
    from glam.eval.revisitop import score_revisited

    chain = _chain(rerank)
    _check_result_file(json, gnd, *map(Path, [queries, database, *(distractors or ())]))
    truth = read_ground_truth(gnd)
    asking, images = read_descriptors(queries, "queries"), read_descriptors(database, "database")
    others = [read_descriptors(source, "distractors") for source in distractors or ()]
    count = sum(len(part) for part in others)
    lists = None
    if chain is not None:
        with terminal.progress("re-ranking") as progress:
            lists = rerank_descriptors(chain, asking, [images, *others], progress)
    with terminal.progress("comparing") as progress:
        scores = score_revisited(truth, asking, images, others, lists=lists, device=device, progress=progress)
    reranked = None if chain is None else str(chain)
    _print_protocols(f"{name}, {count} distractors{_rerank_note(reranked)}", scores)
    if json is not None:
        sources = {"queries": queries, "database": database, "distractors": distractors or []}
        facts = {"ground_truth": str(gnd), "descriptors": sources, "distractors": count, "rerank": reranked}
        write(json, descriptors_result(name, scores, [q.name for q in truth.queries], images.shape[1], facts))


@app.command("convert")
def eval_convert(
    source: Annotated[Path, typer.Argument(help="A ground truth, gnd_NAME.pkl or .json.")],
    out: Annotated[Path, typer.Argument(help="Where it goes: .json or .pkl.")],
) -> None:
    """Turn a ground truth from the pickle of Revisited Oxford and Paris into JSON, or back."""
    from glam.app.cli import terminal
    from glam.eval.ground_truth import GROUND_TRUTH, read_ground_truth, write_ground_truth
    from glam.output import check_output

    check_output(out, GROUND_TRUTH, [source])
    truth = read_ground_truth(source)
    write_ground_truth(out, truth)
    terminal.results.print(f"{out}: {len(truth.queries)} queries over {len(truth.images)} images")


def _check_result_file(json: Path | None, *inputs: Path) -> None:
    from glam.eval.report import RESULT
    from glam.output import check_output

    if json is not None:
        check_output(json, RESULT, inputs)


def _chain(text: str | None) -> "Chain | None":
    from glam.index.rerank.chain import parse_chain

    return None if text is None else parse_chain(text)


def _rerank_note(chain: str | None) -> str:
    return "" if chain is None else f", re-ranked by {chain}"


def _print_protocols(title: str, scores: "dict[str, ProtocolScores]") -> None:
    from glam.app.cli import terminal

    first = next(iter(scores.values()))
    rows = [
        [
            name,
            terminal.percent(protocol.mean_ap),
            " - ".join(map(terminal.percent, protocol.interval)),
            *map(terminal.percent, protocol.precision.values()),
        ]
        for name, protocol in scores.items()
    ]
    terminal.table(["protocol", "mAP", "95% interval", *(f"mP@{k}" for k in first.precision)], rows, title=title)
