"""Memory of a training batch, probed with one image before the training, because it is known too late after that.

one image --forward pass--> bytes kept for the backward pass, times images, plus weights and optimizer
"""

import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from glam.errors import GlamError
from glam.machine_memory import machine_memory
from glam.training.module import LandmarkModule

COPIES = 4
"""Copies of a weight: itself, its gradient, and the two moments of AdamW; SGD has one less."""


@dataclass(frozen=True)
class BatchMemory:
    """Memory that a batch of training takes.

    Attributes:
        images: images in the batch.
        height: height of the images in pixels.
        width: width of the images in pixels.
        size: memory in bytes.
    """

    images: int
    height: int
    width: int
    size: int

    def sentence(self, available: int) -> str:
        """Says how much of the memory the batch takes.

        Args:
            available: memory of the device in bytes.
        """
        need, total = self.size / 2**30, available / 2**30
        batch = f"A batch of {self.images} images of {self.width} x {self.height} pixels"
        return f"{batch} takes about {need:.2g} GiB of the {total:.3g} GiB of memory."

    def check(self, available: int) -> None:
        """Makes sure that the batch fits.

        Args:
            available: memory of the device in bytes.

        Raises:
            GlamError: it does not.
        """
        if self.size > available:
            raise GlamError(f"{self.sentence(available)} Set a smaller --data.batch_size or --data.size.")


class CheckMemory(L.Callback):
    """Says at the start how much memory a batch takes, and ends a run whose batches do not fit."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Probes the memory.

        Raises:
            GlamError: a batch takes more memory than there is.
        """
        assert isinstance(pl_module, LandmarkModule)
        data, device = pl_module.data, pl_module.device
        parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        with trainer.precision_plugin.forward_context():
            memory = probe(pl_module.network, parameters, largest_batch(data.train_sizes(), data.batch_size), device)
        if pl_module.options.compiled == "no":  # compiled networks keep less than the probe says
            memory.check(device_memory(device))
        if trainer.is_global_zero:
            print(memory.sentence(device_memory(device)), file=sys.stderr)


def largest_batch(sizes: list[tuple[int, int]], batch_size: int) -> tuple[int, int, int]:
    """The batch with the most pixels.

    Args:
        sizes: (height, width) of each image in pixels.
        batch_size: images per batch.

    Returns:
        Number of images, height, and width in pixels.
    """
    batches = [(min(batch_size, count), *size) for size, count in Counter(sizes).items()]
    return max(batches, key=lambda batch: batch[0] * batch[1] * batch[2])


def probe(network: nn.Module, parameters: int, batch: tuple[int, int, int], device: torch.device) -> BatchMemory:
    """Measures what one image keeps for the backward pass, and computes the memory of a batch from it.

    Activations of a compiled network take less, since it computes some of them again.

    Args:
        network: the network on its device. It is left in evaluation mode.
        parameters: number of its parameters and those of the loss.
        batch: number of images, height, and width in pixels.
        device: the device.
    """
    count, height, width = batch
    known = {parameter.data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def same(tensor: Any) -> Any:
        return tensor

    network.eval()
    images = torch.zeros(1, 3, height, width, device=device)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, same):
        network(images)
    return BatchMemory(count, height, width, sum(kept.values()) * count + COPIES * 4 * parameters)


def device_memory(device: torch.device) -> int:
    """Memory of a device in bytes; of a CPU that of the machine, or of the container that this process runs in."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    return machine_memory()
