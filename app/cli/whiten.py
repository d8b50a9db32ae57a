"""`glam whiten fit`: whiten the descriptors of a model."""

from pathlib import Path
from typing import Annotated

import typer

from glam.app.cli.help import Command, CommandGroup
from glam.app.cli.options import (
    DEFAULT_MODEL,
    Device,
    Exclude,
    FollowLinks,
    Force,
    ModelName,
    NamesLandmarks,
    Scales,
    Size,
    scan_options,
    settings_of,
)

app = typer.Typer(cls=CommandGroup, help="Whiten the descriptors of a model.")


@app.callback()
def group() -> None:
    """Whiten the descriptors of a model."""


@app.command("fit", cls=Command)
def whiten_fit(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", readable=False, help="Images in one sub-folder per landmark, or a CSV manifest."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Model file to write, NAME.safetensors.")],
    model: ModelName = DEFAULT_MODEL,
    method: Annotated[
        str, typer.Option(metavar="pca|learned", help="PCA whitening, or learned from image pairs of a landmark.")
    ] = "learned",
    dim: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Dimensions of the new descriptor.", show_default="all")
    ] = None,
    force: Force = False,
    size: Size = None,
    scales: Scales = None,
    device: Device = None,
    exclude: Exclude = None,
    follow_links: FollowLinks = False,
    landmark_from: NamesLandmarks = None,
) -> None:
    """Fit a whitening to the descriptors of a model, and write the whitened model."""
    from dataclasses import replace

    import glam
    from glam import model_file
    from glam.app.cli import terminal
    from glam.app.cli.fit_images import describe_images, refuse_test_images
    from glam.datasets.readers import read_collection
    from glam.eval.whitening import METHODS, fit_whitening, with_whitening
    from glam.model import bundled_models
    from glam.output import check_output

    if method not in METHODS:
        raise typer.BadParameter(
            f"{method!r} is not a method. Choose one of {', '.join(METHODS)}", param_hint="--method"
        )
    check_output(out, model_file.MODEL, [folder, bundled_models().get(model, Path(model))])
    collection = read_collection(folder, scan_options(exclude, follow_links, landmark_from))
    tested = refuse_test_images(collection, force)
    opened = glam.load(model, device)
    rows, read, errors = describe_images(opened, collection, settings_of(opened, size, scales))
    whitening = fit_whitening(method, rows[read], collection.landmark_ids[read], dim or opened.dim)
    whitened = with_whitening(opened.network, whitening)
    fitted = {"method": method, "photographs": int(read.sum()), "source": str(folder), "model": opened.fingerprint}
    header = replace(
        opened.header,
        architecture=whitened.architecture,
        training={**opened.header.training, "whitening": {**fitted, "benchmark_images": tested}},
    )
    model_file.save(out, whitened, header)
    images = terminal.count(int(read.sum()), "image")
    terminal.say(f"{out}: {terminal.count(whitened.dim, 'dimension')}, {method} whitening fitted to {images}")
    terminal.exit_if_incomplete(collection, errors=errors)
