"""Progress of a training run in plain lines, for logs: what is trained, then a line per minute."""

import sys
import time
from datetime import timedelta
from typing import Any

import lightning as L

SECONDS = 60.0
"""Time between two lines: a log of a day has 1,440 of them, and a person who looks sees that the run is alive."""


class ProgressLines(L.Callback):
    """Writes lines to standard error that say how far a run is, and how long it takes.

    Args:
        seconds: time between two lines.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._began = self._last = time.monotonic()
        self._first_step = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the number of epochs and steps, and starts the clock."""
        self._began = self._last = time.monotonic()
        self._first_step = trainer.global_step
        steps = int(trainer.estimated_stepping_batches)
        self._write(trainer, f"training starts: epochs {trainer.max_epochs}, steps {steps}")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes a line if it is time."""
        done = trainer.global_step - self._first_step
        if not done or not self._is_time():
            return
        steps = int(trainer.estimated_stepping_batches)
        left = (self._last - self._began) / done * (steps - trainer.global_step)
        loss = trainer.callback_metrics.get("loss")
        parts = [
            f"step {trainer.global_step} of {steps}",
            f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}",
            *([] if loss is None else [f"loss {float(loss):.4f}"]),
            f"{timedelta(seconds=round(left))} left",
        ]
        self._write(trainer, ", ".join(parts))

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes a line if it is time."""
        if self._is_time():
            batches = trainer.num_val_batches[dataloader_idx]
            self._write(trainer, f"validation of epoch {trainer.current_epoch + 1}: batch {batch_idx + 1} of {batches}")

    def _is_time(self) -> bool:
        """Whether the last line is old enough; if so, the next one is awaited from now."""
        now = time.monotonic()
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True

    def _write(self, trainer: L.Trainer, line: str) -> None:
        if trainer.is_global_zero:
            print(line, file=sys.stderr, flush=True)
