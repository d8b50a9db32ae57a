"""Occluders in front of a landmark: people, trees, cars, lamp posts, and scaffolding, drawn as flat cut-outs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from glam.datasets.synthetic.canvas import Color, tint
from glam.datasets.synthetic.light import Light
from glam.datasets.synthetic.render import Camera, FloatArray
from glam.datasets.synthetic.scenes import Scene

Shape = tuple[NDArray[np.float64], Color]
"""(n, 2) corners of a polygon, in meters to the right of the foot of an object and above it, and its color."""

SKIN: tuple[Color, ...] = ((224, 182, 152), (172, 122, 90), (104, 72, 54))


@dataclass(frozen=True)
class Thing:
    """A flat object that faces the camera.

    Attributes:
        place: (3,) position of its foot in meters.
        shapes: its polygons from back to front.
    """

    place: NDArray[np.float64]
    shapes: list[Shape]


def _bar(x: float, y: float, width: float, height: float, color: Color) -> Shape:
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)]), color


def _blob(x: float, y: float, across: float, up: float, color: Color, corners: int = 9) -> Shape:
    turn = 2 * np.pi * np.arange(corners) / corners
    return np.column_stack([x + across * np.cos(turn), y + up * np.sin(turn)]), color


def _any_color(rng: np.random.Generator) -> Color:
    """Draws a muted color for clothes or cars."""
    red, green, blue = rng.uniform(30, 200) + rng.normal(0, 22, 3)
    return tint((float(red), float(green), float(blue)), 1.0)


def person(rng: np.random.Generator) -> list[Shape]:
    """Draws a person, 1.5 to 1.9 m tall."""
    h = float(rng.uniform(1.5, 1.9))
    trousers, coat, stride = _any_color(rng), _any_color(rng), float(rng.uniform(0.03, 0.2))
    legs = [_bar(side * stride - 0.09, 0, 0.18, 0.5 * h, tint(trousers, 0.9 + 0.1 * side)) for side in (-1, 1)]
    body = np.array([(-0.2, 0.45), (0.2, 0.45), (0.22, 0.8), (0.1, 0.86), (-0.1, 0.86), (-0.22, 0.8)]) * (1, h)
    arms = [_bar(side * 0.27 - 0.06, 0.45 * h, 0.12, 0.36 * h, tint(coat, 0.8)) for side in (-1, 1)]
    skin = SKIN[int(rng.integers(3))]
    hair = tint(skin, float(rng.uniform(0.2, 0.7)))
    head = [_blob(0, 0.93 * h, 0.1, 0.13, skin), _blob(0, 0.97 * h, 0.11, 0.09, hair)]
    return [*legs, *arms, (body, coat), *head]


def car(rng: np.random.Generator) -> list[Shape]:
    """Draws a car or a van from the side."""
    long, high, paint = float(rng.uniform(3.8, 5.2)), float(rng.uniform(1.4, 2.3)), _any_color(rng)
    half = long / 2
    bonnet = [(-half, 0.3), (half, 0.3), (half, 0.85), (0.7 * half, 0.95)]
    hull = np.array([*bonnet, (0.4 * half, high), (-0.6 * half, high), (-0.9 * half, 0.95), (-half, 0.8)])
    roof = high - 0.1
    glass = np.array([(0.58 * half, 0.98), (0.34 * half, roof), (-0.54 * half, roof), (-0.76 * half, 0.98)])
    wheels = [_blob(side * 0.6 * half, 0.32, 0.33, 0.33, (26, 26, 28), 12) for side in (-1, 1)]
    return [(hull, paint), (glass, (48, 56, 64)), _bar(-0.1, 0.95, 0.1, high - 1.0, paint), *wheels]


def lamp_post(rng: np.random.Generator) -> list[Shape]:
    """Draws a street lamp, 4 to 6 m tall."""
    high, iron = float(rng.uniform(4, 6)), (42, 44, 46)
    lantern = _blob(0, high, 0.28, 0.35, (232, 224, 196))
    return [_bar(-0.06, 0, 0.12, high, iron), _bar(-0.16, 0, 0.32, 0.6, iron), lantern]


def tree(rng: np.random.Generator) -> list[Shape]:
    """Draws a tree with green or autumn leaves, 5 to 10 m tall."""
    high = float(rng.uniform(5, 10))
    leaf: Color = ((84, 112, 56), (66, 94, 60), (148, 112, 48), (108, 128, 72))[int(rng.integers(4))]
    shapes = [_bar(-0.035 * high, 0, 0.07 * high, 0.5 * high, (74, 60, 48))]
    places = rng.standard_normal((70, 2)) * (0.13, 0.15) * high + (0, 0.66 * high)
    sizes = rng.uniform(0.03, 0.08, 70) * high
    for (x, y), size in zip(places[np.argsort(-sizes)], np.sort(sizes)[::-1], strict=True):
        bright = 0.75 + 0.5 * (y / high - 0.4) + float(rng.normal(0, 0.1))
        shapes.append(_blob(x, y, size, 0.8 * size, tint(leaf, bright), 7))
    return shapes


CROWD: tuple[tuple[Callable[[np.random.Generator], list[Shape]], float], ...] = (
    (person, 2.5),
    (car, 0.35),
    (lamp_post, 0.3),
    (tree, 0.5),
)
"""Kinds of objects, each with its mean number per image (arbitrary)."""


def scaffold(rng: np.random.Generator, scene: Scene) -> Thing:
    """Draws scaffolding in front of a part of the landmark."""
    left = float(rng.uniform(scene.low[0], 0.3 * scene.high[0]))
    wide = float(rng.uniform(0.3, 0.6) * (scene.high[0] - scene.low[0]))
    high = float(rng.uniform(0.35, 0.8) * scene.high[2])
    steel = (128, 130, 134)
    shapes = [_bar(float(x), 0, 0.1, high, steel) for x in np.arange(0, wide, 2.2)]
    for level in np.arange(2.0, high, 2.0):
        shapes += [_bar(0, float(level), wide, 0.16, (152, 122, 84)), _bar(0, float(level) + 0.9, wide, 0.07, steel)]
    return Thing(np.array([left, scene.low[1] - 0.6, 0.0]), shapes)


def random_things(rng: np.random.Generator, scene: Scene, camera: Camera) -> list[Thing]:
    """Draws the objects of an image.

    Args:
        rng: source of randomness.
        scene: the scene that they are placed in.
        camera: camera of the image; objects are placed between it and the landmark.

    Returns:
        The objects, farthest first.
    """
    things = [scaffold(rng, scene)] if rng.random() < 0.08 else []
    makers = [maker for maker, mean in CROWD for _ in range(int(rng.poisson(mean)))]
    ground = np.array([1.0, 1.0, 0.0])
    forward = camera.axes[2] * ground / np.linalg.norm(camera.axes[2] * ground)
    away = float((scene.low[1] - camera.eye[1]) / max(0.2, forward[1]))
    for maker in makers:
        depth = away * float(rng.uniform(0.2, 0.95))
        aside = float(rng.uniform(-0.55, 0.55)) * depth * camera.width / camera.focal
        place = camera.eye * ground + depth * forward + aside * camera.axes[0] * ground
        nearest = 2.5 if maker is person else 9.0
        if depth > nearest and place[1] < scene.low[1] - 1.5:
            things.append(Thing(place, maker(rng)))
    return sorted(things, key=lambda thing: -float(np.linalg.norm(thing.place - camera.eye)))


def draw(image: FloatArray, things: list[Thing], camera: Camera, light: Light) -> None:
    """Paints objects over a picture, in place.

    Args:
        image: (h, w, 3) float32 picture, 0 to 255 and above.
        things: objects, farthest first.
        camera: camera of the picture.
        light: light of the picture.
    """
    glow = light.ambient * 0.85 + light.direct * 0.45 + light.lamps * 0.8
    across = np.array([camera.axes[0][0], camera.axes[0][1], 0.0])
    for thing in things:
        clear = np.exp(-light.haze * max(float((thing.place - camera.eye) @ camera.axes[2]), 0.0))
        outlines = np.concatenate([outline for outline, _ in thing.shapes])
        pixels = camera.project(thing.place + outlines[:, :1] * across + outlines[:, 1:] * np.array([0, 0, 1.0]))
        if pixels[:, 2].min() < 0.5:
            continue
        corners = np.clip(pixels[:, :2] * 16, -1e6, 1e6).astype(np.int32)
        start = 0
        for outline, color in thing.shapes:
            shown = (np.asarray(color, np.float32) * glow - light.horizon) * clear + light.horizon
            cv2.fillPoly(image, [corners[start : start + len(outline)]], shown.tolist(), shift=4)
            start += len(outline)
