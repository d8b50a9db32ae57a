"""Exact top-k of inner products on a GPU, compared with a product and torch.topk, and with copying the rows.

python benchmarks/top_k.py --device cuda --csv benchmarks/results/top_k.csv
python benchmarks/top_k.py --device cuda --sweep
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from triton.testing import do_bench

from glam.kernels import top_k, use_form

CHUNK = 1 << 16
"""Number of rows that the chunked product multiplies at a time; arbitrary."""

TILES: dict[str, dict[str, Any]] = {
    "wide": {},
    "wide, free registers": {"registers": None},
    "wide, 4 stages": {"stages": 4},
    "128 x 256": {"rows": 256, "registers": None},
    "64 x 128, 3 stages": {"queries": 64, "warps": 4, "registers": 168},
    "64 x 128, 128 registers": {"queries": 64, "warps": 4, "registers": 128},
    "64 x 256": {"queries": 64, "rows": 256, "warps": 8},
    "64 x 64, 4 stages": {"queries": 64, "rows": 64, "warps": 4, "stages": 4, "registers": 128},
}
"""Tiles to time with ``--sweep``, as changes of `glam.kernels._tiles.WIDE`."""

SAMPLED = (8, 16, 32)


def make(count: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Draws descriptors, (count, width), of unit length; for int8, scaled by 127 sqrt(width) / 4."""
    descriptors = torch.empty((count, width), device=device, dtype=dtype)
    for part in descriptors.split(CHUNK):
        unit = torch.nn.functional.normalize(torch.randn(part.shape, device=device), dim=1)
        part.copy_((unit * (127 * width**0.5 / 4)).round().clamp(-127, 127) if dtype == torch.int8 else unit)
    return descriptors


def product(queries: Tensor, descriptors: Tensor) -> Tensor:
    """Computes scores with PyTorch; its int8 product requires more than 16 queries."""
    if descriptors.dtype != torch.int8:
        return queries @ descriptors.T
    padded = torch.nn.functional.pad(queries, (0, 0, 0, max(0, 32 - len(queries))))
    return torch._int_mm(padded, descriptors.T)[: len(queries)]


def product_top_k(queries: Tensor, descriptors: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Computes all scores, then torch.topk."""
    scores, best = product(queries, descriptors).topk(k, dim=1)
    return scores, best


def chunked_top_k(queries: Tensor, descriptors: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Applies torch.topk to each `CHUNK` rows, then to the results."""
    found = [product(queries, chunk).topk(k, dim=1) for chunk in descriptors.split(CHUNK) if len(chunk) >= k]
    scores, columns = torch.cat([scores for scores, _ in found], dim=1).topk(k, dim=1)
    rows = torch.cat([best + i * CHUNK for i, (_, best) in enumerate(found)], dim=1)
    return scores, rows.gather(1, columns)


def disagreement(queries: Tensor, descriptors: Tensor, k: int) -> float:
    """Returns the maximum difference of scores from double precision for the same rows, and from the plain form."""
    queries = queries[:64]
    scores, best = top_k(queries, descriptors, k)
    exact = torch.einsum("qkd,qd->qk", descriptors[best].double(), queries.double())
    with use_form("plain"):
        plain, _ = top_k(queries, descriptors, k)
    return max(float((scores - exact).abs().max()), float((scores - plain).abs().max()))


def forms(queries: Tensor, descriptors: Tensor, k: int) -> dict[str, Callable[[], object]]:
    """Returns the functions to time, by name."""
    copied = torch.empty_like(descriptors)
    return {
        "ours": partial(top_k, queries, descriptors, k),
        "product + topk": partial(product_top_k, queries, descriptors, k),
        "chunked product + topk": partial(chunked_top_k, queries, descriptors, k),
        "copy of the rows, halved": partial(copied.copy_, descriptors),  # reads and writes
    }


def median(run: Callable[[], object], name: str) -> float:
    """Milliseconds."""
    time: float = do_bench(run, warmup=100, rep=500, return_mode="median")
    return time / 2 if "halved" in name else time


def compare(arguments: argparse.Namespace, device: torch.device) -> Iterator[dict[str, object]]:
    """Yields a row of the table for each form, number of queries, and type."""
    for dtype in (torch.float16, torch.int8):
        descriptors = make(arguments.rows, arguments.width, dtype, device)
        for q in arguments.queries:
            queries = make(q, arguments.width, dtype, device)
            error = disagreement(queries, descriptors, arguments.k)
            print(f"{q} queries, {arguments.rows} x {arguments.width} {dtype}: scores agree to {error:.1e}")
            assert error < 1e-5 * max(1.0, float(queries.float().norm(dim=1).max()) ** 2), "the answers differ"
            for name, run in forms(queries, descriptors, arguments.k).items():
                time = median(run, name)
                print(f"  {name:26} {time:8.3f} ms", flush=True)
                yield {"dtype": str(dtype)[6:], "queries": q, "form": name, "ms": round(time, 4), "error": error}


def sweep(arguments: argparse.Namespace, device: torch.device) -> Iterator[dict[str, object]]:
    """Yields a row of the table for each tile and sampling rate."""
    from glam.kernels import _top_k, _top_k_few

    for dtype in (torch.float16, torch.int8):
        descriptors = make(arguments.rows, arguments.width, dtype, device)
        for q in arguments.queries:
            if q <= _top_k_few.FEW:
                continue
            queries = make(q, arguments.width, dtype, device)
            for name, changes in TILES.items():
                for sampled in SAMPLED if name == "wide" else (_top_k.SAMPLED,):
                    tile = _top_k.Tile(**changes)
                    run = partial(_top_k.forward, queries, descriptors, arguments.k, tile=tile, sampled=sampled)
                    lost, time = int(run()[2]), median(run, name)
                    print(f"{dtype} {q:5} queries  {name:26} 1/{sampled:<3} {time:8.3f} ms  {lost} lost", flush=True)
                    yield {"dtype": str(dtype)[6:], "queries": q, "form": f"{name}, 1/{sampled}", "ms": time}


def main() -> None:
    """Times all cases and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--queries", type=int, nargs="*", default=[1024, 64, 1])
    parser.add_argument("--sweep", action="store_true", help="time tile sizes instead")
    parser.add_argument("--csv", type=Path, help="CSV file to write")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    table = list((sweep if arguments.sweep else compare)(arguments, torch.device(arguments.device)))
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, table[0])
            writer.writeheader()
            writer.writerows(table)


if __name__ == "__main__":
    main()
