"""Resuming on another number of processes, or with batches of another size.

Lightning counts batches of one process, and the learning rate follows steps. Where an epoch has more or fewer of them
than when the checkpoint was written, what it counted is brought to the new measure: the same share of the training is
done, and the part of the epoch that is left has as many batches as are left to count.
"""

from typing import Any


def rebase_progress(checkpoint: dict[str, Any], batches: int, epoch_batches: int, *, accumulated: int = 1) -> None:
    """Rebases the counts in a checkpoint of Lightning, in place.

    Args:
        checkpoint: as loaded.
        batches: of the interrupted epoch that count as done, ``epoch_batches`` if it was over.
        epoch_batches: of one process in a whole epoch.
        accumulated: batches of which the gradients are added up for a step.
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
    """Sets the count of finished batches; a batch begun but not completed, as in a new checkpoint, stays so."""
    before = progress["ready"]
    for stage, count in progress.items():
        progress[stage] = count + done - before
