"""Attention maps: where each of the four attentions of a model looks in an image. For display only.

F, (c, h, w), is the last feature map of the backbone; the attentions are those of `glam.attention.global_local`:

    local_channel     root mean square of A_lc F over the channels: response of the channels, by their weights
    local_spatial     A_ls
    global_channel    root mean square of G_c over the channels: response of the mixed channels
    global_spatial    softmax(key^T query) inside G_s, transposed: row i shows where position i looks

The weights of a channel attention are the same at every position, so its maps show the weighted response instead. The
maps are computed in single precision from the features of the inference network (`glam.Model.fast`).
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glam.attention import Attention
from glam.errors import GlamError
from glam.images import Box, ImageSource, pixel_box
from glam.inference.decode import prepare
from glam.inference.pipeline import to_tensor
from glam.model import Model
from glam.stage_times import Times

MAX_POSITIONS = 1600
"""Maximum number of positions of the feature map: the global spatial map has the square of it, 10 MB for 1,600. Larger
images are reduced."""

MAPS = ("local_channel", "local_spatial", "global_channel", "global_spatial")
"""Names of the maps."""

Map = NDArray[np.float32]


@dataclass(frozen=True)
class AttentionMaps:
    """Attention maps of one image, float32. A map is None if the model lacks that attention.

    Attributes:
        height: h, rows of the feature map.
        width: w, columns of the feature map.
        box: part of the image that the maps cover: left, top, right, bottom in pixels of the upright image.
        local_channel: response weighted by local channel attention, (h, w), at least 0.
        local_spatial: local spatial attention, (h, w), unbounded; the local stream is multiplied by 1 plus this.
        global_channel: response of the channels mixed by global channel attention, (h, w), at least 0.
        global_spatial: global spatial attention, (h w, h w); row i belongs to position (i // w, i % w) and sums to 1.
    """

    height: int
    width: int
    box: tuple[int, int, int, int]
    local_channel: Map | None
    local_spatial: Map | None
    global_channel: Map | None
    global_spatial: Map | None

    def spatial_attention_from(self, x: float, y: float) -> Map | None:
        """Returns the global spatial attention of the position at a point: where that position looks.

        Args:
            x: column of the point in pixels of the upright image; clamped to the box.
            y: row of the point in pixels of the upright image; clamped to the box.

        Returns:
            (h, w), sums to 1; None if the model has no global spatial attention.
        """
        if self.global_spatial is None:
            return None
        left, top, right, bottom = self.box
        column = min(max(int((x - left) / (right - left) * self.width), 0), self.width - 1)
        row = min(max(int((y - top) / (bottom - top) * self.height), 0), self.height - 1)
        attention: Map = self.global_spatial[row * self.width + column].reshape(self.height, self.width)
        return attention


def attention_maps(model: Model, image: ImageSource, box: Box | None = None, size: int | None = None) -> AttentionMaps:
    """Computes the attention maps of one image, at one scale.

    Args:
        model: model with GLAM.
        image: image to read, see `glam.images.read_image`.
        box: part of the image to use: x1, y1, x2, y2 in pixels of the upright image; None for the full image.
        size: longest side in pixels; larger images are reduced to it, or further if the feature map would have more
            than `MAX_POSITIONS` positions. None for the model's default.

    Returns:
        The maps, and the part of the image that they cover.

    Raises:
        GlamError: the attention of the model has no maps, or it has none.
        ImageError: the image cannot be read, or the box is empty or outside it.
    """
    attention = model.fast.attention
    size = size or model.size
    features, area = _features(model, image, box, size)
    positions = features.shape[-2] * features.shape[-1]
    if positions > MAX_POSITIONS:
        features, area = _features(model, image, box, int(size * sqrt(MAX_POSITIONS / positions)))
    maps = compute_maps(attention, features, area)
    if maps is None:
        raise GlamError(f"{model.name} has no attention maps to show. Choose a model with GLAM.")
    return maps


@torch.inference_mode()
def compute_maps(attention: Attention, features: Tensor, box: tuple[int, int, int, int]) -> AttentionMaps | None:
    """Computes the attention maps of one feature map.

    Args:
        attention: attention module.
        features: feature map, (1, c, h, w), float32.
        box: part of the image that the features cover: left, top, right, bottom in pixels of the upright image.

    Returns:
        The maps; None if the attention has none to show.
    """
    maps = {name: _array(values) for name, values in attention.maps(features).items()}
    height, width = features.shape[-2:]
    return AttentionMaps(height, width, box, *(maps.get(name) for name in MAPS)) if maps else None


@torch.inference_mode()
def _features(model: Model, image: ImageSource, box: Box | None, size: int) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Computes the feature map of an image, (1, c, h, w), float32, and the part of the image that it covers."""
    backbone = model.fast.backbone
    parameter = next(backbone.parameters())
    decoded = prepare(image, box, size, backbone.multiple, Times())
    full = (0, 0, decoded.width, decoded.height)
    area = full if box is None else pixel_box(box, decoded.width, decoded.height, "image")
    assert decoded.pixels is not None
    pixels = to_tensor(decoded.pixels[None].to(parameter.device), backbone.mean, backbone.std)
    layout = model.fast.layout(parameter.device)
    features: Tensor = backbone(pixels.to(parameter.dtype).contiguous(memory_format=layout)).map
    return features.float(), area


def _array(values: Tensor) -> Map:
    array: Map = values.cpu().numpy()
    return array
