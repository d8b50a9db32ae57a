"""Exports of `glam` and its sub-packages, examples in their docstrings, and libraries that imports do not load."""

import doctest
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import glam

PACKAGES = ("eval", "datasets", "training")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_can_be_imported_and_is_documented(package: str) -> None:
    module = importlib.import_module(f"glam.{package}")
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name).__name__ == name
        assert name in (module.__doc__ or "")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


def test_every_name_that_glam_exports_has_a_docstring() -> None:
    assert all(getattr(glam, name).__doc__ for name in glam.__all__)


@pytest.mark.parametrize("name", [name for name in glam.__all__ if name != "Client"])  # which needs a running service
def test_the_docstring_of_an_exported_name_has_an_example_that_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("a.jpg", "b.jpg"):
        Image.effect_noise((96, 64), 80).save(tmp_path / file)
    monkeypatch.chdir(tmp_path)
    exported = getattr(glam, name)
    values = {"glam": glam, "torch": torch, "model": glam.load("glam-lite0", device="cpu")}
    module = inspect.getmodule(exported)
    results = [
        doctest.DocTestRunner().run(test) for test in doctest.DocTestFinder().find(exported, name, module, globs=values)
    ]
    assert sum(result.attempted for result in results) > 0
    assert sum(result.failed for result in results) == 0


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_does_not_wait_for_pytorch(package: str) -> None:
    code = f"import sys, glam.{package}; print(sorted(set(sys.modules) & set(('torch', 'faiss', 'numpy'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_training_and_exact_evaluation_do_not_import_faiss() -> None:
    modules = "glam.training.cli, glam.eval.folder, glam.eval.report"
    code = f"import sys, {modules}; print(sorted(set(sys.modules) & set(('torch', 'faiss'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['torch']"
