"""Builders of the kinds of landmark.

Each function adds the faces of one landmark to the mesh of a `Site`, with sizes drawn from the random generator of the
site, and lists its distinctive details for close-up views.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from glam.datasets.synthetic.facades import curtain, plain
from glam.datasets.synthetic.sites import COPPER, GILT, Site


def cathedral(site: Site) -> None:
    """Builds a gabled nave with two towers, a tower at one side, or a tower over the nave."""
    wide, deep, tall = site.lot(10, 14), site.lot(24, 34), site.lot(13, 20)
    half = wide / 2
    site.mesh.box((-half, 0, 0), (half, deep, tall), site.wall(wide, tall, center="rose"), site.wall(deep, tall))
    rise = wide * site.lot(0.45, 0.85)
    end = site.wall(wide, rise, blind=True, center="crest")
    site.mesh.gable((-half, 0, tall), (half, deep, tall + rise), site.roof(deep, 10, dormers=True), end)
    side, height = site.lot(5, 7.5), tall * site.lot(1.2, 1.8)
    layout = site.style.seed // 11 % 3
    if layout == 0:
        for x in (-half - side / 2, half + side / 2):
            site.tower(x, side / 2, 0, side, height, center="clock" if x > 0 and site.style.seed % 5 == 0 else "window")
    elif layout == 1:
        site.tower(half + side / 2, side / 2, 0, side, height, center="clock")
    else:
        site.tower(0, deep * 0.6, 0, side * 1.3, tall + height)
    site.details += [(0, 0, 0.6 * tall, 0.8 * wide), (0, 0, 0.2 * tall, wide), (0, 0, tall, 1.4 * wide)]


def bell_tower(site: Site) -> None:
    """Builds a tall tower, alone or in front of a low hall."""
    side, height = site.lot(6.5, 10), site.lot(24, 40)
    center = ("clock", "crest", "window")[int(site.rng.integers(3))]
    top = site.tower(0, side / 2, 0, side, height, center=center)
    tall = site.lot(5, 9)
    if site.rng.random() < 0.6:
        wide = site.lot(16, 26)
        site.mesh.box(
            (-wide / 2, 1.0, 0), (wide / 2, side + 3, tall), site.wall(wide, tall), site.wall(side, tall), site.plain()
        )
    site.details += [
        (0, 0, 0.85 * height, 1.6 * side),
        (0, 0, 0.6 * top, 1.8 * side),
        (0, 0, 0.12 * height, 1.4 * side),
    ]


def temple(site: Site) -> None:
    """Builds a portico of columns on steps below a pediment."""
    wide, deep, tall = site.lot(16, 26), site.lot(14, 22), site.lot(8, 12)
    stone = site.plain(1.02)
    steps = int(site.rng.integers(2, 6))
    for step in range(steps):
        grow = (steps - step) * 0.7
        site.mesh.box(
            (-wide / 2 - grow, -grow - 3, step * 0.4),
            (wide / 2 + grow, deep + grow, step * 0.4 + 0.4),
            stone,
            top=stone,
        )
    base = 0.4 * steps
    site.mesh.box(
        (-wide / 2 + 1, 1.5, base),
        (wide / 2 - 1, deep, base + tall),
        site.wall(wide, tall, center="door"),
        site.wall(deep, tall),
    )
    flutes = site.skin(site.style.trim_color, 4, tall, int(site.rng.integers(6, 20)))
    site.colonnade(-wide / 2 + 1, wide / 2 - 1, -1.6, base, tall, int(site.rng.integers(4, 10)), flutes)
    beam = site.lot(1.4, 2.6)
    lintel = site.wall(wide, beam, blind=True, center="text")
    site.mesh.box((-wide / 2, -2.8, base + tall), (wide / 2, deep, base + tall + beam), lintel, site.plain(), stone)
    rise = wide * site.lot(0.14, 0.24)
    ridge = base + tall + beam + rise
    end = site.wall(wide, rise, blind=True, center="crest")
    site.mesh.gable((-wide / 2, -2.8, base + tall + beam), (wide / 2, deep, ridge), site.roof(deep, 9), end)
    if site.rng.random() < 0.6:
        for x in (-wide / 2 + 0.5, 0, wide / 2 - 0.5):
            site.statue(x, -2.2, ridge - rise if x else ridge, 2.6, stone)
    site.details += [(0, -2.8, base + tall + beam, 0.6 * wide), (0, -1.6, base + tall / 2, 0.6 * wide)]


def domed_church(site: Site) -> None:
    """Builds a drum and a dome on a square body with a door, in some styles with four small domes or minarets."""
    wide, tall = site.lot(18, 26), site.lot(9, 14)
    half = wide / 2
    face = site.wall(wide, tall, center="door")
    site.mesh.box((-half, 0, 0), (half, wide, tall), face, site.wall(wide, tall), site.plain(0.9))
    radius, drum = wide * site.lot(0.26, 0.38), site.lot(3, 7)
    belt = site.wall(min(30, 2 * math.pi * radius), drum)
    site.mesh.turned((0, half), [(radius, tall), (radius, tall + drum)], belt, sides=16)
    skin = site.skin(site.dome_color(), 6 * radius, 2 * radius, int(site.rng.integers(8, 24)))
    onion = site.rng.random() < 0.3
    top = site.dome(0, half, tall + drum, radius, skin, onion=onion)
    site.mesh.turned(
        (0, half),
        [(0.16 * radius, top - 0.3 * radius), (0.16 * radius, top), (0, top + 0.3 * radius)],
        site.plain(1.05),
        sides=8,
    )
    if site.style.seed // 13 % 3 < 2:
        _corner_turrets(site, wide, tall, belt, skin, onion=onion)
    site.details += [(0, 0, 0.4 * tall, 0.7 * wide), (0, half - radius, tall + drum, 2.4 * radius)]


def _corner_turrets(site: Site, wide: float, tall: float, belt: int, skin: int, *, onion: bool) -> None:
    """Adds four small domes on the corners of a square body, or four minarets next to the corners."""
    half, small, high = wide / 2, wide * site.lot(0.08, 0.13), tall * site.lot(2.0, 2.4)
    for side in (-1, 1):
        for y in (small, wide - small):
            if site.style.seed // 13 % 3 == 0:
                x, top = side * (half - small), tall + 2.4 * small
                site.mesh.turned((x, y), [(small, tall), (small, top)], belt, sides=8)
                site.dome(x, y, top, small, skin, onion=onion)
            else:
                shaft = [(0.6, 0), (0.6, 0.7), (0.9, 0.72), (0.6, 0.75), (0.6, 1), (0, 1.15)]
                profile = [(r * small, t * high) for r, t in shaft]
                site.mesh.turned((side * 1.25 * half, y), profile, belt, sides=8)


def palace(site: Site) -> None:
    """Builds a long front with a raised middle and, often, pavilions at both ends."""
    wide, deep, tall = site.lot(30, 44), site.lot(12, 16), site.lot(10, 15)
    site.mesh.box(
        (-wide / 2, 0, 0), (wide / 2, deep, tall), site.wall(wide, tall), site.wall(deep, tall), site.plain(0.8)
    )
    rise = site.lot(2.5, 5)
    slope = site.roof(wide, rise, dormers=True)
    site.mesh.gable(
        (-wide / 2, 0, tall), (wide / 2, deep, tall + rise), slope, site.wall(deep, rise, blind=True), along="x"
    )
    middle, high = wide * site.lot(0.22, 0.34), tall * site.lot(1.1, 1.4)
    _pavilion(site, 0.0, middle, deep, high)
    center = ("clock", "crest", "text")[int(site.rng.integers(3))]
    reach, attic = 0.4 * middle, high + 0.2 * middle
    crown = site.wall(2 * reach, 0.2 * middle, blind=True, center=center)
    site.mesh.box((-reach, -1.8, high), (reach, 0, attic), crown)
    if site.style.seed // 17 % 3 == 1:
        site.dome(0, deep / 2, high, 0.36 * middle, site.skin(site.dome_color(), 3 * middle, middle, 12))
    if site.rng.random() < 0.6:
        end, end_high = wide * site.lot(0.12, 0.2), tall * site.lot(1.0, 1.3)
        _pavilion(site, -wide / 2, end, deep, end_high)
        _pavilion(site, wide / 2, end, deep, end_high)
    stone = site.plain()
    for x in np.linspace(-wide / 2 + 1, wide / 2 - 1, int(site.rng.integers(2, 9))):
        if abs(x) > middle / 2:
            site.statue(float(x), 0.6, tall, 2.2, stone)
    site.details += [(0, -2, 0.5 * tall, 1.1 * middle), (0, -2, high, 1.3 * middle)]
    site.details += [(-wide / 3, 0, 0.6 * tall, 0.3 * wide)]


def _pavilion(site: Site, x: float, width: float, deep: float, height: float) -> None:
    """Adds a protruding block of a palace, with the door if ``x`` is 0 and, in some styles, with its own roof."""
    half = width / 2
    front = site.wall(width, height, center="window" if x else "door")
    site.mesh.box((x - half, -2, 0), (x + half, deep + 1, height), front, site.wall(deep, height), site.plain())
    if site.style.seed // 17 % 3 == 0:
        corner, slope = math.sqrt(2) * half, site.roof(width, width * 0.4)
        profile = [(corner, height), (0.6 * corner, height + 0.4 * width), (0, height + 0.5 * width)]
        site.mesh.turned((x, half), profile, slope, sides=4, each_side=True)


def gate(site: Site) -> None:
    """Builds a triumphal arch or city gate with an inscription above the arch and statues on top."""
    wide, deep, tall = site.lot(14, 24), site.lot(5, 8), site.lot(11, 18)
    attic = tall * site.lot(0.18, 0.3)
    three = site.rng.random() < 0.5
    gap, rise = wide * (0.24 if three else 0.34), (tall - attic) * site.lot(0.7, 0.86)
    piers = [(-wide / 2, -gap / 2), (gap / 2, wide / 2)]
    for x0, x1 in piers:
        skin = site.wall(x1 - x0, tall - attic, blind=not three, center="crest" if not three else "door")
        site.mesh.box((x0, 0, 0), (x1, deep, tall - attic), skin, site.wall(deep, tall - attic, blind=True))
    head = (tall - attic) - rise
    vault = site.wall(gap, head + gap / 2, blind=True)
    arc = [(gap / 2 * math.cos(t), rise - gap / 2 + gap / 2 * math.sin(t)) for t in np.linspace(math.pi, 0, 11)]
    top = tall - attic
    for y, turn in ((0.0, 1.0), (deep, -1.0)):
        ring = [(turn * x, y, z) for x, z in arc]
        corners = [*ring, (turn * gap / 2, y, top), (-turn * gap / 2, y, top)]
        site.mesh.polygon(corners, (-turn * gap / 2, y, top), (turn * gap, 0, 0), (0, 0, -head - gap / 2), vault)
    soffit = site.plain(0.7)
    for (x0, z0), (x1, z1) in pairwise(arc):
        site.mesh.quad((x0, 0, z0), (x1 - x0, 0, z1 - z0), (0, deep, 0), soffit)
    text = site.wall(wide, attic, blind=True, center="text")
    site.mesh.box((-wide / 2 - 0.4, -0.4, top), (wide / 2 + 0.4, deep + 0.4, tall), text, site.plain(), site.plain())
    count = int(site.rng.integers(2, 7))
    flutes = site.skin(site.style.trim_color, 4, tall, 10)
    for side in (-1, 1):
        site.colonnade(side * (gap / 2 + 0.8), side * (wide / 2 - 0.7), -0.8, 0, top, max(1, count // 2), flutes)
    stone = site.mesh.add(plain(site.style, site.rng, (COPPER, GILT, site.style.trim_color)[site.style.seed % 3], 6, 6))
    for x in np.linspace(-wide / 4, wide / 4, int(site.rng.integers(1, 5))):
        site.statue(float(x), deep / 2, tall, site.lot(2.5, 5), stone)
    site.details += [
        (0, 0, tall - attic / 2, 0.8 * wide),
        (wide / 3, 0, 0.45 * tall, 0.5 * wide),
        (0, 0, top, 0.7 * wide),
    ]


def castle(site: Site) -> None:
    """Builds round towers joined by a wall with battlements, and a gatehouse."""
    wide, tall = site.lot(22, 34), site.lot(8, 12)
    site.mesh.box(
        (-wide / 2, 0, 0),
        (wide / 2, 3, tall),
        site.wall(wide, tall, blind=True),
        site.wall(3, tall, blind=True),
        site.plain(0.8),
    )
    stone = site.wall(6, 2, blind=True)
    for x in np.arange(-wide / 2 + 0.5, wide / 2, 2.2):
        site.mesh.box((float(x), 0, tall), (float(x) + 1.2, 0.7, tall + 1.1), stone)
    capped = site.rng.random() < 0.6
    count = int(site.rng.integers(2, 5))
    for x in np.linspace(-wide / 2, wide / 2, count):
        if abs(x) < 4:
            continue
        radius, high = site.lot(2.4, 3.8), tall * site.lot(1.1, 2.0)
        skin = site.wall(16, high)
        lip = 1.16 * radius
        site.mesh.turned(
            (float(x), 1),
            [(1.1 * radius, 0), (radius, 2), (radius, high - 2), (lip, high - 1.4), (lip, high)],
            skin,
            sides=12,
        )
        if capped:
            rise = radius * site.lot(1.6, 3.2)
            site.mesh.turned((float(x), 1), [(1.2 * lip, high), (0, high + rise)], site.roof(14, rise), sides=12)
    keep, high = site.lot(6, 9), tall * site.lot(1.2, 2.2)
    front = site.wall(keep, high, center="door")
    site.mesh.box((-keep / 2, -1.2, 0), (keep / 2, 6, high), front, site.wall(7, high), site.plain())
    for x in np.arange(-keep / 2, keep / 2 - 0.6, 1.7):
        site.mesh.box((float(x), -1.3, high), (float(x) + 0.9, -0.6, high + 1.0), stone)
    site.details += [(0, -1.2, 0.3 * high, 1.2 * keep), (0, -1.2, 0.8 * high, 1.3 * keep), (wide / 2.4, 0, tall, 9)]


def town_hall(site: Site) -> None:
    """Builds a gabled or stepped front with a tower on the ridge or at one corner."""
    wide, deep, tall = site.lot(14, 22), site.lot(16, 22), site.lot(10, 15)
    half, rise = wide / 2, wide * site.lot(0.4, 0.7)
    site.mesh.box((-half, 0, 0), (half, deep, tall), site.wall(wide, tall, center="door"), site.wall(deep, tall))
    gable = site.wall(wide, rise, center=("clock", "crest", "window")[int(site.rng.integers(3))])
    site.mesh.gable((-half, 0, tall), (half, deep, tall + rise), site.roof(deep, 10, dormers=True), gable)
    if site.rng.random() < 0.6:
        steps = int(site.rng.integers(4, 8))
        for step in range(steps):
            reach, z = half * (1 - step / steps), tall + rise * step / steps
            corners = [
                (-reach, -0.3, z),
                (-reach, -0.3, z + rise / steps),
                (reach, -0.3, z + rise / steps),
                (reach, -0.3, z),
            ]
            site.mesh.polygon(corners, (-half, -0.3, tall + rise), (wide, 0, 0), (0, 0, -rise), gable)
    side = site.lot(3.5, 5)
    x = float(site.rng.choice([-half, 0.0, half]))
    site.tower(
        x,
        2.0 if x else deep / 2,
        0 if x else tall + 0.5 * rise,
        side,
        (tall + rise) * site.lot(0.9, 1.2) if x else 9.0,
        center="clock",
    )
    site.details += [(0, 0, 0.3 * tall, 0.7 * wide), (0, 0, tall + 0.3 * rise, 0.8 * wide)]


def monument(site: Site) -> None:
    """Builds a statue, an obelisk, or a column on a stepped plinth with an inscription or a crest."""
    side, steps = site.lot(4, 7), int(site.rng.integers(2, 6))
    stone = site.plain()
    for step in range(steps):
        reach = side / 2 + 0.8 * (steps - step)
        site.mesh.box((-reach, -reach, 0.35 * step), (reach, reach, 0.35 * step + 0.35), stone, top=stone)
    base, tall = 0.35 * steps, site.lot(3.5, 7)
    skin = site.wall(side, tall, blind=True, center=("text", "crest")[site.style.seed % 2])
    site.mesh.box((-side / 2, -side / 2, base), (side / 2, side / 2, base + tall), skin, top=stone)
    top, high, radius = base + tall, site.lot(9, 22), 0.3 * side
    kind = int(site.rng.integers(3))
    bronze = site.mesh.add(plain(site.style, site.rng, (COPPER, GILT, (84, 76, 66))[site.style.seed // 2 % 3], 6, 6))
    if kind == 0:
        shaft = site.wall(2 * radius, high, blind=True, center="text")
        profile = [(radius * 1.2, top), (radius * 0.75, top + high), (0, top + high + 1.2 * radius)]
        site.mesh.turned((0, 0), profile, shaft, sides=4, each_side=True)
    elif kind == 1:
        shaft = site.skin(site.style.trim_color, 6, high, int(site.rng.integers(8, 22)))
        profile = [(1.3, 0), (1.3, 0.05), (1, 0.08), (0.85, 0.9), (1.4, 0.95), (1.4, 1)]
        site.mesh.turned((0, 0), [(r * radius, top + t * high) for r, t in profile], shaft, sides=12)
        site.statue(0, 0, top + high, site.lot(3, 5), bronze)
    else:
        site.statue(0, 0, top, high * 0.6, bronze)
    for x in (-side * 0.7, side * 0.7):
        site.statue(x, -side * 0.7, base, site.lot(2.2, 4), bronze)
    site.details += [(0, -side / 2, base + tall / 2, 1.4 * side), (0, 0, top, 2.4 * side)]


def pagoda(site: Site) -> None:
    """Builds shrinking storeys, each below a wide curved roof."""
    half, z = site.lot(5, 8), 0.0
    sides = (4, 4, 8, 6)[int(site.rng.integers(4))]
    shrink, tall = site.lot(0.78, 0.92), site.lot(3.2, 5)
    corner = math.cos(math.pi / sides)
    for _ in range(int(site.rng.integers(3, 8))):
        skin = site.wall(2 * half * math.tan(math.pi / sides), tall)
        site.mesh.turned((0, half), [(half / corner, z), (half / corner, z + tall)], skin, sides=sides, each_side=True)
        z += tall
        eaves = [(1.0, -0.05), (1.45, -0.1), (1.12, 0.12), (0.8, 0.45)]
        profile = [(r * half / corner, z + t * 0.6 * tall) for r, t in eaves]
        site.mesh.turned((0, half), profile, site.roof(2.4 * half, 0.5 * tall), sides=sides, each_side=True)
        z += 0.2 * tall
        half_next, tall = half * shrink, tall * 0.94
        site.details.append((0, 0, z - tall, 2.6 * half))
        half = half_next
    site.mesh.turned(
        (0, site.details[0][3] / 2.6),
        [(half, z), (0.3, z + 0.5 * tall), (0, z + 2.2 * tall)],
        site.roof(8, 4),
        sides=sides,
    )


def high_rise(site: Site) -> None:
    """Builds a modern tower of two to four stacked blocks that shift and shrink."""
    half, z, x = site.lot(6, 10), 0.0, 0.0
    for _ in range(int(site.rng.integers(2, 5))):
        tall = site.lot(8, 22)
        front = site.mesh.add(curtain(site.style, site.rng, 2 * half, tall))
        if site.style.seed % 3 == 0:
            site.mesh.turned((x, 8), [(half, z), (half, z + tall)], front, sides=14)
            site.mesh.turned((x, 8), [(half, z + tall), (0, z + tall + 0.3)], site.plain(0.8), sides=14)
        else:
            site.mesh.box((x - half, 8 - half, z), (x + half, 8 + half, z + tall), front, top=site.plain(0.8))
        site.details.append((x, 8 - half, z + 0.7 * tall, 1.6 * half))
        z += tall
        x += half * float(site.rng.choice([0.0, 0.0, -0.2, 0.2]))
        half *= site.lot(0.7, 0.98)
    rise = site.lot(3, 12)
    site.mesh.turned((x, 8), [(0.5, z), (0.15, z + rise)], site.plain(0.7), sides=6)


KINDS: tuple[Callable[[Site], None], ...] = (
    cathedral, bell_tower, temple, domed_church, palace, gate, castle, town_hall, monument, pagoda, high_rise,
)  # fmt: skip
