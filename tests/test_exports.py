"""What `glam.eval`, `glam.datasets`, and `glam.training` export, and the heavy libraries that imports leave alone."""

import importlib
import subprocess
import sys

import pytest

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
