"""What every loss of a training is, and the registry of the losses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from glam.network import DescriptorNetwork
from glam.registry import Registry


@dataclass(frozen=True)
class LossContext:
    """Facts of a run that losses are made for.

    Attributes:
        landmarks: number of training landmarks, over all processes.
        dim: length of a descriptor.
        batch_size: maximum number of images per batch of one process.
        seed: seed of random initial weights.
        teachers: trained networks to learn from.
        mean: mean of each of the 3 channels that images are normalized with.
        std: standard deviation of each of the 3 channels that images are normalized with.
    """

    landmarks: int
    dim: int
    batch_size: int = 1
    seed: int = 0
    teachers: Sequence[DescriptorNetwork] = ()
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


class Loss(nn.Module):
    """Base class of the losses. `LOSSES` has them by name.

    The factory of a loss takes a `LossContext`, and options by name.

    Attributes:
        needs_pairs: whether a batch must have several images of a landmark, see `glam.datasets.sampler`.
        needs_landmarks: whether images must show one landmark each, so that they cannot be mixed by CutMix.
        name: name that it was made by, set by `create_loss`.
    """

    needs_pairs: ClassVar[bool] = False
    needs_landmarks: ClassVar[bool] = True
    name: str = ""

    def forward(self, descriptors: Tensor, landmark_ids: Tensor, images: Tensor) -> Tensor:
        """Computes the loss of a batch.

        Args:
            descriptors: (b, dim) descriptors, of unit length.
            landmark_ids: (b,) landmark ids, from 0.
            images: (b, 3, h, w) images, normalized for the network.

        Returns:
            A float32 scalar.
        """
        raise NotImplementedError

    def local_parameters(self) -> list[str]:
        """Returns the names of the parameters that differ between processes; by default, there are none."""
        return []

    def prepare(self, device: torch.device) -> None:
        """Prepares for training on a device, after the parameters were moved to it; by default, does nothing."""

    def start_at_means(self, descriptors: Tensor, landmark_ids: Tensor) -> None:
        """Initializes what it stores per landmark from descriptors of the landmark; by default, there is nothing.

        Args:
            descriptors: (n, dim) descriptors of unit length, the same in every process.
            landmark_ids: (n,) landmark id of each descriptor, the same in every process.
        """

    def save_checkpoint(self, checkpoint: dict[str, Any], index_of: Callable[[nn.Parameter], int]) -> None:
        """Changes a checkpoint before it is written; every process calls it. By default, it stays unchanged.

        Args:
            checkpoint: a checkpoint of Lightning, with the weights of this loss under ``loss.``.
            index_of: gives the index of a parameter of this loss in the optimizer.
        """

    def load_checkpoint(self, checkpoint: dict[str, Any], index_of: Callable[[nn.Parameter], int]) -> None:
        """Changes a checkpoint before it is loaded. By default, it stays unchanged.

        Args:
            checkpoint: a checkpoint of Lightning, with the weights of this loss under ``loss.``.
            index_of: gives the index of a parameter of this loss in the optimizer.
        """


LOSSES: Registry[Loss] = Registry("loss", Loss, "glam.training.losses")


def create_loss(choice: dict[str, Any], context: LossContext) -> Loss:
    """Makes a loss.

    Args:
        choice: ``name`` in `LOSSES`, and options by name.
        context: facts of the run.

    Raises:
        GlamError: there is no such loss.
        TypeError: the loss has no such option.
        ValueError: the loss refuses the value of an option.
    """
    loss = LOSSES.create(choice, context)
    loss.name = choice["name"]
    return loss
