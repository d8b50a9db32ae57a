"""Elements of a wall: windows, doors, rose windows, clocks, crests, and inscriptions.

All lengths are in meters. A ``box`` is (x, y, width, height) with its lower left corner at (x, y).
"""

from __future__ import annotations

import math

import numpy as np

from glam.datasets.synthetic.canvas import Canvas, Color, Point, tint
from glam.datasets.synthetic.styles import Storey, Style

GLASS: Color = (58, 66, 76)
SHADE: Color = (52, 46, 42)


def opening(head: str, x: float, y: float, width: float, height: float) -> list[Point]:
    """The outline of a door or a window.

    Args:
        head: shape of the top, one of `glam.datasets.synthetic.styles.HEADS`.
        x: left edge in meters.
        y: lower edge in meters.
        width: width in meters.
        height: height in meters.
    """
    middle, top = x + width / 2, y + height
    rise = min(
        height * 0.8, {"flat": 0.0, "segmental": 0.18, "round": 0.5, "pointed": 0.85, "ogee": 0.95}[head] * width
    )
    if head == "flat":
        return [(x, y), (x + width, y), (x + width, top), (x, top)]
    curve: list[Point] = []
    for step in range(9):
        across = step / 8
        if head == "pointed":
            up = math.sqrt(max(0.0, 1 - across**2))
            across = 1 - up
            up = step / 8
        elif head == "ogee":
            up = 0.5 - 0.5 * math.cos(math.pi * across) if across > 0.5 else math.sqrt(across / 2)
        else:
            up = math.sqrt(max(0.0, 1 - (1 - across) ** 2))
        curve.append((across * width / 2, up * rise))
    left = [(x + right, top - rise + up) for right, up in curve]
    right = [(2 * middle - px, py) for px, py in reversed(left)]
    return [(x, y), *left, *right, (x + width, y)]


def window(
    canvas: Canvas, style: Style, storey: Storey, rng: np.random.Generator, box: tuple[float, float, float, float]
) -> None:
    """Draws a window with surround, reveal, glass, glazing bars, sill, and hood.

    Args:
        canvas: canvas to draw on.
        style: style of the landmark.
        storey: storey of the window.
        rng: source of the brightness of the glass.
        box: (x, y, width, height) of the opening in meters.
    """
    x, y, width, height = box
    edge, trim = style.surround, style.trim_color
    canvas.polygon(opening(storey.head, x - edge, y - edge / 2, width + 2 * edge, height + 1.5 * edge), trim, 7)
    canvas.polygon(opening(storey.head, x, y, width, height), SHADE, -22)
    pane = tint(GLASS, float(rng.uniform(0.75, 1.3)))
    inset = min(0.1, 0.1 * width)
    light = int(rng.integers(40, 256))
    canvas.polygon(opening(storey.head, x + inset, y + inset, width - 2 * inset, height - 2 * inset), pane, -22, light)
    across, up = storey.lights
    for bar in range(1, across):
        right = x + width * bar / across
        canvas.line((right, y), (right, y + height * 0.97), 0.07, style.frame_color, -14)
    for bar in range(1, up):
        level = y + height * bar / up
        canvas.line((x, level), (x + width, level), 0.06, style.frame_color, -14)
    canvas.rectangle(x - edge, y - 0.22, width + 2 * edge, 0.2, tint(trim, 1.08), 12)
    _hood(canvas, style, storey, box)
    if storey.balcony:
        _balcony(canvas, x - 0.4, y, width + 0.8, style)


