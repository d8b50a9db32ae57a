"""Conversion of a checkpoint's progress to another number of processes or another batch size.

Lightning counts batches per process, and the learning rate depends on the number of steps. If an epoch has another
number of batches than when the checkpoint was written, the counts are converted so that the same share of the training
is done and the remaining batches of the epoch complete it.
"""

from typing import Any


def rebase_progress(checkpoint: dict[str, Any], batches: int, epoch_batches: int, *, accumulated: int = 1) -> None:
    """Converts the counts in a checkpoint, in place.

    Args:
        checkpoint: a checkpoint of Lightning.
        batches: number of batches of the interrupted epoch that count as done; ``epoch_batches`` if it was complete.
        epoch_batches: number of batches per process in a complete epoch.
        accumulated: number of batches whose gradients are accumulated per step.
    """
    steps = (checkpoint["epoch"] * epoch_batches + batches) // accumulated
    loops = checkpoint["loops"]["fit_loop"]
    _shift(loops["epoch_loop.batch_progress"]["current"], batches)
    _shift(loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"], steps)
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = steps
    checkpoint["global_step"] = steps
    for schedule in checkpoint["lr_schedulers"]:
        schedule.update(last_epoch=steps, _step_count=steps + 1)


def _shift(progress: dict[str, int], done: int) -> None:
    """Sets the number of finished batches. A batch that was started but not completed keeps this state."""
    before = progress["ready"]
    for stage, count in progress.items():
        progress[stage] = count + done - before
