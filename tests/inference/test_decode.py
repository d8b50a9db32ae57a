"""From files to pixels: every way of decoding gives what the full decode and Pillow's resize give."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glam.errors import ImageError
from glam.images import Box, read_image
from glam.inference.decode import DRAFT_OVERSAMPLING, Jpeg, decode_jpegs, prepare
from glam.inference.loader import Loader
from glam.sizes import fitted_size
from glam.stage_times import Times

Draw = Callable[..., Image.Image]
CPU = torch.device("cpu")


def encoded(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "JPEG", "quality": 92, **options})  # type: ignore[arg-type]
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def plainly(source: bytes, longest: int, box: Box | None = None) -> np.ndarray:
    """The slow, obvious form: decoded in full, cut, resized by Pillow."""
    image = read_image(source, box=box)
    height, width = fitted_size(image.width, image.height, longest, 16)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)).astype(int)


def pixels_of(source: bytes, longest: int, box: Box | None = None) -> np.ndarray:
    pixels = prepare(source, box, longest, 16, Times()).pixels
    assert pixels is not None
    return pixels.numpy().astype(int)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("box", [None, (10, 20, 90.5, 70)])
def test_orientation_and_box(draw_image: Draw, orientation: int, box: Box | None) -> None:
    source = encoded(draw_image(160, 120), exif=turned(orientation))
    assert np.abs(pixels_of(source, 96, box) - plainly(source, 96, box)).max() <= 1


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_far_larger_jpeg_is_decoded_at_a_fraction(draw_image: Draw, orientation: int) -> None:
    source = encoded(draw_image(2 * DRAFT_OVERSAMPLING * 96, 2 * DRAFT_OVERSAMPLING * 64), exif=turned(orientation))
    reduced, plain = pixels_of(source, 96), plainly(source, 96)
    assert reduced.shape == plain.shape
    assert np.abs(reduced - plain).mean() < 1
    prepared = prepare(source, None, 96, 16, Times())
    assert (prepared.width, prepared.height) == read_image(source).size


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_kind_of_jpeg(draw_image: Draw, mode: str, progressive: bool) -> None:
    source = encoded(draw_image(160, 120).convert(mode), progressive=progressive)
    assert np.abs(pixels_of(source, 96) - plainly(source, 96)).max() <= 1


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("box", [None, (10, 20, 90.5, 70)])
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("RGB", {"subsampling": 0}),
        ("L", {}),
        ("CMYK", {}),
        ("RGB", {"progressive": True}),
        ("RGB", {"format": "PNG"}),
        ("P", {"format": "PNG", "transparency": 0}),
        ("RGB", {"format": "WEBP"}),
    ],
    ids=str,
)
def test_all_pixels_are_kept_on_request(
    mode: str, options: dict[str, object], box: Box | None, orientation: int
) -> None:
    """With one decode, and exactly as the plain reader gives them, whichever decoder it is."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (121, 163, 3), dtype=np.uint8))
    source = encoded(noise.convert(mode), exif=turned(orientation), **options)
    prepared = prepare(source, box, 96, 16, Times(), keep_full_size=True)
    assert prepared.full_size is not None
    assert np.array_equal(prepared.full_size.numpy(), np.asarray(read_image(source)))
    plain = prepare(source, box, 96, 16, Times())
    assert plain.full_size is None
    assert torch.equal(prepared.pixels, plain.pixels)  # type: ignore[arg-type]


def test_there_are_no_pixels_to_keep_of_a_jpeg_decoded_at_a_fraction(draw_image: Draw) -> None:
    source = encoded(draw_image(2 * DRAFT_OVERSAMPLING * 96, 2 * DRAFT_OVERSAMPLING * 64))
    assert prepare(source, None, 96, 16, Times(), keep_full_size=True).full_size is None
    assert prepare(source, (0, 0, 300, 300), 96, 16, Times(), keep_full_size=True).full_size is not None


def test_other_formats_and_images_in_memory(draw_image: Draw) -> None:
    image = draw_image(160, 120)
    expected = plainly(encoded(image, format="PNG"), 96)
    for source in (
        encoded(image, format="PNG"),
        encoded(image, format="WEBP", lossless=True),
        image,
        np.asarray(image),
    ):
        assert np.abs(pixels_of(source, 96) - expected).max() <= 1  # type: ignore[arg-type]


def test_a_truncated_jpeg_is_named_and_explained(draw_image: Draw, tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    path.write_bytes(encoded(draw_image(400, 300))[:3000])
    with pytest.raises(ImageError, match=r"half\.jpg: .*truncated"):
        prepare(path, None, 96, 16, Times())


def test_jpegs_are_decoded_on_the_device_and_the_rest_beside_them(draw_image: Draw, tmp_path: Path) -> None:
    """The way of a GPU, on the CPU: JPEGs come to the loader as bytes, the others as pixels."""
    loader = Loader(CPU, 96, 16, Times())
    loader.defer_jpegs = True
    paths = [tmp_path / f"{i}.{suffix}" for i, suffix in enumerate(("jpg", "png", "jpg"))]
    for seed, path in enumerate(paths):
        draw_image(160, 120, seed).save(path)
    images = [loader.prepare(position, path, None) for position, path in enumerate(paths)]
    assert [image.decoded.jpeg is not None for image in images] == [True, False, True]
    loaded = loader.load(images)
    assert loaded.pixels is not None
    for image, pixels in zip(images, loaded.pixels.numpy().astype(int), strict=True):
        assert np.abs(pixels - plainly(paths[image.position].read_bytes(), 96)).max() <= 1


def test_what_the_device_cannot_decode_shifts_nothing(draw_image: Draw, tmp_path: Path) -> None:
    loader = Loader(CPU, 96, 16, Times())
    loader.defer_jpegs = True
    good = [encoded(draw_image(160, 120, seed)) for seed in range(3)]
    broken = tmp_path / "broken.jpg"  # its header is whole, and so is its end
    broken.write_bytes(good[1][:700] + b"\xff\xd9")
    images = [loader.prepare(i, source, None) for i, source in enumerate((good[0], broken, good[2]))]
    loaded = loader.load(images)
    assert loaded.pixels is not None
    read = [image.position for image in loaded.images]
    assert {0, 2} <= set(read)
    assert sorted(read + [image.position for image, _ in loaded.failed]) == [0, 1, 2]
    for row, position in enumerate(read):
        if position != 1:
            assert np.abs(loaded.pixels[row].numpy().astype(int) - plainly(good[position], 96)).max() <= 1


def test_a_batch_of_jpegs_on_a_device(draw_image: Draw) -> None:
    contents = [encoded(draw_image(160, 120, seed)) for seed in range(3)]
    jpegs = [Jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), 1, None) for content in contents]
    for content, pixels in zip(contents, decode_jpegs(jpegs, (80, 96), CPU), strict=True):
        assert pixels.shape == (80, 96, 3)
        assert (
            np.abs(pixels.numpy().astype(int) - np.asarray(read_image(content).resize((96, 80), 2)).astype(int)).max()
            <= 1
        )
