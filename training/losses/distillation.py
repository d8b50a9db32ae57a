"""Knowledge distillation: the student reproduces the cosines between the images of a batch that its teachers give.

    augmented images, with CutMix --teachers, at several scales--> concatenated descriptors, (b, t), unit length
                                  --student--> (b, dim)
    loss: difference between the (b, b) cosines of student and teachers, as squares and as distributions over neighbors

Several teachers together are better than each of them alone. They see the same view of an image as the student and need
no landmark, so CutMix can combine two images into a view and multiply the training data. Only cosines are compared, so
the descriptors of student and teachers may differ in dimension and by a rotation.

Sources: L. Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", CVPR 2022. W. Park et al.,
"Relational knowledge distillation", CVPR 2019. S. Yun et al., "CutMix", ICCV 2019.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from glam.errors import GlamError
from glam.inference.optimize import inference_form
from glam.inference.pipeline import describe_tensor
from glam.network import DescriptorNetwork
from glam.training.losses.base import LOSSES, Loss, LossContext

SCALES = (1.0, 2**0.5)
"""Scales at which the teachers see a training image (arbitrary)."""

TEMPERATURE = 0.07
"""Temperature of the distribution over neighbors (arbitrary)."""

SQUARES = 100.0
"""Weight of the squared differences of cosines, which brings them to the magnitude of the other term."""


class Distillation(Loss):
    """The loss of a student that learns from teachers.

    Args:
        teachers: trained networks, whose weights are frozen and not part of the state of this module.
        mean: mean of each of the 3 channels that the student's images are normalized with.
        std: standard deviation of each of the 3 channels that the student's images are normalized with.
    """

    needs_landmarks = False

    def __init__(self, teachers: Sequence[DescriptorNetwork], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self._teachers = tuple(teacher.eval().requires_grad_(False) for teacher in teachers)
        self._mean, self._std = tuple(mean), tuple(std)

    def prepare(self, device: torch.device) -> None:
        """Moves the teachers to a device and converts them to the form for fast inference."""
        self._teachers = tuple(inference_form(teacher.to_device(device)) for teacher in self._teachers)

    def forward(self, descriptors: Tensor, landmark_ids: Tensor, images: Tensor) -> Tensor:
        """Computes the loss of a batch.

        Args:
            descriptors: (b, dim) descriptors of the student, of unit length.
            landmark_ids: not used.
            images: (b, 3, h, w) images, normalized for the student.

        Returns:
            A scalar; 0 for a single image.
        """
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
        """Computes the concatenated descriptors of all teachers.

        Args:
            images: (b, 3, h, w) images, normalized for the student.

        Returns:
            (b, t) descriptors of unit length.
        """
        descriptors = [
            describe_tensor(teacher, self._normalize_for(teacher, images), SCALES) for teacher in self._teachers
        ]
        return F.normalize(torch.cat(descriptors, dim=1), dim=1)

    def _normalize_for(self, teacher: DescriptorNetwork, images: Tensor) -> Tensor:
        """Converts images from the student's normalization to a teacher's."""
        mean, std = teacher.backbone.mean, teacher.backbone.std
        if (mean, std) == (self._mean, self._std):
            return images
        student_mean, student_std, teacher_mean, teacher_std = (
            images.new_tensor(values)[:, None, None] for values in (self._mean, self._std, mean, std)
        )
        return (images * student_std + student_mean - teacher_mean) / teacher_std


@LOSSES.register("distillation")
def distillation(context: LossContext) -> Distillation:
    """Returns the loss of a student.

    Args:
        context: teachers, and normalization of the images.

    Raises:
        GlamError: there are no teachers.
    """
    if not context.teachers:
        raise GlamError("Distillation needs trained models to learn from. Name them with --teachers.")
    return Distillation(context.teachers, context.mean, context.std)


def cutmix(images: Tensor) -> Tensor:
    """Pastes a rectangle of another image of the batch into each image, at the same position (CutMix).

    The sides of a rectangle, as shares of the image's sides, are square roots of uniform random numbers. Its area is
    therefore half of the image's on average, minus the part beyond the border.

    Args:
        images: (b, 3, h, w) images.

    Returns:
        (b, 3, h, w) images.
    """
    count, _, height, width = images.shape
    draws = torch.rand(3, count, 1, 1, device=images.device)
    half, middle_y, middle_x = draws[0].sqrt() / 2, draws[1], draws[2]
    y, x = ((torch.arange(n, device=images.device) + 0.5) / n for n in (height, width))
    inside = ((y[:, None] - middle_y).abs() < half) & ((x - middle_x).abs() < half)
    return torch.where(inside[:, None], images[torch.randperm(count, device=images.device)], images)


def _off_diagonal(cosines: Tensor) -> Tensor:
    """(b, b - 1) cosines of each image with the others, from all (b, b) cosines."""
    count = len(cosines)
    return cosines.flatten()[1:].view(count - 1, count + 1)[:, :-1].reshape(count, count - 1)
