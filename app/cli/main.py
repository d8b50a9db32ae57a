"""The command line, `glam`.

Every command imports what it needs when it runs, so that `glam --help` answers at once. An expected failure is one
sentence on standard error and exit code 1; wrong usage exits with 2.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from glam.app.cli import bench, data, whiten
from glam.app.cli import describe as describe_commands
from glam.app.cli import eval as eval_commands
from glam.app.cli import index as index_commands
from glam.app.cli.adapt import adapt
from glam.app.cli.explain import explain
from glam.app.cli.help import ADVANCED, MAX_WIDTH, Command, CommandGroup
from glam.app.cli.search import search
from glam.app.cli.serve import serve
from glam.app.cli.train import TrainCommand, train
from glam.errors import GlamError, system_reason
from glam.registry import import_plugin

COMMON = ("index", "search", "serve", "explain", "eval", "train", "demo")
"""The commands that most people use, in the order of the help."""


class Root(CommandGroup):
    """The group of all commands, common ones first."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, in the order of the help."""
        names = super().list_commands(ctx)
        return [*COMMON, *(name for name in names if name not in COMMON)]


app = typer.Typer(
    cls=Root,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": MAX_WIDTH},
)
app.add_typer(index_commands.app, name="index")
app.add_typer(eval_commands.app, name="eval")
app.add_typer(data.app, name="data", rich_help_panel=ADVANCED)
app.add_typer(whiten.app, name="whiten", rich_help_panel=ADVANCED)
app.add_typer(bench.app, name="bench", rich_help_panel=ADVANCED)
app.command("search", cls=Command)(search)
app.command("serve", cls=Command)(serve)
app.command("explain", cls=Command)(explain)
app.command("train", cls=TrainCommand, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})(
    train
)
app.command("adapt", cls=Command, rich_help_panel=ADVANCED)(adapt)
app.command("describe", cls=Command, rich_help_panel=ADVANCED)(describe_commands.describe)
app.command("describe-merge", cls=Command, rich_help_panel=ADVANCED)(describe_commands.describe_merge)
app.command("export", cls=Command, rich_help_panel=ADVANCED)(describe_commands.export)


def _print_version(wanted: bool) -> None:
    if wanted:
        import glam

        typer.echo(f"glam {glam.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    plugin: Annotated[
        list[Path] | None,
        typer.Option("--plugin", metavar="FILE", help="Python file with an attention, pooling, or loss; repeatable."),
    ] = None,
) -> None:
    """Find images of the same landmark: index a folder, search it, train and evaluate models."""
    for file in plugin or ():
        import_plugin(file)


@app.command("demo", cls=Command)
def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder.")] = Path("demo"),
    serve_page: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the search page at the end.")] = True,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="Port of the search page.")] = 8000,
) -> None:
    """Train, evaluate, index, and serve on generated landmarks; nothing is downloaded."""
    from glam.app.cli.demo import run
    from glam.app.service.server import check_port

    if serve_page:
        check_port("127.0.0.1", port)
    index = run(folder)
    if serve_page:
        serve(index, port=port)


def main() -> None:
    """Entry point of the `glam` command. Expected errors end it with one sentence and exit code 1."""
    # Decoders warn of damaged metadata without the name of the image. What they cannot read is an error of the image.
    warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")
    try:
        app()
    except (GlamError, OSError) as error:
        is_expected = isinstance(error, GlamError) or error.filename is not None
        if not is_expected or "--debug" in sys.argv[1:2]:
            raise
        from glam.app.cli import terminal

        terminal.note(f"glam: {error if isinstance(error, GlamError) else _refused_path(error)}")
        sys.exit(1)


def _refused_path(error: OSError) -> str:
    """The sentence of a path that the system refuses to open."""
    name = error.filename
    path = os.fsdecode(name) if isinstance(name, (str, bytes)) else name
    return f"{path} cannot be opened: {system_reason(error)}. Check the path and its permissions."
