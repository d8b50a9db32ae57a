"""Scenes as a function of a seed: a landmark, plain houses around it, and the ground."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from glam.datasets.synthetic.canvas import Canvas, Color, Texture, masonry
from glam.datasets.synthetic.facades import tiled, wall
from glam.datasets.synthetic.landmarks import KINDS
from glam.datasets.synthetic.sites import Site
from glam.datasets.synthetic.solids import Mesh
from glam.datasets.synthetic.styles import random_style

GROUNDS: tuple[tuple[Color, tuple[float, float], float], ...] = (
    ((150, 146, 138), (0.8, 0.8), 0.05),
    ((124, 122, 120), (9.0, 9.0), 0.02),
    ((172, 160, 138), (0.5, 0.5), 0.05),
    ((104, 122, 72), (0.2, 0.2), 0.09),
)
"""Color, size of a slab in meters, and contrast of paving, asphalt, sandy setts, and grass (arbitrary)."""


@dataclass(frozen=True)
class Scene:
    """The static part of a scene.

    Attributes:
        mesh: all faces and textures.
        grounds: indices of the textures of the ground; one of them is drawn for each image.
        ground: index of the face of the ground in the mesh.
        low: (3,) lower corner of the bounding box of the landmark in meters.
        high: (3,) upper corner of the bounding box of the landmark in meters.
        details: (n, 4) x, y, z, and size in meters of the targets of close-up views.
    """

    mesh: Mesh
    grounds: tuple[int, ...]
    ground: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    details: NDArray[np.float64]


def build_scene(seed: int | tuple[int, ...]) -> Scene:
    """Builds the scene of a seed. The same seed always gives the same scene."""
    rng = np.random.default_rng(seed)
    site = Site(Mesh(), random_style(rng), rng)
    KINDS[int(rng.integers(len(KINDS)))](site)
    corners = np.concatenate([face.corners for face in site.mesh.faces])
    low, high = corners.min(axis=0), corners.max(axis=0)
    _neighbors(site, low, high)
    grounds = tuple(site.mesh.add(texture) for texture in _grounds())
    ground = len(site.mesh.faces)
    site.mesh.polygon(
        [(-250, -250, 0), (250, -250, 0), (250, 250, 0), (-250, 250, 0)], (0, 0, 0), (24, 0, 0), (0, -24, 0), grounds[0]
    )
    return Scene(site.mesh, grounds, ground, low, high, np.array(site.details))


@cache
def _grounds() -> tuple[Texture, ...]:
    """The textures of the ground, the same in all scenes so that they do not identify the landmark."""
    rng = np.random.default_rng(0)
    return tuple(
        Canvas(rng, 24, 24, masonry(rng, scale=11, block=block, contrast=contrast, size=264), color).texture()
        for color, block, contrast in GROUNDS
    )


def _neighbors(site: Site, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
    """Adds rows of plain houses on both sides and behind, with two wall textures in another style."""
    rng = site.rng
    style = random_style(rng)
    fronts = [site.mesh.add(wall(style, rng, 14, height)) for height in (9.0, 13.0)]
    slope = site.mesh.add(tiled(style, rng, 14, 5))
    gap = site.lot(4, 16)
    behind = float(high[1]) + site.lot(8, 25)
    plots = [(float(high[0]) + gap + 15.0 * index, site.lot(0, 8)) for index in range(3)]
    plots += [(float(low[0]) - gap - 14 - 15.0 * index, site.lot(0, 8)) for index in range(3)]
    plots += [(-45.0 + 15 * index, behind) for index in range(6)]
    for x, y in plots:
        if rng.random() < 0.2:
            continue
        height, front = site.lot(7, 14), fronts[int(rng.integers(2))]
        site.mesh.box((x, y, 0), (x + 14, y + 12, height), front)
        site.mesh.gable((x, y, height), (x + 14, y + 12, height + site.lot(2, 5)), slope, front, along="x")
