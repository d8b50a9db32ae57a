"""Exact rank counts on a GPU: float64 scores, torch.searchsorted, and a histogram.

Scores closer than the rounding error of a sum are compared on the CPU by their tie-break keys. Copying rows to the GPU
takes most of the time. A Triton kernel that compared tiles of scores with all targets took four times as long as the
product and the search together.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glam.eval.ranks.counter import Counts, RankCounter, check_norms
from glam.eval.ranks.score_table import UNSURE
from glam.eval.tie_break import Descriptors, Keys

SMALLEST = 1e-290
"""Smallest difference between scores that is trusted: smaller ones are lost if products underflow double precision."""


class GpuCounter(RankCounter):
    """Counts on a GPU. Threads copy the next blocks there while it counts one.

    Args:
        queries: (q, dim) descriptors of the queries.
        targets: for each query, the (t,) tie-break keys of its targets, see `glam.eval.tie_break.tie_break_keys`.
        device: a CUDA device, or the CPU for tests.
    """

    def __init__(self, queries: Descriptors, targets: Sequence[Keys], device: torch.device) -> None:
        super().__init__(queries, targets)
        self.device = device
        most = max((len(keys) for keys in targets), default=0)
        scores = np.full((len(queries), most), np.inf)  # padded with targets that no score is above
        for query, keys in enumerate(self.keys):
            scores[query, : len(keys)] = keys.real
        self.scores = torch.from_numpy(scores).to(device)
        self.queries_on_device = torch.from_numpy(self.queries).to(device)
        self.first_codes = torch.from_numpy(self.first[:-1]).to(device)[:, None]
        self.lengths = torch.from_numpy(self.norms).to(device)
        self.without_score = torch.from_numpy(self.has_nan).to(device)

    @torch.inference_mode()
    def _count_sure(self, descriptors: Descriptors) -> tuple[Counts, NDArray[np.int64], NDArray[np.int64]]:
        rows = self._copied(descriptors).double()
        norms = torch.linalg.vector_norm(rows, dim=1)
        check_norms(norms.float())
        scores = self.queries_on_device @ rows.T
        # Two sums are compared, so the margin is twice the bound on the error of a sum of dim products.
        margin = rows.shape[1] * 2.0**-52 * self.lengths[:, None] * norms.nan_to_num(0.0).max() + SMALLEST
        least = torch.searchsorted(self.scores + margin, scores)
        most = torch.searchsorted(self.scores - margin, scores, right=True)
        is_sure = (least == most) & ~norms.isnan() & ~self.without_score[:, None]
        codes = torch.where(is_sure, least + self.first_codes, UNSURE)
        counts = torch.bincount(codes.flatten(), minlength=len(self.counts))
        query, row = (~is_sure).nonzero(as_tuple=True)
        return counts.cpu().numpy(), query.cpu().numpy(), row.cpu().numpy()

    def _copied(self, descriptors: Descriptors) -> Tensor:
        """Copies (n, dim) descriptors to the device through pinned memory, which is several times as fast."""
        rows = torch.from_numpy(np.ascontiguousarray(descriptors))
        return rows.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else rows
