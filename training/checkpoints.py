"""Checkpoints of a run: OUT/checkpoints/best.ckpt, the best epoch by mAP, and last.ckpt, the last state.

Both hold the complete state of the training. Their own names are stored without a folder, so a run can be moved.
"""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from glam.errors import GlamError

BEST, LAST = "best", "last"
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
"""Paths in the state of `ModelCheckpoint`."""


def checkpoint_file(out: Path, name: str) -> Path:
    """Path of a checkpoint.

    Args:
        out: folder of the run.
        name: `BEST` or `LAST`.
    """
    return out / "checkpoints" / f"{name}.ckpt"


class MovableCheckpoint(ModelCheckpoint):
    """A `ModelCheckpoint` whose state holds for the folder that it is in now, not for the one where it was written."""

    @property
    def state_key(self) -> str:
        """The key of the parent class, so that checkpoints of earlier versions are read."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state, with the paths of the files in the present folder; files that are gone are forgotten."""
        state = {**state_dict, "dirpath": self.dirpath}
        for name in PATHS:
            state[name] = self._present(state.get(name, ""))
        state["best_k_models"] = {self._present(path): score for path, score in state["best_k_models"].items()}
        if not state["best_model_path"]:
            state.update(best_model_score=None, best_k_models={}, kth_best_model_path="", kth_value=self.kth_value)
        super().load_state_dict(state)

    def _present(self, path: str) -> str:
        assert self.dirpath is not None
        moved = Path(self.dirpath) / Path(path).name
        return str(moved) if path and moved.is_file() else ""


class SaveOnSigterm(L.Callback):
    """Saves ``last.ckpt`` after the step in which SIGTERM arrives, before Lightning ends the run.

    Several processes learn of the signal at different steps, so they do not save together.

    Args:
        out: folder of the run.
    """

    def __init__(self, out: Path) -> None:
        self.out = out

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves if SIGTERM has arrived."""
        if trainer.received_sigterm and trainer.world_size == 1 and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(checkpoint_file(self.out, LAST))


def checkpoint_callbacks(out: Path, save_every: int) -> tuple[MovableCheckpoint, list[L.Callback]]:
    """The callbacks that save checkpoints.

    Args:
        out: folder of the run.
        save_every: number of steps between two checkpoints within an epoch.

    Returns:
        The callback that saves the best epoch, and all of them.
    """
    folder = checkpoint_file(out, BEST).parent

    def saving(name: str, **options: Any) -> MovableCheckpoint:
        return MovableCheckpoint(folder, filename=name, save_top_k=1, enable_version_counter=False, **options)

    best = saving(BEST, monitor="val_map", mode="max")
    within = saving(LAST, every_n_train_steps=save_every)
    return best, [best, within, SaveOnSigterm(out), saving(LAST, save_on_train_epoch_end=True)]


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Reads a checkpoint without loading its tensors into memory.

    Raises:
        GlamError: the file is damaged.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # PyTorch raises many types on damaged files
        reason = " ".join(str(error).split())[:100]
        raise GlamError(f"{file} cannot be read ({reason}). Restore it, or start again in another --out.") from error
    return checkpoint
