"""Divergence: a loss or a weight that is not finite ends the training, before any weights are saved or scored."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from glam.errors import GlamError


class DivergedError(GlamError):
    """The loss of a step or a weight is NaN or infinite."""


class StopIfDiverged(L.Callback):
    """Ends the training if the loss or a weight is not finite. Add it before the callbacks that save checkpoints.

    The first such step is noted on the device. It is looked at only at intervals, because looking waits for the device,
    and in all processes at the same steps.

    Args:
        every: number of steps between two looks.
        save_every: number of steps between two checkpoints; each is preceded by a look.
    """

    def __init__(self, save_every: int, every: int = 50) -> None:
        self.every = every
        self.save_every = save_every
        self._first: Tensor | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes the step if its loss is not finite, and looks at intervals."""
        loss, step = outputs["loss"].detach(), trainer.global_step
        if self._first is None:
            self._first = torch.zeros((), dtype=torch.long, device=loss.device)
        self._first = torch.where(torch.isfinite(loss) | (self._first > 0), self._first, max(1, step))
        if step % self.every == 0 or step % self.save_every == 0:
            self._look(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Looks."""
        self._look(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Looks."""
        self._look(trainer, pl_module)

    def _look(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        first = 0 if self._first is None else int(self._first)
        finite = torch.stack([torch.isfinite(parameter).all() for parameter in module.parameters()]).all()
        if trainer.strategy.reduce_boolean_decision(first > 0 or not bool(finite), all=False):
            what = "The loss is" if first else "The weights are"  # a loss gets so first if a forward pass follows
            raise DivergedError(
                f"{what} not finite at step {first or trainer.global_step}, so the training diverged. "
                "Set a smaller --model.lr and --model.new_lr."
            )
