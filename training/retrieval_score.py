"""mAP and recall@1 of the validation images of all processes."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from glam.eval.folder import score_folder


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
            landmark_ids: (b,) landmark ids.
            indices: (b,) indices in the collection.
        """
        self.descriptors.append(descriptors.float())
        self.landmark_ids.append(landmark_ids)
        self.indices.append(indices)

    def compute(self) -> dict[str, Tensor]:
        """Computes ``val_map`` and ``val_recall_at_1``, as fractions, over the images of all processes."""
        order = dim_zero_cat(self.indices).argsort()
        descriptors = dim_zero_cat(self.descriptors)[order].cpu().numpy()
        scores = score_folder(descriptors, dim_zero_cat(self.landmark_ids)[order].cpu().numpy())
        return {"val_map": torch.tensor(scores.mean_ap), "val_recall_at_1": torch.tensor(scores.recall_at_1)}
