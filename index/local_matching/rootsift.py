"""Local features of an image: upright RootSIFT at its strongest keypoints, quantized to bytes.

Sources: D. Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004. R. Arandjelovic, A. Zisserman,
"Three things everyone should know to improve object retrieval", CVPR 2012, for RootSIFT: the square roots of a SIFT
descriptor divided by its sum. M. Perdoch, O. Chum, J. Matas, "Efficient representation of local geometry for large
scale object retrieval", CVPR 2009, for upright features: most photos are taken upright, so features without rotation
invariance are more distinctive. benchmarks/local_features.py and docs/lab/explaining.md compare alternatives.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from threading import local
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glam.images import Box, pixel_box

SIZE = 320
"""Longest side in pixels to which an image is scaled, up or down, before extraction (benchmarks/local_features.py)."""

MOST = 500
"""Most features per image; the strongest are used (benchmarks/local_features.py)."""

CONTRAST = 0.02
"""Lowest contrast of a keypoint: half the OpenCV default, because many photos are hazy."""

LENGTH = 128
"""Length of a SIFT descriptor."""

UNIT = 512.0
"""Factor that scales a descriptor of length 1 to bytes; with it, hardly any value is clipped at 255."""


@dataclass(frozen=True)
class LocalFeatures:
    """The local features of an image.

    Attributes:
        points: (n, 2) float32, x and y of the keypoints in pixels of the upright image, strongest first. Integer
            coordinates are the centers of pixels.
        diameters: (n,) float32, diameters of the features in pixels of the upright image.
        descriptors: (n, 128) uint8, RootSIFT descriptors of length close to `UNIT`.
        scale: pixels of the upright image per pixel of the scaled image in which the features were found.
    """

    points: NDArray[np.float32]
    diameters: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    scale: float

    def __len__(self) -> int:
        return len(self.points)


def extract(image: Image.Image, *, box: Box | None = None, size: int = SIZE, most: int = MOST) -> LocalFeatures:
    """Extracts the local features of an image.

    Args:
        image: upright image in any mode.
        box: region (x1, y1, x2, y2) in pixels to which extraction is limited; None for the complete image.
        size: longest side in pixels to which the image or the region is scaled.
        most: most features to return, the strongest ones.

    Returns:
        The local features, with coordinates in the complete image; a blank image has none.

    Raises:
        ImageError: the box is empty or outside the image.
    """
    area = (0, 0, *image.size) if box is None else pixel_box(box, *image.size, "image")
    gray, scale = _resized(image if box is None else image.crop(area), size)
    keypoints = _strongest(_sift().detect(gray), most)
    if not keypoints:
        empty = np.empty((0, 2), np.float32)
        return LocalFeatures(empty, empty[:, 0], np.empty((0, LENGTH), np.uint8), scale)
    described, sift = _sift().compute(gray, keypoints)
    centers = np.array([keypoint.pt for keypoint in described])
    diameters = np.array([keypoint.size for keypoint in described])
    points = (centers + 0.5) * scale - 0.5 + area[:2]
    return LocalFeatures(
        points.astype(np.float32), (diameters * scale).astype(np.float32), root_bytes(np.asarray(sift)), scale
    )


def root_bytes(sift: NDArray[Any]) -> NDArray[np.uint8]:
    """Converts SIFT descriptors (n, 128) to RootSIFT descriptors in bytes, (n, 128) uint8."""
    shares = sift / np.maximum(sift.sum(axis=1, keepdims=True), 1e-9)
    descriptors: NDArray[np.uint8] = np.minimum(np.sqrt(shares) * UNIT, 255).round().astype(np.uint8)
    return descriptors


def _resized(image: Image.Image, size: int) -> tuple[NDArray[np.uint8], float]:
    """The image in grayscale (h, w), scaled to the longest side ``size``, and the scale of `LocalFeatures`."""
    scale = max(image.size) / size
    gray = np.asarray(image.convert("L"))
    shape = max(1, round(image.width / scale)), max(1, round(image.height / scale))
    if shape != image.size:
        gray = np.asarray(cv2.resize(gray, shape, interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC))
    return gray.astype(np.uint8, copy=False), scale


def _strongest(keypoints: Iterable[cv2.KeyPoint], most: int) -> list[cv2.KeyPoint]:
    """The strongest keypoints, with the angle set to 0, and without duplicates that differed only in their angle."""
    found: dict[tuple[float, float, float], cv2.KeyPoint] = {}
    for keypoint in sorted(keypoints, key=lambda k: (-k.response, *k.pt, k.size)):
        keypoint.angle = 0.0
        found.setdefault((keypoint.pt[0], keypoint.pt[1], keypoint.size), keypoint)
    return list(found.values())[:most]


_threads = local()


def _sift() -> cv2.SIFT:
    """The SIFT object of the current thread. It has no state that depends on earlier images."""
    if not hasattr(_threads, "sift"):
        _threads.sift = cv2.SIFT.create(contrastThreshold=CONTRAST, enable_precise_upscale=True)
    sift: cv2.SIFT = _threads.sift
    return sift
