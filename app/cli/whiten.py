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
    force: Annotated[bool, typer.Option("--force", help="Accept images of a test set.")] = False,
    size: Size = None,
    scales: Scales = None,
    device: Device = None,
    exclude: Exclude = None,
    follow_links: FollowLinks = False,
    landmark_from: NamesLandmarks = None,
) -> None:
    """Fit a whitening to the descriptors of a model, and write the whitened model."""
    from dataclasses import replace

    import numpy as np

    import glam
    from glam import model_file
    from glam.app.cli import terminal
    from glam.datasets.readers import read_collection
    from glam.eval.whitening import METHODS, benchmark_images, fit_whitening, with_whitening
    from glam.model import bundled_models
    from glam.output import check_output

    if method not in METHODS:
        raise typer.BadParameter(
            f"{method!r} is not a method. Choose one of {', '.join(METHODS)}", param_hint="--method"
        )
    check_output(out, model_file.MODEL, [folder, bundled_models().get(model, Path(model))])
    collection = read_collection(folder, scan_options(exclude, follow_links, landmark_from))
    tested = benchmark_images(image.path for image in collection.images)
    if tested and not force:
        raise glam.GlamError(
            f"{folder} has {terminal.count(len(tested), 'image')} with a name from a test set, such as {tested[0]}; "
            "results on that set would be invalid. Use other images, or pass --force."
        )
    opened = glam.load(model, device)
    settings = settings_of(opened, size, scales)
    errors: list[glam.ImageError] = []
    files = [collection.file(i) for i in range(len(collection))]
    with terminal.progress("describing") as progress:
        rows = opened.describe(files, size=settings.size, scales=settings.scales, errors=errors, progress=progress)
    terminal.skipped(collection.skipped, len(errors))
    terminal.unreadable([(error.source, error.reason) for error in errors])
    read = ~np.isnan(rows[:, 0])
    whitening = fit_whitening(method, rows[read], collection.landmark_ids[read], dim or opened.dim)
    whitened = with_whitening(opened.network, whitening)
    fitted = {"method": method, "photographs": int(read.sum()), "source": str(folder), "model": opened.fingerprint}
    header = replace(
        opened.header,
        architecture=whitened.architecture,
        training={**opened.header.training, "whitening": {**fitted, "benchmark_images": len(tested)}},
    )
    model_file.save(out, whitened, header)
    images = terminal.count(int(read.sum()), "image")
    terminal.say(f"{out}: {terminal.count(whitened.dim, 'dimension')}, {method} whitening fitted to {images}")
    terminal.exit_if_incomplete(collection, errors=errors)
