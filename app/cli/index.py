"""`glam index ...`: build, change, check and inspect indexes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from glam.app.cli.help import Command, CommandGroup
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
    scan_options,
    settings_of,
)

if TYPE_CHECKING:
    from glam.datasets.collection import Collection
    from glam.index import BuildReport, Milvus, SyncReport
    from glam.model import Model
    from glam.progress import Progress

app = typer.Typer(cls=CommandGroup, help="Build, update, check, and inspect indexes.")

Backend = Literal["faiss", "milvus"]
Images = Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files in the folder of the index.")]


@app.command("build", cls=Command)
def index_build(
    index: IndexPath,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of images, or a CSV manifest with a column 'path'.")
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
        done = sync(index, collection, _loader(index, model, device), progress=report)
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
        done = add(index, images, _loader(index, model, device), progress=report)
    _print_sync(index, done, json)
    _finish(None, done)


@app.command("remove", cls=Command)
def index_remove(
    index: IndexPath,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE", help="Paths in the index, image files, or folders of images.")
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
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that the images are in now.")],
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


@app.command("verify", cls=Command)
def index_verify(
    index: IndexPath,
    sample: Annotated[
        int, typer.Option(min=0, metavar="N", help="Number of images to describe again and compare.")
    ] = 16,
    model: IndexModel = None,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Check the files of an index and a sample of its descriptors; exit code 1 if anything is wrong."""
    from glam.app.cli import terminal
    from glam.index import verify

    found = verify(index, _loader(index, model, device) if sample else None, sample=sample)
    if json:
        terminal.as_json({"index": str(index), **asdict(found)})
    else:
        for problem in found.problems:
            terminal.say(f"{index / problem.file}: {problem.what}")
        for note in found.notes:
            terminal.note(f"{index}: {note}")
        if not found.problems:
            checked = f"{terminal.count(found.images, 'image')}, {found.sampled:,} described again"
            terminal.say(f"{index}: no problems found ({checked})")
    if found.problems:
        raise typer.Exit(1)


@app.command("duplicates", cls=Command)
def index_duplicates(
    index: IndexPath,
    threshold: Annotated[
        float, typer.Option(min=-1, max=1, metavar="SCORE", help="Minimum score of two near-duplicates.")
    ] = 0.95,
    json: AsJson = False,
) -> None:
    """List groups of near-duplicate images."""
    from glam.app.cli import terminal
    from glam.index import Index, near_duplicates

    with Index.open(index) as opened, terminal.progress("comparing") as report:
        groups = near_duplicates(opened, threshold, progress=report)
    if json:
        terminal.as_json([asdict(group) for group in groups])
        return
    for number, group in enumerate(groups, start=1):
        images = terminal.count(len(group.images), "image")
        terminal.say(f"group {number}: {images}, scores from {group.similarity:.3f}")
        for entry in group.images:
            terminal.say(f"  {entry.path}")
    total = terminal.count(sum(len(group.images) for group in groups), "image")
    terminal.say(f"{index}: {terminal.count(len(groups), 'group')} of near-duplicates, {total}")


@app.command("info", cls=Command)
def index_info(index: IndexPath, json: AsJson = False) -> None:
    """Show facts about an index."""
    from glam.app.cli import terminal
    from glam.app.cli.index_facts import facts_in_words
    from glam.index import info

    found = info(index)
    if json:
        terminal.as_json({"index": str(index), **asdict(found), "skipped": found.skipped.to_dict()})
        return
    terminal.table(
        [str(index), ""], [[name, text] for name, text in facts_in_words(index, found).items()], piped_header=False
    )
    terminal.skipped(found.skipped, len(found.unreadable))
    terminal.unreadable(list(found.unreadable.items()))


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


def _loader(index: Path, model: str | None, device: str | None) -> "Callable[[], Model]":
    """A function that loads the model of an index, or ``model`` instead of it."""

    def load() -> "Model":
        import glam
        from glam.index import info

        return glam.load(model or info(index).model, device)

    return load


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
