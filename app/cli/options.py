"""Options that several commands share."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from glam.errors import GlamError

if TYPE_CHECKING:
    from glam.datasets.collection import ScanOptions
    from glam.inference.pipeline import Settings
    from glam.model import Model

DEFAULT_MODEL = "glam-lite0"

LandmarkChoice = Literal["folder", "parent", "manifest", "none"]
"""`glam.datasets.collection.LandmarkFrom`, without loading that module for a help page."""

IndexPath = Annotated[Path, typer.Argument(metavar="INDEX", readable=False, help="Folder of the index.")]
ModelName = Annotated[
    str,
    typer.Option("--model", metavar="MODEL", help="Model file, name of a bundled model, or timm:NAME."),
]
IndexModel = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="MODEL", help="Model that describes images.", show_default="the one the index was built with"
    ),
]
Size = Annotated[
    int | None,
    typer.Option(min=16, metavar="PIXELS", help="Longest side of the resized images.", show_default="the model's"),
]
Scales = Annotated[
    str | None,
    typer.Option(metavar="X,X,...", help="Scales to average over: 0.7071,1,1.4142.", show_default="the model's"),
]
Device = Annotated[
    str | None, typer.Option(metavar="DEVICE", help="cpu, cuda, or cuda:N.", show_default="a GPU if there is one")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="PATTERN", help="Leave out paths, as in a .gitignore; can be repeated."),
]
FollowLinks = Annotated[
    bool | None,
    typer.Option("--follow-links/--no-follow-links", help="Follow links to folders.", show_default="no"),
]


def _landmark_option(default: str) -> Any:
    return typer.Option(
        "--landmark-from",
        metavar="folder|parent|manifest|none",
        help="What names the landmark: path or name of the folder, the manifest, or nothing.",
        show_default=f"manifest if there is one, else {default}",
    )


NamesLandmarks = Annotated[LandmarkChoice | None, _landmark_option("folder")]
IndexLandmarkFrom = Annotated[LandmarkChoice | None, _landmark_option("none")]
Force = Annotated[bool, typer.Option("--force", help="Accept images of a test set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def settings_of(model: "Model", size: int | None, scales: str | None) -> "Settings":
    """Settings of the model, with ``size`` and ``scales`` replaced if given.

    Raises:
        GlamError: ``scales`` is not a list of positive numbers.
    """
    try:
        numbers = None if scales is None else [float(scale) for scale in scales.split(",")]
    except ValueError as error:
        raise GlamError(
            f"{scales!r} is not a list of scales. Separate numbers with commas: --scales 0.7,1,1.4"
        ) from error
    return model.settings(size=size, scales=numbers)


def not_nan(value: float | None) -> float | None:
    """Callback of an option that refuses NaN, which is in every range for some versions of Typer.

    Args:
        value: value of the option.

    Returns:
        The value.

    Raises:
        typer.BadParameter: it is NaN.
    """
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is not a number. Give a number in the range of the option.")
    return value


def scan_options(
    exclude: list[str] | None, follow_links: bool | None, landmark_from: LandmarkChoice | None = None
) -> "ScanOptions":
    """The options of a scan from those of a command."""
    from glam.datasets.collection import ScanOptions

    return ScanOptions(tuple(filter(None, exclude or ())), bool(follow_links), landmark_from=landmark_from)


def model_loader(index: Path, model: str | None, device: str | None) -> "Callable[[], Model]":
    """A function that loads the model of an index, or ``model`` instead of it."""

    def load() -> "Model":
        import glam
        from glam.index import info

        return glam.load(model or info(index).model, device)

    return load
