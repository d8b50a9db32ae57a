"""Teachers of a distillation run, which are trained first if they are given as options."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from glam.errors import GlamError
from glam.training.checkpoints import has_state

MODEL_FILE = "model.safetensors"
"""Name of the model file in the folder of a run."""

TRAIN = "import sys; from glam.training.cli import train; train(sys.argv[1:])"
"""Python program of the process that trains a teacher."""


def train_teachers(config: Any, folder: Path) -> list[Path]:
    """Trains the teachers that are given as options of `glam train`, each in a process of its own.

    A teacher that an earlier attempt at this run has trained is not trained again, and an interrupted one is resumed.

    Args:
        config: configuration of `glam train`, with the teachers and the data that they are trained on.
        folder: folder for the runs of the teachers, which are named 0, 1, and so on.

    Returns:
        The model files of all teachers, in order.

    Raises:
        GlamError: a teacher cannot be trained.
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
    path_options += [f"--data.exclude={json.dumps(list(data.exclude))}", f"--data.follow_links={data.follow_links}"]
    path_options += [] if data.landmark_from is None else [f"--data.landmark_from={data.landmark_from}"]
    resumed = ["--resume"] if has_state(out) else []
    print(f"teacher {out.name}: glam train {shlex.join(options)}", flush=True)
    process = subprocess.run([sys.executable, "-c", TRAIN, *options, *path_options, *resumed], check=False)
    if process.returncode:
        raise GlamError(
            f"Teacher {out.name} could not be trained ({shlex.join(options)}). "
            "Fix the error above and run the command again; finished teachers are kept."
        )
    return path
