"""Draw an explanation: attention maps as heat over an image, and lines between the matching points of two images.

    image and its maps ---row---> image | local channel | local spatial | global channel | global spatial
    two and their matches --joined---> both side by side, the inliers as lines
    panels --explanation---> one picture

What the pictures show and do not show: docs/explaining.md.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from glam.index.local_matching import Matches

if TYPE_CHECKING:
    from glam.attention_maps import AttentionMaps, Map

Pixels = NDArray[np.uint8]
"""(h, w, 3) RGB."""

Color = tuple[int, int, int]

WIDTH = 1600
"""Of the picture, in pixels, as is everything that follows."""

MARGIN, GAP = 40, 16

INNER = WIDTH - 2 * MARGIN

TILE = (INNER - 4 * GAP) // 5

HEADING, CAPTION = 70, 78
"""Height of the words above a panel and below a tile."""

TALLEST, TALLEST_PAIR = 1.25, 0.5
"""Most that a tile, and two images side by side, are higher than wide."""

PAPER, INK, FAINT = (250, 249, 246), (28, 30, 34), (104, 108, 116)
TITLE, TEXT, SMALL = 26, 18, 15

HEAT = 0.72
"""Share of the heat where a map has its most; where it has its least, the gray image is all there is."""

MAX_LINES = 200

CAPTIONS = {
    "local_channel": ("Local channel", "where the weighted channels respond"),
    "local_spatial": ("Local spatial", "how much each place is raised"),
    "global_channel": ("Global channel", "where the mixed channels respond"),
    "global_spatial": ("Global spatial", "where the ringed place looks"),
}
"""Title and text of each overlay, by the attribute of `AttentionMaps`."""


@dataclass(frozen=True)
class Subject:
    """An image to explain.

    Attributes:
        name: what to call it.
        image: upright, RGB.
        maps: attention maps of the whole image.
        point: x and y in pixels of the image, the place that the global spatial overlay looks from.
    """

    name: str
    image: Image.Image
    maps: "AttentionMaps"
    point: tuple[float, float]


def explanation(subjects: Sequence[Subject], matches: Matches | None = None) -> Image.Image:
    """The whole picture.

    Args:
        subjects: one image, or two.
        matches: from the first to the second, where there are two.
    """
    panels = []
    if matches is not None:
        first, second = subjects
        text = f"{first.name}   and   {second.name}"
        panels.append(_titled(summary(matches), text, joined(first.image, second.image, matches)))
    for subject in subjects:
        text = f"the model sees it as {subject.maps.width} by {subject.maps.height} places"
        panels.append(_titled(subject.name, text, row(subject)))
    sheet = Image.new("RGB", (WIDTH, MARGIN + sum(panel.height + MARGIN for panel in panels)), PAPER)
    top = MARGIN
    for panel in panels:
        sheet.paste(panel, (MARGIN, top))
        top += panel.height + MARGIN
    return sheet


def summary(matches: Matches) -> str:
    """What was found, in a sentence without its full stop."""
    tried = f"{len(matches)} {'pair' if len(matches) == 1 else 'pairs'} of like places"
    return f"{matches.count} of {tried} agree" if matches.count else f"None of {tried} agree"


def row(subject: Subject) -> Pixels:
    """The image and its four overlays beside each other, each with its caption."""
    image = fitted(subject.image, TILE)
    tiles = [_captioned(_ringed(image, subject), "Image", "the ring is the place to look from")]
    for name, (title, text) in CAPTIONS.items():
        values = (
            subject.maps.spatial_attention_from(*subject.point)
            if name == "global_spatial"
            else getattr(subject.maps, name)
        )
        if values is None:
            tiles.append(_captioned(gray(image), title, "this model has none"))
            continue
        drawn = overlay(image, values)
        drawn = _ringed(drawn, subject) if name == "global_spatial" else drawn
        tiles.append(_captioned(drawn, title, text, f"from {values.min():.2f} to {values.max():.2f}"))
    sheet = Image.new("RGB", (INNER, max(tile.height for tile in tiles)), PAPER)
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number * (TILE + GAP), 0))
    return np.asarray(sheet, dtype=np.uint8)


def overlay(image: Pixels, values: "Map") -> Pixels:
    """A map as heat over an image in gray: nothing where it has its least, bright where it has its most.

    Args:
        image: (H, W, 3).
        values: (h, w), any numbers, over all of the image; a flat map gives no heat.
    """
    least, most = float(values.min()), float(values.max())
    level = (values - least) / (most - least) if most > least else np.zeros_like(values)
    level = cv2.resize(level.astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)
    heat = cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    share = HEAT * level[:, :, None]
    return np.asarray((1 - share) * gray(image) + share * heat, dtype=np.uint8)


def gray(image: Pixels) -> Pixels:
    """The same, (h, w, 3), without its colors and a little darker, so that heat stands out."""
    return np.repeat((0.8 * cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None]).astype(np.uint8), 3, axis=2)


def joined(a: Image.Image, b: Image.Image, matches: Matches) -> Pixels:
    """Two images of one height side by side, the inliers as lines; at most `MAX_LINES`, the surest.

    A line's color says where in the first image it begins, from left to right, so that an eye can follow one
    among many.
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
        for place in (begin, end):
            cv2.circle(canvas, _exact(place), 6 << SHIFT, (255, 255, 255), -1, cv2.LINE_AA, SHIFT)
            cv2.circle(canvas, _exact(place), 4 << SHIFT, color, -1, cv2.LINE_AA, SHIFT)
    return canvas


