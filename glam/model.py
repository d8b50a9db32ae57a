"""A model ready to describe images: a network with its settings, opened by name or path."""

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

DEFAULT_SIZE = 512


class Model:
    """Describes images.

    Args:
        name: what it was loaded by.
        network: in evaluation mode, on its device.
        header: its settings.

    Attributes:
        name, network, header: as given; the weights of the network stay as they are.
        dim: length of a descriptor.
        size: longest side in pixels that images are reduced to.
        scales: that are averaged where none are asked for.
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
        """16 hexadecimal digits, equal just where architecture and weights are."""
        return model_file.fingerprint(self.network)

    def settings(self, *, size: int | None = None, scales: Sequence[float] | None = None) -> Settings:
        """The model's own settings, with these in place of its size and scales where they are given.

        Raises:
            GlamError: a size or a scale that is not positive, or no scale at all.
        """
        chosen = Settings(
            size=self.size if size is None else size, scales=self.scales if scales is None else tuple(scales)
        )
        if chosen.size <= 0:
            raise GlamError(f"the size must be positive, not {size}")
        if not chosen.scales or not all(0 < scale < math.inf for scale in chosen.scales):
            raise GlamError(f"the scales must be positive numbers, not {list(chosen.scales)}")
        return chosen

    @cached_property
    def fast(self) -> DescriptorNetwork:
        """The form of the network that describes, see `glam.inference.optimize.inference_form`."""
        return inference_form(self.network)

    def compile(self) -> None:
        """Compiles the form that describes: for the first shape of a batch, and for any shape when another comes.

        That takes a minute or two each, all images after it less time: worth it on a GPU, for many images.
        """
        self.fast.compile()

    def stream(
        self, items: Iterable[tuple[ImageSource, Box | None]], settings: Settings, times: Times | None = None
    ) -> Iterator[DescribedImage]:
        """Describes (source, box) pairs as they come; see `glam.inference.pipeline.describe_stream`."""
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
        """Descriptors of images.

        Args:
            images: paths, bytes of files, Pillow images or arrays (see `glam.images.read_image`); or one of these.
            boxes: for each image x1, y1, x2, y2 in pixels of the upright image, or None for all of it.
            scales: to average over, in place of the model's own.
            size: longest side in pixels, in place of the model's own.
            batch_size: most images in one run of the network; descriptors do not depend on it.
            errors: receives what could not be read; such a row is NaN. Without it, the first such image raises.
            progress: called with images done and images in all, as it goes.

        Returns:
            (n, dim) float32, row i of unit length for image i.

        Raises:
            ImageError: an image cannot be read and no ``errors`` was given.
            GlamError: ``images`` are no images, or ``size`` or ``scales`` are not positive.
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
    """Opens a model.

    Args:
        name: the path of a .safetensors file, the name of a bundled model (`bundled_models`), or ``timm:NAME`` for a
            plain timm backbone with its ImageNet weights and GeM pooling.
        device: where it runs; a GPU where there is one by default.

    Raises:
        GlamError: there is no such model, or its file cannot be used.
    """
    network, header = _open(str(name))
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    # An index remembers the name, and must find the file again from any folder.
    known_as = str(Path(name).resolve()) if Path(name).is_file() else str(name)
    return Model(known_as, network.to_device(chosen).eval(), header)


def bundled_models() -> dict[str, Path]:
    """The models that come with the package, by name."""
    folder = resources.files("glam") / "weights"
    return {Path(str(file)).stem: Path(str(file)) for file in folder.iterdir() if str(file).endswith(".safetensors")}


def _as_list(images: ImageSource | Iterable[ImageSource]) -> list[ImageSource]:
    if is_image_source(images):
        return [cast(ImageSource, images)]
    try:
        return list(cast(Iterable[ImageSource], images))
    except TypeError as error:
        kind = type(images).__name__
        raise GlamError(f"an object of type {kind} cannot be described; give an image or a list of images") from error


def _open(name: str) -> tuple[DescriptorNetwork, ModelHeader]:
    if name.startswith("timm:"):
        architecture = Architecture(name.removeprefix("timm:"), dim=None, glam=None)
        return DescriptorNetwork(architecture, pretrained=True), ModelHeader(architecture, DEFAULT_SIZE)
    bundled = bundled_models()
    if name in bundled:
        return model_file.load(bundled[name])
    if not Path(name).exists() and not name.endswith(".safetensors"):
        known = ", ".join([*sorted(bundled), "timm:NAME", "or the path of a .safetensors file"])
        raise GlamError(f"no model named {name!r}; there is: {known}")
    return model_file.load(Path(name))
