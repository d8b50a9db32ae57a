"""`glam describe`, `glam describe-merge`, `glam export` and `glam bench describe`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glam.app.cli.options import DEFAULT_MODEL, AsJson, Device, ModelName, Scales, Size, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from glam.inference.pipeline import DescribedImage
    from glam.stage_times import Times

BatchSize = Annotated[int, typer.Option(min=1, help="Images in one run of the network, on a GPU.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads that decode; one for each core by default.")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the network first: minutes, then faster.")]
GpuDecoding = Annotated[bool, typer.Option("--gpu-decoding", help="A GPU decodes JPEGs: where cores are few.")]
Source = Annotated[str, typer.Argument(help="Folder of images, or the list of a data set (docs/datasets.md).")]


def describe(
    source: Source,
    out: Annotated[Path, typer.Option(help="The file of descriptors, NAME.safetensors; NAME.json goes beside it.")],
    model: ModelName = DEFAULT_MODEL,
    size: Size = None,
    scales: Scales = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Only part I of N, as in 3/64.")] = None,
    batch: BatchSize = 32,
    workers: Workers = None,
    compile_network: Compile = False,
    gpu_decoding: GpuDecoding = False,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Describe images and write their descriptors to a file; with --shard, each machine its own part."""
    from dataclasses import replace

    import glam
    from glam.app.cli import terminal
    from glam.datasets.readers import read_collection
    from glam.descriptor_files import Shard, check_descriptor_output, listing_of, write_descriptors
    from glam.index.operations.import_descriptors import NotedFiles
    from glam.stage_times import Times

    part = None if shard is None else Shard.parse(shard)
    check_descriptor_output(out, [Path(source), Path(model)])
    collection = read_collection(source)
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
    with terminal.progress("describing") as report:

        def reported(stream: "Iterator[DescribedImage]") -> "Iterator[DescribedImage]":
            for done, described in enumerate(stream, start=1):
                yield described
                report(done, len(chosen))

        images = [collection.images[i] for i in chosen]
        noted = NotedFiles(collection.root, images)
        stream = noted.described(opened.stream(noted.sources(settings.workers, times), settings, times))
        paths = [image.path for image in images]
        unreadable = write_descriptors(out, reported(stream), paths, opened.dim, facts, times, noted.files)
    terminal.unreadable(list(unreadable.items()))
    rate = len(chosen) / max(times.elapsed(), 1e-9)
    if json:
        result = {"out": str(out), "images": len(chosen), "unreadable": unreadable, "images_per_second": round(rate, 2)}
        terminal.as_json({**result, "seconds": times.to_dict()})
    else:
        terminal.results.print(f"{out}: {len(chosen) - len(unreadable)} images described, {rate:.1f} a second")
        print_times(times)


def describe_merge(
    out: Annotated[Path, typer.Argument(help="The file to write, NAME.safetensors.")],
    shards: Annotated[list[Path], typer.Argument(help="The files of all shards, in any order.")],
) -> None:
    """Put the shards of `glam describe --shard` together, as one run would have written them."""
    from glam.app.cli import terminal
    from glam.descriptor_files import merge_shards

    terminal.results.print(f"{out}: {merge_shards(out, shards)} descriptors", soft_wrap=True)


def export(
    out: Annotated[Path, typer.Option(help="The file to write.")],
    model: ModelName = DEFAULT_MODEL,
    file_format: Annotated[str, typer.Option("--format", help="Only onnx.")] = "onnx",
) -> None:
    """Write a model for other runtimes: any number, height and width of images."""
    import glam
    from glam.app.cli import terminal
    from glam.errors import GlamError
    from glam.export import FORMATS, ONNX, export_onnx
    from glam.output import check_output

    if file_format not in FORMATS:
        raise GlamError(f"models are written as {', '.join(FORMATS)}, not {file_format!r}")
    check_output(out, ONNX, [Path(model)])
    export_onnx(glam.load(model, "cpu"), out)
    terminal.results.print(f"{out}: {model}", soft_wrap=True)


def bench_describe(
    source: Source,
    model: ModelName = DEFAULT_MODEL,
    size: Size = None,
    scales: Scales = None,
    images: Annotated[int, typer.Option(min=1, help="How many of them.")] = 100,
    batch: BatchSize = 32,
    compile_network: Compile = False,
    device: Device = None,
    json: AsJson = False,
) -> None:
    """Time describing a folder, against a plain loop over the same images."""
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
    columns = ["", "images/s", "times the plain loop", "cosine, mean", "cosine, least"]
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
    """A table of where the time went."""
    from glam.app.cli import terminal

    seconds = times.to_dict()
    total = seconds["total"]
    rows = [[name, f"{value:.1f}", f"{100 * value / max(total, 1e-9):.0f}%"] for name, value in seconds.items()]
    terminal.table(["stage (stages overlap, threads add up)", "seconds", "of the total"], rows)
