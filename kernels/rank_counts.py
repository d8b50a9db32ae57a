"""How many descriptors score above given thresholds: ranks of a few among very many, without sorting."""

import torch
from torch import Tensor

from glam.kernels import dispatch
from glam.kernels.top_k import CHUNK_SCORES, check_pair


def rank_counts(queries: Tensor, descriptors: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """Counts the rows that score strictly above each threshold, and the rows that score exactly the threshold.

    Scores are those of `glam.kernels.top_k.top_k` for as many queries, but for the very few that it answers one by one:
    each form counts exactly among the scores that it makes, which another form may round otherwise. Who needs the
    counts of exact scores adds a margin to the thresholds on either side and looks at the rows between.

    Args:
        queries: (q, d) float16, bfloat16 or int8, finite.
        descriptors: (n, d) of the same dtype and device, finite; n below 2^31.
        thresholds: (q, t) single precision; nothing is above or equal to NaN.

    Returns:
        Two of (q, t) int64: numbers of rows above and of rows equal.

    Raises:
        ValueError: the shapes or types do not go together.
    """
    check_pair(queries, descriptors)
    if thresholds.ndim != 2 or len(thresholds) != len(queries) or thresholds.dtype != torch.float32:
        shape = f"{tuple(thresholds.shape)} {thresholds.dtype}"
        raise ValueError(f"thresholds are {shape}; they must be ({len(queries)}, t) torch.float32")
    if not dispatch.triton_for(descriptors) or 0 in (*thresholds.shape, len(descriptors)):
        return rank_counts_dense(queries, descriptors, thresholds)
    from glam.kernels import _rank_counts

    queries, descriptors = (x if x.stride(1) == 1 else x.contiguous() for x in (queries, descriptors))
    return _rank_counts.forward(queries, descriptors, thresholds.contiguous())


def rank_counts_dense(queries: Tensor, descriptors: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """The plain form of `rank_counts`: compares all scores with all thresholds. Same arguments and result."""
    wide = torch.float64 if descriptors.dtype == torch.int8 else torch.float32
    above, equal = torch.zeros((2, *thresholds.shape), device=descriptors.device, dtype=torch.int64)
    size = max(1, CHUNK_SCORES // max(1, thresholds.numel()))
    for start in range(0, len(descriptors), size):
        scores = (queries.to(wide) @ descriptors[start : start + size].to(wide).T).float().unsqueeze(1)
        above += (scores > thresholds.unsqueeze(2)).sum(dim=2)
        equal += (scores == thresholds.unsqueeze(2)).sum(dim=2)
    return above, equal
