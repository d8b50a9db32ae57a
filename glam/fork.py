"""OpenMP in forked processes: PyTorch and FAISS use one thread there.

A fork copies only the calling thread, but OpenMP in the child still waits for the other threads of its pool, forever
(https://github.com/facebookresearch/faiss/issues/5206). With one thread nothing waits, which is also what PyTorch does
in the workers of its data loaders. A child that raises the number of threads hangs again, so start processes that use
several cores with ``spawn``.
"""

import os
import sys

THREAD_SETTERS = {"torch": "set_num_threads", "faiss": "omp_set_num_threads"}
"""By library, the function that sets the number of threads. OpenCV is left out: it works in a fork, and its function
would hang."""


def use_one_thread() -> None:
    """Sets one thread in each library that is already imported."""
    for library, setter in THREAD_SETTERS.items():
        if (set_threads := getattr(sys.modules.get(library), setter, None)) is not None:
            set_threads(1)


def prepare_for_forks() -> None:
    """Calls `use_one_thread` in every process that this process forks; does nothing on Windows, which has no fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=use_one_thread)
