"""A described image is decoded once, and what it is described by is what the index makes of its file."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image, ImageFile

import glam
from glam.app.service.memory_budget import MemoryBudget
from glam.app.service.metrics import Metrics
from glam.app.service.settings import ServiceLimits
from glam.app.service.workers.decode import DecodePool
from glam.app.service.workers.describe import Describer, ImageDescriptor
from glam.datasets.readers import read_folder
from glam.images import Box, read_image
from glam.index import Index, build
from glam.index.local_matching import LocalFeatures, extract
from glam.index.operations.precompute import precompute
from glam.inference import decode
from glam.inference.pipeline import Settings
from glam.model import Model

from .colors import found, upload

SIZE = 64
"""Longest side in pixels at which images are described here; JPEGs of twelve times as much are decoded at 1/4."""

SMALL, LARGE = (150, 110), (800, 600)

BOX = (10.0, 20.0, 110.0, 90.0)

GEOMETRIC = {"rerank": "geometric:least=4"}

Encode = Callable[..., bytes]


def texture(size: tuple[int, int]) -> Image.Image:
    """An image with many local features: colored noise at several scales."""
    random = np.random.default_rng(0)
    layers = [random.integers(0, 256, (size[1] // step, size[0] // step, 3), dtype=np.uint8) for step in (5, 11, 23)]
    scaled = [np.asarray(Image.fromarray(layer).resize(size), dtype=np.float32) for layer in layers]
    return Image.fromarray(np.mean(scaled, axis=0).astype(np.uint8))


def encoded(format: str, *, size: tuple[int, int] = SMALL, mode: str = "RGB", turn: int = 1, **options: Any) -> bytes:
    if turn != 1:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = turn
    out = io.BytesIO()
    texture(size).convert(mode).save(out, format, **options)
    return out.getvalue()


FILES = {
    "jpeg": encoded("JPEG", quality=90),
    "turned jpeg": encoded("JPEG", turn=6),
    "gray jpeg": encoded("JPEG", mode="L"),
    "progressive jpeg": encoded("JPEG", progressive=True),
    "cmyk jpeg": encoded("JPEG", mode="CMYK"),
    "png": encoded("PNG"),
    "turned png": encoded("PNG", turn=8),
    "gray png": encoded("PNG", mode="L"),
    "webp": encoded("WEBP"),
    "large png": encoded("PNG", size=LARGE),
    "large jpeg": encoded("JPEG", size=LARGE),
    "large turned jpeg": encoded("JPEG", size=LARGE, turn=6),
}

REDUCED = ("large jpeg", "large turned jpeg")
"""Those that the network gets from a decode at a fraction."""


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Receives width and height of each decode, of Pillow and of torchvision."""
    sizes: list[tuple[int, int]] = []
    by_pillow, by_torchvision = ImageFile.ImageFile.load, decode.decode_jpeg

    def load(self: ImageFile.ImageFile) -> Any:
        if self.tile:  # what is still to be decoded
            sizes.append(self.size)
        return by_pillow(self)

    def decode_jpeg(*arguments: Any) -> list[torch.Tensor]:
        images = by_torchvision(*arguments)
        sizes.extend((image.shape[2], image.shape[1]) for image in images)
        return images

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr(decode, "decode_jpeg", decode_jpeg)
    return sizes


@pytest.fixture(scope="module")
def trained() -> Model:
    return glam.load("glam-lite0", "cpu")


def described(trained: Model, data: bytes, box: Box | None = None, *, times: int = 1) -> ImageDescriptor:
    """What the service makes of a file, with local features, when asked as often."""

    async def ask() -> ImageDescriptor:
        metrics = Metrics()
        decoders = DecodePool(MemoryBudget(1_000_000_000), ServiceLimits(), metrics)
        describer = Describer(trained, SIZE, (1.0,), ServiceLimits(), metrics, decoders)
        try:
            answers = [await describer.describe(lambda: data, box, local_features=True) for _ in range(times)]
        finally:
            decoders.close()
            describer.close()
        return answers[-1]

    return asyncio.run(ask())


