"""ArcFace: classification of landmarks on the unit sphere with an additive angular margin.

Source: J. Deng et al., "ArcFace: Additive angular margin loss for deep face recognition", CVPR 2019 (arXiv 1801.07698).
Centers, margin and scale are pytorch-metric-learning's, with three things seen to: the margin is given in radians, as
in the papers (the library takes degrees), cosines and logits stay in float32 whatever the autocast, and nothing waits
for the device (the library picks the target cosines by a boolean mask, whose entries are counted twice a step).
"""

import math

import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses
from torch import Tensor, nn


class ArcFace(nn.Module):
    """ArcFace loss with one learned center a landmark.

    Args:
        landmarks: how many classes.
        dim: length of a descriptor.
        margin: in radians.
        scale: of the logits.
    """

    def __init__(self, landmarks: int, dim: int, *, margin: float = 0.3, scale: float = 30.0) -> None:
        super().__init__()
        self.loss = _SafeArcFace(landmarks, dim, margin=math.degrees(margin), scale=scale)

    def forward(self, descriptors: Tensor, landmark_ids: Tensor) -> Tensor:
        """(b, dim) descriptors of unit length and (b,) landmark ids to the mean loss of the batch, a float32 scalar."""
        with torch.autocast(descriptors.device.type, enabled=False):
            cosines, column = descriptors.float() @ F.normalize(self.loss.W, dim=0), landmark_ids[:, None]
            target = self.loss.modify_cosine_of_target_classes(cosines.gather(1, column))
            return F.cross_entropy(self.loss.scale_logits(cosines.scatter(1, column, target)), landmark_ids)

    @torch.no_grad()
    def start_at_means(self, descriptors: Tensor, landmark_ids: Tensor) -> None:
        """Puts the center of each landmark that has images at the mean of their descriptors.

        Args:
            descriptors: (n, dim), of unit length.
            landmark_ids: (n,) landmark of each descriptor.
        """
        sums = torch.zeros_like(self.loss.W.T).index_add_(0, landmark_ids, descriptors)
        has_images = torch.bincount(landmark_ids, minlength=len(sums)) > 0
        self.loss.W.T[has_images] = F.normalize(sums[has_images], dim=1)


class _SafeArcFace(losses.ArcFaceLoss):  # type: ignore[misc]
    """The library's loss, but for the arc cosine at 1: its slope there is infinite, and a center may start on its
    image."""

    def get_angles(self, cosine_of_target_classes: Tensor) -> Tensor:
        return torch.acos(cosine_of_target_classes.clamp(-1 + 1e-6, 1 - 1e-6))
