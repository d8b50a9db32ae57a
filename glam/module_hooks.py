"""Checks whether the weights of a module can be used without calling the module.

A fast form that reads the weight of a convolution bypasses what other tools attach to its call: forward hooks (pruning,
weight norm, spectral norm, FLOP counters), a replaced ``forward`` (accelerate), or a wrapper in its place (LoRA). If
there is any of these, the convolution must be called.
"""

from torch import nn
from torch.nn.modules import module as torch_module


def is_unmodified(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Returns whether a call of the module runs ``kind.forward`` and nothing else.

    Args:
        module: module to check; its submodules are not checked.
        kind: class that the module must have exactly. A parametrization replaces the class, so it is detected as well.
    """
    attached = (
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )
    return (
        type(module) is kind
        and not attached
        and "forward" not in module.__dict__
        and not torch_module._has_any_global_hook()  # type: ignore[no-untyped-call]
    )


def is_unmodified_conv1d(conv: nn.Module) -> bool:
    """Returns whether a module is an unmodified `Conv1d` of one channel, zero-padded to keep the length, without bias.

    Args:
        conv: module to check.
    """
    return (
        is_unmodified(conv, nn.Conv1d)
        and isinstance(conv, nn.Conv1d)
        and conv.in_channels == conv.out_channels == 1
        and _geometry(conv) == ((conv.kernel_size[0] // 2,), (1,), (1,), 1, "zeros", False)
    )


def is_unmodified_conv2d(conv: nn.Module, kernel_size: int, dilation: int = 1, *, bias: bool) -> bool:
    """Returns whether a module is an unmodified `Conv2d`, zero-padded to keep height and width.

    Args:
        conv: module to check.
        kernel_size: required kernel size in positions, odd.
        dilation: required dilation in positions.
        bias: whether it must have a bias; if False, it must have none.
    """
    padding = dilation * (kernel_size // 2)
    return (
        is_unmodified(conv, nn.Conv2d)
        and isinstance(conv, nn.Conv2d)
        and conv.kernel_size == (kernel_size, kernel_size)
        and _geometry(conv) == ((padding, padding), (dilation, dilation), (1, 1), 1, "zeros", bias)
    )


def _geometry(conv: nn.Conv1d | nn.Conv2d) -> tuple[object, ...]:
    return (
        conv.padding,
        conv.dilation,
        conv.stride,
        conv.groups,
        conv.padding_mode,
        conv._parameters.get("bias") is not None,
    )
