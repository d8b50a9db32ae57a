"""`compute_once`: the first process computes, and every process gets the same result."""

from collections.abc import Callable
from typing import TypeVar, cast

import lightning as L

from glam.errors import GlamError

Result = TypeVar("Result")


def compute_once(trainer: L.Trainer, compute: Callable[[], Result]) -> Result:
    """Computes something in the first process and sends it to the others.

    Each process could compute it itself, but devices round differently: principal components of nearly equal variance
    then change their order or sign, and the processes train different networks. Every process has to call it.

    Args:
        trainer: the trainer, whose processes have been joined.
        compute: the computation. Its result is pickled, so tensors should be on the CPU.

    Returns:
        The result of the first process.

    Raises:
        GlamError: the computation raised it; all processes then do.
    """
    outcome: Result | GlamError | None = None
    if trainer.is_global_zero:
        try:
            outcome = compute()
        except GlamError as error:
            outcome = GlamError(str(error))  # not every subclass can be pickled
    outcome = trainer.strategy.broadcast(outcome)
    if isinstance(outcome, GlamError):
        raise outcome
    return cast(Result, outcome)
