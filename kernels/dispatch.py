"""Which form of a computation runs: the plain one, PyTorch's fast one, or the Triton kernel.

    auto     Triton kernels on a GPU, PyTorch's fast forms elsewhere
    plain    as the paper prints it, every map written: slow, and the oracle of the tests
    torch    the fast forms in PyTorch alone
    triton   Triton kernels wherever they can run; on the CPU under ``TRITON_INTERPRET=1``

The environment variable ``GLAM_KERNELS`` sets the default of every thread. `use_form` sets another form for a block of
code, in the thread (or asyncio task) that runs it and in no other: an export does not slow down a service that runs in
the same process. Threads that PyTorch starts itself use the default.
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

_HAS_TRITON = find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@contextmanager
def use_form(form: Form) -> Iterator[None]:
    """Runs the block with this form, in this thread or asyncio task.

    Raises:
        ValueError: there is no such form.
    """
    if form not in FORMS:
        raise ValueError(f"the form {form!r} is none of {', '.join(FORMS)}")
    token = _form.set(form)
    try:
        yield
    finally:
        _form.reset(token)


def plain() -> bool:
    """Whether the plain forms run."""
    return _form.get() == "plain"


def triton_for(tensor: Tensor) -> bool:
    """Whether Triton kernels run for a tensor of this device."""
    form = _form.get()
    if not _HAS_TRITON or form in ("plain", "torch"):
        return False
    return tensor.is_cuda or (form == "triton" and _INTERPRETED)


_DEFAULT = os.environ.get("GLAM_KERNELS", "auto")
if _DEFAULT not in FORMS:
    raise GlamError(f"GLAM_KERNELS={_DEFAULT}: there is no such form. Choose one of {', '.join(FORMS)}.")
_form: ContextVar[str] = ContextVar("glam_kernels", default=_DEFAULT)
