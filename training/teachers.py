"""The models that a run learns from, trained first where there are none yet."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from glam.errors import GlamError

MODEL_FILE = "model.safetensors"

TRAIN = "import sys; from glam.training.cli import train; train(sys.argv[1:])"


def train_teachers(config: Any, folder: Path) -> list[Path]:
    """Trains the teachers that are given as options of `glam train`, each in its own process.

    A teacher that is already trained, from an earlier attempt at the same run, is not trained again; an interrupted one
    is resumed.

    Args:
        config: of `glam train`: its teachers and the data that they are trained on.
        folder: of the teachers' runs, one folder per teacher, named by its number from 0.

    Returns:
        The model files of all teachers, in order.

    Raises:
        GlamError: a teacher could not be trained.
    """
    return [
        _train_teacher(shlex.split(teacher), config.data, folder / str(number))
        if teacher.startswith("--")
        else Path(teacher)
        for number, teacher in enumerate(config.teachers)
    ]


def _train_teacher(options: list[str], data: Any, out: Path) -> Path:
    path = out / MODEL_FILE
    if path.exists():
        return path
    paths = {"--data.train": data.train, "--data.val": data.val, "--data.leave_out": data.leave_out, "--out": out}
    path_options = [part for name, value in paths.items() if value is not None for part in (name, str(value))]
    resumed = ["--resume"] if (out / "checkpoints" / "last.ckpt").exists() else []
    print(f"teacher {out.name}: glam train {shlex.join(options)}", flush=True)
    process = subprocess.run([sys.executable, "-c", TRAIN, *options, *path_options, *resumed], check=False)
    if process.returncode:
        raise GlamError(f"teacher {out.name} could not be trained ({shlex.join(options)})")
    return path
