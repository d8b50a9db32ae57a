"""Benchmark of describing against a plain loop: from files on disk to descriptors on disk, in one run."""

import copy
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from glam.descriptor_files import map_descriptors, write_descriptors
from glam.images import read_image
from glam.inference.pipeline import Settings
from glam.kernels.dispatch import use_form
from glam.model import Model
from glam.network import DescriptorNetwork
from glam.sizes import fitted_size, scaled_size
from glam.stage_times import Times


def compare(
    model: Model, files: Sequence[Path], settings: Settings, *, rounds: int = 3, plain_images: int | None = None
) -> dict[str, Any]:
    """Times both ways in turn; the first round of each, which warms it up, does not count.

    Args:
        model: the model to describe with.
        files: images, all of which can be read.
        settings: of both ways.
        rounds: that count.
        plain_images: how many of the files the plain loop takes; all by default.

    Returns:
        ``plain`` and ``ours``, each with ``rate`` (images a second, median of the rounds), ``best`` and ``rates``;
        ``ours`` with the seconds of its stages in its fastest round. ``ratio`` of the medians, and the ``cosine`` of
        descriptors of both ways, mean and min.
    """
    few = files[:plain_images]
    network = copy.deepcopy(model.network).to(memory_format=torch.contiguous_format)
    ours: list[tuple[float, dict[str, float]]] = []
    plain: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "ours.safetensors"
        for _ in range(1 + rounds):
            began = time.perf_counter()
            loop = plain_loop(network, few, settings.size, settings.scales)
            np.save(Path(folder) / "plain.npy", loop)
            plain.append(len(few) / (time.perf_counter() - began))
            times = Times()
            stream = model.stream(((file, None) for file in files), settings, times)
            write_descriptors(out, stream, [str(file) for file in files], model.dim, {"shard": None}, times)
            ours.append((len(files) / times.elapsed(), times.to_dict()))
        cosines = (loop * map_descriptors(out)[: len(few)]).sum(axis=1)
    rates = [rate for rate, _ in ours[1:]]
    return {
        "images": len(files),
        "size": settings.size,
        "scales": list(settings.scales),
        "batch": settings.batch_size,
        "workers": settings.workers,
        "plain": {"images": len(few), **_rates(plain[1:])},
        "ours": {**_rates(rates), "seconds": max(ours[1:])[1]},
        "ratio": round(statistics.median(rates) / statistics.median(plain[1:]), 2),
        "cosine": {"mean": float(cosines.mean()), "min": float(cosines.min())},
    }


@torch.inference_mode()
def plain_loop(
    network: DescriptorNetwork, files: Sequence[Path], longest: int, scales: Sequence[float]
) -> NDArray[np.float32]:
    """One image after another, in float32, each decoded in full and each result fetched at once: (n, dim).

    Args:
        network: in evaluation mode, contiguous, on its device.
        files: images.
        longest: of their sides, in pixels.
        scales: to average over.
    """
    backbone, device = network.backbone, next(network.parameters()).device
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    rows = []
    with use_form("torch"):
        for file in files:
            image = read_image(file)
            height, width = fitted_size(image.width, image.height, longest, backbone.multiple)
            pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
            images = torch.from_numpy(pixels.copy()).to(device).permute(2, 0, 1)[None].contiguous().float() / 255
            images = (images - mean) / std
            total = torch.zeros(1, network.dim, device=device)
            for scale in scales:
                size = scaled_size((height, width), scale, backbone.multiple)
                total += network(images if scale == 1 else _scaled(images, size))
            rows.append(F.normalize(total, dim=1).cpu().numpy())
    return np.concatenate(rows)


def _scaled(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


def _rates(rates: list[float]) -> dict[str, Any]:
    return {
        "rate": round(statistics.median(rates), 2),
        "best": round(max(rates), 2),
        "rates": [round(rate, 2) for rate in rates],
    }