def _hood(canvas: Canvas, style: Style, storey: Storey, box: tuple[float, float, float, float]) -> None:
    x, y, width, height = box
    top, edge = y + height + style.surround, style.surround + 0.12
    trim = tint(style.trim_color, 1.05)
    if storey.hood == "lintel":
        canvas.rectangle(x - edge, top, width + 2 * edge, 0.28, trim, 14)
        canvas.rectangle(x - edge, top - 0.12, width + 2 * edge, 0.12, tint(trim, 0.55), 0)
    elif storey.hood == "pediment":
        canvas.polygon([(x - edge, top), (x + width + edge, top), (x + width / 2, top + 0.34 * width)], trim, 14)
        inner = 0.55 * edge
        canvas.polygon(
            [(x + inner, top + 0.1), (x + width - inner, top + 0.1), (x + width / 2, top + 0.24 * width)],
            tint(trim, 0.75),
            3,
        )
    elif storey.hood == "keystone":
        middle = x + width / 2
        canvas.polygon(
            [
                (middle - 0.14, top - 0.45),
                (middle + 0.14, top - 0.45),
                (middle + 0.24, top + 0.2),
                (middle - 0.24, top + 0.2),
            ],
            tint(trim, 1.1),
            14,
        )


def _balcony(canvas: Canvas, x: float, y: float, width: float, style: Style) -> None:
    canvas.rectangle(x, y - 0.3, width, 0.3, style.trim_color, 25)
    canvas.rectangle(x, y - 0.55, width, 0.25, tint(style.trim_color, 0.5), 0)
    canvas.rectangle(x, y + 0.85, width, 0.12, style.frame_color, 25)
    for bar in range(int(width / 0.22) + 1):
        canvas.line((x + bar * 0.22, y), (x + bar * 0.22, y + 0.9), 0.05, style.frame_color, 25)


def portal(canvas: Canvas, style: Style, head: str, box: tuple[float, float, float, float]) -> None:
    """Draws a door behind two to four nested arches.

    Args:
        canvas: canvas to draw on.
        style: style of the landmark.
        head: shape of the top, one of `glam.datasets.synthetic.styles.HEADS`.
        box: (x, y, width, height) of the opening in meters.
    """
    x, y, width, height = box
    orders = 2 + style.seed % 3
    for order in range(orders):
        grow = (orders - order) * 0.09 * width
        shade = tint(style.trim_color, 1.08 if order % 2 == 0 else 0.7)
        canvas.polygon(opening(head, x - grow, y, width + 2 * grow, height + grow), shade, 14 - 9 * order)
    canvas.polygon(opening(head, x, y, width, height), SHADE, -25)
    leaf = 0.9 if style.seed % 2 else 0.7
    canvas.rectangle(x + 0.06 * width, y, 0.88 * width, leaf * height * 0.8, style.door_color, -20)
    canvas.line((x + width / 2, y), (x + width / 2, y + leaf * height * 0.8), 0.08, tint(style.door_color, 0.5), -25)
    for row in range(1, 4):
        for side in (0.16, 0.58):
            canvas.rectangle(
                x + side * width, y + row * 0.19 * leaf * height - 0.1 * height, 0.26 * width, 0.12 * leaf * height,
                tint(style.door_color, 1.35), -16,
            )  # fmt: skip


def rose(canvas: Canvas, style: Style, center: Point, radius: float) -> None:
    """Draws a rose window; the style selects one of three traceries and the number of petals."""
    x, y = center
    trim = style.trim_color
    canvas.disc(center, radius * 1.18, trim, 12)
    canvas.disc(center, radius * 1.08, tint(trim, 0.7), 2)
    canvas.disc(center, radius, tint(GLASS, 0.9), -20, 150)
    for petal in range(style.petals):
        angle = 2 * math.pi * petal / style.petals
        right, up = math.cos(angle), math.sin(angle)
        if style.seed % 3 != 1:
            canvas.line(
                (x + 0.25 * radius * right, y + 0.25 * radius * up), (x + radius * right, y + radius * up), 0.1, trim
            )
        if style.seed % 3 != 0:
            canvas.ring((x + 0.7 * radius * right, y + 0.7 * radius * up), radius * 2.0 / style.petals, 0.1, trim)
    canvas.ring(center, radius * 0.45, 0.12, trim)
    canvas.disc(center, radius * 0.16, trim, 6)


