"""`glam index ...`: building and inspecting indexes."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from glam.app.options import DEFAULT_MODEL, AsJson, Device, IndexPath, ModelName, Scales, Size, settings_of

app = typer.Typer(help="Build and inspect indexes.", no_args_is_help=True)


@app.command("build")
def index_build(
    index: IndexPath,
    folder: Annotated[Path, typer.Argument(help="Folder of images, or a CSV manifest with a column 'path'.")],
    model: ModelName = DEFAULT_MODEL,
    size: Size = None,
    scales: Scales = None,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Describe the images of a folder and index them; run again, it goes on where it stopped."""
    import glam
    from glam.app import terminal
    from glam.datasets.readers import read_collection
    from glam.index import build

    collection = read_collection(folder)
    opened = glam.load(model, device)
    with terminal.progress("indexing") as report:
        done = build(index, collection, opened, settings=settings_of(opened, size, scales), progress=report)
    terminal.unreadable(list(done.unreadable))
    if json:
        terminal.as_json({**asdict(done), "index": str(index)})
    else:
        terminal.results.print(f"{index}: {done.added} images added, {done.present} were there before")


@app.command("info")
def index_info(index: IndexPath, json: AsJson = False) -> None:
    """Say what is in an index."""
    from glam.app import terminal
    from glam.index import Index

    with Index.open(index) as opened:
        facts = {
            "images": len(opened),
            "landmarks": opened.landmark_count(),
            "model": opened.model_name,
            "fingerprint": opened.fingerprint,
            "dim": opened.dim,
            "size": opened.size,
            "scales": list(opened.scales),
            "root": str(opened.root),
            "unreadable": dict(opened.unreadable()),
        }
    if json:
        terminal.as_json({"index": str(index), **facts})
    else:
        bad = facts.pop("unreadable")
        terminal.table([str(index), ""], [[name, str(value)] for name, value in facts.items()])
        terminal.unreadable(list(bad.items()))  # type: ignore[attr-defined]
