"""Images of one column of the feature map: their descriptors do not depend on what the memory held before."""

import torch

from glam.inference.optimize import inference_form
from glam.inference.pipeline import describe_pixels
from glam.network import Architecture, DescriptorNetwork


def leave_nans_in_memory() -> None:
    """Fills memory of many sizes with NaN and frees it, so that a read beyond an array finds NaN."""
    sizes = (64, 128, 200, 256, 512, 600, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
    blocks = [torch.full((size,), torch.nan) for size in sizes for _ in range(20)]
    blocks.clear()


def test_narrow_images_have_one_finite_descriptor() -> None:
    torch.manual_seed(0)
    network = inference_form(DescriptorNetwork(Architecture("resnet10t", dim=8), pretrained=False).eval())
    for module in network.modules():
        module.register_forward_pre_hook(lambda *_: leave_nans_in_memory())
    pixels = torch.randint(0, 256, (2, 64, 32, 3), dtype=torch.uint8)
    found = []
    for _ in range(5):
        with torch.inference_mode():
            found.append(describe_pixels(network, (1.0,), pixels))
    assert torch.isfinite(found[0]).all()
    assert all(torch.equal(found[0], descriptors) for descriptors in found)
