"""`glam bench ...`: benchmarks on this machine."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glam.app.cli.describe import bench_describe
from glam.app.cli.help import Command, CommandGroup
from glam.app.cli.options import AsJson, Device, IndexPath, not_nan
from glam.app.cli.tokens import hide_argument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from glam.index import Index

app = typer.Typer(cls=CommandGroup, help="Run benchmarks on this machine.")

NEIGHBORS = 10
"""Results per query: recall is measured at 10, as in the literature on nearest-neighbor search."""

BLOCK = 65_536
"""Rows per block of the brute-force search; arbitrary."""

SEED = 0
"""Seed of the sample of queries; arbitrary."""

app.command("describe", cls=Command)(bench_describe)


@app.command("module", cls=Command)
def bench_module(device: Device = None, json: AsJson = False) -> None:
    """Time each implementation of GLAM with GeM, and the lower bound set by the hardware."""
    from dataclasses import asdict

    import torch

    from glam.app.bench.attention import FORMS, cases_for, floor, time_forms
    from glam.app.cli import terminal

    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = torch.bfloat16 if on.type == "cuda" else torch.float32
    forms = FORMS if on.type == "cuda" else ("plain", "fast PyTorch")
    for case in cases_for(on):
        arithmetic, moved = floor(case, on, dtype)
        timings = time_forms(case, on, dtype, forms)
        if json:
            terminal.as_json({"floor": max(arithmetic, moved), "forms": [asdict(timing) for timing in timings]})
            continue
        rows = [[t.form, f"{t.forward:.2f}", f"{t.both:.2f}", f"{t.peak:.0f}"] for t in timings]
        rows.append(["lower bound", f"{max(arithmetic, moved):.2f}", "", ""])
        terminal.table([str(case), "forward, ms", "forward and backward, ms", "peak memory, MiB"], rows)


@app.command("serve", cls=Command)
def bench_serve(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Address of a running service, such as http://localhost:8000.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", readable=False, help="Folder of images to search with.")],
    clients: Annotated[int, typer.Option(min=1, metavar="N", help="Number of concurrent clients.")] = 64,
    seconds: Annotated[
        float, typer.Option(min=0.1, callback=not_nan, metavar="SECONDS", help="Duration of the test.")
    ] = 60.0,
    most: Annotated[int, typer.Option(min=1, metavar="N", help="Most images to load from the folder.")] = 3000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="GLAM_READ_TOKEN", callback=hide_argument, metavar="TOKEN", help="Access token of the service."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Load-test a service: search with the images of a folder from concurrent clients."""
    from glam.app.bench.load import load
    from glam.app.cli import terminal
    from glam.datasets.readers import read_folder
    from glam.images import read_regular_file

    collection = read_folder(folder)
    contents = [read_regular_file(collection.file(i)) for i in range(min(most, len(collection)))]
    facts = load(url, contents, clients=clients, seconds=seconds, token=token).to_dict()
    if json:
        terminal.as_json({"url": url, "clients": clients, **facts})
    else:
        terminal.table([url, ""], [[name, f"{value:,}"] for name, value in facts.items()])


@app.command("search", cls=Command)
def bench_search(
    index: IndexPath,
    queries: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of queries, drawn from the images of the index.")
    ] = 200,
    json: AsJson = False,
) -> None:
    """Measure the latency and the recall@10 of an index."""
    import numpy as np

    from glam.app.cli import terminal
    from glam.app.service.memory_budget import used_memory
    from glam.index import Index

    memory, began = used_memory(), time.perf_counter()
    with Index.open(index) as opened:
        facts: dict[str, float] = {"images": len(opened), "open_seconds": round(time.perf_counter() - began, 3)}
        facts["memory_bytes"] = used_memory() - memory
        sample = np.random.default_rng(SEED).choice(opened.image_ids, min(queries, len(opened)), replace=False)
        facts["queries"] = len(sample)
        if len(sample):
            facts |= _measure(opened, np.sort(sample))
    if json:
        terminal.as_json({"index": str(index), **facts})
    else:
        terminal.table([str(index), ""], [[name, f"{value:,}"] for name, value in facts.items()])


def _measure(index: "Index", image_ids: "NDArray[np.int64]") -> dict[str, float]:
    """Latency in milliseconds of searches with one query each, catalog included, and recall@10 against brute force."""
    import numpy as np

    descriptors = index.descriptors(image_ids.tolist())
    tenth_best = _exact(index, descriptors)
    times, found = [], 0
    for i, query in enumerate(descriptors):
        began = time.perf_counter()
        hits = index.search(query, NEIGHBORS)[0]
        times.append(1000 * (time.perf_counter() - began))
        found += sum(hit.score >= tenth_best[i] - 1e-5 for hit in hits)
    median, slow = np.quantile(times, [0.5, 0.95])
    recall = found / (len(image_ids) * min(NEIGHBORS, len(index)))
    return {"p50_ms": round(float(median), 3), "p95_ms": round(float(slow), 3), "recall_at_10": round(recall, 4)}


def _exact(index: "Index", descriptors: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """The tenth best score of each of q queries by brute force, (q,) float32."""
    import faiss
    import numpy as np

    least = min(NEIGHBORS, len(index))
    heap = faiss.ResultHeap(len(descriptors), least, keep_max=True)
    for start in range(0, len(index), BLOCK):
        rows = np.ascontiguousarray(index.descriptors(index.image_ids[start : start + BLOCK].tolist()))
        few = min(least, len(rows))
        scores, rows_found = faiss.knn(np.ascontiguousarray(descriptors), rows, few, metric=faiss.METRIC_INNER_PRODUCT)
        heap.add_result(scores, start + rows_found)
    heap.finalize()
    tenth: NDArray[np.float32] = heap.D[:, -1]
    return tenth
