"""A context without autocast, for computations that must run in a given precision."""

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Returns a context manager that disables autocast.

    Args:
        device_type: type of the device, such as ``cuda``; on ``meta``, which has no autocast, the context does nothing.
    """
    return nullcontext() if device_type == "meta" else torch.autocast(device_type, enabled=False)
