"""LoRA: low-rank updates of the attention projections of a vision transformer, merged into its weights when saved.

The weight W, (n, m), of a projection becomes ``W + alpha / rank * B A`` with B, (n, rank), and A, (rank, m); only A and
B are trained, and B starts at zero.

Source: E. J. Hu et al., "LoRA: Low-rank adaptation of large language models", ICLR 2022 (arXiv 2106.09685).
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization

from glam.network import DescriptorNetwork
from glam.training.arguments import OptionError

ALPHA = 16.0
"""Factor of the updates before the division by the rank (arbitrary; the paper keeps it constant over the ranks)."""


class LowRankUpdate(nn.Module):
    """Parametrization of a weight.

    Args:
        weight: (n, m) weight.
        rank: rank of the update.
        generator: random generator of A.
    """

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape
        drawn = torch.randn(rank, columns, generator=generator, device="cpu") / columns**0.5
        self.a = nn.Parameter(drawn.to(weight))
        self.b = nn.Parameter(torch.zeros(rows, rank).to(weight))
        self.factor = ALPHA / rank

    def forward(self, weight: Tensor) -> Tensor:
        """Returns the updated weight, (n, m)."""
        return weight + self.factor * (self.b @ self.a)


def add_lora(network: DescriptorNetwork, rank: int, seed: int) -> None:
    """Adds updates to the attention projections of the backbone, and freezes its other weights, in place.

    Args:
        network: network with a vision transformer.
        rank: rank of the updates.
        seed: seed of their random start.

    Raises:
        OptionError: the backbone has no attention projections.
    """
    projections = [layer for attention in _attentions(network.backbone) for layer in _projections(attention).values()]
    if not projections:
        raise OptionError(
            f"--model.lora does not apply to {network.backbone.name}, which has no attention projections. Leave it out."
        )
    network.backbone.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for projection in projections:
        register_parametrization(projection, "weight", LowRankUpdate(projection.weight, rank, generator))
        projection.parametrizations.weight.original.requires_grad_(False)  # type: ignore[union-attr]


def with_merged_lora(network: DescriptorNetwork) -> DescriptorNetwork:
    """Returns a copy of a network whose updates are part of its weights; the network itself if it has no updates.

    Args:
        network: network, maybe with updates of `add_lora`.
    """
    if not any(is_parametrized(module) for module in network.backbone.modules()):
        return network
    merged = copy.deepcopy(network)
    for attention in _attentions(merged.backbone):
        for name, layer in _projections(attention).items():
            plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None).to(layer.weight)
            plain.weight.data, plain.bias = layer.weight.detach(), layer.bias
            setattr(attention, name, plain)
    return merged


def _attentions(backbone: nn.Module) -> list[nn.Module]:
    return [module for module in backbone.modules() if "Attention" in type(module).__name__]


def _projections(attention: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of an attention module by name: query, key, value, and output."""
    return {name: layer for name, layer in attention.named_children() if isinstance(layer, nn.Linear)}
