"""mAP and recall@1 of the validation images of all processes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from glam.eval.folder import has_pair, score_folder


class RetrievalScore(Metric):
    """Retrieval metric in which each validation image is a query against all others, over all processes."""

    full_state_update = False
    descriptors: list[Tensor]
    landmark_ids: list[Tensor]
    indices: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("descriptors", "landmark_ids", "indices"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, descriptors: Tensor, landmark_ids: Tensor, indices: Tensor) -> None:
        """Collects the descriptors of a batch.

        Args:
            descriptors: (b, dim) descriptors of unit length.
            landmark_ids: (b,) landmark ids; negative for a distractor.
            indices: (b,) indices in the collection.
        """
        self.descriptors.append(descriptors.float())
        self.landmark_ids.append(landmark_ids)
        self.indices.append(indices)

    def compute(self) -> dict[str, Tensor]:
        """Computes ``val_map`` and ``val_recall_at_1``, as fractions, over the images of all processes.

        Both are NaN if no landmark has two readable images.
        """
        descriptors, landmark_ids, _ = self.collected()
        if not has_pair(landmark_ids):
            return {"val_map": torch.tensor(torch.nan), "val_recall_at_1": torch.tensor(torch.nan)}
        scores = score_folder(descriptors, landmark_ids)
        return {"val_map": torch.tensor(scores.mean_ap), "val_recall_at_1": torch.tensor(scores.recall_at_1)}

    def collected(self) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Returns (n, dim) descriptors, (n,) landmark ids, and (n,) indices, in the order of the collection.

        An image that several processes read, because there are fewer images than processes, occurs once.
        """
        states = (self.descriptors, self.landmark_ids, self.indices)
        descriptors, landmark_ids, indices = (dim_zero_cat(state).cpu().numpy() for state in states)
        unique, first = np.unique(indices, return_index=True)
        return descriptors[first], landmark_ids[first], unique
