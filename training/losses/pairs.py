"""Contrastive and triplet loss, with hard-negative mining within the batch.

d is the Euclidean distance of two descriptors of unit length, d^2 = 2 - 2 cos.

Sources: F. Radenovic, G. Tolias, O. Chum, "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2018
(arXiv 1711.02512), for the contrastive loss. F. Schroff, D. Kalenichenko, J. Philbin, "FaceNet", CVPR 2015
(arXiv 1503.03832), for the triplet loss; A. Hermans, L. Beyer, B. Leibe, "In defense of the triplet loss" (arXiv
1703.07737), for the hardest pairs of a batch. The papers mine over many batches; here, the negatives of an image are
the other landmarks of its batch.
"""

import math

import torch
from torch import Tensor

from glam.training.losses.base import LOSSES, Loss, LossContext

EPSILON = 1e-6
"""Squared distances are clamped to at least this, because the square root has no slope at 0."""


class Contrastive(Loss):
    """Mean of ``d^2 / 2`` over the pairs of a landmark, plus mean of ``max(0, margin - d)^2 / 2`` over hard negatives.

    Args:
        margin: distance beyond which two landmarks are not pushed apart, above 0; 0.7 to 0.85 in the paper.
        negatives: number of negatives per image, the nearest ones in the batch.

    Raises:
        ValueError: an option is out of its range.
    """

    needs_pairs = True

    def __init__(self, margin: float, negatives: int) -> None:
        super().__init__()
        _check_margin(margin)
        if negatives < 1 or negatives != int(negatives):
            raise ValueError(f"negatives must be a whole number of at least 1, not {negatives}")
        self.margin = margin
        self.negatives = int(negatives)

    def forward(self, descriptors: Tensor, landmark_ids: Tensor, images: Tensor | None = None) -> Tensor:
        """Computes the loss of a batch; 0 for a batch without pairs.

        Args:
            descriptors: (b, dim) descriptors, of unit length.
            landmark_ids: (b,) landmark ids.
            images: not used.

        Returns:
            A float32 scalar.
        """
        squares, positive, negative = _pairs(descriptors, landmark_ids)
        pulled = _mean(squares / 2, positive)
        nearest = squares.masked_fill(~negative, math.inf).topk(min(self.negatives, len(squares)), largest=False).values
        is_negative = nearest.isfinite()
        distances = nearest.where(is_negative, nearest.new_zeros(())).clamp(min=EPSILON).sqrt()
        return pulled + _mean((self.margin - distances).clamp(min=0).square() / 2, is_negative)


class Triplet(Loss):
    """Mean over the images of ``max(0, d_p^2 - d_n^2 + margin)``, with the hardest positive and negative of the batch.

    Args:
        margin: difference of squared distances beyond which a triplet has no loss, above 0.

    Raises:
        ValueError: the margin is out of its range.
    """

    needs_pairs = True

    def __init__(self, margin: float) -> None:
        super().__init__()
        _check_margin(margin)
        self.margin = margin

    def forward(self, descriptors: Tensor, landmark_ids: Tensor, images: Tensor | None = None) -> Tensor:
        """Computes the loss of a batch; 0 for a batch without triplets.

        Args:
            descriptors: (b, dim) descriptors, of unit length.
            landmark_ids: (b,) landmark ids.
            images: not used.

        Returns:
            A float32 scalar.
        """
        squares, positive, negative = _pairs(descriptors, landmark_ids)
        has_triplet = positive.any(dim=1) & negative.any(dim=1)
        farthest = squares.where(positive, squares.new_zeros(())).amax(dim=1)
        nearest = squares.where(negative, squares.new_full((), 4.0)).amin(dim=1)  # no square is larger
        return _mean((farthest - nearest + self.margin).clamp(min=0), has_triplet)


def _check_margin(margin: float) -> None:
    if not 0 < margin < math.inf:
        raise ValueError(f"the margin must be above 0, not {margin}")


def _pairs(descriptors: Tensor, landmark_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(b, b) squared distances in at least single precision, and which pairs are of one landmark, and of two."""
    with torch.autocast(descriptors.device.type, enabled=False):
        exact = descriptors.to(torch.promote_types(descriptors.dtype, torch.float32))
        squares = (2 - 2 * exact @ exact.T).clamp(min=0)
    same = landmark_ids[:, None] == landmark_ids
    return squares, same & ~torch.eye(len(same), dtype=torch.bool, device=same.device), ~same


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of the counted values, without waiting for the device; 0 if none counts."""
    return (values * counted).sum() / counted.sum().clamp(min=1)


@LOSSES.register("contrastive")
def contrastive(context: LossContext, margin: float = 0.7, negatives: int = 5) -> Contrastive:
    """Returns the contrastive loss; its defaults are those of the paper for VGG.

    Args:
        context: not used.
        margin: distance beyond which two landmarks are not pushed apart.
        negatives: number of negatives per image.
    """
    return Contrastive(margin, negatives)


@LOSSES.register("triplet")
def triplet(context: LossContext, margin: float = 0.2) -> Triplet:
    """Returns the triplet loss; its default is that of the paper.

    Args:
        context: not used.
        margin: difference of squared distances beyond which a triplet has no loss.
    """
    return Triplet(margin)
