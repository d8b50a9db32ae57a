"""Structures that find the nearest of many descriptors; `docs/search.md` says which is taken when."""

from pathlib import Path

import faiss

from glam.errors import GlamError
from glam.index.ann.base import DescriptorSource, Structure
from glam.index.ann.exact import Exact
from glam.index.ann.file import read_facts
from glam.index.ann.ivf_pq import IvfPq

__all__ = [
    "KINDS",
    "DescriptorSource",
    "Structure",
    "build_structure",
    "choose_kind",
    "read_structure",
]

KINDS: dict[str, type[Exact] | type[IvfPq]] = {Exact.kind: Exact, IvfPq.kind: IvfPq}

EXACT_BYTES = 100 << 20
"""Rows that are searched exactly, on a processor: 51,200 of length 512, in a few milliseconds."""

EXACT_BYTES_ON_GPU = 4 << 30


def build_structure(descriptors: DescriptorSource, kind: str | None = None) -> Structure:
    """Builds a structure of all of ``descriptors``.

    Args:
        descriptors: of the index.
        kind: one of `KINDS`; chosen by `choose_kind` if not given.
    """
    return KINDS[kind or choose_kind(len(descriptors), descriptors.dim)].build(descriptors)


def choose_kind(count: int, dim: int) -> str:
    """The kind for ``count`` descriptors of length ``dim``: exact as long as the rows are few bytes."""
    most = EXACT_BYTES_ON_GPU if faiss.get_num_gpus() else EXACT_BYTES
    return Exact.kind if count * dim * 4 <= most else IvfPq.kind


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