def assert_equal(found: LocalFeatures | None, expected: LocalFeatures) -> None:
    assert found is not None
    assert len(found) == len(expected) > 20
    for name in ("points", "diameters", "descriptors", "scale"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("name", FILES)
def test_descriptor_and_local_features_are_those_that_an_index_makes_of_the_file(
    trained: Model, name: str, tmp_path: Path
) -> None:
    suffix = {"jpeg": "jpg"}.get(name.rsplit(" ", maxsplit=1)[-1], name.rsplit(" ", maxsplit=1)[-1])
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / f"query.{suffix}").write_bytes(FILES[name])
    build(tmp_path / "i.glam", read_folder(tmp_path / "images"), trained, settings=Settings(SIZE, (1.0,), workers=1))
    precompute(tmp_path / "i.glam", local_features=True)
    upload = described(trained, FILES[name])
    with Index.open(tmp_path / "i.glam") as index:
        assert np.array_equal(upload.descriptor, index.descriptor(0))
        assert (upload.width, upload.height) == (index.entry(0).width, index.entry(0).height)
        stored = index.local_features(0)
    assert stored is not None
    assert_equal(upload.local_features, stored)


@pytest.mark.parametrize("name", FILES)
def test_a_part_is_described_by_the_pixels_of_the_part(trained: Model, name: str) -> None:
    upload = described(trained, FILES[name], BOX)
    assert np.array_equal(upload.descriptor, trained.describe([FILES[name]], boxes=[BOX], size=SIZE, scales=(1.0,))[0])
    assert_equal(upload.local_features, extract(read_image(FILES[name]), box=BOX))


@pytest.mark.parametrize("box", [None, BOX])
@pytest.mark.parametrize("name", FILES)
def test_an_image_is_decoded_once_for_descriptor_and_local_features(
    trained: Model, name: str, box: Box | None, decoded: list[tuple[int, int]]
) -> None:
    size = LARGE if name.startswith("large") else SMALL
    described(trained, FILES[name], box)
    if name in REDUCED and box is None:  # pixels of a fraction for the network, all of them for the local features
        assert decoded == [(size[0] // 4, size[1] // 4), size]
    else:
        assert decoded == [size]


def test_a_descriptor_from_the_cache_comes_with_local_features(trained: Model, decoded: list[tuple[int, int]]) -> None:
    once, again = described(trained, FILES["png"]), described(trained, FILES["png"], times=2)
    assert decoded == [SMALL] * 3
    assert np.array_equal(once.descriptor, again.descriptor)
    assert once.local_features is not None
    assert_equal(again.local_features, once.local_features)


@pytest.mark.parametrize("name", [name for name in FILES if name not in REDUCED])
@pytest.mark.parametrize(
    "fields", [{}, {"rerank": "superglobal"}, GEOMETRIC], ids=["plain", "superglobal", "geometric"]
)
def test_an_upload_is_decoded_once(
    client: TestClient, name: str, fields: dict[str, Any], decoded: list[tuple[int, int]]
) -> None:
    assert len(found(upload(client, FILES[name], **fields))) == 4
    assert of_query(decoded) == [LARGE if name.startswith("large") else SMALL]


@pytest.mark.parametrize("name", FILES)
def test_a_part_of_an_upload_is_decoded_once(client: TestClient, name: str, decoded: list[tuple[int, int]]) -> None:
    box = dict(zip(("x1", "y1", "x2", "y2"), BOX, strict=True))
    assert len(found(upload(client, FILES[name], **box, **GEOMETRIC))) == 4
    size = LARGE if name.startswith("large") else SMALL
    assert of_query(decoded) == [size]


def of_query(decoded: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The decodes that are not of the small images of the index."""
    return [size for size in decoded if max(size) > 80]


def test_a_part_of_an_indexed_image_is_decoded_once(client: TestClient, decoded: list[tuple[int, int]]) -> None:
    box = {"x1": 30, "y1": 5, "x2": 60, "y2": 35}
    assert len(found(client.get("/api/images/3/search", params={**box, "rerank": "superglobal"}))) == 3
    assert decoded == [(80, 40)]
    assert len(found(client.get("/api/images/3/search", params={**box, "x1": 31, **GEOMETRIC}))) == 3
    assert decoded.count((80, 40)) == 3  # once for the query, and once as a result: the index stores no local features
