"""`glam index ...`: build, change, check and inspect indexes."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from glam.app.cli.options import (
    DEFAULT_MODEL,
    AsJson,
    Device,
    IndexModel,
    IndexPath,
    ModelName,
    Scales,
    Size,
    settings_of,
)

if TYPE_CHECKING:
    from glam.index import Milvus, SyncReport
    from glam.model import Model

app = typer.Typer(help="Build, change, check and inspect indexes.", no_args_is_help=True)

Backend = Literal["faiss", "milvus"]
Images = Annotated[list[Path], typer.Argument(metavar="IMAGES...")]


@app.command("build")
def index_build(
    index: IndexPath,
    folder: Annotated[Path, typer.Argument(help="Folder of images, or a CSV manifest with a column 'path'.")],
    model: ModelName = DEFAULT_MODEL,
    size: Size = None,
    scales: Scales = None,
    device: Device = None,
    structure: Annotated[
        str | None, typer.Option(help="Search structure; '' chooses it by the size of the index.")
    ] = None,
    backend: Annotated[
        Backend | None, typer.Option(help="Search backend: faiss (the default), or milvus at --uri.")
    ] = None,
    uri: Annotated[
        str | None, typer.Option(help="URI of the Milvus server, http://HOST:19530, or NAME.db for Milvus Lite.")
    ] = None,
    collection_name: Annotated[
        str | None, typer.Option("--collection", help="Collection in Milvus; named after the index by default.")
    ] = None,
    descriptors: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="File of `glam describe` to take descriptors from; may be given several times."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Describe the images of a folder and index them; run again to resume."""
    import glam
    from glam.app.cli import terminal
    from glam.datasets.readers import read_collection
    from glam.index import build

    searched_by = _backend(backend, uri, collection_name)
    collection = read_collection(folder)
    opened = glam.load(model, device)
    settings = settings_of(opened, size, scales)
    with terminal.progress("indexing") as report:
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
    terminal.unreadable(list(done.unreadable))
    if json:
        terminal.as_json({**asdict(done), "index": str(index)})
    else:
        taken = f" ({done.taken} as described before)" if descriptors else ""
        terminal.results.print(
            f"{index}: {done.added} images added{taken}, {done.present} were there before", soft_wrap=True
        )


