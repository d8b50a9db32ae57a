"""The command line, `glam`.

Every command imports what it needs when it runs, so that `glam --help` answers at once. An expected failure is one
sentence on standard error and exit code 1; wrong usage exits with 2.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from glam.app.cli import bench, data, whiten
from glam.app.cli import describe as describe_commands
from glam.app.cli import eval as eval_commands
from glam.app.cli import index as index_commands
from glam.app.cli.explain import explain
from glam.app.cli.search import search
from glam.app.cli.serve import serve
from glam.app.cli.train import train
from glam.errors import GlamError

app = typer.Typer(
    help="Find images of the same landmark: train, index, search, evaluate.",
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
app.command("search")(search)
app.command(
    "train",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    short_help="Train a descriptor on landmarks (--config NAME [--data.train DIR] [--out DIR] [--resume]).",
)(train)


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Find images of the same landmark: train, index, search, evaluate."""


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Output folder.")] = Path("demo"),
    serve_page: Annotated[bool, typer.Option("--serve/--no-serve", help="Whether the page opens at the end.")] = True,
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
) -> None:
    """Do everything once on generated landmarks: draw, train, index, evaluate before and after, serve. No download."""
    from glam.app.cli.demo import run

    index = run(folder)
    if serve_page:
        serve(index, port=port)


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
