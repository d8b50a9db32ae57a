"""`glam data ...`: download, generate and prepare data sets."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Get and make data sets.", no_args_is_help=True)


@app.command("generate")
def data_generate(
    folder: Annotated[Path, typer.Argument(help="Output folder; each landmark gets a sub-folder.")],
    landmarks: Annotated[int, typer.Option(min=1)] = 100,
    images: Annotated[int, typer.Option(min=1, help="Images per landmark.")] = 16,
    size: Annotated[int, typer.Option(help="Longest side in pixels.")] = 320,
    first: Annotated[int, typer.Option(min=0, help="Number of the first landmark; no two sets share a number.")] = 0,
    seed: int = 0,
) -> None:
    """Draw landmarks that never were, from many viewpoints, in all light and weather."""
    from glam.app.cli import terminal
    from glam.datasets.synthetic import generate

    with terminal.progress("drawing") as report:
        files = generate(
            folder,
            landmarks=landmarks,
            images_per_landmark=images,
            size=size,
            seed=seed,
            first_landmark=first,
            progress=report,
        )
    terminal.results.print(f"{folder}: {len(files)} images of {landmarks} landmarks")


@app.command("download")
def data_download(
    name: Annotated[str, typer.Argument(help="roxford5k, rparis6k, revisitop1m, gldv2 or sfm120k.")],
    folder: Annotated[Path | None, typer.Argument(help="Where it goes.", show_default="data/NAME")] = None,
) -> None:
    """Download a public data set; run again, it goes on where it stopped and mends what is missing."""
    from glam.app.cli import terminal
    from glam.datasets.download import download
    from glam.datasets.registry import find

    data_set = find(name)
    folder = folder or Path("data") / name
    terminal.notes.print(data_set.about, markup=False, soft_wrap=True)
    done = download(data_set, folder, terminal.progress)
    terminal.results.print(
        f"{folder}: {done.fetched} files fetched, {done.present} were there before", markup=False, soft_wrap=True
    )


@app.command("prepare")
def data_prepare(
    source: Annotated[str, typer.Argument(help="Folder of images, or the list of a data set (docs/datasets.md).")],
    out: Annotated[Path, typer.Argument(help="Folder for the images and their manifest.csv.")],
    size: Annotated[int, typer.Option(min=16, help="Longest side in pixels; no image is enlarged.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core by default.")] = None,
) -> None:
    """Re-encode images once at the size of training, with a manifest of their shapes; run again, it goes on."""
    from glam.app.cli import terminal
    from glam.datasets.prepare import prepare
    from glam.datasets.readers import read_collection

    with terminal.progress("preparing") as report:
        done = prepare(read_collection(source), out, size, workers=workers, progress=report)
    terminal.unreadable([(fault.source, fault.reason) for fault in done.unreadable])
    terminal.results.print(
        f"{out}: {done.encoded} images made, {done.present} were there before", markup=False, soft_wrap=True
    )
