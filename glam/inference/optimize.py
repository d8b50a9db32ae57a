"""Optimization for inference: fold batch norms into convolutions, run the backbone in half precision, and fuse the
convolutions of residual networks with bias, shortcut, and ReLU on a GPU.

All of it works on a copy. Model files and fingerprints use the original network.
"""

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.fusion import fuse_conv_bn_weights

from glam.backbone import Backbone
from glam.inference.resnet_fusion import fuse_resnet
from glam.network import DescriptorNetwork


def inference_form(network: DescriptorNetwork) -> DescriptorNetwork:
    """Returns an optimized copy of a network. docs/lab/describing.md says how close its descriptors are.

    Args:
        network: network in evaluation mode, on the device to use.

    Returns:
        A copy on the same device, without gradients.
    """
    device = next(network.parameters()).device
    form = copy.deepcopy(network).eval().requires_grad_(False)
    fold_batch_norms(form.backbone)
    dtype = low_precision(device)
    if dtype is not None:
        form.backbone.to(dtype)
        _guard_narrow_maps(form.backbone)
    if device.type == "cuda":
        form.backbone.net = fuse_resnet(form.backbone.net)
    return form.to_device(device)


def low_precision(device: torch.device) -> torch.dtype | None:
    """Returns the half-precision type to run a backbone in, or None for single precision.

    A GPU uses float16, which is as fast as bfloat16 and has three more bits of precision; GeM's power would overflow in
    float16, and runs in single precision. A CPU uses bfloat16 if it has instructions for it.

    Args:
        device: device that the network runs on.
    """
    if device.type == "cuda":
        return torch.float16
    if device.type != "cpu":
        return None
    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "avx512_bf16"))
    return torch.bfloat16 if any(check is not None and check() for check in checks) else None


def _guard_narrow_maps(net: nn.Module) -> None:
    """Makes strided convolutions compute maps of one column in single precision on a CPU.

    oneDNN's bfloat16 convolutions read memory beyond such maps (seen with PyTorch 2.14, 3 x 3 kernels, and 256 channels
    on AMX), so that descriptors of very narrow images would vary, and could be NaN.
    """

    def recompute(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if output.dtype != torch.bfloat16 or output.device.type != "cpu" or output.shape[-1] > 1:
            return None
        weights = {name: weight.float() for name, weight in conv.named_parameters()}
        with torch.autocast("cpu", enabled=False):
            exact: Tensor = functional_call(conv, weights, inputs[0].float())
        return exact.to(output.dtype)

    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.stride != (1, 1) and module.kernel_size != (1, 1):
            module.register_forward_hook(recompute)


@torch.no_grad()
def fold_batch_norms(net: Backbone) -> None:
    """Folds each batch norm that follows a convolution into the convolution, in place.

    Leaves the network unchanged if folding would change its result, for example if the output of a convolution is used
    twice.

    Args:
        net: backbone in evaluation mode.
    """
    # The check below needs full single precision: with TF32, rounding errors of deep networks are too large.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        _fold_batch_norms(net)


def _fold_batch_norms(net: Backbone) -> None:
    parameter = next(net.parameters())
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(parameter)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    try:
        pairs = _conv_bn_pairs(net, images)
    except (RuntimeError, AssertionError):  # the network needs one fixed size, such as some vision transformers
        return
    if not pairs:
        return
    expected = net(images).map
    replaced = [(norm, _fold(conv, norm)) for conv, norm in pairs]
    children = [(parent, name, child) for parent in net.modules() for name, child in parent.named_children()]
    rest = dict(replaced)
    for parent, name, child in children:
        if child in rest:
            setattr(parent, name, rest[child])
    if torch.allclose(net(images).map, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max())):
        return
    for parent, name, child in children:
        setattr(parent, name, child)
    for conv, _ in pairs:
        conv.bias = None
    net.load_state_dict(before)


def _conv_bn_pairs(net: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Finds the convolutions without bias whose output goes to a batch norm, with that batch norm."""
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # holding the tensors keeps their ids unique
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
    """Folds a batch norm into a convolution. Returns its replacement: its activation (timm) or an identity."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    activation = getattr(norm, "act", None)
    return activation if isinstance(activation, nn.Module) else nn.Identity()
