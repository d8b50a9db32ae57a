"""The loss of a run: the one that its options ask for, and whether it fits the other options and the images."""

from typing import Any

from glam.errors import GlamError
from glam.eval.folder import has_pair
from glam.training.arguments import OptionError, as_argument
from glam.training.data import LandmarkData
from glam.training.losses import Loss, LossContext, create_loss
from glam.training.options import CHOICES, ModelOptions


def loss_choice(options: ModelOptions, *, distilled: bool) -> dict[str, Any]:
    """The loss that options ask for: its name and its options.

    Args:
        options: the options of the model.
        distilled: whether there are teachers, which take the place of ArcFace.
    """
    assert not isinstance(options.loss, str)
    default = CHOICES["loss"]
    chosen = options.loss or {"name": default}
    return {"name": "distillation"} if distilled and chosen["name"] == default else chosen


def run_loss(options: ModelOptions, context: LossContext, *, distilled: bool) -> Loss:
    """Makes the loss that options ask for.

    Args:
        options: the options of the model.
        context: facts of the run.
        distilled: whether there are teachers.

    Raises:
        GlamError: there is no such loss.
        OptionError: the loss refuses an option.
    """
    chosen = loss_choice(options, distilled=distilled)
    try:
        return create_loss(chosen, context)
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"--model.loss {as_argument(chosen)} cannot be made: {str(error).rstrip('.')}. Correct its options."
        ) from error


def trial_loss(options: ModelOptions, dim: int, *, distilled: bool) -> Loss | None:
    """Makes the loss that options ask for before the landmarks are known, to try the options.

    Args:
        options: the options of the model.
        dim: length of a descriptor.
        distilled: whether there are teachers.

    Returns:
        The loss for two landmarks; None for distillation, which needs trained teachers.

    Raises:
        GlamError: there is no such loss.
        OptionError: the loss refuses an option.
    """
    if loss_choice(options, distilled=distilled)["name"] == "distillation":
        return None
    return run_loss(options, LossContext(landmarks=2, dim=dim), distilled=distilled)


def check_combination(options: ModelOptions, data: LandmarkData, dim: int, *, distilled: bool, clipped: bool) -> None:
    """Makes sure that loss and options fit each other and the images, before teachers are trained.

    Args:
        options: the options of the model.
        data: the images.
        dim: length of a descriptor.
        distilled: whether the run learns from teachers.
        clipped: whether gradients are clipped.

    Raises:
        GlamError: they contradict each other.
    """
    loss = trial_loss(options, dim, distilled=distilled)
    if loss is None:
        return
    if options.patched and loss.needs_landmarks:
        raise GlamError(
            "CutMix combines two landmarks in an image, which only a run with teachers can learn from. "
            "Set --model.patched 0, or name --teachers."
        )
    if distilled and loss.needs_landmarks:
        raise GlamError(f"The loss {loss.name} learns from landmarks, not from --teachers. Leave out one of the two.")
    if loss.needs_pairs and data.options.images_per_landmark is None:
        raise GlamError(
            f"The loss {loss.name} compares images of a landmark within a batch. Set --data.images_per_landmark 4."
        )
    if loss.needs_pairs and not has_pair(data.train.landmark_ids):
        raise GlamError(
            f"The loss {loss.name} compares images of a landmark, and each training landmark has one image. "
            "Add images, or choose another loss, such as arcface."
        )
    if loss.local_parameters() and clipped:
        raise GlamError(
            "Gradients cannot be clipped with sharded centers, because each process sees only its own norm. "
            "Set --trainer.gradient_clip_val 0, or --model.loss.sharded false."
        )
