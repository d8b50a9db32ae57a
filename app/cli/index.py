"""`glam index ...`: build and change indexes. The commands that only look at them are in `index_checks`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from glam.app.cli.help import Command, CommandGroup
from glam.app.cli.index_checks import index_duplicates, index_info, index_verify
from glam.app.cli.options import (
    DEFAULT_MODEL,
    AsJson,
    Device,
    Exclude,
    FollowLinks,
    IndexLandmarkFrom,
    IndexModel,
    IndexPath,
    ModelName,
    Scales,
    Size,
    model_loader,
    scan_options,
    settings_of,
)

if TYPE_CHECKING:
    from glam.datasets.collection import Collection
    from glam.index import BuildReport, Milvus, SyncReport
    from glam.progress import Progress

app = typer.Typer(cls=CommandGroup, help="Build, update, check, and inspect indexes.")

Backend = Literal["faiss", "milvus"]
Images = Annotated[
    list[Path], typer.Argument(metavar="IMAGE", readable=False, help="Image files in the folder of the index.")
]


@app.command("build", cls=Command)
def index_build(
    index: IndexPath,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", readable=False, help="Folder of images, or a CSV manifest with a column 'path'."
        ),
    ],
    model: ModelName = DEFAULT_MODEL,
    size: Size = None,
    scales: Scales = None,
    exclude: Exclude = None,
    follow_links: FollowLinks = None,
    landmark_from: IndexLandmarkFrom = None,
    device: Device = None,
    structure: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Search structure; '' resets the choice.", show_default="by number of images"
        ),
    ] = None,
    backend: Annotated[
        Backend | None,
        typer.Option(metavar="faiss|milvus", help="Search backend; milvus needs --uri.", show_default="faiss"),
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Milvus server, http://HOST:19530, or NAME.db for Milvus Lite."),
    ] = None,
    collection_name: Annotated[
        str | None,
        typer.Option(
            "--collection", metavar="NAME", help="Collection in Milvus.", show_default="the name of the index"
        ),
    ] = None,
    descriptors: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Take descriptors from a file of `glam describe`; can be repeated."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Describe the images of a folder and index them; run again to resume."""
    import glam
    from glam.app.cli import terminal
    from glam.index import build, read_source
    from glam.index.operations.image_files import is_same_path
    from glam.index.operations.source import read_images, recorded_source

    searched_by = _backend(backend, uri, collection_name)
    recorded = recorded_source(index)
    if recorded is None:
        collection = read_images(folder, scan_options(exclude, follow_links, landmark_from))
    else:
        collection = read_source(index, folder, exclude=exclude, follow_links=follow_links, landmark_from=landmark_from)
    opened = glam.load(model, device)
    settings = settings_of(opened, size, scales)
    with _indexing(index) as report:
        done = build(
            index,
            collection,
            opened,
            settings=settings,
            structure=structure,
            backend=searched_by,
            descriptors=descriptors or (),
            progress=report,
        )
    if json:
        terminal.as_json({**asdict(done), "skipped": done.skipped.to_dict(), "index": str(index)})
    else:
        imported = f" ({done.taken:,} of them imported)" if descriptors else ""
        added = terminal.count(done.added, "image")
        terminal.say(f"{index}: {added} added{imported}, {done.present:,} already in the index")
    if recorded is not None and not is_same_path(folder, recorded):
        terminal.note(
            f"{index} is still synced with {recorded}. To sync it with {folder} instead, run "
            f"`glam index sync {index} {folder}`."
        )
    _finish(collection, done)


