"""Autocast switched off for a computation that needs its own precision."""

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """A context without autocast; on ``meta``, which has no autocast to switch off, one that does nothing."""
    return nullcontext() if device_type == "meta" else torch.autocast(device_type, enabled=False)
