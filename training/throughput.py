"""Training speed: images per second, the share of time spent waiting for data, and the remaining time."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader


class TimedLoader(DataLoader[Any]):
    """A data loader that measures how long its consumer waits for batches.

    Attributes:
        waited: total waiting time in seconds, over all iterations.
    """

    waited = 0.0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        while True:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - began
            yield batch


@dataclass(frozen=True)
class Speed:
    """Training speed over an interval of steps.

    Attributes:
        step: last step of the interval, counted from 1 over all epochs.
        images_per_second: images trained on per second, over all processes.
        waiting: share of the time in which this process waited for data, 0 to 1. The device may have been busy
            meanwhile, so this is an upper bound on the gain from faster loading.
        seconds_left: remaining training time at this speed in seconds, without validation.
    """

    step: int
    images_per_second: float
    waiting: float
    seconds_left: float


class Throughput(L.Callback):
    """Measures the training speed at intervals, and logs it.

    An interval ends with a synchronization with the device, so that its steps are complete when they are counted;
    within an interval, nothing waits. The clock is stopped during validation and between epochs.

    Args:
        every: number of steps per interval.

    Attributes:
        stretches: speed of each interval, in order.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.stretches: list[Speed] = []
        self._steps = self._images = 0
        self._seconds = self._waited = 0.0
        self._since: tuple[float, float] | None = None  # time and total waiting time at the start of the clock

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock, because a run that is resumed within an epoch does not call `on_train_epoch_start`."""
        self._start(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock."""
        self._start(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the clock."""
        self._stop(trainer, pl_module.device)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock."""
        self._start(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the clock."""
        self._stop(trainer, pl_module.device)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts a batch, whose second item is its landmark ids, and ends the interval if it is complete."""
        self._steps += 1
        self._images += len(batch[1])
        if self._steps < self.every:
            return
        self._stop(trainer, pl_module.device)
        self._show(trainer, pl_module)
        self._steps = self._images = 0
        self._seconds = self._waited = 0.0
        self._start(trainer)

    def _show(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        steps_left = int(trainer.estimated_stepping_batches) - trainer.global_step
        speed = Speed(
            step=trainer.global_step,
            images_per_second=self._images * trainer.world_size / self._seconds,
            waiting=self._waited / self._seconds,
            seconds_left=steps_left * trainer.accumulate_grad_batches * self._seconds / self._steps,
        )
        self.stretches.append(speed)
        figures = {"images_per_second": speed.images_per_second, "waiting": speed.waiting}
        for logger in trainer.loggers:
            logger.log_metrics(figures, speed.step)
        bar = {name: torch.tensor(value) for name, value in figures.items()}
        if "loss" in trainer.callback_metrics:
            bar["loss"] = trainer.callback_metrics["loss"].cpu()
        pl_module.log_dict(bar, prog_bar=True, logger=False)

    def _start(self, trainer: L.Trainer) -> None:
        self._since = time.perf_counter(), _waited(trainer)

    def _stop(self, trainer: L.Trainer, device: torch.device) -> None:
        if self._since is None:
            return
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began, waited = self._since
        self._seconds += time.perf_counter() - began
        self._waited += _waited(trainer) - waited
        self._since = None


class FewerWaits(L.Callback):
    """Makes Lightning check for SIGTERM in other processes at intervals instead of at every step.

    The check is a broadcast on the device, which is idle until it is complete.

    Args:
        every: number of steps per check.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Replaces the check, in versions of Lightning that have it."""
        loop = trainer.fit_loop.epoch_loop
        check = getattr(loop, "_broadcast_sigterm_tensor", None)
        if check is None:
            return

        def check_at_intervals() -> None:
            if loop.global_step % self.every == 0:
                check()

        loop._broadcast_sigterm_tensor = check_at_intervals  # type: ignore[method-assign]


def callbacks() -> list[L.Callback]:
    """The callbacks that `glam train` adds to every run."""
    return [Throughput(), FewerWaits()]


def _waited(trainer: L.Trainer) -> float:
    loader = trainer.train_dataloader
    return loader.waited if isinstance(loader, TimedLoader) else 0.0
