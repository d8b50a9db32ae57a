"""Model files: weights as safetensors, and a JSON header with the settings. Loading a file runs no code from it."""

import hashlib
import json
import math
import re
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from glam.errors import GlamError
from glam.network import Architecture, DescriptorNetwork
from glam.output import OutputKind, write_output

FORMAT = 2
"""Version of the header; a change that this version could not read raises it."""

FORMER_FORMATS = (1,)
"""Versions that `Architecture.from_dict` reads, too: 1 had ``glam`` and ``gem_p`` for attention and pooling."""

DEFAULT_P = 3.0
"""Exponent of GeM if a model names none."""

MAX_DIM = 1 << 16
"""Maximum length of a descriptor in a header, so that a damaged one cannot ask for all memory (arbitrary)."""

MAX_SIZE = 65_535
"""Maximum size in a header: no JPEG has longer sides."""

MAX_SCALE = 16
"""Maximum scale in a header (arbitrary)."""

TRAIN_AGAIN = "The training diverged; set a smaller --model.lr."


@dataclass(frozen=True)
class ModelHeader:
    """Settings stored with the weights in a model file.

    Attributes:
        architecture: settings of the network.
        size: default longest side in pixels; larger images are reduced to it.
        scales: default scales, multiples of ``size``, whose descriptors are averaged.
        training: training data and options, as free-form JSON values.
        licence: license of the weights, such as ``Apache-2.0``.
    """

    architecture: Architecture
    size: int
    scales: tuple[float, ...] = (1.0,)
    training: dict[str, Any] = field(default_factory=dict)
    licence: str = ""

    def to_json(self) -> str:
        """Returns the header as JSON text, the form stored in the file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ModelHeader":
        """Parses the text of a header.

        Args:
            text: result of `to_json`.

        Raises:
            GlamError: a newer version of glam wrote the header.
            ValueError: the text is not a valid JSON object, or a field has a wrong type or is out of range.
            KeyError: the header lacks a field.
            TypeError: the header has a field that this version does not know.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("the header is not a JSON object")
        version = values.pop("format")
        if version != FORMAT and version not in FORMER_FORMATS:
            raise GlamError(
                f"The model file has format {version}, but this version of glam reads format {FORMAT}. Update glam."
            )
        _check_fields(values)
        values["architecture"] = Architecture.from_dict(values["architecture"])
        values["scales"] = tuple(values["scales"])
        return cls(**values)


def _check_fields(values: dict[str, Any]) -> None:
    """Makes sure that the fields of a header have the right types and are in range.

    Raises:
        ValueError: one does not.
        KeyError: one is missing.
    """
    architecture, scales = values["architecture"], values["scales"]
    if not isinstance(architecture, dict):
        raise ValueError("the architecture is not a JSON object")
    optional = {
        **{
            "dim": None,
            "whitening": None,
            "stride": None,
            "dropout": 0.0,
            "attention": None,
            "pooling": {"name": "gem"},
        },
        **{"glam": None, "gem_p": 3.0},
    }
    dim, whitening, stride, dropout, attention, pooling, glam, gem_p = (
        {**optional, **architecture}[name] for name in optional
    )
    valid = {
        "backbone": isinstance(architecture["backbone"], str),
        "dim": dim is None or _is_whole(dim, MAX_DIM),
        "whitening": whitening is None or _is_whole(whitening, MAX_DIM),
        "stride": stride is None or (_is_whole(stride, 16) and stride in (8, 16)),
        "attention": attention is None or _is_choice(attention),
        "pooling": _is_choice(pooling),
        "glam": glam is None or isinstance(glam, dict),
        "gem_p": _is_positive(gem_p),
        "dropout": dropout == 0 or (_is_positive(dropout) and dropout < 1),
        "size": _is_whole(values["size"], MAX_SIZE),
        "scales": isinstance(scales, list)
        and bool(scales)
        and all(_is_positive(scale) and scale <= MAX_SCALE for scale in scales),
        "training": isinstance(values["training"], dict),
        "licence": isinstance(values["licence"], str),
    }
    for name, is_valid in valid.items():
        if not is_valid:
            raise ValueError(f"{name} is {({**values, **optional, **architecture})[name]!r}")


def _is_choice(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("name"), str)


