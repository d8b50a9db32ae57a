"""Light and weather: sun and shadows, overcast sky, fog, dusk, rain, and night, and the sky itself."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from glam.datasets.synthetic.canvas import smooth_noise
from glam.datasets.synthetic.render import Camera, FloatArray, Geometry, Layers, rasterize

SHADOW_PIXELS = 288
"""Side of the shadow map in pixels (arbitrary)."""
SHADOW_REACH = 48.0
"""Meters from the center of the shadow map to its border (arbitrary)."""
SHADOW_BIAS = 0.4
"""Meters that a surface may lie behind the shadow map without being in shadow (arbitrary)."""

LAMP = (246.0, 202.0, 128.0)
"""Color of a lit window, 0 to 255 (arbitrary)."""
WEATHERS = {"clear": 0.36, "overcast": 0.2, "dusk": 0.13, "fog": 0.1, "rain": 0.07, "night": 0.14}
"""Probability of each kind of weather (arbitrary)."""


@dataclass(frozen=True)
class Light:
    """The light of an image. Colors and strengths are (3,) float32: red, green, and blue.

    Attributes:
        weather: one of `WEATHERS`.
        sun: (3,) unit vector towards the sun or the moon.
        direct: strength of the light of the sun or the moon, as factors.
        ambient: strength of the ambient light, as factors.
        lamps: strength of the street lamps, as factors; it fades with height above the ground.
        zenith: color of the sky at the zenith, 0 to 255.
        horizon: color of the sky at the horizon, 0 to 255.
        clouds: share of the sky that is covered by clouds, 0 to 1.
        haze: extinction coefficient of the air per meter; 0 for clean air.
        lit: windows with a brightness class above this are lit; 256 for none.
    """

    weather: str
    sun: NDArray[np.float64]
    direct: FloatArray
    ambient: FloatArray
    lamps: FloatArray
    zenith: FloatArray
    horizon: FloatArray
    clouds: float
    haze: float
    lit: float


def _color(red: float, green: float, blue: float) -> FloatArray:
    return np.array([red, green, blue], np.float32)


def random_light(rng: np.random.Generator, distance: float) -> Light:
    """Draws weather, time of day, and color cast.

    Args:
        rng: source of randomness.
        distance: distance of the landmark in meters, which limits the density of fog so that it stays visible.
    """
    weather = str(rng.choice(list(WEATHERS), p=list(WEATHERS.values())))
    azimuth = rng.uniform(-np.pi, 0) + rng.normal(0, 0.2)
    height = np.deg2rad(rng.uniform(5, 18) if weather == "dusk" else rng.uniform(22, 65))
    sun = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    cast = (1 + rng.normal(0, 0.035, 3)).astype(np.float32)
    none = _color(0, 0, 0)
    if weather == "clear":
        strength = float(rng.uniform(0.6, 0.95))
        direct, ambient = strength * _color(1.0, 0.95, 0.84), _color(0.4, 0.45, 0.54)
        zenith, horizon, clouds, haze = _color(84, 132, 196), _color(186, 208, 228), rng.uniform(0, 0.5), 0.0008
    elif weather == "overcast":
        direct, ambient = none, float(rng.uniform(0.62, 0.9)) * _color(0.98, 1.0, 1.04)
        zenith, horizon, clouds, haze = _color(168, 176, 186), _color(206, 210, 214), 0.9, 0.002
    elif weather == "dusk":
        direct, ambient = float(rng.uniform(0.5, 0.9)) * _color(1.1, 0.68, 0.36), _color(0.34, 0.32, 0.42)
        zenith, horizon, clouds, haze = _color(104, 112, 160), _color(246, 174, 112), rng.uniform(0.2, 0.7), 0.002
    elif weather == "fog":
        direct, ambient = none, float(rng.uniform(0.66, 0.9)) * _color(1, 1, 1)
        zenith, horizon, clouds, haze = (
            _color(196, 200, 204),
            _color(200, 203, 206),
            0.0,
            rng.uniform(0.4, 1.2) / distance,
        )
    elif weather == "rain":
        direct, ambient = none, float(rng.uniform(0.45, 0.66)) * _color(0.92, 0.98, 1.06)
        zenith, horizon, clouds, haze = _color(120, 128, 138), _color(160, 166, 172), 0.9, 0.008
    else:
        direct = float(rng.uniform(0.02, 0.12)) * _color(0.6, 0.75, 1.1)
        ambient = float(rng.uniform(0.1, 0.2)) * _color(0.7, 0.8, 1.25)
        zenith, horizon, clouds, haze = _color(12, 16, 34), _color(40, 40, 58), 0.3, 0.001
    night = weather == "night"
    lamps = float(rng.uniform(0.25, 0.7)) * _color(1.1, 0.82, 0.5) if night else none
    darkest = {"night": (80, 200), "dusk": (180, 256), "rain": (180, 256)}.get(weather, (256, 256))
    lit = float(rng.uniform(*darkest))
    return Light(
        weather, sun, direct * cast, ambient * cast, lamps, zenith, horizon * cast, float(clouds), float(haze), lit
    )


def shadow_map(
    geometry: Geometry, sun: NDArray[np.float64], center: NDArray[np.float64]
) -> tuple[FloatArray, NDArray[np.float64]]:
    """Renders the distances of a scene from the sun, to decide what is in shadow.

    Args:
        geometry: the faces of the scene.
        sun: (3,) unit vector towards the sun.
        center: (3,) center of the shadow map in meters.

    Returns:
        (n, n) meters along the rays of the sun, larger nearer to the sun, and the (3, 4) affine map from a point to
        pixel x, pixel y, and these meters.
    """
    right = np.cross(sun, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(sun, right), sun])
    pixel = 2 * SHADOW_REACH / SHADOW_PIXELS
    linear = axes / np.array([[pixel], [pixel], [1.0]])
    offset = np.array([SHADOW_PIXELS / 2, SHADOW_PIXELS / 2, 500.0]) - linear @ center
    facing = geometry.normals @ sun
    flat = geometry.corners @ linear.T + offset
    numbers = np.flatnonzero(facing > 0.02)
    lengths = np.diff(geometry.starts)
    chosen = np.repeat(facing > 0.02, lengths)
    starts = np.cumsum([0, *lengths[numbers]])
    slope = -(geometry.normals[numbers] @ axes[:2].T) * pixel / facing[numbers, None]
    first = flat[geometry.starts[numbers]]
    planes = np.column_stack([slope, first[:, 2] - np.einsum("fi,fi->f", slope, first[:, :2])])
    nearness, _ = rasterize(flat[chosen, :2], starts, planes, SHADOW_PIXELS, SHADOW_PIXELS)
    return nearness, np.column_stack([linear, offset])


def sunlit(layers: Layers, camera: Camera, shadows: FloatArray, to_sun: NDArray[np.float64]) -> FloatArray:
    """The share of the sun's light that reaches each pixel, computed at half resolution so that edges are soft.

    Args:
        layers: layers of the picture.
        camera: camera of the picture.
        shadows: (n, n) shadow map, see `shadow_map`.
        to_sun: (3, 4) affine map, see `shadow_map`.

    Returns:
        (h, w) float32, 0 to 1.
    """
    depth = layers.depth[::2, ::2]
    rows, columns = depth.shape
    xs = (np.arange(columns, dtype=np.float32) * 2 - camera.width / 2) / camera.focal
    ys = ((np.arange(rows, dtype=np.float32) * 2 - camera.height / 2) / camera.focal)[:, None]
    turned = (to_sun[:, :3] @ camera.axes.T).astype(np.float32)
    start = (to_sun[:, :3] @ camera.eye + to_sun[:, 3]).astype(np.float32)
    x, y, height = (start[i] + depth * (turned[i, 0] * xs + turned[i, 1] * ys + turned[i, 2]) for i in range(3))
    nearest = cv2.remap(shadows, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    lit = (height + SHADOW_BIAS >= nearest).astype(np.float32)
    soft: FloatArray = cv2.resize(cv2.blur(lit, (3, 3)), (camera.width, camera.height), interpolation=cv2.INTER_LINEAR)
    return soft


def shade(layers: Layers, geometry: Geometry, camera: Camera, light: Light, lit: FloatArray) -> FloatArray:
    """Shades the surfaces of a picture.

    Args:
        layers: layers of the picture.
        geometry: the faces that ``layers.face`` refers to.
        camera: camera of the picture.
        light: light of the picture.
        lit: (h, w) share of the sun's light that reaches each pixel.

    Returns:
        (h, w, 3) float32 colors, 0 to 255, and above where they are overexposed.
    """
    height = _height(layers, camera)
    ambient, direct = _incoming(layers, geometry, light, lit)
    ambient *= np.clip(0.72 + 0.05 * height, 0.72, 1)
    lamps = np.exp(np.maximum(height, 0) * np.float32(-1 / 9)) if light.lamps.any() else None
    clear = np.exp(np.minimum(layers.depth, 400) * np.float32(-light.haze))
    mirror = (0.12 + (np.float32(0.55 / 255) * layers.glass) ** 2) * (layers.glass > 20)
    shine = (np.float32(0.5) + np.float32(0.4 / 255) * layers.glass) * (layers.glass > light.lit)
    planes = []
    # Channel by channel: numpy is several times slower over a last axis of three.
    for channel, plane in enumerate(layers.color):
        brightness = ambient * light.ambient[channel] + direct * light.direct[channel]
        if lamps is not None:
            brightness += lamps * light.lamps[channel]
        shaded = plane * brightness
        shaded += mirror * (light.zenith[channel] - shaded)
        if light.lit < 255:
            shaded += shine * (LAMP[channel] - shaded)
        planes.append((shaded - light.horizon[channel]) * clear + light.horizon[channel])
    image: FloatArray = cv2.merge(planes)
    return image


def _incoming(layers: Layers, geometry: Geometry, light: Light, lit: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(h, w) shares of the ambient light and of the sun's light that each pixel receives, with relief."""
    facing = np.clip(geometry.normals @ light.sun, 0, 1).astype(np.float32)
    open_sky = (0.78 + 0.22 * geometry.normals[:, 2]).astype(np.float32)
    # Relief tilts the surface; the sun's direction along the axes of the texture gives the change in brightness.
    axes = ((geometry.right, layers.slopes[0]), (geometry.down, layers.slopes[1]))
    along = [(axis @ light.sun / np.linalg.norm(axis, axis=1)).astype(np.float32) for axis, _ in axes]
    lean = sum(
        (steep * towards.take(layers.face) for (_, steep), towards in zip(axes, along, strict=True)), np.float32(0)
    )
    direct = np.clip(facing.take(layers.face) - np.float32(0.8) * lean, 0, 1.2) * lit
    # An overcast sky still lights from above, so ledges are bright on top and dark below.
    ambient = open_sky.take(layers.face) * (1 - np.float32(0.3) * layers.slopes[1])
    return ambient, direct


