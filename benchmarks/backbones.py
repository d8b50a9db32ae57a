"""Backbones: networks of timm train on two processes, are saved and loaded, describe images, and are exported to ONNX.

    python benchmarks/backbones.py
    python benchmarks/backbones.py --backbones resnet18 xcit_nano_12_p16_224 --out /tmp/backbones.csv      a quick run

Each backbone starts from random weights, in a process of its own, with GLAM and a descriptor layer. The steps, each one
a column of the result, ``ok`` or what went wrong:

    make        the network is made, or refused in one sentence, which ends the row
    train       two steps of `glam train`'s modules on two processes of the CPU (`DistributedDataParallel`, gloo)
    save        written as a model file and loaded again: the same weights, and the same descriptors
    describe    descriptors of images of four sizes: finite, and of unit length
    export      written as ONNX, which gives the descriptors of the network for three shapes of a batch
"""

import argparse
import csv
import json
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image

import glam
from glam.errors import GlamError
from glam.export import export_onnx
from glam.model import Model
from glam.model_file import read_header
from glam.network import Architecture, DescriptorNetwork
from glam.training.cli import build_cli

BACKBONES = (
    *("resnet18", "resnext26ts", "regnety_002", "efficientnet_b0", "tf_efficientnet_lite0", "mobilenetv3_small_050"),
    *("densenet121", "vgg11", "convnext_atto", "nfnet_l0", "dpn48b", "inception_v3", "hrnet_w18_small", "dla46_c"),
    *("repvgg_a0", "cs3darknet_s", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"),
    *("vit_small_patch14_reg4_dinov2", "eva02_tiny_patch14_224", "swin_tiny_patch4_window7_224"),
    *("swinv2_tiny_window8_256", "maxvit_pico_rw_256", "coatnet_pico_rw_224", "beit_base_patch16_224"),
    *("xcit_nano_12_p16_224", "twins_svt_small", "pvt_v2_b0", "poolformer_s12", "focalnet_tiny_srf"),
    *("edgenext_xx_small", "mobilevit_xxs", "efficientformer_l1", "tiny_vit_5m_224", "ghostnet_050"),
    *("res2net50_14w_8s", "resnest14d", "legacy_seresnet18", "selecsls42", "ese_vovnet19b_dw"),
)
"""Small networks of unlike families; some take images of one size only."""

STEPS = ("make", "train", "save", "describe", "export")

OK = "ok"

DIM, GLAM = 32, {"name": "glam", "reduction": 8}
"""Descriptor and attention: the smallest that have every part (arbitrary)."""

SIZES = ((160, 96), (64, 144), (128, 128), (300, 20))
"""Width and height of the images to describe, in pixels."""

SHAPES = ((1, 2, 3), (3, 4, 1), (2, 3, 3))
"""Images per batch, and rows and columns of the images in multiples of the network, that ONNX is compared at."""

TOLERANCE = 1e-4
"""Largest difference between an entry of a descriptor by ONNX Runtime and by PyTorch, as in tests/test_export.py."""

PROCESSES, BATCH = 2, 4

FORK = multiprocessing.get_context("fork")
"""Processes that need not import PyTorch again."""


def check(name: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Takes a backbone through the steps.

    Args:
        name: name of a timm model.
        folder: empty folder for images and model files.

    Yields:
        Name of a step and its result, also ``parameters`` and their number once the network is made.
    """
    torch.manual_seed(0)
    try:
        network = DescriptorNetwork(Architecture(name, DIM, GLAM))
    except GlamError as error:
        yield "make", f"refused: {error}"
        return
    yield "parameters", str(sum(parameter.numel() for parameter in network.parameters()))
    yield "make", OK
    file = folder / "model.safetensors"
    trained = train(name, draw_landmarks(folder), file)
    yield "train", OK
    model = glam.load(file, "cpu")
    assert model.fingerprint == trained.fingerprint, "other weights"
    images = [draw_image(*size) for size in SIZES]
    descriptors = model.describe(images)
    assert np.array_equal(descriptors, trained.describe(images), equal_nan=True), "other descriptors"
    yield "save", OK
    assert np.allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-4), "descriptors are not of unit length"
    yield "describe", OK
    try:
        difference = onnx_difference(model, folder / "model.onnx")
    except GlamError as error:
        yield "export", f"refused: {error}".replace(str(file), file.name)
        return
    assert difference < TOLERANCE, f"descriptors differ by {difference:.1g}"
    yield "export", OK


def train(name: str, images: Path, file: Path) -> Model:
    """Trains a network for two steps, and writes its model file.

    Args:
        name: name of a timm model.
        images: folder with ``train`` and ``val``.
        file: model file to write.

    Returns:
        The trained model, as it was before it was written.
    """
    cli = build_cli(
        [
            *("--data.train", str(images / "train"), "--data.val", str(images / "val"), "--data.workers", "0"),
            *("--data.size", "64", "--data.val_size", "160", "--data.batch_size", str(BATCH)),
            *("--model.backbone", name, "--model.dim", str(DIM), "--model.attention", json.dumps(GLAM)),
            *("--model.pretrained", "false", "--model.start", "random", "--model.freeze_batch_norm", "false"),
            *("--trainer.accelerator", "cpu", "--trainer.devices", str(PROCESSES), "--trainer.strategy", "ddp_fork"),
            *("--trainer.max_epochs", "1", "--trainer.limit_val_batches", "0", "--trainer.logger", "false"),
            *("--trainer.enable_checkpointing", "false", "--trainer.precision", "32-true"),
        ]
    )
    before = {key: tensor.clone() for key, tensor in cli.model.network.named_parameters()}
    cli.trainer.fit(cli.model, cli.datamodule)
    network = cli.model.network.eval()
    assert math.isfinite(cli.trainer.callback_metrics["epoch_loss"]), "the loss is not finite"
    changed = sum(not torch.equal(tensor, before[key]) for key, tensor in network.named_parameters())
    assert changed > len(before) / 2, (
        f"{changed} of {len(before)} parameters changed"
    )  # some gradients are tiny at first
    cli.model.write_model(file, {})
    return Model("trained", network.to_device(torch.device("cpu")), read_header(file))


def onnx_difference(model: Model, file: Path) -> float:
    """Exports a model, and returns the largest difference of an entry of its descriptors by ONNX Runtime.

    Args:
        model: model on the CPU.
        file: ONNX file to write.

    Raises:
        GlamError: the network cannot be exported.
    """
    import onnxruntime

    export_onnx(model, file)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    multiple, differences = model.network.backbone.multiple, []
    for count, rows, columns in SHAPES:
        images = torch.randn(count, 3, rows * multiple, columns * multiple, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = model.network(images).numpy()
        differences.append(np.abs(session.run(None, {"images": images.numpy()})[0] - expected).max())
    return float(max(differences))


def draw_landmarks(folder: Path) -> Path:
    """Writes images of noise: for two steps of training, and two images for validation, which the modules ask for.

    Args:
        folder: folder to write to.

    Returns:
        The folder, with ``train`` and ``val``.
    """
    for part, count in (("train", 2 * PROCESSES * BATCH), ("val", 2)):
        for i in range(count):
            file = folder / part / f"{i // 2}" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw_image(64, 64, seed=i)).save(file)
    return folder


def draw_image(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Draws an image of noise, (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def run(name: str, steps: Sequence[str], limit: float) -> dict[str, str]:
    """Takes a backbone through the steps in a process of its own, which may crash or hang.

    Args:
        name: name of a timm model.
        steps: names of the steps, the first ones of `STEPS`.
        limit: time limit in seconds.

    Returns:
        Row of the result.
    """
    began = time.perf_counter()
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=send_results, args=(name, steps, sender))
    process.start()
    sender.close()
    results: dict[str, str] = {}
    failure = f"not done after {limit:g} s"
    try:
        while receiver.poll(began + limit - time.perf_counter()):
            step, result = receiver.recv()
            results[step] = result
    except EOFError:
        process.join()
        failure = f"exit status {process.exitcode}"
    with suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)  # with the processes that it started
    if "failed" in results:
        failure = results.pop("failed")
    if not any(result.startswith("refused") for result in results.values()):
        missing = [step for step in steps if step not in results]
        results |= dict.fromkeys(missing[:1], f"failed: {failure}")
    seconds = f"{time.perf_counter() - began:.0f}"
    return {"backbone": name, "timm": timm.__version__, **results, "seconds": seconds}


def send_results(name: str, steps: Sequence[str], sender: Connection) -> None:
    """Sends the results of a backbone, in a process of its own.

    Args:
        name: name of a timm model.
        steps: names of the steps.
        sender: connection that takes pairs of a step and its result.
    """
    os.setsid()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for step, result in check(name, Path(folder)):
                sender.send((step, result))
                if step == steps[-1]:
                    return
    except Exception as error:  # noqa: BLE001  # networks raise many types
        sender.send(("failed", " ".join(f"{type(error).__name__}: {error}".split())[:300]))


def main() -> None:
    """Checks the backbones, writes a row for each, and ends with exit status 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", metavar="NAME", default=BACKBONES, help="names of timm models")
    parser.add_argument("--limit", type=float, default=600, help="seconds per backbone")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/backbones.csv"))
    parser.add_argument("--last", choices=STEPS, default=STEPS[-1], help="leave out the steps after this one")
    options = parser.parse_args()
    steps = STEPS[: STEPS.index(options.last) + 1]
    rows = []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in options.backbones:
        rows.append(run(name, steps, options.limit))
        print(*rows[-1].values(), sep="  ", flush=True)
        with options.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ("backbone", "timm", "parameters", *STEPS, "seconds"), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    outcomes = Counter(outcome(row) for row in rows)
    print(", ".join(f"{count} {name}" for name, count in outcomes.most_common()))
    sys.exit(1 if outcomes["failed"] else 0)


def outcome(row: dict[str, str]) -> str:
    """Returns whether a backbone passed, was refused (in part), or failed, as a word."""
    results = [row.get(step, "") for step in STEPS]
    return next((word for word in ("failed", "refused") if any(r.startswith(word) for r in results)), "passed")


if __name__ == "__main__":
    main()
