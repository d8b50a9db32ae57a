"""Model files: weights as safetensors, with everything needed to use them in a JSON header. Nothing is unpickled."""

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


@dataclass(frozen=True)
class ModelHeader:
    """What a model file says beside its weights.

    Attributes:
        architecture: what to build.
        size: longest side in pixels that images are described at.
        scales: as a default for describing.
        training: what it was trained on and how, free-form.
        licence: of the weights.
    """

    architecture: Architecture
    size: int
    scales: tuple[float, ...] = (1.0,)
    training: dict[str, Any] = field(default_factory=dict)
    licence: str = ""

    def to_json(self) -> str:
        """The header as it stands in the file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ModelHeader":
        """Reads what `to_json` wrote.

        Raises:
            GlamError: written by a newer version.
            ValueError, KeyError, TypeError: not such a header.
        """
        values = json.loads(text)
        version = values.pop("format")
        if version != FORMAT:
            raise GlamError(f"the model file has format {version}, this version of glam reads format {FORMAT}")
        values["architecture"] = Architecture(**values["architecture"])
        values["scales"] = tuple(values["scales"])
        return cls(**values)


def save(path: Path, network: DescriptorNetwork, header: ModelHeader, *, half: bool = False) -> None:
    """Writes a model file, wholly or not at all.

    Args:
        path: of the .safetensors file.
        network: whose weights are written.
        header: see `ModelHeader`.
        half: store floating-point weights as float16, half the size.

    Raises:
        GlamError: the file cannot be written.
    """
    tensors = {
        key: (tensor.half() if half and tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for key, tensor in network.state_dict().items()
    }
    # Not by `save_file`, whose temporary file has mode 0600 whatever the umask.
    content = to_safetensors(tensors, metadata={"glam": header.to_json()})
    with write_output(path) as partial:
        partial.write_bytes(content)


def load(path: Path) -> tuple[DescriptorNetwork, ModelHeader]:
    """Builds the network of a model file, in evaluation mode on the CPU.

    Raises:
        GlamError: no such file, or not a model file of this package.
    """
    header = read_header(path)
    network = DescriptorNetwork(header.architecture)
    try:
        network.load_state_dict({key: _single(tensor) for key, tensor in load_file(path).items()})
    except RuntimeError as error:
        raise GlamError(f"{path}: the weights do not fit the architecture in its header: {error}") from error
    return network.eval(), header


def read_header(path: Path) -> ModelHeader:
    """Reads the header alone, without the weights.

    Raises:
        GlamError: no such file, or not a model file of this package.
    """
    if not path.is_file():
        raise GlamError(f"{path}: no such model file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return ModelHeader.from_json((file.metadata() or {})["glam"])
    except (KeyError, TypeError, ValueError, struct.error, safetensors.SafetensorError) as error:
        raise GlamError(f"{path}: not a model file that `glam train` wrote ({error})") from error


def _is_model_file(path: Path) -> bool:
    return bool(read_header(path))


MODEL = OutputKind("a model file", _is_model_file)


def fingerprint(network: DescriptorNetwork) -> str:
    """16 hexadecimal digits that are equal just where architecture and weights are."""
    # What is as by default is left out, so that a new option changes no fingerprint of old models.
    default = Architecture("").to_dict()
    chosen = {key: value for key, value in network.architecture.to_dict().items() if value != default[key]}
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode())
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
