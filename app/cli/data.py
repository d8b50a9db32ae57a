"""`glam data ...`: download, generate and prepare data sets."""

from pathlib import Path
from typing import Annotated

import typer

from glam.app.cli.help import Command, CommandGroup
from glam.app.cli.options import Exclude, FollowLinks, NamesLandmarks, scan_options

app = typer.Typer(cls=CommandGroup, help="Download, generate, and prepare data sets.")


@app.command("generate", cls=Command)
def data_generate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Output folder; each landmark gets a sub-folder.")],
    landmarks: Annotated[int, typer.Option(min=1, metavar="N", help="Number of landmarks.")] = 100,
    images: Annotated[int, typer.Option(min=1, metavar="N", help="Images per landmark.")] = 16,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Longest side of the images.")] = 320,
    first: Annotated[
        int, typer.Option(min=0, metavar="N", help="Number of the first landmark; equal numbers look the same.")
    ] = 0,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the random numbers.")] = 0,
) -> None:
    """Draw imaginary landmarks from many viewpoints, in varied light and weather."""
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
    images_note = terminal.count(len(files), "image")
    terminal.say(f"{folder}: {images_note} of {terminal.count(landmarks, 'landmark')}")


@app.command("download", cls=Command)
def data_download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="roxford5k, rparis6k, revisitop1m, gldv2, or sfm120k.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Output folder.", show_default="data/NAME")
    ] = None,
) -> None:
    """Download a public data set; run again to resume and to repair missing files."""
    from glam.app.cli import terminal
    from glam.datasets.download import download
    from glam.datasets.registry import find

    data_set = find(name)
    folder = folder or Path("data") / name
    terminal.note(data_set.about)
    done = download(data_set, folder, terminal.progress)
    terminal.say(f"{folder}: {terminal.count(done.fetched, 'file')} downloaded, {done.present:,} already there")


@app.command("prepare", cls=Command)
def data_prepare(
    source: Annotated[
        str, typer.Argument(metavar="FOLDER", help="Folder of images, or the list of a data set (docs/datasets.md).")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the images and their manifest.csv.")],
    size: Annotated[int, typer.Option(min=16, metavar="PIXELS", help="Longest side; smaller images are not enlarged.")],
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of processes.", show_default="one per core")
    ] = None,
    exclude: Exclude = None,
    follow_links: FollowLinks = False,
    landmark_from: NamesLandmarks = None,
) -> None:
    """Resize images once for training and write their manifest; run again to resume."""
    from glam.app.cli import terminal
    from glam.datasets.prepare import prepare
    from glam.datasets.readers import read_collection

    collection = read_collection(source, scan_options(exclude, follow_links, landmark_from))
    with terminal.progress("preparing") as report:
        done = prepare(collection, out, size, workers=workers, progress=report)
    terminal.skipped(collection.skipped, len(done.unreadable))
    terminal.unreadable([(fault.source, fault.reason) for fault in done.unreadable])
    terminal.say(f"{out}: {terminal.count(done.encoded, 'image')} written, {done.present:,} already there")
    terminal.exit_if_incomplete(collection)
