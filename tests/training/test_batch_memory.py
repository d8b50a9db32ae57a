"""The memory of a batch: one image tells it, and a batch that does not fit is refused before the training."""

import pytest
import torch

from glam.errors import GlamError
from glam.network import Architecture, DescriptorNetwork
from glam.training.batch_memory import BatchMemory, device_memory, largest_batch, probe

CPU = torch.device("cpu")


def kept(network: DescriptorNetwork, images: int) -> int:
    """Bytes that a batch keeps for its backward pass; the slow way, with the batch itself."""
    weights = {parameter.data_ptr() for parameter in network.parameters()}
    sizes = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = network(torch.zeros(images, 3, 64, 96))
    assert output.requires_grad
    return sum(size for pointer, size in sizes.items() if pointer not in weights)


def test_one_image_tells_the_memory_of_a_batch() -> None:
    network = DescriptorNetwork(
        Architecture("test_resnet", dim=8, attention={"name": "glam", "reduction": 8}), pretrained=False
    ).eval()
    memory = probe(network, 0, (8, 64, 96), CPU)
    assert memory.size == pytest.approx(kept(network, 8), rel=0.05)
    assert probe(network, 1000, (8, 64, 96), CPU).size - memory.size == 16_000


def test_the_largest_batch_has_the_most_pixels() -> None:
    sizes = [(64, 64)] * 20 + [(96, 64)] * 3
    assert largest_batch(sizes, 2) == (2, 96, 64)
    assert largest_batch(sizes, 16) == (16, 64, 64)
    assert largest_batch(sizes, 1000) == (20, 64, 64)


def test_a_batch_that_does_not_fit_is_refused() -> None:
    memory = BatchMemory(64, 384, 512, 3 << 30)
    memory.check(4 << 30)
    with pytest.raises(GlamError, match="images of 512 x 384 pixels takes about 3 GiB of the 2 GiB of memory"):
        memory.check(2 << 30)


def test_a_cpu_has_the_memory_of_the_machine() -> None:
    assert 1 << 28 < device_memory(CPU) < 1 << 50