def _height(layers: Layers, camera: Camera) -> FloatArray:
    """(h, w) height of each pixel's surface above the ground in meters."""
    xs = (np.arange(camera.width, dtype=np.float32) - camera.width / 2) / camera.focal
    ys = ((np.arange(camera.height, dtype=np.float32) - camera.height / 2) / camera.focal)[:, None]
    up = camera.axes[:, 2].astype(np.float32)
    height: FloatArray = np.float32(camera.eye[2]) + layers.depth * (up[0] * xs + up[1] * ys + up[2])
    return height


def paint_sky(rng: np.random.Generator, camera: Camera, light: Light) -> FloatArray:
    """Paints the sky with clouds, as (h, w, 3) float32 colors, 0 to 255."""
    ys = (np.arange(camera.height, dtype=np.float32) - camera.height / 2) / camera.focal
    climb = np.clip((camera.axes[2, 2] + camera.axes[1, 2] * ys) * 1.6, 0, 1).astype(np.float32)[:, None] ** 0.6
    noise = smooth_noise(rng, camera.height, camera.width, (3, 7, 16, 37))
    cover = np.clip(noise * 0.35 + 1.7 * light.clouds - 0.6, 0, 0.85) if light.clouds else np.float32(0) * noise
    planes = []
    for channel in range(3):
        plane = light.horizon[channel] * (1 - climb) + light.zenith[channel] * climb
        pale = min(245.0, 0.6 * light.horizon[channel] + (8 if light.weather == "night" else 100))
        planes.append(plane + cover * (pale - plane))
    sky: FloatArray = cv2.merge(planes)
    return sky
