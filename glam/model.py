"""Models: a descriptor network with its settings, loaded by name or path, that computes descriptors of images."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from glam import model_file
from glam.errors import GlamError, ImageError
from glam.images import Box, ImageSource, is_image_source
from glam.inference.optimize import inference_form
from glam.inference.pipeline import DescribedImage, Settings, describe_stream
from glam.model_file import ModelHeader
from glam.network import Architecture, DescriptorNetwork
from glam.progress import Progress, no_progress
from glam.stage_times import Times

TIMM = "timm:"
"""Prefix of the names of timm backbones."""

DEFAULT_SIZE = 512
"""Longest side in pixels for ``timm:`` models, which have no size of their own; arbitrary."""


class Model:
    """A model that computes descriptors of images. `glam.load` creates it.

    Examples:
        >>> model = glam.load("glam-lite0")
        >>> descriptors = model.describe(["a.jpg", "b.jpg"])
        >>> descriptors.shape, descriptors.dtype
        ((2, 768), dtype('float32'))

    Args:
        name: name or path that the model was loaded by.
        network: network in evaluation mode, on the device to use.
        header: settings of the model.

    Attributes:
        name: name or path that the model was loaded by.
        network: the network; describing images does not change its weights.
        header: settings of the model.
        dim: length of a descriptor.
        size: default longest side in pixels; larger images are reduced to it.
        scales: default scales, multiples of ``size``, whose descriptors are averaged.
    """

    def __init__(self, name: str, network: DescriptorNetwork, header: ModelHeader) -> None:
        self.name = name
        self.network = network
        self.header = header
        self.dim = network.dim
        self.size = header.size
        self.scales = header.scales

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify architecture and weights."""
        return model_file.fingerprint(self.network)

    def settings(self, *, size: int | None = None, scales: Sequence[float] | None = None) -> Settings:
        """Returns the settings of the model, with another size or other scales.

        Args:
            size: longest side in pixels; None for the model's default.
            scales: scales to average over, multiples of the size; None for the model's default.

        Raises:
            GlamError: the size or a scale is not positive, or ``scales`` is empty.
        """
        chosen = Settings(
            size=self.size if size is None else size, scales=self.scales if scales is None else tuple(scales)
        )
        if chosen.size <= 0:
            raise GlamError(f"The size {size} is not positive. Choose a number of pixels, such as {self.size}.")
        if not chosen.scales or not all(0 < scale < math.inf for scale in chosen.scales):
            raise GlamError(
                f"The scales {list(chosen.scales)} are not a list of positive numbers. "
                "Choose numbers such as 0.7, 1, and 1.4."
            )
        return chosen

    @cached_property
    def fast(self) -> DescriptorNetwork:
        """Copy of the network that is optimized for inference, see `glam.inference.optimize.inference_form`."""
        return inference_form(self.network)

    def compile(self) -> None:
        """Compiles the network with `torch.compile`, which pays off on a GPU with many images.

        Compilation takes a minute or two at the first batch, and once more, then for all shapes, at the first batch of
        another shape.
        """
        self.fast.compile()

    def stream(
        self, items: Iterable[tuple[ImageSource, Box | None]], settings: Settings, times: Times | None = None
    ) -> Iterator[DescribedImage]:
        """Computes descriptors of a stream of images, see `glam.inference.pipeline.describe_stream`.

        Args:
            items: pairs of an image (see `glam.images.read_image`) and a box, x1, y1, x2, y2 in pixels of the upright
                image, or None for the full image. The stream may be endless.
            settings: size, scales, and batch size, see `settings`.
            times: collects the seconds spent in each stage; None to discard them.

        Yields:
            One result per image, with its position in the stream; unreadable images are reported, not raised.
        """
        return describe_stream(self.fast, items, settings, times)

    def describe(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        boxes: Sequence[Box | None] | None = None,
        scales: Sequence[float] | None = None,
        size: int | None = None,
        batch_size: int = 16,
        errors: list[ImageError] | None = None,
        progress: Progress = no_progress,
    ) -> NDArray[np.float32]:
        """Computes descriptors of images.

        Examples:
            >>> descriptors = model.describe(["a.jpg", "b.jpg"])
            >>> score = descriptors[0] @ descriptors[1]  # cosine similarity
            >>> errors = []
            >>> descriptors = model.describe(["a.jpg", "missing.jpg"], errors=errors)  # row 1 is NaN
            >>> print(errors[0])
            missing.jpg: no such file

        Args:
            images: one image or several: paths, contents of image files as bytes, Pillow images, or arrays (see
                `glam.images.read_image`).
            boxes: one box per image, x1, y1, x2, y2 in pixels of the upright image, or None for the full image.
            scales: scales to average over, multiples of the size; None for the model's default.
            size: longest side in pixels; larger images are reduced to it. None for the model's default.
            batch_size: maximum number of images per run of the network; it does not change the descriptors.
            errors: list that collects the errors of unreadable images, whose rows are NaN. None to raise the first.
            progress: called with the number of images done and the total, after each image.

        Returns:
            Descriptors, (n, dim), float32; row i belongs to image i and has unit length.

        Raises:
            ImageError: an image cannot be read, and ``errors`` is None.
            GlamError: ``images`` has an unsupported type, or ``size`` or ``scales`` are not positive.
        """
        images = _as_list(images)
        settings = replace(self.settings(size=size, scales=scales), batch_size=batch_size)
        pairs = zip(images, boxes or [None] * len(images), strict=True)
        descriptors = np.full((len(images), self.dim), np.nan, dtype=np.float32)
        for done, described in enumerate(self.stream(pairs, settings), start=1):
            progress(done, len(images))
            if described.error is None:
                descriptors[described.position] = described.descriptor
            elif errors is None:
                raise described.error
            else:
                errors.append(described.error)
        return descriptors


