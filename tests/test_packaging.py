"""What users install: wheel, source distribution and the clone hold the same package."""

import ast
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.lowest_versions import FREE, constraints, lower_bounds
from tests.test_layout import modules

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("app", "datasets", "eval", "index", "kernels", "training")
SUFFIXES = {".css", ".html", ".js", ".py", ".safetensors", ".svg", ".yaml"}


def package_files() -> set[str]:
    """Files of the package in the clone, as paths of the package."""
    folders = [ROOT / "glam", *(ROOT / folder for folder in FOLDERS)]
    found = {path for folder in folders for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file()}
    paths = [path.relative_to(ROOT) for path in found if not any(link.is_symlink() for link in path.parents)]
    return {(path if path.parts[0] == "glam" else Path("glam", path)).as_posix() for path in paths}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """Files of the package in a source distribution, and in the wheel that is built from it."""
    out, tree = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("clone")
    for name in ("glam", *FOLDERS):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, tree / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (source,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    with tarfile.open(source) as archive:
        in_source = {member.name.partition("/")[2] for member in archive if member.isfile()}
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    return in_source, in_wheel


def test_wheel_and_source_distribution_hold_the_whole_package(distributions: tuple[set[str], set[str]]) -> None:
    expected = package_files()
    assert len(expected) > 250
    for files in distributions:
        assert {path for path in files if path.startswith("glam/") and Path(path).suffix in SUFFIXES} == expected


def test_the_wheel_claims_no_other_top_level_name(distributions: tuple[set[str], set[str]]) -> None:
    _, wheel = distributions
    assert {path.split("/")[0] for path in wheel if ".dist-info/" not in path} == {"glam"}


def test_python_started_in_the_clone_imports_the_clone() -> None:
    """Also where only the wheel is installed: here without the finder of an editable install."""
    code = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "ditable" not in repr(finder)]
import glam.app.cli.main, glam.datasets.readers, glam.eval.metrics, glam.index.storage.catalog, glam.kernels
import glam.training.configs
print(*sorted({name.split(".")[1] for name in sys.modules if name.startswith("glam.")}))
print(*(module.__file__ for name, module in sys.modules.items() if name.startswith("glam")), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    names, *files = done.stdout.splitlines()
    assert set(FOLDERS) <= set(names.split())
    assert all(Path(file).is_relative_to(ROOT / "glam") for file in files)


@pytest.fixture
def requirements() -> list[Requirement]:
    """The direct dependencies of the package, of its extras, and of its build."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = table["project"]["optional-dependencies"].values()
    texts = [*table["build-system"]["requires"], *table["project"]["dependencies"], *(t for e in extras for t in e)]
    return [requirement for requirement in map(Requirement, texts) if requirement.name != table["project"]["name"]]


def test_each_direct_dependency_has_one_lower_bound(requirements: list[Requirement]) -> None:
    for requirement in requirements:
        (bound,) = (spec.version for spec in requirement.specifier if spec.operator == ">=")
        assert lower_bounds()[requirement.name] == bound


def test_constraints_pin_each_dependency_that_is_not_free(requirements: list[Requirement]) -> None:
    names = {requirement.name for requirement in requirements}
    assert len(names) > 30
    assert names >= FREE
    pins = [Requirement(line) for line in constraints()]
    assert {pin.name for pin in pins} == names - FREE
    for requirement in requirements:
        for pin in pins:
            if pin.name == requirement.name:
                (spec,) = pin.specifier
                assert requirement.specifier.contains(spec.version)


def imported_modules() -> set[str]:
    """Top-level names of the modules that the package imports, without the standard library and the package itself."""
    names = set()
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"glam"}


def test_each_imported_package_is_a_direct_dependency() -> None:
    """Except Triton, which PyTorch brings along on the machines that have it."""
    homes = packages_distributions()
    imported = {canonicalize_name(home) for name in imported_modules() - {"triton"} for home in homes[name]}
    assert len(imported) > 20
    assert imported - {canonicalize_name(name) for name in lower_bounds()} == set()
