"""Geometry of a scene: flat textured faces, and boxes, roofs, and solids of revolution built from them.

All lengths are in meters. The x axis points right, y points away from the usual viewer, and z points up. The front of a
landmark faces negative y.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from glam.datasets.synthetic.canvas import Texture

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Face:
    """A flat polygon that is visible from one side.

    Attributes:
        corners: (n, 3) corners in order, in meters; the polygon need not be convex.
        origin: (3,) position of the top left corner of the texture in meters.
        right: (3,) width of the texture as a vector in meters.
        down: (3,) height of the texture as a vector in meters.
        texture: index of the texture in the mesh.
    """

    corners: NDArray[np.float64]
    origin: NDArray[np.float64]
    right: NDArray[np.float64]
    down: NDArray[np.float64]
    texture: int

    @property
    def normal(self) -> NDArray[np.float64]:
        """(3,) unit vector towards the side from which the face is visible."""
        across: NDArray[np.float64] = np.cross(self.down, self.right)
        return across / np.linalg.norm(across)


@dataclass
class Mesh:
    """Faces and their textures.

    In all methods, positions and lengths are in meters, and a texture is given by the index that `add` returned.

    Attributes:
        faces: the faces.
        textures: the textures.
    """

    faces: list[Face] = field(default_factory=list)
    textures: list[Texture] = field(default_factory=list)

    def add(self, texture: Texture) -> int:
        """Adds a texture and returns its index."""
        self.textures.append(texture)
        return len(self.textures) - 1

    def quad(self, top_left: Vector, right: Vector, down: Vector, texture: int) -> None:
        """Adds a parallelogram covered by one texture.

        Args:
            top_left: top left corner.
            right: vector from the left to the right edge.
            down: vector from the upper to the lower edge.
            texture: index of the texture.
        """
        origin, across, drop = np.array(top_left, float), np.array(right, float), np.array(down, float)
        corners = np.stack([origin, origin + across, origin + across + drop, origin + drop])
        self.faces.append(Face(corners, origin, across, drop, texture))

    def polygon(self, corners: Sequence[Vector], top_left: Vector, right: Vector, down: Vector, texture: int) -> None:
        """Adds a flat polygon that shows a part of a texture.

        Args:
            corners: corners in order.
            top_left: position of the top left corner of the texture.
            right: width of the texture as a vector.
            down: height of the texture as a vector.
            texture: index of the texture.
        """
        origin, across, drop = np.array(top_left, float), np.array(right, float), np.array(down, float)
        self.faces.append(Face(np.array(corners, float), origin, across, drop, texture))

    def box(self, low: Vector, high: Vector, front: int, side: int | None = None, top: int | None = None) -> None:
        """Adds an upright box.

        Args:
            low: corner with the smallest coordinates.
            high: corner with the largest coordinates.
            front: index of the texture of the front.
            side: index of the texture of the sides, the back, and, above the ground, the bottom; ``front`` by default.
            top: index of the texture of the top; None for no top.
        """
        (x0, y0, z0), (x1, y1, z1) = low, high
        side = front if side is None else side
        if z0 > 0:
            self.quad((x0, y0, z0), (x1 - x0, 0, 0), (0, y1 - y0, 0), side)
        drop = (0.0, 0.0, z0 - z1)
        self.quad((x0, y0, z1), (x1 - x0, 0, 0), drop, front)
        self.quad((x1, y0, z1), (0, y1 - y0, 0), drop, side)
        self.quad((x1, y1, z1), (x0 - x1, 0, 0), drop, side)
        self.quad((x0, y1, z1), (0, y0 - y1, 0), drop, side)
        if top is not None:
            self.quad((x0, y1, z1), (x1 - x0, 0, 0), (0, y0 - y1, 0), top)

    def gable(self, low: Vector, high: Vector, slope: int, end: int, *, along: str = "y") -> None:
        """Adds a gable roof.

        Args:
            low: corner of the base with the smallest coordinates.
            high: opposite corner of the base, with the z of the ridge.
            slope: index of the texture of the slopes.
            end: index of the texture of the gables.
            along: axis of the ridge, ``x`` or ``y``.
        """
        (x0, y0, z0), (x1, y1, z1) = low, high
        rise = z1 - z0
        if along == "y":
            half = (x1 - x0) / 2
            self.quad((x0 + half, y1, z1), (0, y0 - y1, 0), (-half, 0, -rise), slope)
            self.quad((x0 + half, y0, z1), (0, y1 - y0, 0), (half, 0, -rise), slope)
            ends = ((x0, y0, 1.0), (x1, y1, -1.0))
            for x, y, turn in ends:
                wide = turn * (x1 - x0)
                peak = (x + wide / 2, y, z1)
                self.polygon([peak, (x + wide, y, z0), (x, y, z0)], (x, y, z1), (wide, 0, 0), (0, 0, -rise), end)
            return
        half = (y1 - y0) / 2
        self.quad((x0, y0 + half, z1), (x1 - x0, 0, 0), (0, -half, -rise), slope)
        self.quad((x1, y0 + half, z1), (x0 - x1, 0, 0), (0, half, -rise), slope)
        for x, y, turn in ((x1, y0, 1.0), (x0, y1, -1.0)):
            deep = turn * (y1 - y0)
            peak = (x, y + deep / 2, z1)
            self.polygon([peak, (x, y + deep, z0), (x, y, z0)], (x, y, z1), (0, deep, 0), (0, 0, -rise), end)

    def turned(
        self,
        center: tuple[float, float],
        profile: Sequence[tuple[float, float]],
        texture: int,
        *,
        sides: int = 12,
        each_side: bool = False,
    ) -> None:
        """Adds a solid of revolution with flat sides, such as a column, cone, dome, obelisk, pyramid, or turret.

        Args:
            center: (x, y) of the axis.
            profile: (radius, z) from the bottom up; the radius is that of the corners.
            texture: index of the texture.
            sides: number of flat sides; with 4, they face along the x and y axes.
            each_side: whether each side shows the full texture; otherwise it is wrapped around the solid once.
        """
        bottom, top = profile[0][1], profile[-1][1]
        angles = -math.pi / 2 + math.pi / sides + 2 * math.pi * np.arange(-1, sides) / sides
        for side in range(sides):
            a, b = angles[side], angles[side + 1]
            for (r0, z0), (r1, z1) in pairwise(profile):
                if abs(z1 - z0) < 1e-9 and abs(r1 - r0) < 1e-9:
                    continue
                self._panel(
                    center, (a, b), ((r0, z0), (r1, z1)), (bottom, top), texture, (0, 1) if each_side else (side, sides)
                )

    def _panel(
        self,
        center: tuple[float, float],
        angles: tuple[float, float],
        ring: tuple[tuple[float, float], tuple[float, float]],
        extent: tuple[float, float],
        texture: int,
        part: tuple[int, int],
    ) -> None:
        """Adds one trapezoid of a solid of revolution.

        Args:
            center: (x, y) of the axis.
            angles: angles of its left and right edge in radians.
            ring: (radius, z) of its lower and upper edge.
            extent: z of the bottom and the top of the solid.
            texture: index of the texture.
            part: (i, n) to show the i-th of n equal parts of the width of the texture.
        """
        (r0, z0), (r1, z1) = ring

        def at(angle: float, radius: float, z: float) -> NDArray[np.float64]:
            return np.array([center[0] + radius * math.cos(angle), center[1] + radius * math.sin(angle), z])

        low_left, low_right = at(angles[0], r0, z0), at(angles[1], r0, z0)
        high_left, high_right = at(angles[0], r1, z1), at(angles[1], r1, z1)
        widest = (low_right - low_left) if r0 >= r1 else (high_right - high_left)
        across = widest * part[1]
        slope = (low_left + low_right - high_left - high_right) / 2
        tall = extent[1] - extent[0]
        share = abs(z1 - z0) / tall if tall > 0 else 1.0
        drop = slope / share if share > 1e-6 else slope
        middle = (high_left + high_right) / 2
        above = (extent[1] - z1) / tall if tall > 0 else 0.0
        origin = middle - widest / 2 - widest * part[0] - drop * above
        corners = [low_left, low_right]
        corners += [high_right, high_left] if r1 > 1e-6 else [high_left]
        self.faces.append(Face(np.stack(corners), origin, across, drop, texture))
