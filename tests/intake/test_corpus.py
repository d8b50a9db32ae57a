"""Files of every format, in every orientation that it can carry, are read as the same picture."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import glam
from glam.datasets.synthetic import generate
from glam.images import read_image, read_upright_size
from glam.model import Model
from tests.intake.corpus import STORED_FROM_UPRIGHT, VARIANTS, missing_decoder
from tests.intake.formats_files import FURTHER

EVERY = VARIANTS | FURTHER

LOWEST = {True: 0.99, False: 0.96}
"""Lowest cosine similarity to the descriptor of the upright pixels: lossless, lossy."""


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Image.Image:
    folder = tmp_path_factory.mktemp("corpus")
    (file,) = generate(folder, landmarks=1, images_per_landmark=1, size=480, workers=1)
    with Image.open(file) as image:
        return image.convert("RGB").resize((480, 320))


@pytest.fixture(scope="module")
def model() -> Model:
    return glam.load("glam-lite0", "cpu")


def encoded(name: str, picture: Image.Image) -> Iterator[tuple[int, bytes]]:
    variant = EVERY[name]
    for orientation in variant.orientations:
        turn = STORED_FROM_UPRIGHT[orientation]
        yield orientation, variant.encode(picture if turn is None else picture.transpose(turn), orientation)


@pytest.mark.parametrize("name", EVERY)
def test_a_format_is_read_upright_and_alike(name: str, picture: Image.Image, model: Model, tmp_path: Path) -> None:
    variant = EVERY[name]
    if reason := missing_decoder(variant):
        pytest.skip(reason)
    expected = model.describe([picture.convert("L") if variant.gray else picture])[0]
    files = []
    for orientation, content in encoded(name, picture):
        assert read_upright_size(content) == picture.size, orientation
        assert read_image(content).size == picture.size, orientation
        files.append(tmp_path / f"{orientation}{variant.suffix}")
        files[-1].write_bytes(content)
    cosines: NDArray[np.float32] = model.describe(files) @ expected
    assert cosines.min() >= LOWEST[variant.lossless], dict(zip(variant.orientations, cosines, strict=True))


def test_the_corpus_has_every_format() -> None:
    from glam.images.formats import EXTRA_FORMATS, FORMATS

    suffixes = {variant.suffix for variant in VARIANTS.values()}
    for name, known in {**FORMATS, **{name: known for name, (_, known) in EXTRA_FORMATS.items()}}.items():
        assert suffixes & set(known), name
    assert len(VARIANTS) >= 25


def test_content_decides_the_decoder_and_not_the_suffix(picture: Image.Image, tmp_path: Path) -> None:
    for name in ("HEIC", "WebP", "PNG", "DNG"):
        if missing_decoder(VARIANTS[name]):
            continue
        file = tmp_path / f"{name}.jpg"
        file.write_bytes(VARIANTS[name].encode(picture, 1))
        assert read_image(file).size == picture.size
