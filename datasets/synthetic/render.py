"""Renderer of a scene: perspective camera, depth buffer, and texture sampling, before any light is added.

Faces are flat, so 1/depth is an affine function of the pixel, and texture coordinates are ratios of such functions: one
3 x 3 matrix per face. The faces are rasterized one by one into a depth buffer, and textures are then sampled for all
pixels at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from glam.datasets.synthetic.canvas import Texture
from glam.datasets.synthetic.solids import Mesh

NEAR = 0.4
"""Distance of the near clipping plane in meters (arbitrary)."""
MIP_LEVELS = 5
"""Versions of each texture, each half the size of the one before (arbitrary)."""
FloatArray = NDArray[Any]
"""A float32 array. The type is `Any` because the type hints of NumPy and OpenCV lose the precision."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        eye: (3,) position in meters.
        axes: (3, 3) unit vectors to the right, down, and forward, one per row.
        focal: focal length in pixels.
        width: width of the picture in pixels.
        height: height of the picture in pixels.
    """

    eye: NDArray[np.float64]
    axes: NDArray[np.float64]
    focal: float
    width: int
    height: int

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Projects (n, 3) points in meters to (n, 3): pixel x, pixel y, and depth in meters (negative if behind)."""
        local = (points - self.eye) @ self.axes.T
        depth = np.where(np.abs(local[:, 2]) < 1e-6, 1e-6, local[:, 2])
        middle = np.array([self.width / 2, self.height / 2])
        return np.column_stack([self.focal * local[:, :2] / depth[:, None] + middle, local[:, 2]])


def look_at(
    eye: NDArray[np.float64], target: NDArray[np.float64], *, roll: float, focal: float, width: int, height: int
) -> Camera:
    """Builds a camera that has a target in the middle of its picture.

    Args:
        eye: (3,) position of the camera in meters.
        target: (3,) position of the target in meters.
        roll: rotation about the viewing axis in radians.
        focal: focal length in pixels.
        width: width of the picture in pixels.
        height: height of the picture in pixels.
    """
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    return Camera(eye, np.vstack([turn @ np.stack([right, down]), forward]), focal, width, height)


class Atlas:
    """All textures of a mesh and their mip levels in one image.

    Args:
        textures: textures of the mesh.

    Attributes:
        color: (h, w, 4) uint8 red, green, blue, and glass.
        slopes: (h, w, 2) uint8 slopes of the relief to the right and down, 128 for flat.
        boxes: (textures, `MIP_LEVELS`, 4) float32 x, y, width, and height in pixels.
    """

    def __init__(self, textures: list[Texture]) -> None:
        strips, relief_strips, boxes, top = [], [], [], 0
        for texture in textures:
            strip, places = _mip_strip(np.dstack([texture.color, texture.glass]))
            slopes = [cv2.Sobel(texture.relief, cv2.CV_32F, across, 1 - across, ksize=3) for across in (1, 0)]
            packed = np.clip(np.dstack(slopes) * 0.5 + 128, 0, 255).astype(np.uint8)
            strips.append(strip)
            relief_strips.append(_mip_strip(packed)[0])
            boxes.append([(x, y + top, w, h) for x, y, w, h in places])
            top += strip.shape[0]
        width = max(strip.shape[1] for strip in strips)
        self.color = np.zeros((top, width, 4), np.uint8)
        self.slopes = np.full((top, width, 2), 128, np.uint8)
        row = 0
        for strip, slope in zip(strips, relief_strips, strict=True):
            self.color[row : row + strip.shape[0], : strip.shape[1]] = strip
            self.slopes[row : row + strip.shape[0], : strip.shape[1]] = slope
            row += strip.shape[0]
        self.boxes = np.array(boxes, np.float32)


