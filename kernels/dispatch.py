"""Dispatch: select the form of a computation that runs, plain, fast in PyTorch, or a Triton kernel.

    auto     Triton kernels on a GPU, fast PyTorch forms elsewhere
    plain    the formulas of the paper, with every map in memory; slow, and the reference of the tests
    torch    fast PyTorch forms everywhere
    triton   Triton kernels on a GPU, and on the CPU if ``TRITON_INTERPRET=1`` is set

The environment variable ``GLAM_KERNELS`` sets the default of every thread. `use_form` sets another form for a block of
code in the thread or asyncio task that runs it, so that an export does not slow down a service in the same process.
Threads that PyTorch itself starts use the default.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Literal, get_args

from torch import Tensor

from glam.errors import GlamError

Form = Literal["auto", "plain", "torch", "triton"]

FORMS: tuple[str, ...] = get_args(Form)
"""Names of the forms."""

_HAS_TRITON = find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@contextmanager
def use_form(form: Form) -> Iterator[None]:
    """Runs the block with another form, in the current thread or asyncio task.

    Args:
        form: ``auto``, ``plain``, ``torch``, or ``triton``, see the top of this module.

    Raises:
        ValueError: there is no such form.
    """
    if form not in FORMS:
        raise ValueError(f"There is no form {form!r}. Choose one of {', '.join(FORMS)}.")
    token = _form.set(form)
    try:
        yield
    finally:
        _form.reset(token)


def plain() -> bool:
    """Returns whether the plain forms are selected."""
    return _form.get() == "plain"


def triton_for(tensor: Tensor) -> bool:
    """Returns whether Triton kernels are selected for the device of a tensor.

    Args:
        tensor: tensor on any device.
    """
    form = _form.get()
    if not _HAS_TRITON or form in ("plain", "torch"):
        return False
    return tensor.is_cuda or (form == "triton" and _INTERPRETED)


_DEFAULT = os.environ.get("GLAM_KERNELS", "auto")
if _DEFAULT not in FORMS:
    raise GlamError(f"GLAM_KERNELS={_DEFAULT}: there is no such form. Choose one of {', '.join(FORMS)}.")
_form: ContextVar[str] = ContextVar("glam_kernels", default=_DEFAULT)
