"""The command line, `glam`.

Every command imports what it needs when it runs, so that `glam --help` answers at once. An expected failure is one
sentence on standard error and exit code 1; wrong usage exits with 2.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from glam.app.cli import bench, data, whiten
from glam.app.cli import describe as describe_commands
from glam.app.cli import eval as eval_commands
from glam.app.cli import index as index_commands
from glam.app.cli.explain import explain
from glam.app.cli.options import AsJson, Device, IndexModel, IndexPath
from glam.app.cli.serve import serve
from glam.errors import GlamError

app = typer.Typer(
    help="Find photographs of the same place: train, index, search, evaluate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(index_commands.app, name="index")
app.add_typer(eval_commands.app, name="eval")
app.add_typer(data.app, name="data")
app.add_typer(whiten.app, name="whiten")
app.add_typer(bench.app, name="bench")
app.command("describe")(describe_commands.describe)
app.command("describe-merge")(describe_commands.describe_merge)
app.command("export")(describe_commands.export)
app.command("serve")(serve)
app.command("explain")(explain)


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Find photographs of the same place: train, index, search, evaluate."""


@app.command()
def search(
    index: IndexPath,
    image: Annotated[Path, typer.Argument(help="The photograph to search with.")],
    bbox: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(metavar="X1 Y1 X2 Y2", help="Search with this part of it, in pixels."),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="How many results; 10, or all there are with --threshold.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Condition on the images, as in \"city = 'Paris' and year > 2010\".")
    ] = None,
    threshold: Annotated[float | None, typer.Option(min=-1, max=1, help="Least cosine of a result.")] = None,
    rerank: Annotated[
        str | None,
        typer.Option(
            metavar="CHAIN", help="Look at the results again: default, or steps as in aqe,geometric:depth=50."
        ),
    ] = None,
    model: IndexModel = None,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Find the nearest images to a photograph."""
    import glam
    from glam.app.cli import terminal
    from glam.images import read_image
    from glam.index import Index
    from glam.index.local_matching.rootsift import extract
    from glam.index.rerank.base import Query
    from glam.index.rerank.chain import parse_chain

    chain = None if rerank is None else parse_chain(rerank)
    with Index.open(index) as opened:
        loaded = glam.load(model or opened.model_name, device)
        opened.check_model(loaded)
        descriptor = loaded.describe([image], boxes=[bbox], size=opened.size, scales=opened.scales)[0]
        most = top or (10 if threshold is None else None)
        if chain is None:
            hits = opened.search(descriptor, most, where=where, threshold=threshold)[0]
        else:
            query = Query(descriptor, lambda: extract(read_image(image), box=bbox))
            hits = opened.search_reranked(query, chain, most, where=where, threshold=threshold)
    if json:
        terminal.as_json(
            [{"rank": hit.rank, "score": hit.score, "confidence": hit.confidence, **asdict(hit.entry)} for hit in hits]
        )
    else:
        rows = [[str(hit.rank), f"{hit.score:.3f}", hit.landmark, hit.path] for hit in hits]
        terminal.table(["rank", "score", "landmark", "path"], rows)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything goes.")] = Path("demo"),
    serve_page: Annotated[bool, typer.Option("--serve/--no-serve", help="Whether the page opens at the end.")] = True,
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
) -> None:
    """Do everything once on generated landmarks: draw, train, index, evaluate before and after, serve. No download."""
    from glam.app.cli.demo import run

    index = run(folder)
    if serve_page:
        serve(index, port=port)


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    short_help="Train a descriptor on landmarks (--config NAME [--data.train DIR] [--out DIR] [--resume]).",
)
def train(context: typer.Context) -> None:
    """Train a descriptor on landmarks; `glam train --help` lists every option."""
    from lightning.pytorch.utilities import rank_zero_only

    from glam.app.cli import terminal
    from glam.training.cli import train as run

    path = run(context.args)
    rank_zero_only(terminal.results.print)(f"model written to {path}")  # of several processes, one says it


def main() -> None:
    """Entry point of the `glam` command."""
    try:
        app()
    except GlamError as error:
        if "--debug" in sys.argv[1:2]:
            raise
        from glam.app.cli import terminal

        terminal.notes.print(f"glam: {error}", markup=False, soft_wrap=True)
        sys.exit(1)
