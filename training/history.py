"""History of a run: the scores of its epochs and the times that it was resumed, stored in its checkpoints."""

from collections.abc import Mapping
from typing import Any

import lightning as L

from glam.training.module import LandmarkModule

SCORES = ("epoch_loss", "val_map", "val_recall_at_1")
"""Mean loss of an epoch, and scores of its validation, as fractions."""


class History(L.Callback):
    """Prints a line per epoch to standard output, and remembers its scores, also when the run is resumed.

    Args:
        changes: options that differ from those of the run that is resumed: the earlier and the present value by name.

    Attributes:
        epochs: ``epoch``, ``step``, whether it is ``complete``, the scores, and ``val_images``, the number of images in
            the validation, of each epoch.
        resumed: ``step`` and ``changes`` of each time that the run was resumed.
    """

    def __init__(self, changes: Mapping[str, tuple[Any, Any]]) -> None:
        self.changes = changes
        self.epochs: list[dict[str, Any]] = []
        self.resumed: list[dict[str, Any]] = []
        self._validated = False  # in the present epoch; else the scores are those of an earlier one

    def state_dict(self) -> dict[str, Any]:
        """The epochs and the times of resuming."""
        return {"epochs": self.epochs, "resumed": self.resumed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state. Only a run that is resumed does so."""
        self.epochs, self.resumed = list(state_dict["epochs"]), list(state_dict["resumed"])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes that the run is resumed, if it is."""
        if trainer.ckpt_path is not None:
            changes = {name: list(values) for name, values in self.changes.items()}
            self.resumed.append({"step": trainer.global_step, "changes": changes})

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Awaits a validation."""
        self._validated = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes that the scores are those of the present epoch."""
        self._validated = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes and prints the mean loss and the validation scores of the epoch."""
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}  # a collective operation
        scores = {key: values[key] for key in SCORES if key in values and (self._validated or key == "epoch_loss")}
        epoch, complete = trainer.current_epoch + 1, trainer.is_last_batch
        facts = {"epoch": epoch, "step": trainer.global_step, "complete": complete, **scores}
        if "val_map" in scores:
            assert isinstance(pl_module, LandmarkModule)
            facts["val_images"] = pl_module.val_images
        self.epochs.append(facts)
        if not trainer.is_global_zero:
            return
        limit = trainer.max_epochs
        title = f"epoch {epoch}" if limit is None or limit < 0 else f"epoch {epoch}/{limit}"
        shown = [f"{key} {value:.4f}" for key, value in scores.items()]
        print("  ".join([title if complete else f"{title}, incomplete", *shown]), flush=True)
