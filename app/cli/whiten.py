"""`glam whiten ...`: fitting a whitening to a model."""

from pathlib import Path
from typing import Annotated

import typer

from glam.app.cli.options import DEFAULT_MODEL, Device, ModelName, Scales, Size, settings_of

app = typer.Typer(help="Fit a whitening to a model.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Fit a whitening to a model."""


@app.command("fit")
def whiten_fit(
    folder: Annotated[Path, typer.Argument(help="Training photographs: one sub-folder a landmark, or a CSV manifest.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The model with its whitening, a .safetensors file.")],
    model: ModelName = DEFAULT_MODEL,
    method: Annotated[
        str, typer.Option(help="pca, or learned: from pairs of photographs of one landmark.")
    ] = "learned",
    dim: Annotated[int | None, typer.Option(min=1, help="Dimensions to keep; all by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Even on photographs of a test set.")] = False,
    size: Size = None,
    scales: Scales = None,
    device: Device = None,
) -> None:
    """Whiten a model's descriptors: PCA, or learned from which photographs show the same landmark."""
    from dataclasses import replace

    import numpy as np

    import glam
    from glam import model_file
    from glam.app.cli import terminal
    from glam.datasets.readers import read_collection
    from glam.eval.whitening import METHODS, benchmark_images, fit_whitening, with_whitening

    if method not in METHODS:
        raise typer.BadParameter(f"{method!r} is none of {', '.join(METHODS)}", param_hint="--method")
    collection = read_collection(folder)
    tested = benchmark_images(photo.path for photo in collection.images)
    if tested and not force:
        raise glam.GlamError(
            f"{folder}: {len(tested)} photographs are called like those of the test sets, as {tested[0]}; results on "
            f"these would not count, take other photographs (or --force)"
        )
    opened = glam.load(model, device)
    settings = settings_of(opened, size, scales)
    errors: list[glam.ImageError] = []
    files = [collection.file(i) for i in range(len(collection))]
    with terminal.progress("describing") as progress:
        rows = opened.describe(files, size=settings.size, scales=settings.scales, errors=errors, progress=progress)
    terminal.unreadable([(error.source, error.reason) for error in errors])
    read = ~np.isnan(rows[:, 0])
    labels = np.where([bool(photo.landmark) for photo in collection.images], collection.landmark_ids, -1)
    whitened = with_whitening(opened.network, fit_whitening(method, rows[read], labels[read], dim or opened.dim))
    fitted = {"method": method, "photographs": int(read.sum()), "source": str(folder), "model": opened.fingerprint}
    header = replace(
        opened.header,
        architecture=whitened.architecture,
        training={**opened.header.training, "whitening": {**fitted, "benchmark_images": len(tested)}},
    )
    model_file.save(out, whitened, header)
    terminal.results.print(
        f"{out}: {whitened.dim} dimensions, {method} whitening of {fitted['photographs']} photographs"
    )
