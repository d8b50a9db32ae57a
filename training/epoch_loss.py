"""Mean loss of an epoch, over the images of all processes."""

import torch
from torch import Tensor
from torchmetrics import Metric


class EpochLoss(Metric):
    """Mean of the loss per image. An update does not wait for the device, as torchmetrics' `MeanMetric` does.

    Attributes:
        total: sum of the losses of the images so far, a scalar.
        images: number of images so far, a scalar.
    """

    full_state_update = False
    total: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "images"):
            self.add_state(name, default=torch.zeros(()), dist_reduce_fx="sum")

    def update(self, loss: Tensor, images: int) -> None:
        """Adds a batch.

        Args:
            loss: mean loss of its images, a scalar.
            images: number of its images.
        """
        self.total += loss.detach() * images
        self.images += images

    def compute(self) -> Tensor:
        """Returns the mean loss per image, a scalar; NaN before the first batch."""
        return self.total / self.images

    def so_far(self) -> Tensor:
        """Returns ``total`` and ``images`` of this process, (2,)."""
        return torch.stack([self.total, self.images])

    def restore(self, so_far: Tensor) -> None:
        """Continues from an earlier state.

        Args:
            so_far: sum of `so_far` over all processes, (2,).
        """
        self.total.copy_(so_far[0])
        self.images.copy_(so_far[1])
