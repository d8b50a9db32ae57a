"""How fast a run is: images a second, the share of time spent waiting for data, the time left."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader


class TimedLoader(DataLoader[Any]):
    """A loader that knows how long it was waited for.

    Attributes:
        waited: seconds, over all passes, that its user stood still for the next batch.
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
    """What a stretch of steps came to.

    Attributes:
        step: the last of them, from 1 over all epochs.
        images_per_second: trained, over all processes.
        waiting: share of the time, from 0 to 1, in which this process stood still for want of data. The device may
            still have had work then, so it is the most that faster loading could win.
        seconds_left: to the end of the training at this speed, validation left out.
    """

    step: int
    images_per_second: float
    waiting: float
    seconds_left: float


class Throughput(L.Callback):
    """Measures and shows the speed of training, stretch by stretch, and puts it into the run's logs.

    A stretch ends with a wait for the device, so that its steps are counted when they are done and not when they are
    asked for; in between nothing waits. The clock stands still during validation and between epochs.

    Args:
        every: steps in a stretch.

    Attributes:
        stretches: the speed of each, in order.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self.stretches: list[Speed] = []
        self._steps = self._images = 0
        self._seconds = self._waited = 0.0
        self._since: tuple[float, float] | None = None  # time and seconds waited when the clock was started

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock; a run that is resumed within an epoch does not start the epoch."""
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
        """Counts a batch, whose second part are its landmark ids, and ends the stretch if it is long enough."""
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
    """Has several processes ask each other every so many steps whether one was told to end, and not before each.

    Lightning asks with SIGTERM in mind; the answer comes by way of the device, which has nothing to do until then.

    Args:
        every: steps.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Puts itself before the question, in versions of Lightning that ask it."""
        loop = trainer.fit_loop.epoch_loop
        ask = getattr(loop, "_broadcast_sigterm_tensor", None)
        if ask is None:
            return

        def ask_now_and_then() -> None:
            if loop.global_step % self.every == 0:
                ask()

        loop._broadcast_sigterm_tensor = ask_now_and_then  # type: ignore[method-assign]


def callbacks() -> list[L.Callback]:
    """The callbacks that `glam train` adds to every run."""
    return [Throughput(), FewerWaits()]


def _waited(trainer: L.Trainer) -> float:
    loader = trainer.train_dataloader
    return loader.waited if isinstance(loader, TimedLoader) else 0.0
