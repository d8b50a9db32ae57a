"""torch.compile of the whole descriptor network: in one graph, for any number and size of images."""

import pytest
import torch

from glam.network import Architecture, DescriptorNetwork


@pytest.mark.parametrize("backbone", ["resnet10t", "tf_mobilenetv3_small_minimal_100"])
def test_one_graph_serves_every_size(backbone: str) -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    network = DescriptorNetwork(
        Architecture(backbone, dim=16, attention={"name": "glam", "reduction": 8}, whitening=12)
    ).eval()
    graphs = 0

    def count(module: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        nonlocal graphs
        graphs += 1
        return module

    compiled = torch.compile(network, backend=count, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for batch, height, width in ((2, 64, 96), (3, 128, 80), (4, 48, 208)):
            images = torch.randn(batch, 3, height, width)
            torch.testing.assert_close(compiled(images), network(images), atol=1e-5, rtol=1e-5)
    assert graphs == 1
