"""Where a model's four attentions look in one image: maps to be drawn, not part of describing.

With F, (c, h, w), the last feature map of the backbone, and the attentions of `glam.attention`:

    local_channel     root mean square over the channels of A_lc F: where the channels respond, each at its weight
    local_spatial     A_ls itself
    global_channel    root mean square over the channels of G_c: where the mixed channels respond
    global_spatial    the map softmax(key^T query) inside G_s, transposed: row i says where position i looks

A channel attention has no place of its own (its weights are the same everywhere), hence the response. All of it is
computed in single precision from the features of the form that describes.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glam.attention import GLAM, GlobalSpatial
from glam.errors import GlamError
from glam.images import Box, ImageSource, pixel_box
from glam.inference.decode import prepare
from glam.inference.pipeline import to_tensor
from glam.model import Model
from glam.stage_times import Times

MAX_POSITIONS = 1600
"""Most positions of a feature map; a larger image is downscaled, since the global spatial map has their square."""

Map = NDArray[np.float32]


@dataclass(frozen=True)
class AttentionMaps:
    """The attentions in one image. One that its model was trained without is None.

    Attributes:
        height, width: h and w of the feature map.
        box: left, top, right, bottom in pixels of the upright image, which the maps cover.
        local_channel: (h, w), at least 0.
        local_spatial: (h, w), any number; the local stream of the features is multiplied by 1 + this.
        global_channel: (h, w), at least 0.
        global_spatial: (h w, h w), row i for position (i // w, i % w), adding up to 1.
    """

    height: int
    width: int
    box: tuple[int, int, int, int]
    local_channel: Map | None
    local_spatial: Map | None
    global_channel: Map | None
    global_spatial: Map | None

    def spatial_attention_from(self, x: float, y: float) -> Map | None:
        """(h, w): the spatial attention of the position at a point of the upright image; it sums to 1.

        Args:
            x: of the point, in pixels of the upright image; outside the box, the nearest position of the map is used.
            y: of the point, in pixels of the upright image; outside the box, the nearest position of the map is used.
        """
        if self.global_spatial is None:
            return None
        left, top, right, bottom = self.box
        column = min(max(int((x - left) / (right - left) * self.width), 0), self.width - 1)
        row = min(max(int((y - top) / (bottom - top) * self.height), 0), self.height - 1)
        attention: Map = self.global_spatial[row * self.width + column].reshape(self.height, self.width)
        return attention


def attention_maps(model: Model, image: ImageSource, box: Box | None = None, size: int | None = None) -> AttentionMaps:
    """The attention maps of one image, at one scale.

    Args:
        model: with GLAM.
        image: see `glam.images.read_image`.
        box: x1, y1, x2, y2 in pixels of the upright image; only this part is shown to the network.
        size: longest side in pixels that it is reduced to; the model's own by default, less where the feature map
            would have more than `MAX_POSITIONS`.

    Raises:
        GlamError: the model has no GLAM.
        ImageError: the image cannot be read.
    """
    glam = model.fast.glam
    if not isinstance(glam, GLAM):
        raise GlamError(f"{model.name} has no attention to show: it was made without GLAM")
    size = size or model.size
    features, area = _features(model, image, box, size)
    positions = features.shape[-2] * features.shape[-1]
    if positions > MAX_POSITIONS:
        features, area = _features(model, image, box, int(size * sqrt(MAX_POSITIONS / positions)))
    return compute_maps(glam, features, area)


@torch.inference_mode()
def compute_maps(glam: GLAM, features: Tensor, box: tuple[int, int, int, int]) -> AttentionMaps:
    """Computes the attention maps of one feature map.

    Args:
        glam: the attention module.
        features: (1, c, h, w).
        box: in pixels, what the features cover.
    """
    lc, ls, gc, gs = glam.local_channel, glam.local_spatial, glam.global_channel, glam.global_spatial
    height, width = features.shape[-2:]
    return AttentionMaps(
        height=height,
        width=width,
        box=box,
        local_channel=None if lc is None else _array(_response(lc(features) * features)),
        local_spatial=None if ls is None else _array(ls(features)[0, 0]),
        global_channel=None if gc is None else _array(_response(gc(features))),
        global_spatial=None if gs is None else _array(_spatial_attention(gs, features)),
    )


@torch.inference_mode()
def _features(model: Model, image: ImageSource, box: Box | None, size: int) -> tuple[Tensor, tuple[int, int, int, int]]:
    """(1, c, h, w) of an image in single precision, and the part of it in whole pixels."""
    backbone = model.fast.backbone
    parameter = next(backbone.parameters())
    decoded = prepare(image, box, size, backbone.multiple, Times())
    whole = (0, 0, decoded.width, decoded.height)
    area = whole if box is None else pixel_box(box, decoded.width, decoded.height, "image")
    assert decoded.pixels is not None
    pixels = to_tensor(decoded.pixels[None].to(parameter.device), backbone.mean, backbone.std)
    layout = model.fast.layout(parameter.device)
    features: Tensor = backbone(pixels.to(parameter.dtype).contiguous(memory_format=layout))
    return features.float(), area


def _response(features: Tensor) -> Tensor:
    """(1, c, h, w) to (h, w): root mean square over the channels."""
    response: Tensor = features[0].square().mean(dim=0).sqrt()
    return response


def _spatial_attention(module: GlobalSpatial, features: Tensor) -> Tensor:
    """(1, c, h, w) to (h w, h w): row i is the softmax over the keys for the query of position i."""
    query, key = (conv(features)[0].flatten(1) for conv in (module.query, module.key))  # (r, h w)
    attention: Tensor = (query.T @ key).softmax(dim=1)
    return attention


def _array(values: Tensor) -> Map:
    array: Map = values.cpu().numpy()
    return array