def _is_whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def save(path: Path, network: DescriptorNetwork, header: ModelHeader, *, half: bool = False) -> None:
    """Writes a model file atomically.

    Args:
        path: .safetensors file to write; its folder is created.
        network: network whose weights are stored.
        header: settings stored with the weights.
        half: whether to store floating-point weights as float16, which halves the size of the file.

    Raises:
        GlamError: the file cannot be written, or a weight is not finite, in float16 if it is stored so.
    """
    tensors = {
        key: (tensor.half() if half and tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for key, tensor in network.state_dict().items()
    }
    shared = Counter(tensor.data_ptr() for tensor in tensors.values())  # safetensors refuses shared memory
    tensors = {key: tensor.clone() if shared[tensor.data_ptr()] > 1 else tensor for key, tensor in tensors.items()}
    name = _not_finite(tensors)
    if name is not None:
        advice = "Save the model without --half." if half and not _not_finite(network.state_dict()) else TRAIN_AGAIN
        raise GlamError(f"{path} is not written: {name} has a weight that is not finite. {advice}")
    # `safetensors.torch.save_file` ignores the umask: its files have mode 0600.
    content = to_safetensors(tensors, metadata={"glam": header.to_json()})
    with write_output(path) as partial:
        partial.write_bytes(content)


def load(path: Path) -> tuple[DescriptorNetwork, ModelHeader]:
    """Loads a model file.

    Args:
        path: .safetensors file that `save` wrote.

    Returns:
        The network, in evaluation mode on the CPU, and its settings.

    Raises:
        GlamError: there is no such file, or it is not a valid model file.
    """
    header = read_header(path)
    try:
        network = DescriptorNetwork(header.architecture)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise GlamError(
            f"{path}: the header describes no network that can be built. Get or train the model again. ({error})"
        ) from error
    tensors = load_file(path)
    name = _not_finite(tensors)
    if name is not None:
        raise GlamError(f"{path}: {name} has a weight that is not finite. Get or train the model again.")
    unused = {f"backbone.net.{key}" for key in network.backbone.unused}  # older files have them
    try:
        network.load_state_dict({key: _single(tensor) for key, tensor in tensors.items() if key not in unused})
    except RuntimeError as error:
        raise GlamError(
            f"{path}: the weights do not fit the architecture in the header. Get or train the model again. ({error})"
        ) from error
    return network.eval(), header


def read_header(path: Path) -> ModelHeader:
    """Reads the settings of a model file without loading its weights.

    Args:
        path: .safetensors file that `save` wrote.

    Raises:
        GlamError: there is no such file, or it is not a model file.
    """
    if not path.is_file():
        raise GlamError(f"{path}: no such model file. Check the path.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return ModelHeader.from_json((file.metadata() or {})["glam"])
    except (KeyError, TypeError, ValueError, RecursionError, struct.error, safetensors.SafetensorError) as error:
        raise GlamError(f"{path}: not a model file. Choose a file that `glam train` wrote. ({error})") from error


def _is_model_file(path: Path) -> bool:
    return bool(read_header(path))


MODEL = OutputKind("a model file", _is_model_file)


def fingerprint(network: DescriptorNetwork) -> str:
    """Returns the fingerprint of a network: 16 hexadecimal digits of a SHA-256 of its architecture and weights.

    Args:
        network: network on any device; the weights are hashed in their own dtype.
    """
    chosen = _hashed_settings(network.architecture)
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode())
    state = {_hashed_key(key, chosen): tensor for key, tensor in network.state_dict().items()}
    for key, tensor in sorted(state.items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _hashed_settings(architecture: Architecture) -> dict[str, Any]:
    """Returns the settings that a fingerprint depends on; it is the same for a model that an earlier version wrote.

    Options with their default value are left out, so that a new option does not change existing fingerprints. GLAM and
    GeM have their former names.
    """
    settings, default = architecture.to_dict(), Architecture("").to_dict()
    attention, pooling = settings["attention"], settings["pooling"]
    chosen = {key: value for key, value in settings.items() if value != default[key]}
    if attention is None or attention["name"] == "glam":
        chosen.pop("attention", None)
        glam = None if attention is None else {key: value for key, value in attention.items() if key != "name"}
        chosen |= {} if glam == {} else {"glam": glam}
    if pooling["name"] == "gem":
        chosen.pop("pooling", None)
        p = pooling.get("p", DEFAULT_P)
        chosen |= {} if p == DEFAULT_P else {"gem_p": p}
    return chosen


def _hashed_key(key: str, settings: Mapping[str, Any]) -> str:
    """Returns the name of a weight for a fingerprint, given the settings of `_hashed_settings`."""
    return key if "attention" in settings else re.sub(r"^attention\.", "glam.", key)


def _not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Returns the name of a tensor with a value that is NaN or infinite; None if there is none."""
    return next((name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())), None)


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
