"""Learning from other models: the descriptors of a batch are to lie to each other as those of its teachers do.

    augmented images, with CutMix --teachers, at several scales--> their descriptors side by side, (b, t), unit length
                                  --student--> (b, dim)
    loss: how far the student's (b, b) cosines are from the teachers', as squares and as choices of neighbors

Several models together tell landmarks apart better than each of them, and they need no landmark of a view. The teachers
see the same view as the student. CutMix may have made it from two images: then it has no landmark, but the teachers
still describe it, and few images become many. Only cosines are compared, so descriptors may differ in length and may be
rotated against each other.

Sources: L. Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", CVPR 2022. W. Park et al.,
"Relational knowledge distillation", CVPR 2019. S. Yun et al., "CutMix", ICCV 2019.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glam.inference.optimize import inference_form
from glam.inference.pipeline import describe_tensor
from glam.network import DescriptorNetwork

SCALES = (1.0, 2**0.5)
"""Of the training image that teachers look at."""

TEMPERATURE = 0.07
"""Of the choice of a neighbor."""

SQUARES = 100.0
"""Weight of the squared differences of cosines; those are about a hundredth."""


class Distillation(nn.Module):
    """The loss of a student that learns from teachers.

    Args:
        teachers: trained networks, whose weights stay as they are and are no part of this module's state.
        mean, std: per channel, that the student's images are normalized with.
    """

    def __init__(self, teachers: Sequence[DescriptorNetwork], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self._teachers = tuple(teacher.eval().requires_grad_(False) for teacher in teachers)
        self._mean, self._std = tuple(mean), tuple(std)

    def to_device(self, device: torch.device) -> None:
        """Moves the teachers, which take the form there that describes fast."""
        self._teachers = tuple(inference_form(teacher.to_device(device)) for teacher in self._teachers)

    def forward(self, descriptors: Tensor, images: Tensor) -> Tensor:
        """Loss of (b, dim) descriptors of (b, 3, h, w) normalized images; 0 for an image alone."""
        if len(images) < 2:
            return 0.0 * descriptors.sum()
        teacher_descriptors = self.teacher_descriptors(images)
        targets, cosines = (
            _off_diagonal(teacher_descriptors @ teacher_descriptors.T),
            _off_diagonal(descriptors @ descriptors.T),
        )
        squares = F.mse_loss(cosines, targets)
        choices = F.kl_div(
            (cosines / TEMPERATURE).log_softmax(dim=1),
            (targets / TEMPERATURE).log_softmax(dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return SQUARES * squares + choices

    @torch.no_grad()
    def teacher_descriptors(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) normalized images to the descriptors of all teachers side by side, (b, t), of unit length."""
        descriptors = [
            describe_tensor(teacher, self._normalize_for(teacher, images), SCALES) for teacher in self._teachers
        ]
        return F.normalize(torch.cat(descriptors, dim=1), dim=1)

    def _normalize_for(self, teacher: DescriptorNetwork, images: Tensor) -> Tensor:
        """Normalizes images by the mean and standard deviation of a teacher's backbone."""
        mean, std = teacher.backbone.mean, teacher.backbone.std
        if (mean, std) == (self._mean, self._std):
            return images
        own_mean, own_std, its_mean, its_std = (
            images.new_tensor(values)[:, None, None] for values in (self._mean, self._std, mean, std)
        )
        return (images * own_std + own_mean - its_mean) / its_std


def cutmix(images: Tensor) -> Tensor:
    """CutMix: pastes a rectangle of another image of the batch into each image, at the same position.

    Args:
        images: (b, 3, h, w). The sides of the rectangles, as shares of the image's, are roots of uniform numbers, so
            that its area is half of the image's on average, less what hangs over the border.
    """
    count, _, height, width = images.shape
    draws = torch.rand(3, count, 1, 1, device=images.device)
    half, middle_y, middle_x = draws[0].sqrt() / 2, draws[1], draws[2]
    y, x = ((torch.arange(n, device=images.device) + 0.5) / n for n in (height, width))
    inside = ((y[:, None] - middle_y).abs() < half) & ((x - middle_x).abs() < half)
    return torch.where(inside[:, None], images[torch.randperm(count, device=images.device)], images)


def _off_diagonal(cosines: Tensor) -> Tensor:
    """(b, b) to (b, b - 1): each image's cosines with the others."""
    count = len(cosines)
    return cosines.flatten()[1:].view(count - 1, count + 1)[:, :-1].reshape(count, count - 1)
