"""`glam describe`, `glam describe-merge`, `glam export` and `glam bench describe`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glam.app.cli.options import (
    DEFAULT_MODEL,
    AsJson,
    Device,
    Exclude,
    FollowLinks,
    ModelName,
    Scales,
    Size,
    scan_options,
    settings_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from glam.errors import ImageError
    from glam.inference.pipeline import DescribedImage
    from glam.stage_times import Times

BatchSize = Annotated[int, typer.Option(min=1, metavar="N", help="Images per batch of the network, on a GPU.")]
Workers = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Threads that decode images.", show_default="one per core")
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the network: takes minutes, then runs faster.")]
GpuDecoding = Annotated[
    bool, typer.Option("--gpu-decoding", help="Decode JPEG files on the GPU; helps if there are few CPU cores.")
]
Source = Annotated[
    str, typer.Argument(metavar="FOLDER", help="Folder of images, or the list of a data set (docs/datasets.md).")
]


def describe(
    source: Source,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Output file, NAME.safetensors; NAME.json is written next to it.")
    ],
    model: ModelName = DEFAULT_MODEL,
    size: Size = None,
    scales: Scales = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Describe only part I of N, such as 3/64.")] = None,
    batch: BatchSize = 32,
    workers: Workers = None,
    compile_network: Compile = False,
    gpu_decoding: GpuDecoding = False,
    device: Device = None,
    exclude: Exclude = None,
    follow_links: FollowLinks = False,
    json: AsJson = False,
) -> None:
    """Describe images and write their descriptors to a file."""
    from dataclasses import replace

    import glam
    from glam.app.cli import terminal
    from glam.datasets.readers import read_collection
    from glam.descriptor_files import Shard, check_descriptor_output, listing_of, write_descriptors
    from glam.index.operations.import_descriptors import NotedFiles
    from glam.stage_times import Times

    part = None if shard is None else Shard.parse(shard)
    check_descriptor_output(out, [Path(source), Path(model)])
    collection = read_collection(source, scan_options(exclude, follow_links))
    chosen = range(len(collection)) if part is None else part.indices(len(collection))
    opened = glam.load(model, device)
    settings = replace(settings_of(opened, size, scales), batch_size=batch, gpu_decoding=gpu_decoding)
    if workers is not None:
        settings = replace(settings, workers=workers)
    if compile_network:
        opened.compile()
    facts = {
        "model": opened.name,
        "fingerprint": opened.fingerprint,
        "size": settings.size,
        "scales": list(settings.scales),
        "root": str(collection.root.resolve()),
        "shard": shard,
    }
    if part is not None:
        facts["listing"] = listing_of(image.path for image in collection.images)
    times = Times()
    errors: list[ImageError] = []
    with terminal.progress("describing") as report:

        def reported(stream: "Iterator[DescribedImage]") -> "Iterator[DescribedImage]":
            for done, described in enumerate(stream, start=1):
                if described.error is not None:
                    errors.append(described.error)
                yield described
                report(done, len(chosen))

        images = [collection.images[i] for i in chosen]
        noted = NotedFiles(collection.root, images)
        stream = noted.described(opened.stream(noted.sources(settings.workers, times), settings, times))
        paths = [image.path for image in images]
        unreadable = write_descriptors(out, reported(stream), paths, opened.dim, facts, times, noted.files)
    terminal.skipped(collection.skipped, len(unreadable))
    terminal.unreadable(list(unreadable.items()))
    rate = len(chosen) / max(times.elapsed(), 1e-9)
    if json:
        result = {"out": str(out), "images": len(chosen), "unreadable": unreadable, "images_per_second": round(rate, 2)}
        terminal.as_json({**result, "seconds": times.to_dict(), "skipped": collection.skipped.to_dict()})
    else:
        images_done = terminal.count(len(chosen) - len(unreadable), "image")
        terminal.say(f"{out}: {images_done} described, {rate:.1f} per second")
        print_times(times)
    terminal.exit_if_incomplete(collection, errors=errors)


def describe_merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File to write, NAME.safetensors.")],
    shards: Annotated[list[Path], typer.Argument(metavar="FILE", help="Files of all parts, in any order.")],
) -> None:
    """Merge the parts that `glam describe --shard` wrote into one file."""
    from glam.app.cli import terminal
    from glam.descriptor_files import merge_shards

    terminal.say(f"{out}: {terminal.count(merge_shards(out, shards), 'descriptor')}")


def export(
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write.")],
    model: ModelName = DEFAULT_MODEL,
    file_format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="File format; only onnx.")] = "onnx",
) -> None:
    """Export a model to ONNX, for batches of any number, height, and width."""
    import glam
    from glam.app.cli import terminal
    from glam.errors import GlamError
    from glam.export import FORMATS, ONNX, export_onnx
    from glam.output import check_output

    if file_format not in FORMATS:
        raise GlamError(f"{file_format!r} is not a format for models. Choose one of {', '.join(FORMATS)}.")
    check_output(out, ONNX, [Path(model)])
    export_onnx(glam.load(model, "cpu"), out)
    terminal.say(f"{out}: {model}")


def bench_describe(
    source: Source,
    model: ModelName = DEFAULT_MODEL,
    size: Size = None,
    scales: Scales = None,
    images: Annotated[int, typer.Option(min=1, metavar="N", help="Most images to describe.")] = 100,
    batch: BatchSize = 32,
    compile_network: Compile = False,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Compare the speed of `glam describe` with a plain loop over the same images."""
    from dataclasses import replace

    import glam
    from glam.app.bench.describe import compare
    from glam.app.cli import terminal
    from glam.datasets.readers import read_collection

    collection = read_collection(source)
    files = [collection.file(i) for i in range(min(images, len(collection)))]
    opened = glam.load(model, device)
    if compile_network:
        opened.compile()
    settings = replace(settings_of(opened, size, scales), batch_size=batch)
    result = compare(opened, files, settings, rounds=3)
    if json:
        terminal.as_json(result)
        return
    columns = ["", "images/s", "relative speed", "mean cosine", "lowest cosine"]
    rows = [
        ["plain loop", f"{result['plain']['rate']:.1f}", "1.0", "", ""],
        [
            "glam describe",
            f"{result['ours']['rate']:.1f}",
            f"{result['ratio']:.1f}",
            f"{result['cosine']['mean']:.5f}",
            f"{result['cosine']['min']:.5f}",
        ],
    ]
    terminal.table(columns, rows)


def print_times(times: "Times") -> None:
    """Prints the seconds of each stage."""
    from glam.app.cli import terminal

    seconds = times.to_dict()
    total = seconds["total"]
    rows = [[name, f"{value:.1f}", f"{100 * value / max(total, 1e-9):.0f}%"] for name, value in seconds.items()]
    terminal.table(["stage (in parallel; sums over threads)", "seconds", "of the total"], rows)
