"""Limits of an index: batch sizes, segment sizes, and the thresholds between search methods.

    build, sync, add, remove, compact, Index.open --limits=--> Writer, Index --> segments, search structure, Milvus

The defaults suit every index. Tests set small limits, so that a small index behaves like a large one.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MilvusLimits:
    """Limits on messages to and from Milvus.

    Attributes:
        results: most results per query. Milvus allows at most 16,384.
        results_per_message: most results per message, summed over its queries.
        listed_ids: most ids listed in a filter expression. 100,000 ids take less than a megabyte.
        ranges: most id ranges in a filter expression. Milvus compares every row with every range, whereas a list of
            any length costs one lookup per row.
    """

    results: int = 16_384
    results_per_message: int = 200_000
    listed_ids: int = 100_000
    ranges: int = 32


@dataclass(frozen=True)
class IndexLimits:
    """Limits of an index.

    Attributes:
        commit_images: images per transaction; a killed writer loses at most these.
        commit_seconds: seconds per transaction, after which a batch is committed even if it is not full.
        segment_rows: most rows of a segment. The default is 512 MB at 512 dimensions.
        exact_below: number of images below which search is exact, whatever structure was chosen: inverted lists need
            more descriptors than that for their training.
        spot_bytes: bytes of descriptors that a writer compares with their digests before its first change.
        save_exact: whether an exact structure is saved too, although it only copies the descriptors.
        added_in_memory: most images that `Index` adds to a saved structure when it opens. A writer saves a new
            structure when more were added.
        removed_share: largest share of the images in a saved structure that may be masked before it is rebuilt.
        linked_in_memory: most images whose neighbors an open index computes itself if the kNN graph is missing or out
            of date. This takes a second or two, once per open index.
        gpu_rows: number of images from which brute force on a GPU is faster than search on the CPU
            (benchmarks/search_gpu.py).
        filter_seconds: time limit of a filter.
        milvus: limits on messages to and from Milvus.
    """

    commit_images: int = 256
    commit_seconds: float = 30.0
    segment_rows: int = 262_144
    exact_below: int = 1_000
    spot_bytes: int = 32 << 20
    save_exact: bool = False
    added_in_memory: int = 1_000
    removed_share: float = 0.2
    linked_in_memory: int = 10_000
    gpu_rows: int = 30_000
    filter_seconds: float = 10.0
    milvus: MilvusLimits = field(default_factory=MilvusLimits)


DEFAULT_LIMITS = IndexLimits()
