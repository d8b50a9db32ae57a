"""The manual builds strictly, asks nothing of the internet, and its reference has every public name."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PACKAGES = ("glam", "glam.index", "glam.eval", "glam.training", "glam.datasets", "glam.kernels")
EXPORTS = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]

REQUEST = re.compile(r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=[\"']?(?:https?:)?//|url\((?:[\"']?https?:)?//")
LINK = re.compile(r"<link\b[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built manual."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    environment["https_proxy"] = environment["http_proxy"]  # a request to the internet would fail
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_page_of_the_site_makes_no_request_to_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert REQUEST.findall(text) == [], page
        for link in LINK.findall(text):
            assert "//" not in link or 'rel="canonical"' in link, (page, link)


def test_a_request_to_another_host_would_be_found() -> None:
    assert REQUEST.search('<script src="https://unpkg.com/mermaid"></script>')
    assert REQUEST.search("<style>@import url(//fonts.example/a.css)</style>")
    assert not REQUEST.search('<a href="https://milvus.io"> <img src="pictures/a.webp">')


@pytest.mark.parametrize(("package", "name"), EXPORTS, ids=lambda value: value)
def test_every_exported_name_has_a_docstring(package: str, name: str) -> None:
    exported = getattr(importlib.import_module(package), name)
    assert (inspect.getdoc(exported) or "").strip()


def test_every_exported_name_is_in_the_reference(site: Path) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").rglob("*.html"))
    anchors = set(re.findall(r'<h\d id="(glam[\w.]*)"', text))
    missing = []
    for package, name in EXPORTS:
        exported = getattr(importlib.import_module(package), name)
        known = {f"{package}.{name}", f"{package}.{exported.__qualname__}"}
        known.add(f"{exported.__module__}.{exported.__qualname__}")
        if not known & anchors:
            missing.append(f"{package}.{name}")
    assert missing == []
