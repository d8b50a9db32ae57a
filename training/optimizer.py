"""Optimizer of a training: parameter groups with their learning rates, and the schedule."""

import math
from typing import Any

import torch
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from glam.network import DescriptorNetwork
from glam.training.options import ModelOptions


def parameter_groups(network: DescriptorNetwork, loss: nn.Module, options: ModelOptions) -> list[dict[str, Any]]:
    """The parameter groups of the optimizer: a learning rate per part of the network; vectors and scalars do not decay.

    Args:
        network: the network that is trained.
        loss: the loss, whose parameters are trained, too.
        options: learning rates and weight decay.
    """
    new = [*network.pool.parameters(), *network.head.parameters(), *loss.parameters()]
    attention_lr = options.new_lr if options.attention_lr is None else options.attention_lr
    parts = [
        *((part, options.lr * factor) for part, factor in _layers(network.backbone.net, options.layer_decay)),
        (list(network.attention.parameters()), attention_lr),
        (new, options.new_lr),
    ]
    return [
        {"params": [p for p in parameters if (p.ndim > 1) == decayed], "lr": lr, "weight_decay": decay}
        for parameters, lr in parts
        for decayed, decay in ((True, options.weight_decay), (False, 0.0))
    ]


def _layers(net: nn.Module, decay: float) -> list[tuple[list[nn.Parameter], float]]:
    """The trained parameters of a timm network by layer, with the factor of their learning rate, from the first layer.

    Source: H. Bao et al., "BEiT", ICLR 2022 (arXiv 2106.08254), for layer-wise decay of the learning rate.

    Args:
        net: the network.
        decay: factor from each layer to the one before it; 1 for a single group of all parameters.
    """
    if decay == 1:
        return [([p for p in net.parameters() if p.requires_grad], 1.0)]
    layers: dict[float, list[nn.Parameter]] = {}
    for group in param_groups_layer_decay(net, layer_decay=decay):
        layers.setdefault(group["lr_scale"], []).extend(group["params"])
    return [(layers[factor], factor) for factor in sorted(layers)]


def parameter_index(groups: list[dict[str, Any]], parameter: nn.Parameter) -> int:
    """The index of a parameter among those of the optimizer.

    Args:
        groups: see `parameter_groups`.
        parameter: one of their parameters.
    """
    parameters = [p for group in groups for p in group["params"]]
    return next(i for i, p in enumerate(parameters) if p is parameter)


def build_optimizer(groups: list[dict[str, Any]], options: ModelOptions, *, fused: bool) -> torch.optim.Optimizer:
    """Builds the optimizer that the options name.

    Args:
        groups: see `parameter_groups`.
        options: name of the optimizer.
        fused: whether SGD updates all parameters in one kernel, on a GPU.
    """
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups)
    return torch.optim.SGD(groups, momentum=0.9, fused=fused)


def warmup_and_cosine(optimizer: torch.optim.Optimizer, steps: int, warmup: float) -> LambdaLR:
    """A schedule per step: a linear rise to the peak, then a cosine to 0.

    Args:
        optimizer: its learning rates are the peaks.
        steps: number of steps of the training.
        warmup: share of the steps in which the learning rate rises.
    """
    rising = warmup * steps

    def rate(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))

    return LambdaLR(optimizer, rate)
