"""Parts that several kinds of landmark share, such as towers, domes, columns, and statues."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from glam.datasets.synthetic.canvas import Color, tint
from glam.datasets.synthetic.facades import belfry, plain, ribbed, tiled, wall
from glam.datasets.synthetic.solids import Mesh
from glam.datasets.synthetic.styles import Style

GILT: Color = (196, 158, 72)
COPPER: Color = (110, 150, 132)


@dataclass
class Site:
    """A landmark under construction. All lengths are in meters.

    Attributes:
        mesh: mesh that the faces are added to.
        style: style of the landmark.
        rng: source of randomness.
        details: (x, y, z, size) of the targets of close-up views.
    """

    mesh: Mesh
    style: Style
    rng: np.random.Generator
    details: list[tuple[float, float, float, float]] = field(default_factory=list)

    def lot(self, low: float, high: float) -> float:
        """Draws a length between ``low`` and ``high`` meters."""
        return float(self.rng.uniform(low, high))

    def wall(self, width: float, height: float, *, center: str = "window", blind: bool = False) -> int:
        """Adds a wall texture and returns its index; see `glam.datasets.synthetic.facades.wall`."""
        return self.mesh.add(wall(self.style, self.rng, width, height, center=center, blind=blind))

    def plain(self, factor: float = 1.0) -> int:
        """Adds a texture of smooth trim stone, brightened by ``factor``, and returns its index."""
        return self.mesh.add(plain(self.style, self.rng, tint(self.style.trim_color, factor), 8, 8))

    def roof(self, width: float, height: float, *, dormers: bool = False) -> int:
        """Adds a roof texture and returns its index; see `glam.datasets.synthetic.facades.tiled`."""
        return self.mesh.add(tiled(self.style, self.rng, width, height, dormers=dormers))

    def skin(self, color: Color, width: float, height: float, ribs: int) -> int:
        """Adds a texture of ribs or flutes and returns its index; see `glam.datasets.synthetic.facades.ribbed`."""
        return self.mesh.add(ribbed(self.style, self.rng, color, width, height, ribs))

    def dome_color(self) -> Color:
        """Draws the color of a dome: lead, copper, gilt, or tiles."""
        return ((128, 132, 138), COPPER, GILT, self.style.roof_color)[int(self.rng.integers(4))]

    def statue(self, x: float, y: float, z: float, height: float, texture: int) -> None:
        """Adds a figure with a robe, a head, and randomly raised arms.

        Args:
            x: x of its foot.
            y: y of its foot.
            z: z of its foot.
            height: height of the figure.
            texture: index of its texture.
        """
        stout = self.lot(0.85, 1.2)
        robe = [(0.15, 0), (0.17, 0.04), (0.11, 0.32), (0.16, 0.7), (0.13, 0.79), (0.045, 0.82)]
        head = [(0.045, 0.82), (0.075, 0.87), (0.07, 0.95), (0, 1)]
        self.mesh.turned((x, y), [(r * height * stout, z + t * height) for r, t in robe], texture, sides=6)
        self.mesh.turned((x, y), [(r * height, z + t * height) for r, t in head], texture, sides=5)
        for side in (-1, 1):
            low, high = ((0.42, 0.76), (0.7, 1.12), (0.6, 0.78))[int(self.rng.integers(3))]
            arm = [(0.035 * height, z + low * height), (0.045 * height, z + high * height)]
            self.mesh.turned((x + side * 0.17 * height * stout, y - 0.02 * height), arm, texture, sides=4)

    def dome(self, x: float, y: float, z: float, radius: float, texture: int, *, onion: bool = False) -> float:
        """Adds a dome with a finial.

        Args:
            x: x of the center.
            y: y of the center.
            z: z of the base.
            radius: radius of the base.
            texture: index of its texture.
            onion: whether the dome has the shape of an onion.

        Returns:
            The z of its top.
        """
        rise = radius * self.lot(0.9, 1.5)
        if onion:
            shape = [(0.8, 0), (1.08, 0.22), (1.05, 0.42), (0.72, 0.66), (0.28, 0.86), (0.04, 1.1)]
        else:
            shape = [(math.cos(t), math.sin(t)) for t in np.linspace(0, math.pi / 2 * 0.94, 6)]
        profile = [(r * radius, z + up * rise) for r, up in shape]
        self.mesh.turned((x, y), [*profile, (0.0, profile[-1][1] + 0.16 * rise)], texture, sides=14)
        return profile[-1][1] + 0.16 * rise

    def tower(self, x: float, y: float, z: float, side: float, height: float, *, center: str = "window") -> float:
        """Adds a square tower with two to four stages and a top that depends on the style.

        Args:
            x: x of the center.
            y: y of the center.
            z: z of the base.
            side: side of the lowest stage.
            height: height of all stages, without the top.
            center: centerpiece of the stage below the belfry, see `glam.datasets.synthetic.facades.wall`.

        Returns:
            The z of its top.
        """
        stages = int(self.rng.integers(2, 5))
        half, base = side / 2, z
        shares = self.rng.uniform(0.7, 1.4, stages)
        for stage, share in enumerate(shares / shares.sum()):
            tall = float(share) * height
            last = stage == stages - 1
            if last:
                skin = self.mesh.add(belfry(self.style, self.rng, 2 * half, tall))
            else:
                skin = self.wall(2 * half, tall, center=center if stage == stages - 2 else "window")
            self.mesh.box(
                (x - half, y - half, base), (x + half, y + half, base + tall), skin, top=self.plain() if last else None
            )
            if stage == stages - 2 and center != "window":
                self.details.append((x, y - half, base + tall / 2, 1.3 * side))
            base += tall
            half *= 1.0 if last else float(self.rng.choice([1.0, 0.94, 0.86]))
        return self._tower_top(x, y, base, half)

    def _tower_top(self, x: float, y: float, z: float, half: float) -> float:
        kind = self.style.seed // 3 % 5
        corner = half * math.sqrt(2)
        if kind == 0:
            rise = half * self.lot(1.6, 5.0)
            self.mesh.turned(
                (x, y), [(corner * 1.08, z), (0, z + rise)], self.roof(2 * half, rise), sides=4, each_side=True
            )
        elif kind == 1:
            rise = half * self.lot(3.0, 5.5)
            self.mesh.turned(
                (x, y), [(half, z), (half * 0.8, z + 0.15 * rise), (0, z + rise)], self.roof(6 * half, rise), sides=8
            )
        elif kind == 2:
            stone = self.wall(2 * half, 1.6, blind=True)
            step = 2 * half / 5
            for index in (-2, 0, 2):
                for across, along in ((index, -2), (index, 2), (-2, index), (2, index)):
                    px, py = x + across * step, y + along * step
                    self.mesh.box(
                        (px - step / 2, py - step / 2, z), (px + step / 2, py + step / 2, z + 0.5 * half), stone
                    )
            rise = 0.5 * half
        else:
            rise = (
                self.dome(x, y, z, 0.92 * half, self.skin(self.dome_color(), 6 * half, 2 * half, 8), onion=kind == 3)
                - z
            )
        return z + rise

    def colonnade(self, x0: float, x1: float, y: float, z: float, height: float, count: int, texture: int) -> None:
        """Adds evenly spaced columns with bases and capitals along the x axis.

        Args:
            x0: x of the first column.
            x1: x of the last column.
            y: y of the columns.
            z: z of the bases.
            height: height of the columns.
            count: number of columns.
            texture: index of their texture.
        """
        radius = min(0.09 * height, 0.3 * (x1 - x0) / max(1, count - 1))
        for x in np.linspace(x0, x1, count):
            profile = [(1.3, 0), (1.3, 0.04), (1.0, 0.06), (0.86, 0.9), (1.35, 0.96), (1.35, 1.0)]
            self.mesh.turned((float(x), y), [(r * radius, z + t * height) for r, t in profile], texture, sides=8)
