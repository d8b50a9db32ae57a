"""Random viewpoints: near, far, from below, or close to a detail, and up to 65 degrees to the side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glam.datasets.synthetic.render import Camera, look_at
from glam.datasets.synthetic.scenes import Scene

ASPECTS = (4 / 3, 3 / 2, 1.0, 16 / 9, 3 / 4, 2 / 3, 9 / 16)
SHARES = {"whole": 0.4, "below": 0.2, "detail": 0.27, "distant": 0.13}
"""Probability of each kind of view (arbitrary)."""
REACH = {"whole": (1.1, 2.2), "below": (0.6, 1.0), "distant": (2.0, 3.0)}
"""Smallest and largest distance from the landmark, as multiples of its size (arbitrary)."""
MARGIN = {"whole": (1.0, 1.6), "below": (0.65, 1.1), "distant": (1.9, 3.0)}
"""Smallest and largest extent of the view, as multiples of the landmark's (arbitrary)."""


def random_frame(rng: np.random.Generator, longest: int, tall: bool) -> tuple[int, int]:
    """Draws the size of an image; portrait is more frequent for tall landmarks, and landscape for wide ones.

    Args:
        rng: source of randomness.
        longest: longest side in pixels.
        tall: whether the landmark is taller than wide.

    Returns:
        Width and height in pixels.
    """
    aspect = float(rng.choice(ASPECTS))
    if rng.random() < 0.6:
        aspect = min(aspect, 1 / aspect) if tall else max(aspect, 1 / aspect)
    if aspect >= 1:
        return longest, max(1, round(longest / aspect))
    return max(1, round(longest * aspect)), longest


def random_view(rng: np.random.Generator, scene: Scene, width: int, height: int) -> Camera:
    """Draws a camera that shows the landmark or one of its details.

    Args:
        rng: source of randomness.
        scene: the scene.
        width: width of the picture in pixels.
        height: height of the picture in pixels.
    """
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    middle, extent = (scene.low + scene.high) / 2, scene.high - scene.low
    wide = max(extent[0], 0.7 * extent[1])
    if kind == "detail":
        x, y, z, size = scene.details[int(rng.integers(len(scene.details)))]
        target, shown = np.array([x, y, z]), np.array([size, size]) * rng.uniform(0.8, 1.5)
        distance = float(rng.uniform(1.2, 2.6) * max(size, 0.7 * z, 7.0))
    else:
        target = middle * (1, 0.5, 1)
        shown = np.array([wide, extent[2]])
        distance = float(rng.uniform(*REACH[kind]) * max(wide, extent[2]))
        shown = shown * rng.uniform(*MARGIN[kind])
    eye = _eye(rng, scene, target, distance)
    away = float(np.linalg.norm(target - eye))
    focal = away * min(width / shown[0], height / shown[1])
    focal = max(focal, 0.45 * max(width, height))
    slack = 0.22 if kind == "distant" else 0.12
    shift = rng.uniform(-slack, slack, 2) * (width, height) / focal * away
    aim = target + np.array([shift[0], 0.0, shift[1]])
    return look_at(eye, aim, roll=float(np.deg2rad(rng.normal(0, 2.5))), focal=float(focal), width=width, height=height)


def _eye(rng: np.random.Generator, scene: Scene, target: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """Draws a position ``distance`` meters from ``target``, in front of the landmark and usually at eye level."""
    azimuth = np.deg2rad(np.clip(rng.normal(0, 34), -65, 65))
    eye = target + distance * np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    eye[1] = min(eye[1], scene.low[1] - 3.0)
    eye[2] = rng.uniform(1.4, 1.9) if rng.random() < 0.75 else rng.uniform(4.0, max(6.0, 0.7 * scene.high[2]))
    return eye
