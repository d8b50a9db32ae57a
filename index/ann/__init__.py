"""Structures that find the nearest of many descriptors; `docs/search.md` says which is taken when."""

from pathlib import Path
from typing import TYPE_CHECKING

from glam.errors import GlamError
from glam.index.ann.base import DescriptorSource, Structure
from glam.index.ann.exact import Exact
from glam.index.ann.file import read_facts
from glam.index.ann.ivf_pq import IvfPq

if TYPE_CHECKING:  # PyTorch takes seconds to load, and search on the CPU does not need it
    from glam.index.ann.exact_gpu import ExactGpu

__all__ = [
    "KINDS",
    "DescriptorSource",
    "Structure",
    "build_gpu_structure",
    "build_structure",
    "choose_kind",
    "read_structure",
]

KINDS: dict[str, type[Exact] | type[IvfPq]] = {Exact.kind: Exact, IvfPq.kind: IvfPq}

EXACT_BYTES = 100 << 20
"""Rows that are searched exactly, on a CPU: 51,200 of length 512, in a few milliseconds."""


def build_structure(descriptors: DescriptorSource, kind: str | None = None) -> Structure:
    """Builds a structure of all of ``descriptors``.

    Args:
        descriptors: of the index.
        kind: one of `KINDS`; chosen by `choose_kind` if not given.
    """
    return KINDS[kind or choose_kind(len(descriptors), descriptors.dim)].build(descriptors)


def build_gpu_structure(descriptors: DescriptorSource, device: str, gpu_rows: int) -> "ExactGpu | None":
    """Builds a structure of all of ``descriptors`` that searches on a GPU; None where the CPU should search.

    Brute force by the top-k kernel of `glam.kernels` serves an index of any kind. It is exact, takes at most a third
    of the time of brute force by faiss-gpu, and opens in a tenth of the time of its IVF-PQ, which is faster for single
    queries only (benchmarks/results/faiss_gpu.json).

    Args:
        descriptors: of the index.
        device: as PyTorch names it, for example ``cuda`` or ``cuda:1``.
        gpu_rows: rows from which a GPU is faster than the CPU.

    Raises:
        GlamError: PyTorch finds no such device, or the descriptors do not fit into its memory.
    """
    if device == "cpu" or len(descriptors) < gpu_rows:
        return None
    import torch

    from glam.index.ann.exact_gpu import ExactGpu

    try:
        return ExactGpu.build(descriptors, torch.device(device))
    except torch.cuda.OutOfMemoryError as error:
        gigabytes = len(descriptors) * descriptors.dim * 6 / 1e9
        raise GlamError(f"{device} lacks {gigabytes:.1f} GB for the descriptors; search with --device cpu") from error
    except (RuntimeError, AssertionError) as error:
        raise GlamError(f"cannot search on the device {device!r}: {str(error).splitlines()[0]}") from error


def choose_kind(count: int, dim: int) -> str:
    """The kind for ``count`` descriptors of length ``dim``: exact as long as the rows are few bytes."""
    return Exact.kind if count * dim * 4 <= EXACT_BYTES else IvfPq.kind


def read_structure(path: Path, descriptors: DescriptorSource) -> Structure:
    """Reads a structure that was written by `Structure.write`.

    Args:
        path: of the file.
        descriptors: of the same index; there may be more now than the structure holds.

    Raises:
        GlamError: the file is damaged, or of a kind that this version does not know.
    """
    kind = read_facts(path)["kind"]
    if kind not in KINDS:
        raise GlamError(f"{path}: a structure of the kind {kind!r}; this version of glam knows {', '.join(KINDS)}")
    return KINDS[kind].read(path, descriptors)
