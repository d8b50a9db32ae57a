"""The recipe `gldv2_r101` from end to end on generated landmarks in the layout of Google Landmarks v2.

    python benchmarks/gldv2_recipe.py --out benchmarks/results/gldv2_recipe.json
    python benchmarks/gldv2_recipe.py --small                    # tries the script, on any machine

Draws landmarks, stores them as GLDv2 does (``train_clean.csv`` and folders named by the digits of the image id), and
trains. The training is killed with SIGKILL after --kill-after checkpoints and resumed. The trained model then describes
other generated landmarks, indexes them, and is evaluated on them, and on a folder of photos if --photos names one. The
model before training has the same architecture and seed. The network starts from random weights unless --weights names
a file, because a generated training set is to show that the recipe runs and learns, not how good the paper's model is.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import glam
from glam.datasets.readers import read_folder
from glam.datasets.synthetic import generate
from glam.eval.folder import evaluate_folder
from glam.training.cli import build_cli

SMALL = [
    *("--model.backbone", "resnet10t", "--model.attention", "{name: glam, reduction: 16}", "--model.dim", "32"),
    *("--model.compiled", "no", "--data.size", "64", "--data.batch_size", "8", "--data.workers", "1"),
]
POLL_SECONDS = 0.2
"""How often the checkpoint is looked for; arbitrary."""


def store_as_gldv2(images: Path, root: Path, seed: int) -> int:
    """Moves images of landmarks into the layout of Google Landmarks v2.

    Args:
        images: folder with one sub-folder of .jpg files per landmark; it is emptied.
        root: folder to write ``train_clean.csv`` and ``train/`` to.
        seed: seed of the image ids.

    Returns:
        The number of images.
    """
    draw, lines, count = random.Random(seed), ["landmark_id,images"], 0
    for landmark, folder in enumerate(sorted(images.iterdir())):
        ids = []
        for file in sorted(folder.glob("*.jpg")):
            image_id = f"{draw.getrandbits(64):016x}"
            target = root / "train" / image_id[0] / image_id[1] / image_id[2] / f"{image_id}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, target)
            ids.append(image_id)
        lines.append(f"{landmark},{' '.join(ids)}")
        count += len(ids)
    (root / "train_clean.csv").write_text("\n".join(lines) + "\n")
    return count


def train_with_a_kill(arguments: list[str], out: Path, kills: int) -> dict[str, Any]:
    """Trains, kills the training after ``kills`` checkpoints, and resumes it.

    Args:
        arguments: options of `glam train`.
        out: folder of the run.
        kills: number of checkpoints after which the training is killed.

    Returns:
        The step of the checkpoint that was resumed, and the seconds before the kill and after it.

    Raises:
        RuntimeError: the training ended before it was killed, or it failed.
    """
    command = [sys.executable, "-m", "glam.app", "train", *arguments, "--out", str(out)]
    last = out / "checkpoints" / "last.ckpt"
    began, seen, written = time.monotonic(), 0, 0.0
    process = subprocess.Popen(command)
    while seen < kills and process.poll() is None:
        if last.exists() and last.stat().st_mtime != written:
            written, seen = last.stat().st_mtime, seen + 1
        time.sleep(POLL_SECONDS)
    if process.poll() is not None:
        raise RuntimeError(f"the training ended with code {process.returncode} before it was killed")
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = time.monotonic()
    step = torch.load(last, map_location="cpu", weights_only=True)["global_step"]
    subprocess.run([*command, "--resume"], check=True)
    return {
        "killed_after_seconds": round(killed - began, 1),
        "resumed_at_step": int(step),
        "resumed_seconds": round(time.monotonic() - killed, 1),
    }


def untrained_model(arguments: list[str], out: Path) -> Path:
    """Writes the model of a run before its first step."""
    cli = build_cli([*arguments, "--out", str(out)])
    path = out / "untrained.safetensors"
    cli.model.write_model(path, {"data": "none"})
    return path


def scores(model_path: Path, folders: dict[str, Path], device: str) -> dict[str, dict[str, float]]:
    """mAP with its 95% interval and recall@1 of a model, in percent, for each folder of landmarks."""
    model = glam.load(str(model_path), device)
    found = {}
    for name, folder in folders.items():
        result = evaluate_folder(model, read_folder(folder)).scores
        low, high = result.interval
        found[name] = {
            "map": round(100 * result.mean_ap, 2),
            "low": round(100 * low, 2),
            "high": round(100 * high, 2),
            "recall_at_1": round(100 * result.recall_at_1, 2),
        }
    return found


def index_and_search(model_path: Path, folder: Path, scratch: Path, device: str) -> dict[str, Any]:
    """Indexes a folder by the command line and counts the queries whose first other hit shows the same landmark."""
    run = [sys.executable, "-m", "glam.app"]
    index = scratch / "i.glam"
    common = ["--model", str(model_path), "--device", device]
    subprocess.run([*run, "index", "build", str(index), str(folder), *common], check=True)
    subprocess.run([*run, "index", "verify", str(index), *common], check=True)
    subprocess.run([*run, "describe", str(folder), "--out", str(scratch / "d.safetensors"), *common], check=True)
    collection = read_folder(folder)
    with glam.index.Index.open(index) as opened:
        model = glam.load(str(model_path), device)
        queries = model.describe([collection.file(i) for i in range(len(collection))])
        right = 0
        for image, hits in zip(collection.images, opened.search(queries, k=2), strict=True):
            other = next(hit.entry.path for hit in hits if hit.entry.path != image.path)
            right += other.rpartition("/")[0] == image.landmark
    return {"images": len(collection), "first_other_hit_right": right}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landmarks", type=int, default=2000, help="generated landmarks to train on")
    parser.add_argument("--images", type=int, default=12, help="images per landmark")
    parser.add_argument("--size", type=int, default=512, help="longest side of the generated images in pixels")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--kill-after", type=int, default=2, help="checkpoints before the training is killed")
    parser.add_argument("--photos", type=Path, help="folder of landmarks to evaluate as well")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--without-index", action="store_true", help="leave out the index, where there is no FAISS")
    parser.add_argument("--small", action="store_true", help="a toy size, to try the script")
    parser.add_argument("--out", type=Path, default=Path("gldv2_recipe.json"))
    parser.epilog = "Options of `glam train` can follow after --."
    split = [*sys.argv, "--"].index("--")
    options = parser.parse_args(sys.argv[1:split])
    more = sys.argv[split + 1 :]
    if options.small:
        options.landmarks, options.images, options.size, options.epochs, options.save_every = 8, 6, 64, 4, 2
        more = [*SMALL, *more]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        drawn, root, val = scratch / "drawn", scratch / "gldv2", scratch / "val"
        began = time.monotonic()
        kind = {"images_per_landmark": options.images, "size": options.size, "seed": options.seed}
        generate(drawn, landmarks=options.landmarks, **kind)
        generate(val, landmarks=max(4, options.landmarks // 20), first_landmark=options.landmarks, **kind)
        count = store_as_gldv2(drawn, root, options.seed)
        result: dict[str, Any] = {
            "landmarks": options.landmarks,
            "images": count,
            "drawing_seconds": round(time.monotonic() - began, 1),
            "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else "cpu",
            "torch": torch.__version__,
            "cores": os.cpu_count(),
        }
        print(json.dumps(result), flush=True)
        arguments = [
            *("--config", "gldv2_r101", "--data.train", str(root), "--data.val", str(val)),
            *("--data.seed", str(options.seed), "--model.pretrained", "false", "--save_every", str(options.save_every)),
            *("--trainer.max_epochs", str(options.epochs)),
            *(() if options.device.startswith("cuda") else ("--trainer.accelerator", "cpu")),
            *more,
        ]
        run = scratch / "run"
        result["training"] = train_with_a_kill(arguments, run, options.kill_after)
        print(json.dumps(result["training"]), flush=True)
        (scratch / "before").mkdir()
        folders = {"generated": val, **({} if options.photos is None else {"photos": options.photos})}
        untrained = untrained_model(arguments, scratch / "before")
        result["untrained"] = scores(untrained, folders, options.device)
        result["trained"] = scores(run / "model.safetensors", folders, options.device)
        if not options.without_index:
            result["index"] = index_and_search(run / "model.safetensors", val, scratch, options.device)
    print(json.dumps(result, indent=2))
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
