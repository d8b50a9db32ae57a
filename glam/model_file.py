"""Model files: weights as safetensors, and a JSON header with the settings. Loading a file runs no code from it."""

import hashlib
import json
import struct
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

FORMAT = 1
"""Version of the header; a change that this version could not read raises it."""


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
            ValueError: the text is not valid JSON.
            KeyError: the header lacks a field.
            TypeError: the header has a field that this version does not know.
        """
        values = json.loads(text)
        version = values.pop("format")
        if version != FORMAT:
            raise GlamError(
                f"The model file has format {version}, but this version of glam reads format {FORMAT}. Update glam."
            )
        values["architecture"] = Architecture(**values["architecture"])
        values["scales"] = tuple(values["scales"])
        return cls(**values)


def save(path: Path, network: DescriptorNetwork, header: ModelHeader, *, half: bool = False) -> None:
    """Writes a model file atomically.

    Args:
        path: .safetensors file to write; its folder is created.
        network: network whose weights are stored.
        header: settings stored with the weights.
        half: whether to store floating-point weights as float16, which halves the size of the file.

    Raises:
        GlamError: the file cannot be written.
    """
    tensors = {
        key: (tensor.half() if half and tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for key, tensor in network.state_dict().items()
    }
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
    network = DescriptorNetwork(header.architecture)
    try:
        network.load_state_dict({key: _single(tensor) for key, tensor in load_file(path).items()})
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
    except (KeyError, TypeError, ValueError, struct.error, safetensors.SafetensorError) as error:
        raise GlamError(f"{path}: not a model file. Choose a file that `glam train` wrote. ({error})") from error


def _is_model_file(path: Path) -> bool:
    return bool(read_header(path))


MODEL = OutputKind("a model file", _is_model_file)


def fingerprint(network: DescriptorNetwork) -> str:
    """Returns the fingerprint of a network: 16 hexadecimal digits of a SHA-256 of its architecture and weights.

    Args:
        network: network on any device; the weights are hashed in their own dtype.
    """
    # Options with their default value are left out, so that a new option does not change existing fingerprints.
    default = Architecture("").to_dict()
    chosen = {key: value for key, value in network.architecture.to_dict().items() if value != default[key]}
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode())
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
