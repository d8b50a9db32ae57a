"""Drawing of textures: a canvas measured in meters with three planes (color, relief, glass), and masonry to fill it.

The renderer maps a `Texture` onto a face of a building. Relief and glass are separate planes because they depend on the
light of each image: relief is shaded by the sun, and glass mirrors the sky by day and shines at night.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Color = tuple[float, float, float]
"""Red, green, and blue, 0 to 255."""
Point = tuple[float, float]
"""Meters to the right of the lower left corner of a canvas, and meters above it."""

FLAT = 128
"""Relief value of the plane of the wall. One unit is about one centimeter; larger values protrude."""


@dataclass(frozen=True)
class Texture:
    """The look of a surface.

    Attributes:
        color: (h, w, 3) uint8, red, green, and blue.
        relief: (h, w) uint8 height in centimeters, `FLAT` in the plane of the wall.
        glass: (h, w) uint8, 0 on walls; on a window pane, the brightness class of the window, 40 to 255.
    """

    color: NDArray[np.uint8]
    relief: NDArray[np.uint8]
    glass: NDArray[np.uint8]


@dataclass(frozen=True)
class Material:
    """A square of wall that textures are cut from.

    Attributes:
        shade: (n, n) float32 brightness factors around 1.
        joints: (n, n) uint8 relief.
        scale: pixels per meter.
    """

    shade: NDArray[np.float32]
    joints: NDArray[np.uint8]
    scale: float


def tint(color: Color, factor: float) -> Color:
    """Multiplies a color by a factor, above 1 for a lighter one, and clips it to 0..255."""
    red, green, blue = (min(255.0, max(0.0, channel * factor)) for channel in color)
    return red, green, blue


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: Sequence[int]) -> NDArray[np.float32]:
    """Smooth noise with zero mean and a standard deviation of about 1.

    Args:
        rng: source of randomness.
        height: height in pixels.
        width: width in pixels.
        cells: for each octave, the number of cells along the longer side.

    Returns:
        (height, width) float32.
    """
    total = np.zeros((height, width), np.float32)
    for octave, count in enumerate(cells):
        rows = max(2, round(count * height / max(height, width)))
        columns = max(2, round(count * width / max(height, width)))
        grid = rng.standard_normal((rows, columns)).astype(np.float32) / (1 + octave)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
    return total


def masonry(
    rng: np.random.Generator, *, scale: float, block: tuple[float, float], contrast: float, size: int = 640
) -> Material:
    """Draws weathered courses of blocks; every other course is shifted by half a block.

    Args:
        rng: source of randomness.
        scale: pixels per meter.
        block: width and height of a block in meters.
        contrast: standard deviation of the brightness of the blocks; 0 for smooth plaster.
        size: side of the square in pixels.
    """
    across, up = max(3.0, block[0] * scale), max(2.0, block[1] * scale)
    rows, columns = int(size / up) + 2, int(size / across) + 3
    y = np.arange(size, dtype=np.float32) / up
    row = y.astype(np.int32)
    x = np.arange(size, dtype=np.float32)[None, :] / across + (row % 2 * 0.5)[:, None]
    column = x.astype(np.int32)
    shade = 1 + contrast * rng.standard_normal((rows, columns)).astype(np.float32)[row[:, None], column]
    joint = ((y - row) * up < 1)[:, None] | ((x - column) * across < 1)
    shade[joint] *= 1 - min(0.22, 1.5 * contrast)
    shade *= 1 + 0.045 * smooth_noise(rng, size, size, (5, 17, 120))
    streaks = smooth_noise(rng, 4, size, (60, 200))
    shade *= 1 - 0.05 * np.clip(cv2.resize(streaks, (size, size), interpolation=cv2.INTER_LINEAR), 0, 2)
    joints = np.where(joint, FLAT - (3 if contrast else 0), FLAT).astype(np.uint8)
    return Material(shade, joints, scale)


class Canvas:
    """A surface to draw on, filled with a material.

    In all methods, points and lengths are in meters, ``relief`` is in centimeters out of the wall (negative: into it),
    and ``glass`` is a brightness class, see `Texture`.

    Args:
        rng: source of randomness; picks the part of the material.
        width: width in meters.
        height: height in meters.
        material: fills the canvas.
        color: color of the material.
    """

    def __init__(self, rng: np.random.Generator, width: float, height: float, material: Material, color: Color) -> None:
        self.width, self.height = width, height
        longest = material.shade.shape[0]
        self.scale = min(material.scale, longest / width, longest / height)
        columns, rows = max(8, int(width * self.scale)), max(8, int(height * self.scale))
        top, left = (int(rng.integers(0, longest - extent + 1)) for extent in (rows, columns))
        shade = material.shade[top : top + rows, left : left + columns]
        self._color = np.clip(shade[..., None] * np.asarray(color, np.float32), 0, 255).astype(np.uint8)
        self._relief = material.joints[top : top + rows, left : left + columns].copy()
        self._glass = np.zeros((rows, columns), np.uint8)

    def texture(self) -> Texture:
        """The current content as a texture."""
        return Texture(self._color, self._relief, self._glass)

    def polygon(self, points: Sequence[Point], color: Color, relief: float = 0, glass: int = 0) -> None:
        """Fills the polygon with the corners ``points``."""
        corners = [np.array([self._pixel(point) for point in points], np.int32)]
        cv2.fillPoly(self._color, corners, color)
        cv2.fillPoly(self._relief, corners, FLAT + relief)
        cv2.fillPoly(self._glass, corners, glass)

    def rectangle(self, x: float, y: float, width: float, height: float, color: Color, relief: float = 0) -> None:
        """Fills the rectangle whose lower left corner is (x, y)."""
        self.polygon([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], color, relief)

    def band(self, y: float, height: float, color: Color, relief: float = 8) -> None:
        """Draws a string course or cornice from ``y`` upwards over the full width, with a dark shadow line below."""
        self.rectangle(0, y - 0.35 * height, self.width, 0.35 * height, tint(color, 0.55), -4)
        self.rectangle(0, y, self.width, height, color, relief)

    def line(self, start: Point, end: Point, thickness: float, color: Color, relief: float = 3) -> None:
        """Draws a straight bar, at least one pixel thick."""
        pixels = max(1, round(thickness * self.scale))
        for plane, value in ((self._color, color), (self._relief, FLAT + relief), (self._glass, 0)):
            cv2.line(plane, self._pixel(start), self._pixel(end), value, pixels)

    def disc(self, center: Point, radius: float, color: Color, relief: float = 0, glass: int = 0) -> None:
        """Fills a circle."""
        for plane, value in ((self._color, color), (self._relief, FLAT + relief), (self._glass, glass)):
            cv2.circle(plane, self._pixel(center), max(1, round(radius * self.scale)), value, -1)

    def ring(self, center: Point, radius: float, thickness: float, color: Color, relief: float = 5) -> None:
        """Draws the outline of a circle, at least one pixel thick."""
        pixels = max(1, round(thickness * self.scale))
        for plane, value in ((self._color, color), (self._relief, FLAT + relief)):
            cv2.circle(plane, self._pixel(center), max(1, round(radius * self.scale)), value, pixels)

    def _pixel(self, point: Point) -> tuple[int, int]:
        return round(point[0] * self.scale), round((self.height - point[1]) * self.scale)
