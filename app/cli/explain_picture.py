"""The picture of `glam explain`: attention maps as heat over an image, and lines between matching points of two images.

    image, its maps --row--> image | local channel | local spatial | global channel | global spatial
    two images, their matches --joined--> both images side by side, with a line per match
    panels --explanation--> one picture

docs/explain.md says what these pictures mean.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from glam.app.cli.terminal import count
from glam.index.local_matching import Matches

if TYPE_CHECKING:
    from glam.attention_maps import AttentionMaps, Map

Pixels = NDArray[np.uint8]
"""RGB image, (h, w, 3)."""

Color = tuple[int, int, int]

WIDTH = 1600
"""Width of the picture in pixels. The sizes here are in pixels; all are arbitrary."""

MARGIN, GAP = 40, 16
"""Space around the panels, and between the tiles of a panel."""

INNER = WIDTH - 2 * MARGIN
"""Width of a panel."""

TILE = (INNER - 4 * GAP) // 5
"""Width of a tile."""

HEADING, CAPTION = 70, 78
"""Height of the text above a panel and below a tile."""

TALLEST, TALLEST_PAIR = 1.25, 0.5
"""Largest ratio of height to width of a tile, and of two images side by side."""

PAPER, INK, FAINT = (250, 249, 246), (28, 30, 34), (104, 108, 116)
TITLE, TEXT, SMALL = 26, 18, 15

HEAT = 0.72
"""Opacity of the heat at the maximum of a map; at the minimum it is transparent. Arbitrary."""

MAX_LINES = 200
"""Most lines between two images; more would hide the images. Arbitrary."""

CAPTIONS = {
    "local_channel": ("Local channel", "response of the weighted channels"),
    "local_spatial": ("Local spatial", "weight of each position"),
    "global_channel": ("Global channel", "response of the mixed channels"),
    "global_spatial": ("Global spatial", "attention of the ringed position"),
}
"""Title and text of each overlay, by the attribute of `AttentionMaps`."""


@dataclass(frozen=True)
class Subject:
    """An image to explain.

    Attributes:
        name: title of its panel.
        image: upright RGB image.
        maps: attention maps of the image.
        point: x and y of the position whose global spatial attention is drawn, in pixels of the image.
    """

    name: str
    image: Image.Image
    maps: "AttentionMaps"
    point: tuple[float, float]


def explanation(subjects: Sequence[Subject], matches: Matches | None = None) -> Image.Image:
    """Draws a panel per image, and for two images a panel of their matches above.

    Args:
        subjects: one or two images.
        matches: matching points of the two images; None for one image.
    """
    panels = []
    if matches is not None:
        first, second = subjects
        text = f"{first.name}   and   {second.name}"
        panels.append(_titled(summary(matches), text, joined(first.image, second.image, matches)))
    for subject in subjects:
        text = f"feature map of {subject.maps.width} x {subject.maps.height} positions"
        panels.append(_titled(subject.name, text, row(subject)))
    sheet = Image.new("RGB", (WIDTH, MARGIN + sum(panel.height + MARGIN for panel in panels)), PAPER)
    top = MARGIN
    for panel in panels:
        sheet.paste(panel, (MARGIN, top))
        top += panel.height + MARGIN
    return sheet


def summary(matches: Matches) -> str:
    """The number of matching points, as in ``5 matching points (of 48 candidates)``."""
    found = count(matches.count, "matching point") if matches.count else "No matching points"
    return f"{found} (of {count(len(matches), 'candidate')})"


def row(subject: Subject) -> Pixels:
    """Draws the image and its four overlays side by side, each with a caption."""
    image = fitted(subject.image, TILE)
    tiles = [_captioned(_ringed(image, subject), "Image", "with the ringed position")]
    for name, (title, text) in CAPTIONS.items():
        values = (
            subject.maps.spatial_attention_from(*subject.point)
            if name == "global_spatial"
            else getattr(subject.maps, name)
        )
        if values is None:
            tiles.append(_captioned(gray(image), title, "not part of this model"))
            continue
        drawn = overlay(image, values)
        drawn = _ringed(drawn, subject) if name == "global_spatial" else drawn
        tiles.append(_captioned(drawn, title, text, f"from {values.min():.2f} to {values.max():.2f}"))
    sheet = Image.new("RGB", (INNER, max(tile.height for tile in tiles)), PAPER)
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number * (TILE + GAP), 0))
    return np.asarray(sheet, dtype=np.uint8)


def overlay(image: Pixels, values: "Map") -> Pixels:
    """Draws a map as heat over a gray image: transparent at the minimum of the map, bright at its maximum.

    Args:
        image: RGB image, (H, W, 3).
        values: map of the image, (h, w), of any range; a constant map gives no heat.
    """
    least, most = float(values.min()), float(values.max())
    level = (values - least) / (most - least) if most > least else np.zeros_like(values)
    level = cv2.resize(level.astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    heat = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    share = HEAT * level[:, :, None]
    return np.asarray((1 - share) * gray(image) + share * heat, dtype=np.uint8)


def gray(image: Pixels) -> Pixels:
    """Makes an image (h, w, 3) gray and a little darker, so that heat is visible on it."""
    return np.repeat((0.8 * cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None]).astype(np.uint8), 3, axis=2)


def joined(a: Image.Image, b: Image.Image, matches: Matches) -> Pixels:
    """Draws two images side by side at equal height, with a line per match; at most `MAX_LINES`, best first.

    The color of a line depends on its x in the first image, so that single lines can be followed.
    """
    height = max(1, min(int((INNER - GAP) / (a.width / a.height + b.width / b.height)), int(INNER * TALLEST_PAIR)))
    left, right = (_resized(image, image.width * height / image.height, height) for image in (a, b))
    start = left.shape[1] + GAP
    canvas = np.full((height, start + right.shape[1], 3), PAPER, np.uint8)
    canvas[:, : left.shape[1]], canvas[:, start:] = left, right
    begins = matches.points_a[matches.inliers][:MAX_LINES] * (height / a.height)
    ends = matches.points_b[matches.inliers][:MAX_LINES] * (height / b.height) + (start, 0)
    colors = [_color(float(x) / left.shape[1]) for x in begins[:, 0]]
    lines = canvas.copy()
    for begin, end, color in zip(begins, ends, colors, strict=True):
        cv2.line(lines, _exact(begin), _exact(end), color, 2, cv2.LINE_AA, SHIFT)
    canvas = np.asarray(cv2.addWeighted(lines, 0.75, canvas, 0.25, 0), dtype=np.uint8)
    for begin, end, color in zip(begins, ends, colors, strict=True):
        for point in (begin, end):
            cv2.circle(canvas, _exact(point), 6 << SHIFT, (255, 255, 255), -1, cv2.LINE_AA, SHIFT)
            cv2.circle(canvas, _exact(point), 4 << SHIFT, color, -1, cv2.LINE_AA, SHIFT)
    return canvas


def fitted(image: Image.Image, width: int) -> Pixels:
    """Resizes an image to a width in pixels, or to less if its height would exceed `TALLEST`."""
    scale = min(width / image.width, TALLEST * width / image.height)
    return _resized(image, image.width * scale, image.height * scale)


SHIFT = 4
"""OpenCV takes coordinates in units of 1 / 2^SHIFT pixels."""


def _exact(point: NDArray[np.floating]) -> tuple[int, int]:
    return round(float(point[0]) * (1 << SHIFT)), round(float(point[1]) * (1 << SHIFT))


def _resized(image: Image.Image, width: float, height: float) -> Pixels:
    size = max(1, round(width)), max(1, round(height))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.uint8)


def _color(share: float) -> Color:
    """A bright color: orange at 0, green in the middle, blue at 1."""
    red, green, blue = colorsys.hsv_to_rgb(0.05 + 0.6 * min(max(share, 0), 1), 0.85, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _ringed(pixels: Pixels, subject: Subject) -> Pixels:
    """A copy with a ring around the point, white on black, so that it is visible on any image."""
    ringed = pixels.copy()
    point = _exact(np.array(subject.point) * (pixels.shape[1] / subject.image.width))
    for thickness, color in ((6, (0, 0, 0)), (3, (255, 255, 255))):
        cv2.circle(ringed, point, 11 << SHIFT, color, thickness, cv2.LINE_AA, SHIFT)
    return ringed


def _captioned(pixels: Pixels, title: str, text: str, numbers: str = "") -> Image.Image:
    """A tile with its caption below."""
    height = pixels.shape[0]
    tile = Image.new("RGB", (TILE, height + CAPTION), PAPER)
    tile.paste(Image.fromarray(pixels), (0, 0))
    draw = ImageDraw.Draw(tile)
    draw.text((0, height + 10), title, INK, ImageFont.load_default(TEXT))
    draw.text((0, height + 35), text, FAINT, ImageFont.load_default(SMALL))
    draw.text((0, height + 55), numbers, FAINT, ImageFont.load_default(SMALL))
    return tile


def _titled(title: str, text: str, pixels: Pixels) -> Image.Image:
    """A panel with its heading above."""
    panel = Image.new("RGB", (INNER, pixels.shape[0] + HEADING), PAPER)
    draw = ImageDraw.Draw(panel)
    draw.text((0, 0), title, INK, ImageFont.load_default(TITLE))
    draw.text((0, 36), text, FAINT, ImageFont.load_default(TEXT))
    panel.paste(Image.fromarray(pixels), (0, HEADING))
    return panel
