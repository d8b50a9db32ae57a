"""Options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glam.errors import GlamError

if TYPE_CHECKING:
    from glam.inference.pipeline import Settings
    from glam.model import Model

DEFAULT_MODEL = "glam-lite0"

IndexPath = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")]
ModelName = Annotated[
    str, typer.Option("--model", help="A model file, the name of a bundled model, or timm:NAME for a plain backbone.")
]
IndexModel = Annotated[
    str | None, typer.Option("--model", help="Model to use instead of the one that the index names.")
]
Size = Annotated[int | None, typer.Option(min=16, help="Longest side in pixels that images are reduced to.")]
Scales = Annotated[str | None, typer.Option(help="Scales to average over, as in 0.7071,1,1.4142.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; by default a GPU if there is one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings_of(model: "Model", size: int | None, scales: str | None) -> "Settings":
    """Settings of the model, with ``size`` and ``scales`` replaced if given.

    Raises:
        GlamError: ``scales`` is not a list of positive numbers.
    """
    try:
        numbers = None if scales is None else [float(scale) for scale in scales.split(",")]
    except ValueError as error:
        raise GlamError(f"--scales takes numbers separated by commas, not {scales!r}") from error
    return model.settings(size=size, scales=numbers)
