"""Line charts as small SVG files that follow the light or dark theme of the page around them."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from glam.output import write_output

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.faint { fill: #6e7781 } .grid { stroke: #d0d7de } .strong { font-weight: 600 }
.s0 { --c: #0969da } .s1 { --c: #bc4c00 } .s2 { --c: #1a7f37 }
.mark { fill: var(--c) } .curve { fill: none; stroke: var(--c); stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .faint { fill: #8d96a0 } .grid { stroke: #30363d }
  .s0 { --c: #58a6ff } .s1 { --c: #f0883e } .s2 { --c: #3fb950 }
}
"""

Curve = Sequence[tuple[float, float]]
"""(x, y) points of a curve."""


class Chart:
    """An SVG drawing. Coordinates are in pixels, with y downwards.

    Args:
        width: width in pixels.
        height: height in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._elements: list[str] = []

    def text(self, x: float, y: float, words: str, style: str = "", *, anchor: str = "start") -> None:
        """Adds text at a point.

        Args:
            x: x of the anchor.
            y: y of the baseline.
            words: the text.
            style: classes of `STYLE`, separated by spaces.
            anchor: which point of the text is at x: ``start``, ``middle``, or ``end``.
        """
        self._add(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{escape(words)}</text>')

    def curve(self, points: Curve, style: str = "curve s0") -> None:
        """Adds a line through points, with the given classes of `STYLE`."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._add(f'<polyline points="{path}" class="{style}"/>')

    def dot(self, x: float, y: float, style: str = "mark s0") -> None:
        """Adds a dot at a point, with the given classes of `STYLE`."""
        self._add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="{style}"/>')

    def grid(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """Adds a faint line from (x1, y1) to (x2, y2)."""
        self._add(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="grid"/>')

    def write(self, path: Path) -> None:
        """Writes the drawing as an SVG file, atomically.

        Raises:
            GlamError: the file cannot be written.
        """
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        body = "\n".join(self._elements)
        with write_output(path) as partial:
            partial.write_text(
                f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{STYLE}</style>\n{body}\n</svg>\n',
                encoding="utf-8",
            )

    def _add(self, element: str) -> None:
        self._elements.append(element)


class Axis:
    """A linear scale from values to pixels that ends at round numbers.

    Args:
        values: values that the scale has to cover.
        start: pixel of the low end.
        end: pixel of the high end.
        most: approximate maximum number of ticks.
        least: smallest distance between ticks.
    """

    def __init__(self, values: Sequence[float], start: float, end: float, most: int = 5, least: float = 0) -> None:
        low, high = min(values), max(values)
        self.step = _round_step(max(max(high - low, 1e-3 * abs(high), 1e-6) / most, least))
        self.low = math.floor(low / self.step + 1e-9) * self.step
        self.high = max(math.ceil(high / self.step - 1e-9) * self.step, self.low + self.step)
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yields the pixel and the label of each tick."""
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        for i in range(round((self.high - self.low) / self.step) + 1):
            value = self.low + i * self.step
            yield self(value), f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _round_step(least: float) -> float:
    """The smallest number of the form 1, 2, or 5 times a power of ten that is at least ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))


def line_chart(path: Path, title: str, curves: dict[str, Curve], x_name: str) -> None:
    """Draws curves over a shared x axis, with a legend if there are several.

    Args:
        path: path of the SVG file.
        title: title of the chart.
        curves: up to three curves by name, with finite y; curves without points are skipped.
        x_name: label of the x axis.

    Raises:
        GlamError: the file cannot be written.
    """
    drawn = {name: curve for name, curve in curves.items() if curve}
    chart = Chart(640, 320)
    points = [point for curve in drawn.values() for point in curve] or [(0.0, 0.0)]
    x = Axis([point[0] for point in points], 60, 620, most=8, least=1)
    y = Axis([point[1] for point in points], 270, 40)
    chart.text(60, 22, title, "strong")
    for pixel, label in y.ticks():
        chart.grid(60, pixel, 620, pixel)
        chart.text(52, pixel + 4, label, "faint", anchor="end")
    for pixel, label in x.ticks():
        chart.text(pixel, 288, label, "faint", anchor="middle")
    chart.text(340, 310, x_name, "faint", anchor="middle")
    for i, (name, curve) in enumerate(drawn.items()):
        chart.curve([(x(a), y(b)) for a, b in curve], f"curve s{i}")
        chart.dot(x(curve[-1][0]), y(curve[-1][1]), f"mark s{i}")
        if len(drawn) > 1:
            chart.dot(620 - 150 * (len(drawn) - i), 18, f"mark s{i}")
            chart.text(630 - 150 * (len(drawn) - i), 22, name)
    chart.write(path)
