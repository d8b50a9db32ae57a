"""What a run says about images that it passes over, before it trains or fails.

errors of images --`say_unreadable`--> lines on standard error, OUT/unreadable.csv
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from glam.datasets.prepare import UNREADABLE
from glam.errors import GlamError, ImageError
from glam.plurals import count
from glam.training.checkpoints import has_state
from glam.training.data import LandmarkData
from glam.training.outputs import check_outputs
from glam.training.overlap import shared_images
from glam.training.unreadable import write_unreadable

SHOWN = 8
"""Most unreadable images that are named if a file lists them all; arbitrary, so that other lines stay visible."""


@rank_zero_only
def say_unreadable(errors: Sequence[ImageError], listed: Path | None) -> None:
    """Says which images cannot be read.

    Args:
        errors: the error of each image.
        listed: file that lists them; None to name all of them here.
    """
    shown = errors if listed is None else errors[:SHOWN]
    for error in shown:
        print(f"skipped: {error}", file=sys.stderr)
    rest = len(errors) - len(shown)
    if rest:
        print(f"skipped: {count(rest, 'more unreadable image')}; {listed} lists all of them", file=sys.stderr)


@rank_zero_only
def say_before_error(config: Any, errors: Sequence[ImageError]) -> None:
    """Says which images cannot be read, and lists them in ``--out``, when a run cannot begin.

    All of them are named if the list cannot be written, or if ``--out`` holds a run, whose list it would replace.

    Args:
        config: configuration of `glam train`.
        errors: the error of each image.
    """
    if not errors:
        return
    out = Path(config.out)
    listed = None
    if not has_state(out):
        try:
            check_outputs(config)
            write_unreadable(out, errors)
            listed = out / UNREADABLE
        except GlamError:  # of the output, while the error of the images is the one to report
            listed = None
    say_unreadable(errors, listed)


@rank_zero_only
def say_without_landmark(data: LandmarkData) -> None:
    """Says how many images have no landmark.

    Args:
        data: the images of the run.
    """
    number = data.without_landmark
    if number:
        have = "has no landmark and is" if number == 1 else "have no landmark and are"
        print(f"{count(number, 'image')} {have} not trained on", file=sys.stderr)


@rank_zero_only
def warn_of_shared_images(data: LandmarkData) -> None:
    """Says how many validation images are also training images.

    Args:
        data: the images of the run.
    """
    shared = shared_images(data.train, data.val)
    if shared:
        (val, train), are = shared[0], "is also a training image" if len(shared) == 1 else "are also training images"
        print(
            f"{len(shared):,} of the {count(len(data.val), 'validation image')} {are}, so val_map is too high for "
            f"unseen landmarks; first: {val} is {train}",
            file=sys.stderr,
        )
