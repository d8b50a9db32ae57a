"""The models that a run learns from, trained first where there are none yet."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from glam.errors import GlamError

MODEL_FILE = "model.safetensors"

TRAIN = "import sys; from glam.training.cli import train; train(sys.argv[1:])"


def made_teachers(config: Any, folder: Path) -> list[Path]:
    """The model files of a run's teachers; those given as options of `glam train` are made, each in its own process.

    A teacher that is there already, from an earlier attempt at the same run, is not trained again; one that was broken
    off goes on where it was.

    Args:
        config: of `glam train`: its teachers and the data that they are trained on.
        folder: that holds a run for each of them, named by its number from 0.

    Raises:
        GlamError: a teacher could not be trained.
    """
    return [
        _trained(shlex.split(teacher), config.data, folder / str(number)) if teacher.startswith("--") else Path(teacher)
        for number, teacher in enumerate(config.teachers)
    ]


def _trained(options: list[str], data: Any, out: Path) -> Path:
    path = out / MODEL_FILE
    if path.exists():
        return path
    places = {"--data.train": data.train, "--data.val": data.val, "--data.leave_out": data.leave_out, "--out": out}
    given = [part for name, value in places.items() if value is not None for part in (name, str(value))]
    resumed = ["--resume"] if (out / "checkpoints" / "last.ckpt").exists() else []
    print(f"teacher {out.name}: glam train {shlex.join(options)}", flush=True)
    done = subprocess.run([sys.executable, "-c", TRAIN, *options, *given, *resumed], check=False)
    if done.returncode:
        raise GlamError(f"teacher {out.name} could not be trained ({shlex.join(options)})")
    return path
