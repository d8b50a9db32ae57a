"""Peak memory of reading large images of every mode."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.intake.corpus import exif

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak of a forked process is measured as on Linux")

WIDTH, HEIGHT = 6000, 4000
EXTRA_MIB = 64
"""Mebibytes that reading may take beyond four times the decoded pixels."""

MEASURE = """
import os, resource, sys
import numpy
from glam.images import read_image
read_image(sys.argv[1])  # loads the decoder
if os.fork() == 0:  # the peak of a child begins anew
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = read_image(sys.argv[2])
    print(image.mode, *image.size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, flush=True)
    os._exit(0)
os.wait()
"""


class Mode(NamedTuple):
    """A large image: how to draw it, its suffix, the bytes of a decoded pixel, and the options of `Image.save`."""

    draw: Callable[[int, int], Image.Image]
    suffix: str
    pixel_bytes: int
    options: dict[str, Any]


def ramp(width: int, height: int) -> np.ndarray:
    return np.add.outer(np.arange(height), np.arange(width))


def levels(width: int, height: int) -> Image.Image:
    return Image.fromarray((ramp(width, height) // 40).astype(np.uint8))


def bands(mode: str) -> Callable[[int, int], Image.Image]:
    return lambda width, height: Image.merge(mode, [levels(width, height)] * len(Image.new(mode, (1, 1)).getbands()))


def palette(width: int, height: int) -> Image.Image:
    return levels(width, height).convert("P")


def one_bit(width: int, height: int) -> Image.Image:
    return levels(width, height).convert("1")


def sixteen_bits(width: int, height: int) -> Image.Image:
    return Image.fromarray((ramp(width, height) * 6).astype(np.uint16))


def integers(width: int, height: int) -> Image.Image:
    return Image.fromarray((ramp(width, height) * 100).astype(np.int32))


def floats(width: int, height: int) -> Image.Image:
    values = ramp(width, height).astype(np.float32)
    values[::7, ::5] = np.nan
    return Image.fromarray(values)


MODES = {
    "RGBA": Mode(bands("RGBA"), ".png", 4, {"compress_level": 1}),
    "LA": Mode(bands("LA"), ".png", 2, {"compress_level": 1}),
    "palette with transparency": Mode(palette, ".png", 1, {"transparency": 0}),
    "16-bit gray": Mode(sixteen_bits, ".png", 2, {"compress_level": 1}),
    "32-bit integers": Mode(integers, ".tif", 4, {}),
    "floats with NaN": Mode(floats, ".tif", 4, {}),
    "CMYK": Mode(bands("CMYK"), ".tif", 4, {}),
    "1-bit": Mode(one_bit, ".png", 1, {}),
    "gray": Mode(levels, ".png", 1, {"compress_level": 1}),
    "RGB": Mode(bands("RGB"), ".jpg", 3, {}),
    "RGB to turn": Mode(bands("RGB"), ".jpg", 3, {"exif": exif(6)}),
    "RGB, progressive": Mode(bands("RGB"), ".jpg", 3, {"progressive": True}),
    "RGBA to turn": Mode(bands("RGBA"), ".png", 4, {"compress_level": 1, "exif": exif(6)}),
}


@pytest.mark.parametrize("name", MODES)
def test_reading_takes_four_times_the_decoded_pixels_at_most(tmp_path: Path, name: str) -> None:
    mode = MODES[name]
    small, large = tmp_path / f"small{mode.suffix}", tmp_path / f"large{mode.suffix}"
    mode.draw(64, 64).save(small, **mode.options)
    mode.draw(WIDTH, HEIGHT).save(large, **mode.options)
    command = [sys.executable, "-c", MEASURE, str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rgb, *numbers = done.stdout.split()
    width, height, peak_kib = map(int, numbers)
    assert rgb == "RGB"
    assert sorted((width, height)) == sorted((WIDTH, HEIGHT))
    decoded = WIDTH * HEIGHT * max(mode.pixel_bytes, 3)  # the result is RGB
    assert decoded <= peak_kib * 1024, "less than the result itself: the measure is wrong"
    assert peak_kib * 1024 <= 4 * decoded + EXTRA_MIB * 2**20
