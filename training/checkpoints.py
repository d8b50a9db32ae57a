"""Checkpoints of a run in OUT/checkpoints.

    best.ckpt      the best epoch by mAP
    last.ckpt      the last state
    previous.ckpt  the state before it, in case that last.ckpt is damaged

All hold the complete state of the training. Their own names are stored without a folder, so a run can be moved.
"""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from glam.atomic_file import atomic_write
from glam.errors import GlamError
from glam.output import write_errors

BEST, LAST, PREVIOUS = "best", "last", "previous"
PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
"""Paths in the state of `ModelCheckpoint`."""


def checkpoint_file(out: Path, name: str) -> Path:
    """Path of a checkpoint.

    Args:
        out: folder of the run.
        name: `BEST`, `LAST`, or `PREVIOUS`.
    """
    return out / "checkpoints" / f"{name}.ckpt"


def has_state(out: Path) -> bool:
    """Whether a folder holds a run that can be resumed, maybe with a damaged checkpoint.

    Args:
        out: folder of the run.
    """
    return any(checkpoint_file(out, name).exists() for name in (LAST, PREVIOUS))


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically in their own folder, and keeps the last state but one.

    Lightning itself writes to the system's temporary folder, and copies the file where that is on another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint; the earlier ``last.ckpt`` becomes ``previous.ckpt``.

        Raises:
            GlamError: the file cannot be written.
        """
        file = Path(path)
        with write_errors(file), atomic_write(file, on_disk=True) as partial:
            with partial.open("wb") as stream:
                _save(checkpoint, stream)
            if file.stem == LAST and file.exists():
                file.replace(file.with_stem(PREVIOUS))


class MovableCheckpoint(ModelCheckpoint):
    """A `ModelCheckpoint` that holds for the folder that it is in now, and that never saves an incomplete epoch as one.

    After the last batch of an epoch only its end is saved, with the score of the epoch. A run that ends within an epoch
    saves the state after its last step (`glam.training.interruption.StopAfterStep`), from which the epoch continues.
    """

    @property
    def state_key(self) -> str:
        """The key of the parent class, so that checkpoints of earlier versions are read."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        """Saves within an epoch."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *arguments)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves a complete epoch."""
        if trainer.is_last_batch:
            super().on_train_epoch_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state, with the paths of the files in the present folder; files that are gone are forgotten.

        The score of the best epoch is that of its file, which may be later than the state.
        """
        state = {**state_dict, "dirpath": self.dirpath}
        for name in PATHS:
            state[name] = self._present(state.get(name, ""))
        best = self._best() if self.monitor else {}
        if best:
            score, path = best["best_model_score"], self._present(best["best_model_path"])
            state.update(best_model_score=score, best_model_path=path, kth_best_model_path=path, kth_value=score)
            state["best_k_models"] = {path: score}
        else:
            state.update(best_model_score=None, best_model_path="", best_k_models={})
            state.update(kth_best_model_path="", kth_value=self.kth_value)
        super().load_state_dict(state)

    def _present(self, path: str) -> str:
        assert self.dirpath is not None
        moved = Path(self.dirpath) / Path(path).name
        return str(moved) if path and moved.is_file() else ""

    def _best(self) -> dict[str, Any]:
        """The state of this callback in the file of the best epoch; empty if there is none that can be read."""
        assert self.dirpath is not None
        file = Path(self.dirpath) / f"{BEST}.ckpt"
        try:
            state: dict[str, Any] = read_checkpoint(file)["callbacks"].get(self.state_key, {})
        except GlamError:
            return {}
        return state if state.get("best_model_score") is not None else {}


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

    best = saving(BEST, monitor="val_map", mode="max", save_on_train_epoch_end=True)
    within = saving(LAST, every_n_train_steps=save_every)
    return best, [best, within, saving(LAST, save_on_train_epoch_end=True)]


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


def _save(checkpoint: dict[str, Any], stream: Any) -> None:
    try:
        torch.save(checkpoint, stream)
    except RuntimeError as error:  # PyTorch's own, while it handles that of the file system
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise
