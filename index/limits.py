"""Sizes and times at which an index changes how it works.

    build, sync, add, remove, compact, Index.open --limits=--> Writer, Index --> segments, search structure, Milvus

The defaults fit every index; tests make them small, so that a small index behaves as a large one does.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MilvusLimits:
    """Sizes of messages to and from Milvus.

    Attributes:
        results: results per query; Milvus allows no more than 16,384.
        results_per_message: results per message, over all its queries.
        listed_ids: ids listed in a filter expression; 100,000 of them take less than a megabyte.
        ranges: id ranges in a filter expression. Each is compared with each row, whereas a list of any length is one
            look-up.
    """

    results: int = 16_384
    results_per_message: int = 200_000
    listed_ids: int = 100_000
    ranges: int = 32


@dataclass(frozen=True)
class IndexLimits:
    """Sizes and times of an index.

    Attributes:
        commit_images: images per transaction: what a kill can cost.
        commit_seconds: seconds per transaction: what a kill can cost with a slow model.
        segment_rows: most rows of a segment; the default is 512 MB at 512 dimensions.
        exact_below: images below which search is exact, whatever was asked for: the other structures learn from the
            descriptors.
        save_exact: whether an exact structure is saved too, although it is a copy of the descriptors.
        added_in_memory: images that `Index` adds to a saved structure when it opens; with more, the writer saves a new
            structure.
        removed_share: share of the images in a saved structure that may be masked before a new one is built.
        linked_in_memory: images whose neighbors an open index may search for itself, where the kNN graph is missing or
            out of date. It takes a second or two, once per open index.
        gpu_rows: images from which brute force on a GPU is faster than search on the CPU (benchmarks/search_gpu.py).
        milvus: sizes of messages to and from Milvus.
    """

    commit_images: int = 256
    commit_seconds: float = 30.0
    segment_rows: int = 262_144
    exact_below: int = 1_000
    save_exact: bool = False
    added_in_memory: int = 1_000
    removed_share: float = 0.2
    linked_in_memory: int = 10_000
    gpu_rows: int = 30_000
    milvus: MilvusLimits = field(default_factory=MilvusLimits)


DEFAULT_LIMITS = IndexLimits()
