"""Images of a scene: random view, light, and occluders, then the effects of lens, sensor, and JPEG."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from glam.datasets.synthetic.light import Light, paint_sky, random_light, shade, shadow_map, sunlit
from glam.datasets.synthetic.occluders import draw, random_things
from glam.datasets.synthetic.render import Atlas, Camera, FloatArray, Geometry, look
from glam.datasets.synthetic.scenes import Scene
from glam.datasets.synthetic.viewpoints import random_frame, random_view

OVERSAMPLING = 1.25
"""Size of the rendered picture as a multiple of the image's (arbitrary)."""


class Studio:
    """Renders images of one scene.

    Args:
        scene: the scene.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.geometry = Geometry(scene.mesh)
        self.atlas = Atlas(scene.mesh.textures)

    def render_jpeg(self, rng: np.random.Generator, size: int) -> bytes:
        """Renders an image and returns it as JPEG bytes.

        Args:
            rng: source of randomness for view, light, occluders, and camera.
            size: longest side in pixels.
        """
        extent = self.scene.high - self.scene.low
        width, height = random_frame(rng, size, bool(extent[2] > extent[0]))
        camera = random_view(rng, self.scene, round(width * OVERSAMPLING), round(height * OVERSAMPLING))
        light = random_light(rng, float(np.linalg.norm(camera.eye - (self.scene.low + self.scene.high) / 2)))
        image = self._render(rng, camera, light)
        return develop(rng, cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), light)

    def _render(self, rng: np.random.Generator, camera: Camera, light: Light) -> FloatArray:
        self.geometry.textures[self.scene.ground] = self.scene.grounds[int(rng.integers(len(self.scene.grounds)))]
        layers = look(self.geometry, self.atlas, camera)
        lit = np.ones_like(layers.depth)
        if light.direct.max() > 0.2:
            middle = (self.scene.low + self.scene.high) / 2
            shadows, to_sun = shadow_map(self.geometry, light.sun, middle)
            lit = sunlit(layers, camera, shadows, to_sun)
        image = shade(layers, self.geometry, camera, light, lit)
        cv2.copyTo(paint_sky(rng, camera, light), layers.sky.view(np.uint8), image)
        draw(image, random_things(rng, self.scene, camera), camera, light)
        return image


def develop(rng: np.random.Generator, image: FloatArray, light: Light) -> bytes:
    """Applies rain, exposure, lens, and noise to a picture and encodes it.

    Args:
        rng: source of randomness.
        image: (h, w, 3) float32 picture, 0 to 255 and above.
        light: light of the picture.

    Returns:
        JPEG bytes.
    """
    if light.weather == "rain":
        image = _rain(rng, image)
    image = cv2.transform(image, _color_matrix(rng, float(image[::4, ::4].mean())))
    image *= _vignette(image.shape[0], image.shape[1], float(rng.uniform(0, 0.35)))
    blur = float(rng.exponential(0.35))
    if blur > 0.4:
        image = cv2.GaussianBlur(image, (0, 0), min(blur, 1.4))
    image = _tone_curve(float(rng.uniform(0, 0.6))).take(np.clip(image * 4, 0, 2047).astype(np.uint16))
    noise = float(rng.uniform(0.2, 0.7)) + (0.8 if light.weather == "night" else 0.0)
    image += rng.integers(-8, 9, image.shape, dtype=np.int8) * np.float32(noise)
    quality = int(rng.integers(55, 93))
    pixels: NDArray[np.uint8] = np.clip(image, 0, 255).astype(np.uint8)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return encoded.tobytes()


def _color_matrix(rng: np.random.Generator, mean: float) -> FloatArray:
    """(3, 3) float32 product of exposure towards a medium brightness, imprecise white balance, and saturation."""
    aim = float(rng.normal(118, 16))
    exposure = float(np.clip((aim / max(mean, 8.0)) ** 0.65, 0.6, 2.2))
    balance = 1 + rng.normal(0, 0.04, 3)
    saturation = float(rng.uniform(0.7, 1.3))
    mixing = saturation * np.eye(3) + (1 - saturation) / 3
    return (exposure * balance[:, None] * mixing).astype(np.float32)


def _tone_curve(contrast: float) -> FloatArray:
    """(2048,) float32 tone curve: brightness, 0 to 255, of the light i / 4, with soft highlights and an S-curve."""
    level = np.arange(2048) / 4 / 255
    level = np.where(level > 0.75, 0.75 + 0.25 * np.tanh((level - 0.75) / 0.25), level)
    curve: FloatArray = (255 * (level + contrast * (level * level * (3 - 2 * level) - level))).astype(np.float32)
    return curve


def _vignette(height: int, width: int, strength: float) -> FloatArray:
    """(h, w, 3) float32 factors that darken the corners, as a lens does."""
    ys = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2
    xs = np.linspace(-1, 1, width, dtype=np.float32)[None, :] ** 2
    fall: FloatArray = cv2.merge([1 - np.float32(strength / 2) * (xs + ys)] * 3)
    return fall


def _rain(rng: np.random.Generator, image: FloatArray) -> FloatArray:
    """Adds slanted streaks of rain and a veil of fine drops to a picture."""
    height, width = image.shape[:2]
    streaks = np.zeros((height, width), np.float32)
    lean = float(rng.normal(0, 4))
    for x, y, long in rng.uniform((0, 0, 6), (width, height, 18), (110, 3)):
        cv2.line(streaks, (int(x), int(y)), (int(x + lean), int(y + long)), 1.0, 1)
    veil = cv2.merge([0.06 + 0.16 * cv2.blur(streaks, (2, 2))] * 3)
    wet: FloatArray = image + veil * (215 - image)
    return wet
