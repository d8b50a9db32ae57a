"""Random styles, which distinguish landmarks of the same kind: palette, masonry, windows, and ornament.

The palettes are small and shared, so that color alone does not identify a landmark; the details vary widely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glam.datasets.synthetic.canvas import Color, Material, masonry, tint

WALLS: tuple[Color, ...] = (
    (203, 190, 163),  # limestone
    (178, 168, 152),  # gray stone
    (196, 168, 128),  # sandstone
    (164, 104, 82),  # brick
    (214, 206, 192),  # pale plaster
)
ROOFS: tuple[Color, ...] = ((96, 100, 108), (140, 84, 66), (104, 132, 118), (82, 78, 76))
FRAMES: tuple[Color, ...] = ((72, 62, 54), (212, 208, 198), (58, 72, 64))
DOORS: tuple[Color, ...] = ((92, 60, 40), (58, 66, 58), (84, 42, 38))
HEADS = ("flat", "round", "pointed", "segmental", "ogee")
HOODS = ("none", "none", "pediment", "lintel", "keystone")
ORNAMENTS = ("none", "diamonds", "discs", "panels", "swags", "crosses", "arcade")
CORNICES = ("plain", "dentils", "arcade", "corbels", "balustrade")
PIXELS_PER_METER = 22.0
"""Resolution of the textures (arbitrary)."""


@dataclass(frozen=True)
class Storey:
    """A storey of windows, repeated along the walls of a landmark.

    Attributes:
        height: relative height; the shares of all storeys of a wall are normalized.
        head: shape of the top of a window, one of `HEADS`.
        window: width and height of the opening, as shares of the bay and the storey.
        lights: number of panes across and up.
        paired: whether a bay has two narrow windows instead of one.
        hood: shape above the window, one of `HOODS`.
        ornament: ornament below the storey, one of `ORNAMENTS`.
        balcony: whether the windows have balconies.
    """

    height: float
    head: str
    window: tuple[float, float]
    lights: tuple[int, int]
    paired: bool
    hood: str
    ornament: str
    balcony: bool


@dataclass(frozen=True)
class Style:
    """The style of a landmark.

    Attributes:
        wall: masonry of the walls.
        tiles: tiles of the roofs.
        smooth: smooth stone.
        wall_color: color of the walls.
        trim_color: color of surrounds, cornices, and ornaments.
        roof_color: color of the roofs.
        frame_color: color of window frames and balconies.
        door_color: color of the doors.
        storeys: four kinds of storey, from the ground up.
        bay: distance between windows in meters.
        surround: width of the frame around a window in meters.
        cornice: shape of the cornices, one of `CORNICES`.
        pilasters: whether walls have pilasters.
        quoins: whether walls have quoins at their edges.
        banded: whether walls have horizontal bands.
        petals: number of petals of a rose window.
        seed: seed of further choices, such as crests, inscriptions, and the tops of towers.
    """

    wall: Material
    tiles: Material
    smooth: Material
    wall_color: Color
    trim_color: Color
    roof_color: Color
    frame_color: Color
    door_color: Color
    storeys: tuple[Storey, ...]
    bay: float
    surround: float
    cornice: str
    pilasters: bool
    quoins: bool
    banded: bool
    petals: int
    seed: int

    def storeys_for(self, height: float) -> tuple[Storey, ...]:
        """The storeys of a wall ``height`` meters high, from the ground up; the upper ones repeat."""
        count = max(1, min(7, round(height / 4.2)))
        return tuple(self.storeys[min(level, len(self.storeys) - 1 - level % 2)] for level in range(count))


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _jitter(rng: np.random.Generator, color: Color, spread: float = 0.05) -> Color:
    red, green, blue = (channel * float(1 + spread * rng.uniform(-1, 1)) for channel in color)
    return tint((red, green, blue), float(rng.uniform(0.94, 1.06)))


def _choose(rng: np.random.Generator, palette: tuple[Color, ...]) -> Color:
    return _jitter(rng, palette[int(rng.integers(len(palette)))])


def random_storey(rng: np.random.Generator, head: str) -> Storey:
    """Draws a storey, usually with the given ``head``, one of `HEADS`."""
    return Storey(
        height=float(rng.uniform(0.8, 1.3)),
        head=head if rng.random() < 0.65 else _pick(rng, HEADS),
        window=(float(rng.uniform(0.34, 0.62)), float(rng.uniform(0.5, 0.76))),
        lights=(int(rng.integers(1, 4)), int(rng.integers(1, 5))),
        paired=bool(rng.random() < 0.25),
        hood=_pick(rng, HOODS),
        ornament=_pick(rng, ORNAMENTS),
        balcony=bool(rng.random() < 0.15),
    )


def random_style(rng: np.random.Generator) -> Style:
    """Draws the style of a landmark."""
    wall_color = _choose(rng, WALLS)
    brick = wall_color[0] - wall_color[2] > 70
    block = (0.9, 0.32) if brick else (float(rng.uniform(0.9, 2.2)), float(rng.uniform(0.45, 1.0)))
    head = _pick(rng, HEADS)
    trim_source = WALLS[0] if brick or rng.random() < 0.3 else tint(wall_color, float(rng.uniform(0.86, 1.16)))
    return Style(
        wall=masonry(rng, scale=PIXELS_PER_METER, block=block, contrast=float(rng.uniform(0.015, 0.09))),
        tiles=masonry(
            rng, scale=PIXELS_PER_METER, block=(0.55, 0.45), contrast=float(rng.uniform(0.05, 0.1)), size=400
        ),
        smooth=masonry(rng, scale=PIXELS_PER_METER, block=(3.0, 1.4), contrast=0.015, size=400),
        wall_color=wall_color,
        trim_color=_jitter(rng, trim_source, 0.03),
        roof_color=_choose(rng, ROOFS),
        frame_color=_choose(rng, FRAMES),
        door_color=_choose(rng, DOORS),
        storeys=tuple(random_storey(rng, head) for _ in range(4)),
        bay=float(rng.uniform(2.3, 4.2)),
        surround=float(rng.uniform(0.1, 0.34)),
        cornice=_pick(rng, CORNICES),
        pilasters=bool(rng.random() < 0.4),
        quoins=bool(rng.random() < 0.4),
        banded=bool(rng.random() < 0.25),
        petals=int(rng.integers(5, 15)),
        seed=int(rng.integers(2**32)),
    )