def _mip_strip(image: NDArray[Any]) -> tuple[NDArray[np.uint8], list[tuple[int, int, int, int]]]:
    """An image with its mip levels stacked to the right, and (x, y, width, height) of each level in pixels."""
    height, width = image.shape[:2]
    levels, places, y = [image], [(0, 0, width, height)], 0
    for _ in range(1, MIP_LEVELS):
        last = levels[-1]
        half = cv2.resize(last, (max(1, last.shape[1] // 2), max(1, last.shape[0] // 2)), interpolation=cv2.INTER_AREA)
        places.append((width, y, half.shape[1], half.shape[0]))
        levels.append(half)
        y += half.shape[0]
    strip = np.zeros((max(height, y), width + levels[1].shape[1], image.shape[2]), np.uint8)
    for level, (x, top, wide, tall) in zip(levels, places, strict=True):
        strip[top : top + tall, x : x + wide] = level
    return strip, places


class Geometry:
    """A mesh of f faces as arrays.

    Args:
        mesh: the mesh.

    Attributes:
        corners: (n, 3) corners of all faces, concatenated, in meters.
        starts: (f + 1,) index of the first corner of each face, and n.
        frames: (f, 3, 3) columns right, down, and origin of the texture.
        normals: (f, 3) unit vectors.
        textures: (f,) index of the texture in the mesh.
        first: (f, 3) first corner in meters.
        right: (f, 3) width of the texture as a vector in meters.
        down: (f, 3) height of the texture as a vector in meters.
    """

    def __init__(self, mesh: Mesh) -> None:
        faces = mesh.faces
        self.corners = np.concatenate([face.corners for face in faces])
        self.starts = np.cumsum([0, *(len(face.corners) for face in faces)])
        self.frames = np.stack([np.stack([face.right, face.down, face.origin], axis=1) for face in faces])
        self.normals = np.stack([face.normal for face in faces])
        self.textures = np.array([face.texture for face in faces])
        self.first = np.stack([face.corners[0] for face in faces])
        self.right = np.stack([face.right for face in faces])
        self.down = np.stack([face.down for face in faces])


def rasterize(
    corners: NDArray[np.float64], starts: NDArray[np.intp], planes: NDArray[np.float64], width: int, height: int
) -> tuple[FloatArray, NDArray[np.intp]]:
    """Finds the nearest polygon at each pixel.

    Args:
        corners: (n, 2) corners of all polygons in pixels, concatenated.
        starts: (f + 1,) index of the first corner of each polygon, and n.
        planes: (f, 3) coefficients a, b, c of the nearness ``a x + b y + c`` of each polygon, positive inside it.
        width: width of the picture in pixels.
        height: height of the picture in pixels.

    Returns:
        (height, width) nearness, 0 for no polygon, and (height, width) index of the polygon, -1 for none.
    """
    nearness = np.zeros((height, width), np.float32)
    winner = np.full((height, width), -1, np.intp)
    if len(planes) == 0:
        return nearness, winner
    xs, ys = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    low = np.maximum(np.minimum.reduceat(corners, starts[:-1]).astype(np.intp), 0).tolist()
    high = np.minimum(np.maximum.reduceat(corners, starts[:-1]).astype(np.intp) + 2, (width, height)).tolist()
    sixteenths = np.rint(corners * 16).astype(np.int32)
    bounds, coefficients = starts.tolist(), planes.astype(np.float32)
    for number, ((x0, y0), (x1, y1)) in enumerate(zip(low, high, strict=True)):
        if x0 >= x1 or y0 >= y1:
            continue
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        outline = sixteenths[bounds[number] : bounds[number + 1]] - np.array((16 * x0, 16 * y0), np.int32)
        cv2.fillPoly(mask, [outline], 1, shift=4)
        a, b, c = coefficients[number]
        here = a * xs[x0:x1] + (b * ys[y0:y1] + c)
        window = nearness[y0:y1, x0:x1]
        front = (here > window) & mask.view(np.bool_)
        np.copyto(window, here, where=front)
        np.copyto(winner[y0:y1, x0:x1], number, where=front)
    return nearness, winner


def clip(polygon: NDArray[np.float64], normal: NDArray[np.float64], offset: float) -> NDArray[np.float64]:
    """Clips a polygon to a half-space (I. Sutherland, G. Hodgman, "Reentrant polygon clipping", 1974).

    Args:
        polygon: (n, 3) corners.
        normal: (3,) normal of the half-space ``normal . p >= offset``.
        offset: offset of the half-space along ``normal``.

    Returns:
        (m, 3) corners of the remaining polygon; m is 0 if nothing remains.
    """
    if len(polygon) == 0:
        return polygon
    distance = polygon @ normal - offset
    kept: list[NDArray[np.float64]] = []
    for index in range(len(polygon)):
        here, last = distance[index], distance[index - 1]
        if (here >= 0) != (last >= 0):
            kept.append(polygon[index - 1] + (polygon[index] - polygon[index - 1]) * (last / (last - here)))
        if here >= 0:
            kept.append(polygon[index])
    return np.array(kept) if len(kept) > 2 else np.empty((0, 3))


def outlines_on_screen(geometry: Geometry, camera: Camera) -> tuple[NDArray[np.intp], list[NDArray[np.float64]]]:
    """Projects the faces that face the camera and are in its picture.

    Args:
        geometry: the faces of the scene.
        camera: the camera.

    Returns:
        (v,) indices of the visible faces, and the (n, 2) outline of each in pixels.
    """
    towards = np.einsum("fi,fi->f", geometry.normals, camera.eye - geometry.first) > 1e-3
    projected = camera.project(geometry.corners)
    low = np.minimum.reduceat(projected, geometry.starts[:-1])
    high = np.maximum.reduceat(projected, geometry.starts[:-1])
    margin = 4 * max(camera.width, camera.height)
    unclipped = (low[:, 2] > NEAR) & (low[:, :2] > -margin).all(axis=1) & (high[:, :2] < margin).all(axis=1)
    inside = (high[:, :2] > 0).all(axis=1) & (low[:, 0] < camera.width) & (low[:, 1] < camera.height)
    numbers, outlines = [], []
    sideways = 2 * max(camera.width, camera.height) / camera.focal
    bounds = [np.array([x, y, sideways]) for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    for face in np.flatnonzero(towards & (high[:, 2] > NEAR) & (inside | ~unclipped)):
        start, stop = geometry.starts[face], geometry.starts[face + 1]
        outline = projected[start:stop, :2]
        if not unclipped[face]:
            local = (geometry.corners[start:stop] - camera.eye) @ camera.axes.T
            local = clip(local, np.array([0.0, 0.0, 1.0]), NEAR)
            for bound in bounds:
                local = clip(local, bound, 0.0)
            if not len(local):
                continue
            outline = camera.focal * local[:, :2] / local[:, 2:] + (camera.width / 2, camera.height / 2)
        numbers.append(face)
        outlines.append(outline)
    return np.array(numbers, np.intp), outlines


@dataclass(frozen=True)
class Layers:
    """The picture of a camera before any light is added. Each array is (height, width).

    Attributes:
        color: uint8 red, green, and blue of the surfaces.
        glass: uint8 brightness class of a window pane, 0 elsewhere.
        slopes: float32 slopes of the relief to the right and down the texture, about -1 to 1.
        face: index of the face; 0 in the sky.
        sky: whether the pixel shows the sky.
        depth: float32 meters along the axis of the camera.
    """

    color: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
    glass: NDArray[Any]
    slopes: tuple[FloatArray, FloatArray]
    face: NDArray[np.intp]
    sky: NDArray[np.bool_]
    depth: FloatArray


def look(geometry: Geometry, atlas: Atlas, camera: Camera) -> Layers:
    """Rasterizes and textures a scene.

    Args:
        geometry: the faces of the scene.
        atlas: the textures of the scene.
        camera: camera of the picture.
    """
    numbers, outlines = outlines_on_screen(geometry, camera)
    starts = np.cumsum([0, *map(len, outlines)])
    frames = camera.axes @ (geometry.frames[numbers] - np.outer(camera.eye, (0, 0, 1)))
    lens = np.array([[1, 0, -camera.width / 2], [0, 1, -camera.height / 2], [0, 0, camera.focal]]) / camera.focal
    screen = np.linalg.inv(frames) @ lens
    nearness, winner = rasterize(np.concatenate(outlines), starts, screen[:, 2], camera.width, camera.height)
    sky = winner < 0
    winner[sky] = 0
    depth = 1 / np.maximum(nearness, 1e-4)
    rows = screen.reshape(-1, 9).astype(np.float32)
    xs, ys = np.arange(camera.width, dtype=np.float32), np.arange(camera.height, dtype=np.float32)[:, None]
    across = (rows[:, 0].take(winner) * xs + rows[:, 1].take(winner) * ys + rows[:, 2].take(winner)) * depth
    down = (rows[:, 3].take(winner) * xs + rows[:, 4].take(winner) * ys + rows[:, 5].take(winner)) * depth
    boxes = _mip_boxes(geometry, atlas, camera, numbers, winner, depth)
    map_x = boxes[..., 0] + _within(across, boxes[..., 2])
    map_y = boxes[..., 1] + _within(down, boxes[..., 3])
    red, green, blue, glass = cv2.split(cv2.remap(atlas.color, map_x, map_y, cv2.INTER_LINEAR))
    lean, drop = cv2.split(cv2.remap(atlas.slopes, map_x, map_y, cv2.INTER_LINEAR))
    slopes = (lean.astype(np.float32) - 128) / 128, (drop.astype(np.float32) - 128) / 128
    return Layers((red, green, blue), glass, slopes, numbers.take(winner), sky, depth)


def _within(share: FloatArray, extent: FloatArray) -> FloatArray:
    """Converts texture coordinates to texels of a texture that is ``extent`` texels long and repeats outside 0..1."""
    wrapped = share - np.floor(share * np.float32(0.9998) + np.float32(0.0001))
    texels: FloatArray = np.clip(wrapped * extent - np.float32(0.5), 0, extent - 1)
    return texels


def _mip_boxes(
    geometry: Geometry,
    atlas: Atlas,
    camera: Camera,
    numbers: NDArray[np.intp],
    winner: NDArray[np.intp],
    depth: FloatArray,
) -> FloatArray:
    """(h, w, 4) box in the atlas of each pixel's texture, at the mip level for its distance."""
    textures = geometry.textures[numbers]
    lengths = np.linalg.norm(geometry.right[numbers], axis=1), np.linalg.norm(geometry.down[numbers], axis=1)
    density = np.sqrt(atlas.boxes[textures, 0, 2] * atlas.boxes[textures, 0, 3] / (lengths[0] * lengths[1]))
    towards = camera.eye - geometry.first[numbers]
    facing = np.einsum("fi,fi->f", geometry.normals[numbers], towards) / np.linalg.norm(towards, axis=1)
    texels = (density / camera.focal / np.sqrt(np.clip(facing, 0.1, 1))).astype(np.float32).take(winner) * depth
    level = np.clip(np.log2(texels * np.float32(1.2)), 0, MIP_LEVELS - 1).astype(np.intp)
    flat = textures.take(winner) * MIP_LEVELS + level
    boxes: FloatArray = atlas.boxes.reshape(-1, 4).take(flat, axis=0)
    return boxes
