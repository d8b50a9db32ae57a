"""Search structures, which find the nearest of many descriptors. `docs/search.md` says which one is used when."""

from pathlib import Path
from typing import TYPE_CHECKING

from glam.errors import GlamError
from glam.index.ann.base import DescriptorSource, Structure
from glam.index.ann.exact import Exact
from glam.index.ann.file import read_facts
from glam.index.ann.ivf_pq import IvfPq

if TYPE_CHECKING:  # PyTorch takes seconds to load, and searching on the CPU does not need it
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
"""Class of each kind of search structure on the CPU."""

EXACT_BYTES = 100 << 20
"""Most bytes of descriptors that are searched exactly on a CPU: 51,200 of length 512 take a few milliseconds."""


def build_structure(descriptors: DescriptorSource, kind: str | None = None) -> Structure:
    """Builds a search structure on the CPU.

    Args:
        descriptors: descriptors of the index; the structure contains all of them.
        kind: one of `KINDS`; None lets `choose_kind` choose.
    """
    return KINDS[kind or choose_kind(len(descriptors), descriptors.dim)].build(descriptors)


def build_gpu_structure(descriptors: DescriptorSource, device: str, gpu_rows: int) -> "ExactGpu | None":
    """Builds a search structure on a GPU.

    It searches an index of any kind by brute force with the top-k kernel of `glam.kernels`. This is exact, takes at
    most a third of the time of brute force with faiss-gpu, and opens in a tenth of the time of the IVF-PQ of faiss-gpu,
    which is faster only for single queries (benchmarks/results/faiss_gpu.json).

    Args:
        descriptors: descriptors of the index; the structure contains all of them.
        device: device as PyTorch names it, for example ``cuda`` or ``cuda:1``.
        gpu_rows: number of rows from which a GPU is faster than the CPU.

    Returns:
        The structure; None if ``device`` is the CPU or the CPU is faster.

    Raises:
        GlamError: PyTorch does not find the device, or the descriptors do not fit into its memory.
    """
    if device == "cpu" or len(descriptors) < gpu_rows:
        return None
    import torch

    from glam.index.ann.exact_gpu import ExactGpu

    try:
        return ExactGpu.build(descriptors, torch.device(device))
    except torch.cuda.OutOfMemoryError as error:
        gigabytes = len(descriptors) * descriptors.dim * 6 / 1e9
        raise GlamError(
            f"The descriptors need {gigabytes:.1f} GB, and {device} has less free memory. Search with --device cpu."
        ) from error
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise GlamError(f"Cannot search on the device {device!r}: {reason}. Search with --device cpu.") from error


def choose_kind(count: int, dim: int) -> str:
    """The kind of structure for ``count`` descriptors of length ``dim``: exact up to `EXACT_BYTES`."""
    return Exact.kind if count * dim * 4 <= EXACT_BYTES else IvfPq.kind


def read_structure(path: Path, descriptors: DescriptorSource) -> Structure:
    """Reads a structure that `Structure.write` has written.

    Args:
        path: path of the file.
        descriptors: descriptors of the same index; they may have more rows than the structure.

    Raises:
        GlamError: the file is damaged, or its kind is unknown to this version.
    """
    kind = read_facts(path)["kind"]
    if kind not in KINDS:
        raise GlamError(
            f"{path} is a search structure of the unknown kind {kind!r}. Delete {path.parent}; it is a cache and will "
            "be rebuilt."
        )
    return KINDS[kind].read(path, descriptors)
