"""Whether a module's weights may be used without calling it.

A fast form that reads the weight of a convolution skips everything that other tools attach to a call: forward hooks
(pruning, weight and spectral norm in hook form, counters), a replaced ``forward`` (accelerate), a wrapper in its place
(LoRA). Where any of it is there, the convolution has to be called.
"""

from torch import nn
from torch.nn.modules import module as torch_module


def is_unmodified(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a call of the module runs ``kind.forward`` and nothing else.

    Args:
        module: to check; its sub-modules are not checked.
        kind: the exact class. A parametrization makes a class of its own, so it counts as a modification.
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
    """Whether a module is a zero-padded `Conv1d` of one channel that keeps the length, without bias."""
    return (
        is_unmodified(conv, nn.Conv1d)
        and isinstance(conv, nn.Conv1d)
        and conv.in_channels == conv.out_channels == 1
        and _geometry(conv) == ((conv.kernel_size[0] // 2,), (1,), (1,), 1, "zeros", False)
    )


def is_unmodified_conv2d(conv: nn.Module, kernel_size: int, dilation: int = 1, *, bias: bool) -> bool:
    """Whether a module is a zero-padded `Conv2d` that keeps height and width.

    Args:
        conv: to check.
        kernel_size: 1 or 3.
        dilation: in positions.
        bias: whether it has one.
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
