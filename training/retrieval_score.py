"""mAP and recall@1 of validation images, gathered from all processes of a run."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from glam.eval.folder import score_folder


class RetrievalScore(Metric):
    """Retrieval on the validation images of all processes: each image queries all others."""

    full_state_update = False
    descriptors: list[Tensor]
    landmark_ids: list[Tensor]
    indices: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("descriptors", "landmark_ids", "indices"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, descriptors: Tensor, landmark_ids: Tensor, indices: Tensor) -> None:
        """Takes (b, dim) descriptors with their (b,) landmark ids and (b,) indices in the collection."""
        self.descriptors.append(descriptors.float())
        self.landmark_ids.append(landmark_ids)
        self.indices.append(indices)

    def compute(self) -> dict[str, Tensor]:
        """Scores of all images, in the order of the collection, whichever process had them."""
        order = dim_zero_cat(self.indices).argsort()
        descriptors = dim_zero_cat(self.descriptors)[order].cpu().numpy()
        scores = score_folder(descriptors, dim_zero_cat(self.landmark_ids)[order].cpu().numpy())
        return {"val_map": torch.tensor(scores.mean_ap), "val_recall_at_1": torch.tensor(scores.recall_at_1)}
