"""Textures of walls with storeys of windows, cornices, and a centerpiece, and textures of plainer surfaces.

In all functions, ``width`` and ``height`` are in meters, and ``rng`` is the source of what differs between the walls of
one landmark, such as stains and the brightness of windows.
"""

from __future__ import annotations

import numpy as np

from glam.datasets.synthetic.canvas import Canvas, Color, Texture, tint
from glam.datasets.synthetic.ornaments import GLASS, clock, crest, inscription, opening, portal, rose, window
from glam.datasets.synthetic.styles import Storey, Style

SHADOW: Color = (60, 54, 50)


def wall(
    style: Style,
    rng: np.random.Generator,
    width: float,
    height: float,
    *,
    center: str = "window",
    blind: bool = False,
) -> Texture:
    """Draws a wall in the style of a landmark.

    Args:
        style: style of the landmark.
        rng: source of the differences between walls.
        width: width in meters.
        height: height in meters.
        center: centerpiece: ``door``, ``rose``, ``clock``, ``crest``, ``text``, or ``window`` for none.
        blind: whether the wall has no windows.
    """
    canvas = Canvas(rng, width, height, style.wall, style.wall_color)
    if style.banded:
        for level in np.arange(0.6, height, 1.3):
            canvas.rectangle(0, float(level), width, 0.4, tint(style.wall_color, 0.86))
    plinth = min(1.1, 0.12 * height)
    canvas.rectangle(0, 0, width, plinth, tint(style.wall_color, 0.84), 8)
    crown = min(1.1, 0.1 * height)
    if not blind:
        _storeys(canvas, style, rng, style.storeys_for(height), plinth, height - crown)
    if style.pilasters:
        for x in np.linspace(0, width - 0.5, max(2, round(width / (2 * style.bay)) + 1)):
            _pilaster(canvas, style, float(x), plinth, height - crown)
    if style.quoins:
        _quoins(canvas, style, height)
    cornice(canvas, style, height - crown, crown)
    _centerpiece(canvas, style, center, width, height - crown)
    return canvas.texture()


def _storeys(
    canvas: Canvas, style: Style, rng: np.random.Generator, rows: tuple[Storey, ...], bottom: float, top: float
) -> None:
    bays = max(1, round(canvas.width / style.bay))
    bay = canvas.width / bays
    unit = (top - bottom) / sum(row.height for row in rows)
    base = bottom
    for level, row in enumerate(rows):
        height = row.height * unit
        wide, tall = row.window[0] * bay, row.window[1] * height
        for index in range(bays):
            left = index * bay
            sill = base + 0.55 * (height - tall)
            if row.paired:
                half = 0.62 * wide
                for x in (left + bay / 2 - half - 0.12, left + bay / 2 + 0.12):
                    window(canvas, style, row, rng, (x, sill, half, tall))
            else:
                window(canvas, style, row, rng, (left + (bay - wide) / 2, sill, wide, tall))
        if level:
            strip(canvas, style, row.ornament, base - 0.3, 0.6, bay)
        base += height


def strip(canvas: Canvas, style: Style, ornament: str, y: float, height: float, bay: float) -> None:
    """Draws a horizontal band of repeated ornament.

    Args:
        canvas: canvas to draw on.
        style: style of the landmark.
        ornament: one of `glam.datasets.synthetic.styles.ORNAMENTS`; ``none`` draws only the band.
        y: lower edge of the band in meters.
        height: height of the band in meters.
        bay: width of a bay in meters; a whole number of ornaments fits into it.
    """
    canvas.band(y, height, tint(style.trim_color, 0.96), 5)
    light, dark = tint(style.trim_color, 1.12), tint(style.trim_color, 0.66)
    step = bay / max(2, round(bay / (1.4 * height)))
    middle = y + height / 2
    for index in range(int(canvas.width / step) + 1):
        x = (index + 0.5) * step
        size = 0.36 * height
        if ornament == "diamonds":
            canvas.polygon([(x - size, middle), (x, middle + size), (x + size, middle), (x, middle - size)], dark, -6)
        elif ornament == "discs":
            canvas.disc((x, middle), size, dark if index % 2 else light, 8)
        elif ornament == "panels":
            canvas.rectangle(x - 0.4 * step, middle - size, 0.8 * step, 2 * size, dark, -6)
        elif ornament == "swags":
            canvas.ring((x, middle + size), 1.2 * size, 0.1, dark, 8)
        elif ornament == "crosses":
            canvas.line((x - size, middle - size), (x + size, middle + size), 0.1, dark, 6)
            canvas.line((x - size, middle + size), (x + size, middle - size), 0.1, dark, 6)
        elif ornament == "arcade":
            canvas.polygon(opening("round", x - 0.34 * step, y, 0.68 * step, 0.9 * height), dark, -10)