def fitted(image: Image.Image, width: int) -> Pixels:
    """The image at this width, or narrower where it would be taller than `TALLEST`."""
    scale = min(width / image.width, TALLEST * width / image.height)
    return _resized(image, image.width * scale, image.height * scale)


SHIFT = 4
"""OpenCV draws at places in units of 1 / 2^SHIFT pixels."""


def _exact(place: NDArray[np.floating]) -> tuple[int, int]:
    return round(float(place[0]) * (1 << SHIFT)), round(float(place[1]) * (1 << SHIFT))


def _resized(image: Image.Image, width: float, height: float) -> Pixels:
    size = max(1, round(width)), max(1, round(height))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.uint8)


def _color(share: float) -> Color:
    """A bright color, from orange over green to blue as ``share`` goes from 0 to 1."""
    red, green, blue = colorsys.hsv_to_rgb(0.05 + 0.6 * min(max(share, 0), 1), 0.85, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def _ringed(pixels: Pixels, subject: Subject) -> Pixels:
    """A copy with a ring around the point, white within black, so that it shows on anything."""
    ringed = pixels.copy()
    place = _exact(np.array(subject.point) * (pixels.shape[1] / subject.image.width))
    for thickness, color in ((6, (0, 0, 0)), (3, (255, 255, 255))):
        cv2.circle(ringed, place, 11 << SHIFT, color, thickness, cv2.LINE_AA, SHIFT)
    return ringed


def _captioned(pixels: Pixels, title: str, text: str, numbers: str = "") -> Image.Image:
    """A tile with its words below it."""
    height = pixels.shape[0]
    tile = Image.new("RGB", (TILE, height + CAPTION), PAPER)
    tile.paste(Image.fromarray(pixels), (0, 0))
    draw = ImageDraw.Draw(tile)
    draw.text((0, height + 10), title, INK, ImageFont.load_default(TEXT))
    draw.text((0, height + 35), text, FAINT, ImageFont.load_default(SMALL))
    draw.text((0, height + 55), numbers, FAINT, ImageFont.load_default(SMALL))
    return tile


def _titled(title: str, text: str, pixels: Pixels) -> Image.Image:
    """A panel with its heading above it."""
    panel = Image.new("RGB", (INNER, pixels.shape[0] + HEADING), PAPER)
    draw = ImageDraw.Draw(panel)
    draw.text((0, 0), title, INK, ImageFont.load_default(TITLE))
    draw.text((0, 36), text, FAINT, ImageFont.load_default(TEXT))
    panel.paste(Image.fromarray(pixels), (0, HEADING))
    return panel
