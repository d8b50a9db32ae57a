"""Throughput from JPEG files to descriptors on disk: `glam describe` compared with a plain loop in the same run.

    python benchmarks/describe.py --device cuda
    python benchmarks/describe.py --device cpu --model glam-lite0 --images 24 --size 512

The images of --folder are enlarged, cropped to --sizes, and written as JPEG (quality 90), and copied up to --images
files. Without a folder, the images are noise at all frequencies, which takes as long to decode. A --backbone gets GLAM
and a fully connected layer to 512 dimensions with seeded random weights: it is as fast as a trained one, and its batch
norms see some images before descriptors are compared. --model uses trained weights instead. The floors are decoding
alone on all cores, and the network alone on images in memory.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image, ImageOps
from torch import nn

import glam
from glam.app.bench.describe import compare
from glam.images import IMAGE_SUFFIXES, read_image
from glam.inference.decode import prepare
from glam.inference.pipeline import Settings, describe_tensor, to_tensor
from glam.model import Model
from glam.model_file import ModelHeader
from glam.network import Architecture, DescriptorNetwork
from glam.stage_times import Times

THREE = (0.7071067811865476, 1.0, 1.4142135623730951)


def make_files(folder: Path, out: Path, count: int, sizes: Sequence[tuple[int, int]]) -> list[Path]:
    """Writes JPEG files.

    Args:
        folder: folder of images to use; noise is drawn if it does not exist.
        out: existing folder to write to.
        count: number of files; at most 200 are distinct, the others are copies.
        sizes: sizes (width, height) in pixels, in turn.

    Returns:
        Paths of the files.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES) if folder.is_dir() else []
    unique_count = min(count, 200)
    chosen = found[:: max(1, len(found) // unique_count)][:unique_count]

    def write(i: int) -> bytes:
        size = sizes[i % len(sizes)]
        image = (
            ImageOps.fit(read_image(chosen[i % len(chosen)]), size, Image.Resampling.BICUBIC)
            if chosen
            else _draw_noise(i, size)
        )
        path = out / f"{i:06d}.jpg"
        image.save(path, quality=90)
        return path.read_bytes()

    with ThreadPoolExecutor() as pool:
        contents = list(pool.map(write, range(unique_count)))
    files = [out / f"{i:06d}.jpg" for i in range(count)]
    for i in range(unique_count, count):
        files[i].write_bytes(contents[i % unique_count])
    return files


def _draw_noise(seed: int, size: tuple[int, int]) -> Image.Image:
    """Draws noise whose amplitude falls with its frequency, as in photos."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3), dtype=np.float32)
    for cells, strength in ((3, 70), (12, 40), (48, 20), (192, 10)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += (np.asarray(noise.resize(size, Image.Resampling.BICUBIC), dtype=np.float32) - 128) / 128 * strength
    return Image.fromarray((total + 128).clip(0, 255).astype(np.uint8))


def seeded_model(backbone: str, size: int, device: torch.device, files: Sequence[Path], pretrained: bool) -> Model:
    """Creates a model with GLAM and random weights from seed 0, whose batch norms have the statistics of a few images.

    Args:
        backbone: name of a timm model.
        size: longest side in pixels.
        device: device to run on.
        files: images for the statistics.
        pretrained: whether the backbone has ImageNet weights.
    """
    torch.manual_seed(0)
    architecture = Architecture(backbone, attention={"name": "glam", "reduction": 512 if "resnet" in backbone else 256})
    network = DescriptorNetwork(architecture, pretrained=pretrained).to_device(device)
    if not pretrained:
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)]
        for norm in norms:
            norm.momentum = None  # averages over all batches
            if norm.weight is not None and not norm.weight.any():
                # timm initializes the last norm of a block to zero, which would hide errors of the block.
                nn.init.constant_(norm.weight, 0.2)
        network.train()
        with torch.no_grad():
            pixels = [_pixels(file, 256, network.backbone.multiple) for file in files[:16]]
            same = [p for p in pixels if p.shape == pixels[0].shape]
            batch = torch.stack(same).to(device)
            network(
                to_tensor(batch, network.backbone.mean, network.backbone.std).contiguous(
                    memory_format=network.layout(device)
                )
            )
    return Model(backbone, network.eval(), ModelHeader(architecture, size))


def _pixels(file: Path, longest: int, multiple: int) -> torch.Tensor:
    pixels = prepare(file, None, longest, multiple, Times()).pixels
    assert pixels is not None
    return pixels


def floors(model: Model, files: Sequence[Path], settings: Settings) -> dict[str, float]:
    """Measures images per second of decoding alone, on all cores, and of the network alone, on one batch in memory."""
    multiple = model.network.backbone.multiple
    with ThreadPoolExecutor(settings.workers) as pool:
        list(pool.map(lambda file: _pixels(file, settings.size, multiple), files[:8]))
        began = time.perf_counter()
        pixels = list(pool.map(lambda file: _pixels(file, settings.size, multiple), files[:400]))
        decoding = len(pixels) / (time.perf_counter() - began)
    device = next(model.network.parameters()).device
    count = settings.batch_size if device.type == "cuda" else 1
    batch = torch.stack([pixels[0]] * count).to(device)
    images = to_tensor(batch, model.network.backbone.mean, model.network.backbone.std)
    seconds = []
    for _ in range(8):
        began = time.perf_counter()
        describe_tensor(model.fast, images, settings.scales)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return {"decoding_on_cpu": round(decoding, 1), "network": round(count / statistics.median(seconds[3:]), 1)}


def main() -> None:
    """Makes the files, compares at one and at three scales, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--model", help="trained model to use instead of --backbone")
    parser.add_argument("--backbone", default="resnet101")
    parser.add_argument("--pretrained", action="store_true", help="use ImageNet weights for --backbone")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--plain-images", type=int, default=200, help="number of images for the plain loop")
    parser.add_argument("--sizes", default="1024x768", help="sizes of the files, such as 1024x768,768x1024")
    parser.add_argument("--size", type=int, default=1024, help="longest side in pixels; larger images are reduced")
    parser.add_argument("--scales", choices=("one", "three", "both"), default="both")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=Settings(1).workers)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gpu-decoding", action="store_true", help="decode on the GPU instead of in workers")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("../shared/landmarks/val"), help="folder of images")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/describe.json"))
    options = parser.parse_args()
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        sizes = [(int(w), int(h)) for w, h in (text.split("x") for text in options.sizes.split(","))]
        files = make_files(options.folder, Path(folder), options.images, sizes)
        model = (
            glam.load(options.model, device)
            if options.model
            else seeded_model(options.backbone, options.size, device, files, options.pretrained)
        )
        if options.compile:
            model.compile()
        runs = []
        for name, scales in (("one", (1.0,)), ("three", THREE)):
            if options.scales not in (name, "both"):
                continue
            settings = Settings(options.size, scales, options.batch, options.workers, options.gpu_decoding)
            run = compare(model, files, settings, rounds=options.rounds, plain_images=options.plain_images)
            runs.append({**run, "floor": floors(model, files, settings)})
            print(json.dumps(runs[-1], indent=2), flush=True)
        result = {
            "options": _plain(vars(options)),
            "photographs": options.folder.is_dir(),
            "machine": machine(device),
            "runs": runs,
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_table(options.out.with_suffix(".csv"), runs)


def write_table(path: Path, runs: Sequence[dict[str, Any]]) -> None:
    """Writes the results as CSV, one run per line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        names = ("scales", "plain_images_per_second", "images_per_second", "ratio", "cosine_mean", "cosine_min")
        table.writerow([*names, "floor_decoding", "floor_network"])
        for run in runs:
            figures = (run["plain"]["rate"], run["ours"]["rate"], run["ratio"])
            cosines = (round(run["cosine"]["mean"], 6), round(run["cosine"]["min"], 6))
            table.writerow([len(run["scales"]), *figures, *cosines, *run["floor"].values()])


def machine(device: torch.device) -> dict[str, Any]:
    """Returns the hardware, the load, and the versions."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    versions = {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__}
    return {
        "gpu": gpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "versions": versions,
    }


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}


if __name__ == "__main__":
    main()
