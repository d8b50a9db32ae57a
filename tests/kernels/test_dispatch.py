"""The form of a computation is chosen per thread, by GLAM_KERNELS, and under torch.compile."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from glam import GLAM
from glam.kernels import dispatch, use_form

ROOT = Path(__file__).resolve().parents[2]


def test_other_threads_keep_their_form() -> None:
    inside, looked = threading.Event(), threading.Event()
    seen: list[bool] = []

    def look() -> None:
        inside.wait(10)
        seen.append(dispatch.plain())
        with use_form("plain"):
            seen.append(dispatch.plain())
        looked.set()

    thread = threading.Thread(target=look)
    thread.start()
    with use_form("plain"):
        inside.set()
        assert looked.wait(10)
        assert dispatch.plain(), "a block of another thread has ended"
    thread.join()
    assert seen == [False, True]
    assert not dispatch.plain()


def test_blocks_nest_and_end_with_an_error() -> None:
    with use_form("plain"):
        with use_form("torch"):
            assert not dispatch.plain()
        assert dispatch.plain()
    with pytest.raises(KeyError), use_form("plain"):
        raise KeyError
    assert not dispatch.plain()


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match=r"There is no form 'fast'\. Choose one of auto, plain"), use_form("fast"):  # type: ignore[arg-type]
        pass


def test_the_environment_sets_the_default_of_every_thread() -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor; from glam.kernels import dispatch\n"
        "print(dispatch.plain(), ThreadPoolExecutor(1).submit(dispatch.plain).result())"
    )
    environment = {**os.environ, "GLAM_KERNELS": "plain"}
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert process.stdout.split() == ["True", "True"]


def test_a_compiled_module_follows_the_form() -> None:
    """One graph for each form, as torch.compile guards on the form."""
    torch.compiler.reset()
    glam, features = (
        GLAM(16, 4, local_channel=False, local_spatial=False, global_spatial=False),
        torch.rand(2, 16, 3, 4),
    )
    softmaxes: list[bool] = []

    def backend(module: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        """Notes whether the (c, c) map of the plain form is computed; both graphs have the softmax of the fusion."""
        softmaxes.append(
            sum("softmax" in node.name for node in module.graph.nodes if "softmax" in str(node.target)) > 1
        )
        return module

    compiled = torch.compile(glam, backend=backend, fullgraph=True)
    with torch.no_grad():
        for form in ("torch", "plain", "torch"):
            with use_form(form):
                torch.testing.assert_close(compiled(features), glam(features), atol=1e-5, rtol=1e-5)
    assert softmaxes == [False, True]
