"""Backbones: any timm network without its pooling and classifier.

The features come from timm's ``forward_features``, not from ``features_only``. Both return the last stage of most CNNs,
but for EfficientNets ``forward_features`` adds the head convolution. Its 1,280 channels describe landmarks better than
the 320 channels before it.
"""

from inspect import signature
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from glam.backbone_weights import hub_source, load_file, load_in_order, packaged_weights
from glam.errors import GlamError
from glam.same_padding import use_same_padding

TRIAL_SIZES = ((1, 5), (4, 1))
"""Rows and columns of the images that a new network is tried with, in multiples of its stride or patch: images may be
wide or high, and a side may be as short as the multiple."""


class Features(NamedTuple):
    """Features of a batch of images.

    Attributes:
        map: feature map, (b, c, h / stride, w / stride).
        class_token: class token, (b, c); None if the network has none.
    """

    map: Tensor
    class_token: Tensor | None


class Backbone(nn.Module):
    """A timm network without pooling and classifier: (b, 3, h, w) to (b, c, h / stride, w / stride).

    The feature map of a vision transformer has its patch tokens, without class token and registers.

    Args:
        name: name of a timm model, a CNN or a vision transformer, with or without the tag of its weights.
        pretrained: whether to load ImageNet weights, from an installed package if there is one, else from timm's hub or
            its cache; or a file of weights, see `glam.backbone_weights.load_file`.
        stride: image pixels per position of the feature map, 8 or 16; None for the network's default.
        drop_path: share of the residual branches that are skipped in training, from 0 to below 1.

    Attributes:
        name: name of the timm model.
        net: the timm network.
        channels: c, number of channels of the feature map.
        has_class_token: whether the network gives a class token beside its feature map.
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
    def __init__(
        self,
        name: str,
        *,
        pretrained: bool | Path = False,
        stride: int | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.name = name
        options: dict[str, Any] = {} if stride is None else {"output_stride": stride}
        if drop_path:
            options["drop_path_rate"] = drop_path
        self.net = _create(name, pretrained, options)
        self.has_class_token = _has_class_token(self.net)
        try:
            self.channels: int = self.net.num_features
            self.multiple = int(self.net.feature_info[-1]["reduction"])
            self.mean: tuple[float, ...] = tuple(self.net.pretrained_cfg["mean"])
            self.std: tuple[float, ...] = tuple(self.net.pretrained_cfg["std"])
            self.unused = self._try_sizes()
        except Exception as error:  # networks of timm raise many types at a size that they are not made for
            reason = shorten(str(error), 150, placeholder=" ...") or type(error).__name__
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
            unused = _remove_unused_parameters(self.net, features)
        with torch.no_grad():
            if not torch.allclose(self(wide).map, features.map, rtol=0, atol=0, equal_nan=True):
                raise ValueError("they depend on parameters that have no gradient")
            for images in (wide, high):
                shape = self(images).map.shape
                if len(shape) != 4 or shape[1] != self.channels or 0 in shape:
                    height, width = images.shape[2:]
                    raise ValueError(f"{height} x {width} pixels give features of shape {tuple(shape)}")
        self.net.train(training)
        return unused

    def forward(self, images: Tensor) -> Features:
        """Computes the last feature map, and the class token if the network has one.

        Args:
            images: normalized images of one size, (b, 3, h, w); h and w are multiples of ``multiple``.
        """
        if self.has_class_token:
            ((features, prefix),) = self.net.forward_intermediates(
                images, indices=1, norm=True, intermediates_only=True, return_prefix_tokens=True
            )
            return Features(features, prefix[:, 0])
        if self.tokens:
            (features,) = self.net.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)
            return Features(features, None)
        features = self.net.forward_features(images)
        if getattr(self.net, "output_fmt", "NCHW") == "NHWC":
            features = features.permute(0, 3, 1, 2)
        return Features(features, None)


def _has_class_token(net: nn.Module) -> bool:
    """Whether a timm network has a class token that it gives beside its feature map."""
    forward = getattr(net, "forward_intermediates", None)
    return (
        getattr(net, "cls_token", None) is not None
        and forward is not None
        and "return_prefix_tokens" in signature(forward).parameters
    )


def _create(name: str, pretrained: bool | Path, options: dict[str, Any]) -> Any:
    """Creates the timm network, for any image size if the network supports that."""
    if not timm.is_model(name):
        raise GlamError(f"timm has no model named {name!r}. Choose one that `timm.list_models()` lists.")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        known = "Choose one that `timm.list_pretrained()` lists, or leave out what follows the point."
        raise GlamError(f"timm has no weights named {name!r}. {known}") from error
    packaged = packaged_weights(name) if pretrained is True else None
    if pretrained is True and packaged is None:
        options = {**options, "pretrained": True, "pretrained_cfg_overlay": hub_source(name)}
    net = _create_for_any_size(name, options)
    if packaged is not None:
        load_in_order(net, packaged)
    if isinstance(pretrained, Path):
        load_file(net, pretrained)
    use_same_padding(net)
    return net


def _create_for_any_size(name: str, options: dict[str, Any]) -> Any:
    """Creates the timm network with the arguments that let it take any size, if it has them."""
    # Swin networks of timm before 1.0.30 accept `dynamic_img_size` and ignore it, so both arguments are tried first.
    dynamic, loose = {"dynamic_img_size": True}, {"strict_img_size": False}
    free_sizes: tuple[dict[str, Any], ...] = (dynamic | loose, dynamic, loose, {})
    for free_size in free_sizes:
        try:
            return timm.create_model(name, num_classes=0, **options, **free_size)
        except (TypeError, AssertionError, NotImplementedError) as error:  # no such argument, or value
            refusal = error
        except (OSError, RuntimeError) as error:
            raise GlamError(
                f"The weights of {name!r} cannot be loaded: {error}. Check the network connection, or choose "
                "a bundled model."
            ) from error
    if "drop_path_rate" in str(refusal):
        raise GlamError(f"{name!r} has no residual branches to skip. Leave out the drop path.") from refusal
    if "output_stride" in options:
        raise GlamError(f"{name!r} does not support another stride. Leave out the stride.") from refusal
    raise GlamError(f"timm cannot create {name!r} ({refusal}). Choose another network, such as resnet50.") from refusal


def _remove_unused_parameters(net: nn.Module, result: Features) -> frozenset[str]:
    """Removes the parameters that a result does not depend on, in place, and the modules that hold nothing else.

    They are parts of a classifier. `DistributedDataParallel` waits for the gradient of every parameter, and ends a run
    at the second step if one has none. Such a module becomes an identity. Parameters that are not trained stay.

    Args:
        net: network to change.
        result: features of the network, computed with gradients.

    Returns:
        Keys that the state dict of the network no longer has.
    """
    before = set(net.state_dict())
    _remove(net, _parameters_behind(result))
    return frozenset(before - set(net.state_dict()))


def _parameters_behind(result: Features) -> set[nn.Parameter]:
    """Finds the parameters in the graph of a result; gradients are not computed."""
    found: set[nn.Parameter] = set()
    seen, waiting = set(), [values.grad_fn for values in result if values is not None]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # the node that accumulates the gradient of a parameter
            found.add(node.variable)
        waiting.extend(following for following, _ in node.next_functions)
    return found


def _remove(module: nn.Module, used: set[nn.Parameter]) -> None:
    for name, parameter in list(module.named_parameters(recurse=False)):
        if parameter.requires_grad and parameter not in used:
            setattr(module, name, None)
    for name, child in list(module.named_children()):
        trained = {parameter for parameter in child.parameters() if parameter.requires_grad}
        if trained and not trained & used:
            setattr(module, name, nn.Identity())
        else:
            _remove(child, used)
