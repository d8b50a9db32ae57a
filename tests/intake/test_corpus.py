"""Every format and variant, in every orientation that it can carry: upright sizes, pixels, and descriptors."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

import glam
from glam.datasets.synthetic.folder import generate
from glam.images import FORMATS, IMAGE_SUFFIXES, read_image, read_upright_size
from glam.inference.decode import prepare
from glam.stage_times import Times
from tests.conftest import SHARED
from tests.intake.corpus import VARIANTS, Variant

Contents = Callable[[Variant], list[bytes]]

LOSSLESS, LOSSY = 0.99, 0.96
"""Least cosine similarity of the descriptors of a file and of the same picture stored upright."""

LONGEST = 320
"""Longest side of the picture in pixels: the input size of `glam-lite0`."""

NO_AVIF = pytest.mark.skipif(not features.check("avif"), reason="this build of Pillow has no AVIF")
EACH = [
    pytest.param(variant, id=variant.name, marks=NO_AVIF if variant.suffix == ".avif" else ()) for variant in VARIANTS
]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Image.Image:
    """A photo of a landmark if there is one beside the repository, else a generated one."""
    files = sorted((SHARED / "landmarks" / "val").glob("*/*.webp"))
    if not files:
        files = generate(tmp_path_factory.mktemp("landmark"), landmarks=1, images_per_landmark=1)
    image = read_image(files[0])
    image.thumbnail((LONGEST, LONGEST))
    return image.crop((0, 0, LONGEST, 220)) if image.height > 220 else image


@pytest.fixture(scope="module")
def model() -> glam.Model:
    return glam.load("glam-lite0", device="cpu")


@pytest.fixture(scope="module")
def contents(picture: Image.Image) -> Contents:
    """Makes the files of a variant, one for each orientation, once."""
    return cache(lambda variant: [variant.content(picture, orientation) for orientation in variant.orientations])


def test_the_corpus_has_every_format() -> None:
    suffixes = {variant.suffix.rpartition(".")[2] for variant in VARIANTS}
    assert len(VARIANTS) >= 25
    assert suffixes >= {"jxl", "dng"}
    for format, names in FORMATS.items():
        assert any(name.removeprefix(".") in suffixes for name in names), format


@pytest.mark.parametrize("variant", EACH)
def test_sizes_and_descriptors_are_those_of_the_upright_picture(
    variant: Variant, picture: Image.Image, contents: Contents, model: glam.Model
) -> None:
    assert "." + variant.suffix.rpartition(".")[2] in IMAGE_SUFFIXES
    files = contents(variant)
    for orientation, file in zip(variant.orientations, files, strict=True):
        prepared = prepare(file, None, 64, 8, Times())
        sizes = [read_image(file).size, read_upright_size(file), (prepared.width, prepared.height)]
        assert sizes == [picture.size] * 3, f"orientation {orientation}"
    upright, *described = model.describe([variant.reference(picture), *files])
    cosines = np.array(described) @ upright
    assert cosines.min() >= (LOSSLESS if variant.lossless else LOSSY), cosines.round(3)


@pytest.mark.parametrize("variant", [case for case in EACH if case.values[0].lossless])  # type: ignore[union-attr]
def test_lossless_files_give_the_pixels_of_the_upright_picture(
    variant: Variant, picture: Image.Image, contents: Contents
) -> None:
    expected = np.asarray(variant.reference(picture).convert("RGB")).astype(int)
    for orientation, content in zip(variant.orientations, contents(variant), strict=True):
        pixels = np.asarray(read_image(content)).astype(int)
        assert np.abs(pixels - expected).max() <= 1, f"orientation {orientation}"


@pytest.mark.parametrize("variant", EACH)
def test_content_decides_and_not_the_suffix(
    variant: Variant, picture: Image.Image, contents: Contents, tmp_path: Path
) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(contents(variant)[0])
    assert read_image(file).size == read_upright_size(file) == picture.size