@app.command("sync")
def index_sync(
    index: IndexPath,
    folder: Annotated[Path, typer.Argument(help="The folder or manifest that the index was built from.")],
    model: IndexModel = None,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Update an index from its folder: new, changed, moved and deleted images."""
    from glam.app.cli import terminal
    from glam.datasets.readers import read_collection
    from glam.index import sync

    collection = read_collection(folder)
    with terminal.progress("indexing") as report:
        done = sync(index, collection, _loader(index, model, device), progress=report)
    _print_sync(index, done, json)


@app.command("add")
def index_add(
    index: IndexPath, images: Images, model: IndexModel = None, device: Device = None, json: AsJson = False
) -> None:
    """Add images in the folder of the index, and describe changed ones again."""
    from glam.app.cli import terminal
    from glam.index import add

    with terminal.progress("indexing") as report:
        done = add(index, images, _loader(index, model, device), progress=report)
    _print_sync(index, done, json)


@app.command("remove")
def index_remove(index: IndexPath, images: Images, json: AsJson = False) -> None:
    """Remove images from an index: paths, files, or folders with all images below. No file is deleted."""
    from glam.app.cli import terminal
    from glam.index import remove

    count = remove(index, images)
    if json:
        terminal.as_json({"index": str(index), "removed": count})
    else:
        terminal.results.print(
            f"{index}: {count} images removed; `glam index compact` gives their room back", soft_wrap=True
        )


@app.command("compact")
def index_compact(index: IndexPath, json: AsJson = False) -> None:
    """Free the disk space of removed images."""
    from glam.app.cli import terminal
    from glam.index import compact

    done = compact(index)
    if json:
        terminal.as_json({"index": str(index), **asdict(done)})
    else:
        saved = (done.bytes_before - done.bytes_after) / 1e6
        terminal.results.print(
            f"{index}: {done.removed} removed images forgotten, {saved:.1f} MB given back", soft_wrap=True
        )


@app.command("precompute")
def index_precompute(
    index: IndexPath,
    local_features: Annotated[
        bool | None, typer.Option("--local-features/--no-local-features", help="Local features, for geometric.")
    ] = None,
    knn_graph: Annotated[
        bool | None,
        typer.Option("--knn-graph/--no-knn-graph", help="Nearest neighbors, for dba, diffusion and reciprocal."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Precompute the data that re-ranking uses, and keep it up to date."""
    from glam.app.cli import terminal
    from glam.index import precompute

    with terminal.progress("precomputing") as report:
        done = precompute(index, local_features=local_features, knn_graph=knn_graph, progress=report)
    if json:
        terminal.as_json({"index": str(index), **asdict(done)})
        return
    names = " and ".join(name.replace("_", " ").replace("knn", "kNN") for name in done.precomputed) or "nothing"
    covered = ""
    if "local_features" in done.precomputed:
        covered = f", local features of {done.local_features} of {done.images} images"
    terminal.results.print(f"{index}: {names} precomputed{covered}, {done.bytes / 1e6:.1f} MB", soft_wrap=True)


@app.command("keep", hidden=True, deprecated=True)
def index_keep(
    index: IndexPath,
    features: Annotated[bool | None, typer.Option("--features/--no-features")] = None,
    neighbors: Annotated[
        bool | None, typer.Option("--neighbors/--no-neighbors", "--neighbours/--no-neighbours")
    ] = None,
    json: AsJson = False,
) -> None:
    """Use `glam index precompute` instead."""
    index_precompute(index, features, neighbors, json)


@app.command("verify")
def index_verify(
    index: IndexPath,
    sample: Annotated[int, typer.Option(min=0, help="How many images to describe again and compare.")] = 16,
    model: IndexModel = None,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Check every byte of an index, its counts, and a sample of its descriptors; exit code 1 if anything is wrong."""
    from glam.app.cli import terminal
    from glam.index import verify

    found = verify(index, _loader(index, model, device) if sample else None, sample=sample)
    if json:
        terminal.as_json({"index": str(index), **asdict(found)})
    else:
        for problem in found.problems:
            terminal.results.print(f"{index / problem.file}: {problem.what}", markup=False, soft_wrap=True)
        for note in found.notes:
            terminal.notes.print(f"{index}: {note}", markup=False, soft_wrap=True)
        if not found.problems:
            checked = f"{found.images} images, {found.sampled} described again"
            terminal.results.print(f"{index}: nothing wrong ({checked})", soft_wrap=True)
    if found.problems:
        raise typer.Exit(1)


@app.command("duplicates")
def index_duplicates(
    index: IndexPath,
    threshold: Annotated[float, typer.Option(min=-1, max=1, help="Lowest score of near-duplicates.")] = 0.95,
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
        terminal.results.print(f"group {number}: {len(group.images)} images, cosine {group.similarity:.3f} and more")
        for entry in group.images:
            terminal.results.print(f"  {entry.path}", markup=False, soft_wrap=True)
    images = sum(len(group.images) for group in groups)
    terminal.results.print(f"{index}: {images} images in {len(groups)} groups of near-duplicates", soft_wrap=True)


@app.command("info")
def index_info(index: IndexPath, json: AsJson = False) -> None:
    """Show facts about an index."""
    from glam.app.cli import terminal
    from glam.index import info

    found = info(index)
    if json:
        terminal.as_json({"index": str(index), **asdict(found)})
        return
    facts = {**asdict(found), "writer": found.writer or "none"}
    bad = facts.pop("unreadable")
    terminal.table([str(index), ""], [[name, str(value)] for name, value in facts.items()])
    terminal.unreadable(list(bad.items()))


def _backend(backend: Backend | None, uri: str | None, collection: str | None) -> "Milvus | Literal['faiss'] | None":
    """The backend in the options; None to leave it as it is."""
    from glam.index import Milvus

    if backend == "milvus":
        if uri is None:
            raise typer.BadParameter("--backend milvus wants the address of the server, --uri")
        return Milvus(uri, collection or "")
    if uri is not None or collection is not None:
        raise typer.BadParameter("--uri and --collection go with --backend milvus")
    return backend


def _loader(index: Path, model: str | None, device: str | None) -> "Callable[[], Model]":
    """A function that loads the model of an index, or ``model`` instead of it."""

    def load() -> "Model":
        import glam
        from glam.index import info

        return glam.load(model or info(index).model, device)

    return load


def _print_sync(index: Path, done: "SyncReport", json: bool) -> None:
    from glam.app.cli import terminal

    terminal.unreadable(list(done.unreadable))
    if json:
        terminal.as_json({"index": str(index), **asdict(done)})
    else:
        terminal.results.print(
            f"{index}: {done.added} added, {done.changed} changed, {done.moved} moved, {done.removed} removed, "
            f"{done.unchanged} unchanged",
            soft_wrap=True,
        )