@app.command("sync", cls=Command)
def index_sync(
    index: IndexPath,
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            readable=False,
            help="Folder or manifest of the images.",
            show_default="the folder that the index was built from",
        ),
    ] = None,
    exclude: Exclude = None,
    follow_links: FollowLinks = None,
    landmark_from: IndexLandmarkFrom = None,
    model: IndexModel = None,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Update an index from its folder: new, changed, moved, and deleted images."""
    from glam.app.cli import terminal
    from glam.index import read_source, sync
    from glam.index.operations.image_files import is_same_path
    from glam.index.operations.source import recorded_source

    recorded = recorded_source(index)
    if recorded is not None and folder is None:
        terminal.note(f"Comparing {index} with {recorded}.")
    collection = read_source(index, folder, exclude=exclude, follow_links=follow_links, landmark_from=landmark_from)
    with _indexing(index) as report:
        done = sync(index, collection, model_loader(index, model, device), progress=report)
    _print_sync(index, done, json)
    if recorded is not None and folder is not None and not is_same_path(folder, recorded):
        terminal.note(f"`glam index sync {index}` now reads {folder} instead of {recorded}.")
    _finish(collection, done)


@app.command("add", cls=Command)
def index_add(
    index: IndexPath, images: Images, model: IndexModel = None, device: Device = None, json: AsJson = False
) -> None:
    """Add images from the folder of an index; changed ones are described again."""
    from glam.index import add

    with _indexing(index) as report:
        done = add(index, images, model_loader(index, model, device), progress=report)
    _print_sync(index, done, json)
    _finish(None, done)


@app.command("remove", cls=Command)
def index_remove(
    index: IndexPath,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", readable=False, help="Paths in the index, image files, or folders of images."),
    ],
    json: AsJson = False,
) -> None:
    """Remove images from an index; no image file is deleted."""
    from glam.app.cli import terminal
    from glam.index import remove

    removed = remove(index, images)
    if json:
        terminal.as_json({"index": str(index), "removed": removed})
    else:
        terminal.say(
            f"{index}: {terminal.count(removed, 'image')} removed. Run `glam index compact` to free the space."
        )


@app.command("relocate", cls=Command)
def index_relocate(
    index: IndexPath,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", readable=False, help="Folder that the images are in now.")
    ],
    sample: Annotated[int, typer.Option(min=1, metavar="N", help="Number of images whose contents are compared.")] = 32,
    json: AsJson = False,
) -> None:
    """Record that the images of an index have moved to another folder, disk, or machine."""
    from glam.app.cli import terminal
    from glam.index import relocate

    done = relocate(index, folder, sample=sample)
    if json:
        terminal.as_json({"index": str(index), **asdict(done)})
    else:
        compared = f"{done.matching} of {terminal.count(done.checked, 'compared image')} as indexed"
        terminal.say(f"{index}: now an index of {done.root} ({compared}, {done.missing} missing)")


@app.command("compact", cls=Command)
def index_compact(index: IndexPath, json: AsJson = False) -> None:
    """Free the disk space of removed images."""
    from glam.app.cli import terminal
    from glam.index import compact

    done = compact(index)
    if json:
        terminal.as_json({"index": str(index), **asdict(done)})
    else:
        freed = terminal.file_size(max(0, done.bytes_before - done.bytes_after))
        terminal.say(f"{index}: {terminal.count(done.removed, 'removed image')} deleted, {freed} freed")


@app.command("precompute", cls=Command)
def index_precompute(
    index: IndexPath,
    local_features: Annotated[
        bool | None,
        typer.Option("--local-features/--no-local-features", help="Store or delete local features, for geometric."),
    ] = None,
    knn_graph: Annotated[
        bool | None,
        typer.Option(
            "--knn-graph/--no-knn-graph", help="Store or delete the kNN graph, for dba, diffusion, reciprocal."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Precompute the data that re-ranking uses, and keep it up to date."""
    from glam.app.cli import terminal
    from glam.app.cli.index_facts import precomputed_in_words
    from glam.index import precompute

    with terminal.progress("precomputing") as report:
        done = precompute(index, local_features=local_features, knn_graph=knn_graph, progress=report)
    if json:
        terminal.as_json({"index": str(index), **asdict(done)})
        return
    covered = ""
    if "local_features" in done.precomputed:
        covered = f", local features of {done.local_features:,} of {terminal.count(done.images, 'image')}"
    names = precomputed_in_words(done.precomputed)
    terminal.say(f"{index}: {names} precomputed{covered}, {terminal.file_size(done.bytes)}")


@app.command("keep", cls=Command, hidden=True)
def index_keep(
    index: IndexPath,
    features: Annotated[bool | None, typer.Option("--features/--no-features")] = None,
    neighbors: Annotated[
        bool | None, typer.Option("--neighbors/--no-neighbors", "--neighbours/--no-neighbours")
    ] = None,
    json: AsJson = False,
) -> None:
    """Former name of `glam index precompute`."""
    from glam.app.cli import terminal

    terminal.note("`glam index keep` is now `glam index precompute`.")
    index_precompute(index, features, neighbors, json)


app.command("verify", cls=Command)(index_verify)
app.command("duplicates", cls=Command)(index_duplicates)
app.command("info", cls=Command)(index_info)


def _backend(backend: Backend | None, uri: str | None, collection: str | None) -> "Milvus | Literal['faiss'] | None":
    """The backend in the options; None to leave it unchanged."""
    from glam.index import Milvus

    if backend == "milvus":
        if uri is None:
            raise typer.BadParameter("--backend milvus needs the address of the server. Add --uri")
        return Milvus(uri, collection or "")
    if uri is not None or collection is not None:
        raise typer.BadParameter("--uri and --collection need --backend milvus")
    return backend


@contextmanager
def _indexing(index: Path) -> "Iterator[Progress]":
    """Shows the progress of changes to an index, and says what an interrupt leaves."""
    from glam.app.cli import terminal

    try:
        with terminal.progress("indexing") as report:
            yield report
    except KeyboardInterrupt:
        terminal.note(f"{index}: interrupted. It has what was done so far; run the command again to resume.")
        raise


def _print_sync(index: Path, done: "SyncReport", json: bool) -> None:
    from glam.app.cli import terminal

    if json:
        terminal.as_json({"index": str(index), **asdict(done), "skipped": done.skipped.to_dict()})
    else:
        terminal.say(
            f"{index}: {done.added} added, {done.changed} changed, {done.moved} moved, {done.removed} removed, "
            f"{done.unchanged} unchanged"
        )


def _finish(collection: "Collection | None", done: "BuildReport | SyncReport") -> None:
    """Reports what was skipped and warns of doubtful landmarks; exits with 1 if the system refused to read something.

    Args:
        collection: the images that were read; None if the user named them one by one.
        done: the result of the command.
    """
    from glam.app.cli import terminal

    terminal.skipped(done.skipped, len(done.unreadable))
    terminal.unreadable(done.unreadable)
    terminal.inaccessible([failure for failure in done.inaccessible if failure not in done.skipped.unlisted])
    if collection is not None:
        terminal.doubtful_landmarks(collection, "--landmark-from")
    if done.inaccessible:
        raise typer.Exit(1)
