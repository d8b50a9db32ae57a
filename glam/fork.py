"""OpenMP in forked processes: there PyTorch and FAISS compute with one thread.

A fork copies the thread that asks for it alone, yet the libraries in the child still count on the other threads of
their pools, and wait for them for ever (https://github.com/facebookresearch/faiss/issues/5206). With one thread
nothing waits: PyTorch does the same in the workers of its data loaders. A child that sets more threads again hangs as
before; start processes that use several cores each with ``spawn``.
"""

import os
import sys

THREAD_SETTERS = {"torch": "set_num_threads", "faiss": "omp_set_num_threads"}
"""By library, its function that takes a number of threads. That of OpenCV would wait for the threads that are not
there; what OpenCV computes does without them."""


def use_one_thread() -> None:
    """Sets one thread in each of the libraries that are imported."""
    for library, setter in THREAD_SETTERS.items():
        if (set_threads := getattr(sys.modules.get(library), setter, None)) is not None:
            set_threads(1)


def prepare_for_forks() -> None:
    """Has `use_one_thread` called in every process that this one forks; Windows forks none."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=use_one_thread)
