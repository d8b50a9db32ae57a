"""`glam train`: the command; Lightning has its options (`glam.training.cli`)."""

import typer


def train(context: typer.Context) -> None:
    """Train a descriptor on landmarks; `glam train --help` lists every option."""
    from lightning.pytorch.utilities import rank_zero_only

    from glam.app.cli import terminal
    from glam.training.cli import train as run

    path = run(context.args)
    rank_zero_only(terminal.results.print)(f"model written to {path}")  # of several processes, one says it
