"""A copy of a network that only describes: batch norms folded into convolutions, the backbone in half precision, and
on a GPU the convolutions of residual networks fused with what follows them.

The weights that are stored, and the fingerprint, are those of the network itself.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from glam.inference.resnet_fusion import fuse_resnet
from glam.network import DescriptorNetwork


def inference_form(network: DescriptorNetwork) -> DescriptorNetwork:
    """A copy for describing on the network's device. How near it comes to the network is in docs/describing.md.

    Args:
        network: in evaluation mode, on its device.
    """
    device = next(network.parameters()).device
    form = copy.deepcopy(network).eval().requires_grad_(False)
    fold_batch_norms(form.backbone)
    dtype = low_precision(device)
    if dtype is not None:
        form.backbone.to(dtype)
    if device.type == "cuda":
        form.backbone.net = fuse_resnet(form.backbone.net)
    return form.to_device(device)


def low_precision(device: torch.device) -> torch.dtype | None:
    """The type that a device describes in: float16 on a GPU, bfloat16 on a CPU that multiplies it, else none.

    A GPU multiplies both alike, and float16 keeps three more bits; GeM's power, which it could not hold, is taken in
    single precision.
    """
    if device.type == "cuda":
        return torch.float16
    if device.type != "cpu":
        return None
    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "avx512_bf16"))
    return torch.bfloat16 if any(check is not None and check() for check in checks) else None


@torch.no_grad()
def fold_batch_norms(net: nn.Module) -> None:
    """Folds each batch norm that follows a convolution into it, in place; a network where that changes what it
    computes (one that uses a convolution's output twice, say) is left as it is.

    Args:
        net: from (b, 3, h, w) images, in evaluation mode.
    """
    # TF32, which a GPU multiplies single precision in, would blur the comparison for deep networks.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        _fold_batch_norms(net)


def _fold_batch_norms(net: nn.Module) -> None:
    parameter = next(net.parameters())
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(parameter)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    try:
        pairs = _conv_bn_pairs(net, images)
    except (RuntimeError, AssertionError):  # a network of one fixed size, such as some vision transformers
        return
    if not pairs:
        return
    expected = net(images)
    replaced = [(norm, _fold(conv, norm)) for conv, norm in pairs]
    children = [(parent, name, child) for parent in net.modules() for name, child in parent.named_children()]
    rest = dict(replaced)
    for parent, name, child in children:
        if child in rest:
            setattr(parent, name, rest[child])
    if torch.allclose(net(images), expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max())):
        return
    for parent, name, child in children:
        setattr(parent, name, child)
    for conv, _ in pairs:
        conv.bias = None
    net.load_state_dict(before)


def _conv_bn_pairs(net: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each batch norm whose input is the output of a convolution without bias, with that convolution."""
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensors are kept, so that no identity is used twice
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after_conv(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        outputs[id(output)] = module, output

    def before_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        conv, _ = outputs.get(id(inputs[0]), (None, None))
        if conv is not None and module.track_running_stats:
            pairs.append((conv, module))

    hooks = [m.register_forward_hook(after_conv) for m in net.modules() if isinstance(m, nn.Conv2d) and m.bias is None]
    hooks += [m.register_forward_pre_hook(before_norm) for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    try:
        net(images)
    finally:
        for hook in hooks:
            hook.remove()
    convs = [conv for conv, _ in pairs]
    return [pair for pair in pairs if convs.count(pair[0]) == 1]


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    """Folds a batch norm into a convolution; returns what is left of it, its activation in timm's networks."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    activation = getattr(norm, "act", None)
    return activation if isinstance(activation, nn.Module) else nn.Identity()