def cornice(canvas: Canvas, style: Style, y: float, height: float) -> None:
    """Draws the cornice of a wall in the style of the landmark.

    Args:
        canvas: canvas to draw on.
        style: style of the landmark.
        y: lower edge of the cornice in meters.
        height: height of the cornice in meters.
    """
    trim = tint(style.trim_color, 1.04)
    canvas.band(y + 0.55 * height, 0.45 * height, trim, 24)
    canvas.band(y, 0.12 * height, trim, 10)
    if style.cornice == "plain":
        return
    step = {"dentils": 0.42, "corbels": 0.8, "arcade": 1.0, "balustrade": 0.5}[style.cornice]
    dark = tint(style.trim_color, 0.5)
    for index in range(int(canvas.width / step) + 1):
        x = index * step
        if style.cornice == "dentils":
            canvas.rectangle(x, y + 0.28 * height, 0.55 * step, 0.27 * height, trim, 14)
        elif style.cornice == "corbels":
            canvas.polygon(
                [(x, y + 0.55 * height), (x + 0.5 * step, y + 0.55 * height), (x + 0.25 * step, y)], trim, 18
            )
        elif style.cornice == "arcade":
            canvas.polygon(opening("round", x + 0.12 * step, y, 0.76 * step, 0.5 * height), dark, -8)
        else:
            canvas.rectangle(x + 0.3 * step, y + 0.12 * height, 0.4 * step, 0.4 * height, dark, -16)


def _pilaster(canvas: Canvas, style: Style, x: float, bottom: float, top: float) -> None:
    canvas.rectangle(x - 0.1, bottom, 0.12, top - bottom, tint(style.trim_color, 0.6), 0)
    canvas.rectangle(x, bottom, 0.5, top - bottom, style.trim_color, 14)
    for y, tall in ((bottom, 0.35), (top - 0.5, 0.5)):
        canvas.rectangle(x - 0.12, y, 0.74, tall, tint(style.trim_color, 1.08), 20)


def _quoins(canvas: Canvas, style: Style, height: float) -> None:
    for course in range(int(height / 0.6)):
        wide = 0.75 if course % 2 else 0.45
        for x in (0.0, canvas.width - wide):
            canvas.rectangle(x, course * 0.6, wide, 0.54, style.trim_color, 8)


def _centerpiece(canvas: Canvas, style: Style, center: str, width: float, height: float) -> None:
    middle = width / 2
    if center == "door":
        wide, tall = min(3.4, 0.34 * width), min(5.2, 0.5 * height)
        portal(canvas, style, style.storeys[0].head, (middle - wide / 2, 0.0, wide, tall))
        crest(canvas, style, (middle, tall + 1.2), min(1.6, 0.3 * wide + 0.3))
    elif center == "rose":
        wide, tall = 0.3 * width, 0.3 * height
        portal(canvas, style, style.storeys[0].head, (middle - wide / 2, 0.0, wide, tall))
        rose(canvas, style, (middle, 0.62 * height), min(0.3 * width, 0.19 * height))
    elif center == "clock":
        clock(canvas, style, (middle, 0.55 * height), 0.34 * min(width, height))
    elif center == "crest":
        crest(canvas, style, (middle, 0.55 * height), 0.5 * min(width, height))
    elif center == "text":
        inscription(canvas, style, (0.12 * width, 0.22 * height, 0.76 * width, 0.56 * height))


