"""Which form of a computation runs: the plain one, PyTorch's fast one, or the Triton kernel.

    auto     Triton kernels on a GPU, PyTorch's fast forms elsewhere
    plain    as the paper prints it, every map written: slow, and the oracle of the tests
    torch    the fast forms in PyTorch alone
    triton   Triton kernels wherever they can run; on the CPU under ``TRITON_INTERPRET=1``

The environment variable ``GLAM_KERNELS`` sets the form that a process starts with, `use_form` another for a while.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Literal, get_args

from torch import Tensor

from glam.errors import GlamError

Form = Literal["auto", "plain", "torch", "triton"]

_HAS_TRITON = find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
_form: str = os.environ.get("GLAM_KERNELS", "auto")


@contextmanager
def use_form(form: Form) -> Iterator[None]:
    """Runs what is inside with this form, in every thread of the process.

    Raises:
        GlamError: there is no such form.
    """
    global _form
    before, _form = _form, _checked(form)
    try:
        yield
    finally:
        _form = before


def plain() -> bool:
    """Whether the plain forms are asked for."""
    return _form == "plain"


def triton_for(tensor: Tensor) -> bool:
    """Whether Triton kernels run for a tensor of this device."""
    if not _HAS_TRITON or _form in ("plain", "torch"):
        return False
    return tensor.is_cuda or (_form == "triton" and _INTERPRETED)


def _checked(form: str) -> str:
    if form not in get_args(Form):
        raise GlamError(f"GLAM_KERNELS={form}: there is no such form. Choose one of {', '.join(get_args(Form))}.")
    return form


_checked(_form)