def load(name: str | Path, device: str | torch.device | None = None) -> Model:
    """Loads a model.

    Examples:
        >>> model = glam.load("glam-lite0")  # or "runs/mine/model.safetensors", or "timm:resnet50"
        >>> model.size, model.dim
        (320, 768)

    Args:
        name: name of a bundled model (`bundled_models`), path of a .safetensors file, or ``timm:NAME`` for a timm
            backbone with its ImageNet weights and GeM pooling, without attention. ``timm:NAME@FILE`` takes its weights
            from a file (`glam.backbone_weights.load_file`).
        device: device to run on, such as ``"cpu"`` or ``"cuda:1"``; None for the GPU if there is one, else the CPU.

    Returns:
        The model, ready to describe images.

    Raises:
        GlamError: there is no such model, or its file is not a valid model file.
    """
    network, header = _open(str(name))
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Model(_from_anywhere(str(name)), network.to_device(chosen).eval(), header)


def _from_anywhere(name: str) -> str:
    """The name with the path of its file absolute: an index stores it, and is used in any working directory."""
    backbone, at, file = name.partition("@") if name.startswith(TIMM) else ("", "", name)
    return f"{backbone}{at}{Path(file).resolve()}" if Path(file).is_file() else name


def bundled_models() -> dict[str, Path]:
    """Returns the models that the package contains: paths of the model files by name."""
    folder = resources.files("glam") / "weights"
    return {Path(str(file)).stem: Path(str(file)) for file in folder.iterdir() if str(file).endswith(".safetensors")}


def _as_list(images: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    if is_image_source(images):
        return [cast(ImageSource, images)]
    try:
        return list(cast(Iterable[ImageSource], images))
    except TypeError as error:
        kind = type(images).__name__
        raise GlamError(f"An object of type {kind} is not an image. Pass an image or a list of images.") from error


def read_header(name: str | Path) -> ModelHeader:
    """Reads the settings of a model, without its weights and without a download.

    Args:
        name: see `load`.

    Raises:
        GlamError: there is no such model, or its file is not a valid model file.
    """
    if not str(name).startswith(TIMM):
        return model_file.read_header(_file(str(name)))
    backbone = str(name).removeprefix(TIMM).partition("@")[0]
    return ModelHeader(Architecture(backbone, dim=None, attention=None), DEFAULT_SIZE)


def _open(name: str) -> tuple[DescriptorNetwork, ModelHeader]:
    if not name.startswith(TIMM):
        return model_file.load(_file(name))
    header = read_header(name)
    _, at, file = name.partition("@")
    return DescriptorNetwork(header.architecture, pretrained=Path(file) if at else True), header


def _file(name: str) -> Path:
    """The file of a bundled model, or the one that the name is the path of."""
    bundled = bundled_models()
    if name in bundled:
        return bundled[name]
    if not Path(name).exists() and not name.endswith(".safetensors"):
        known = ", ".join([*sorted(bundled), "timm:NAME", "or the path of a .safetensors file"])
        raise GlamError(f"There is no model named {name!r}. Choose {known}.")
    return Path(name)