def clock(canvas: Canvas, style: Style, center: Point, radius: float) -> None:
    """Draws a clock with twelve marks; the style selects a light or dark face and the time."""
    x, y = center
    pale = style.seed % 2 == 0
    face, ink = ((226, 220, 204), (38, 34, 34)) if pale else ((44, 48, 60), (214, 186, 104))
    canvas.disc(center, radius * 1.2, style.trim_color, 12)
    canvas.disc(center, radius, face, 4)
    canvas.ring(center, radius * 0.95, 0.07, ink)
    for hour in range(12):
        angle = math.pi * hour / 6
        right, up = math.sin(angle), math.cos(angle)
        near = 0.65 if hour % 3 == 0 else 0.78
        canvas.line(
            (x + near * radius * right, y + near * radius * up),
            (x + 0.9 * radius * right, y + 0.9 * radius * up),
            0.1,
            ink,
        )
    for turn, length in ((style.seed % 60 / 60, 0.8), (style.seed % 12 / 12, 0.5)):
        angle = 2 * math.pi * turn
        canvas.line(center, (x + length * radius * math.sin(angle), y + length * radius * math.cos(angle)), 0.13, ink)


def crest(canvas: Canvas, style: Style, center: Point, size: float) -> None:
    """Draws a carved shield or medallion with a symmetric emblem that is unique to the landmark."""
    rng = np.random.default_rng(style.seed)
    x, y = center
    trim = tint(style.trim_color, 1.06)
    half = size / 2
    if rng.random() < 0.5:
        canvas.disc(center, half * 1.1, trim, 14)
        canvas.disc(center, half * 0.92, tint(trim, 0.72), 4)
    else:
        outline = [(x - half, y + half), (x + half, y + half), (x + half, y - 0.2 * half), (x, y - 1.2 * half)]
        canvas.polygon([*outline, (x - half, y - 0.2 * half)], trim, 14)
        canvas.polygon(
            [(x + 0.8 * (px - x), y + 0.8 * (py - y)) for px, py in [*outline, (x - half, y - 0.2 * half)]],
            tint(trim, 0.72),
            4,
        )
    for _ in range(4):
        right, up = rng.uniform(0, 0.5, 2) * half
        grow = float(rng.uniform(0.12, 0.3)) * half
        for side in (-1, 1):
            mark = (x + side * float(right), y + float(up) * 1.2 - 0.2 * half)
            if rng.random() < 0.5:
                canvas.disc(mark, grow, tint(trim, 1.1), 12)
            else:
                canvas.polygon(
                    [
                        (mark[0] - grow, mark[1]),
                        (mark[0], mark[1] + grow),
                        (mark[0] + grow, mark[1]),
                        (mark[0], mark[1] - grow),
                    ],
                    tint(trim, 1.1),
                    12,
                )


def inscription(canvas: Canvas, style: Style, box: tuple[float, float, float, float]) -> None:
    """Draws one to three lines of carved strokes that look like letters and are unique to the landmark."""
    rng = np.random.default_rng(style.seed + 1)
    x, y, width, height = box
    canvas.rectangle(x, y, width, height, tint(style.trim_color, 1.04), 6)
    ink = tint(style.trim_color, 0.42)
    lines = 1 + style.seed % 3
    letter = 0.72 * height / lines
    for line in range(lines):
        base = y + height * (lines - 1 - line) / lines + 0.14 * height / lines
        right = x + float(rng.uniform(0.4, 1.5)) * letter
        while right + letter < x + width - 0.3 * letter:
            if rng.random() < 0.84:
                for _ in range(3):
                    ends = rng.integers(0, 3, (2, 2)) * (0.25, 0.5) * letter + (right, base)
                    canvas.line((ends[0, 0], ends[0, 1]), (ends[1, 0], ends[1, 1]), 0.1, ink, -4)
            right += 0.78 * letter
