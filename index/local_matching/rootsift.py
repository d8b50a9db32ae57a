"""Local features of a photograph: RootSIFT, upright, at its strongest corners and blobs, a byte a number.

Sources: D. Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 2004. R. Arandjelovic, A. Zisserman,
"Three things everyone should know to improve object retrieval", CVPR 2012: SIFT divided by its sum, then the root of
each number. M. Perdoch, O. Chum, J. Matas, "Efficient representation of local geometry for large scale object
retrieval", CVPR 2009: photographs are taken upright, so that features that do not turn tell more. What else was tried,
and what it came to: benchmarks/local_features.py, docs/lab/explaining.md.
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
"""Longest side in pixels that an image is resized to, up or down, before features are looked for."""

MOST = 500
"""Features that are kept of an image, the strongest first."""

CONTRAST = 0.02
"""How much a feature has to stand out; half of what OpenCV starts with, since many photographs are hazy."""

LENGTH = 128
"""Numbers of a descriptor."""

UNIT = 512.0
"""What a descriptor of length 1 is multiplied by to become bytes; hardly a number is then cut off at 255."""


@dataclass(frozen=True)
class LocalFeatures:
    """What is kept of an image.

    Attributes:
        points: (n, 2) float32, x and y in pixels of the upright image, the strongest first; whole numbers are the
            middles of pixels.
        diameters: (n,) float32, of the features in pixels of the upright image.
        descriptors: (n, 128) uint8, of length near `UNIT`.
        scale: pixels of the upright image to a pixel of the size they were found at.
    """

    points: NDArray[np.float32]
    diameters: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    scale: float

    def __len__(self) -> int:
        return len(self.points)


def extract(image: Image.Image, *, box: Box | None = None, size: int = SIZE, most: int = MOST) -> LocalFeatures:
    """Finds and describes the local features of an image; of a blank one there are none.

    Args:
        image: upright, of any mode.
        box: x1, y1, x2, y2 in pixels; only the part in it is looked at.
        size: longest side in pixels that the image, or its part, is resized to.
        most: features that are kept.

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
    """RootSIFT in bytes: (n, 128) SIFT to (n, 128) uint8."""
    shares = sift / np.maximum(sift.sum(axis=1, keepdims=True), 1e-9)
    descriptors: NDArray[np.uint8] = np.minimum(np.sqrt(shares) * UNIT, 255).round().astype(np.uint8)
    return descriptors


def _resized(image: Image.Image, size: int) -> tuple[NDArray[np.uint8], float]:
    """Gray, (h, w) with the longest side ``size``, and how many pixels of the image go to one of its pixels."""
    scale = max(image.size) / size
    gray = np.asarray(image.convert("L"))
    shape = max(1, round(image.width / scale)), max(1, round(image.height / scale))
    if shape != image.size:
        gray = np.asarray(cv2.resize(gray, shape, interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC))
    return gray.astype(np.uint8, copy=False), scale


def _strongest(keypoints: Iterable[cv2.KeyPoint], most: int) -> list[cv2.KeyPoint]:
    """The strongest, all turned upright: one of several directions at the same place and size is enough."""
    found: dict[tuple[float, float, float], cv2.KeyPoint] = {}
    for keypoint in sorted(keypoints, key=lambda k: (-k.response, *k.pt, k.size)):
        keypoint.angle = 0.0
        found.setdefault((keypoint.pt[0], keypoint.pt[1], keypoint.size), keypoint)
    return list(found.values())[:most]


_threads = local()


def _sift() -> cv2.SIFT:
    """One for each thread; it keeps nothing between images."""
    if not hasattr(_threads, "sift"):
        _threads.sift = cv2.SIFT.create(contrastThreshold=CONTRAST, enable_precise_upscale=True)
    sift: cv2.SIFT = _threads.sift
    return sift