def belfry(style: Style, rng: np.random.Generator, width: float, height: float) -> Texture:
    """Draws the top stage of a tower: one to three tall louvered openings below a cornice."""
    canvas = Canvas(rng, width, height, style.wall, style.wall_color)
    count = 1 + style.seed // 7 % 3
    wide = 0.62 * width / count
    for index in range(count):
        x = width * (index + 0.5) / count - wide / 2
        tall = 0.68 * height
        head = style.storeys[1].head
        canvas.polygon(opening(head, x - 0.2, 0.1 * height, wide + 0.4, tall + 0.3), style.trim_color, 10)
        canvas.polygon(opening(head, x, 0.1 * height, wide, tall), SHADOW, -28)
        for level in np.arange(0.14 * height, 0.7 * tall, 0.45):
            canvas.rectangle(x, float(level), wide, 0.14, tint(style.frame_color, 0.8), -12)
    cornice(canvas, style, 0.86 * height, 0.14 * height)
    return canvas.texture()


def tiled(style: Style, rng: np.random.Generator, width: float, height: float, *, dormers: bool = False) -> Texture:
    """Draws a tiled roof slope, with a row of dormer windows if ``dormers`` is true."""
    canvas = Canvas(rng, width, height, style.tiles, style.roof_color)
    canvas.rectangle(0, 0, width, 0.25, tint(style.roof_color, 0.6), 6)
    count = max(1, round(width / (1.6 * style.bay))) if dormers else 0
    for index in range(count):
        x, head = width * (index + 0.5) / count - 0.6, style.storeys[2].head
        canvas.polygon(opening(head, x - 0.2, 0.2 * height, 1.6, 0.55 * height), style.trim_color, 25)
        canvas.polygon(opening(head, x, 0.24 * height, 1.2, 0.42 * height), GLASS, 10, 120)
    return canvas.texture()


def ribbed(style: Style, rng: np.random.Generator, color: Color, width: float, height: float, ribs: int) -> Texture:
    """Draws the unrolled surface of a dome or a column: vertical ribs or flutes between two rings.

    Args:
        style: style of the landmark.
        rng: source of the differences between surfaces.
        color: color of the surface.
        width: width in meters.
        height: height in meters.
        ribs: number of ribs or flutes.
    """
    canvas = Canvas(rng, width, height, style.smooth, color)
    for rib in range(ribs):
        x = width * (rib + 0.5) / ribs
        canvas.rectangle(x, 0, 0.35 * width / ribs, height, tint(color, 0.78), 10)
    for y, tall in ((0.0, 0.05 * height), (0.95 * height, 0.05 * height)):
        canvas.rectangle(0, y, width, tall, tint(color, 1.1), 16)
    return canvas.texture()


def plain(style: Style, rng: np.random.Generator, color: Color, width: float, height: float) -> Texture:
    """Draws smooth weathered stone of the given color."""
    return Canvas(rng, width, height, style.smooth, color).texture()


def curtain(style: Style, rng: np.random.Generator, width: float, height: float) -> Texture:
    """Draws the curtain wall of a modern tower: glass between mullions and floor bands.

    Bays with only a slit form the pattern of the landmark.
    """
    pattern = np.random.default_rng(style.seed + 2)
    canvas = Canvas(rng, width, height, style.smooth, tint(style.trim_color, 0.9))
    columns, rows = max(3, round(width / (0.55 * style.bay))), max(2, round(height / (3.0 + 2 * style.surround)))
    wide, tall = width / columns, height / rows
    solid = pattern.random((int(pattern.integers(2, 6)), int(pattern.integers(1, 5)))) < 0.3
    band = 0.08 + 0.5 * float(pattern.random()) ** 2
    slit = opening("flat", 0.4 * wide, 0.3 * tall, 0.2 * wide, 0.5 * tall)
    pane = opening("flat", 0.08 * wide, band * tall, 0.84 * wide, (1 - band) * tall)
    for row in range(rows):
        for column in range(columns):
            shape = slit if solid[column % solid.shape[0], row % solid.shape[1]] else pane
            glass = tint((70, 86, 98), float(rng.uniform(0.8, 1.25)))
            moved = [(x + column * wide, y + row * tall) for x, y in shape]
            canvas.polygon(moved, glass, -8, int(rng.integers(40, 256)))
    return canvas.texture()
