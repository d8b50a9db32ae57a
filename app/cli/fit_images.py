"""The images that `glam whiten fit` and `glam adapt` fit a layer to."""

import numpy as np
from numpy.typing import NDArray

from glam.app.cli import terminal
from glam.datasets.collection import Collection
from glam.errors import GlamError, ImageError
from glam.eval.whitening import benchmark_images
from glam.inference.pipeline import Settings
from glam.model import Model


def refuse_test_images(collection: Collection, force: bool) -> int:
    """Makes sure that no image is one of a test set.

    Args:
        collection: the images.
        force: whether such images are accepted.

    Returns:
        Number of images of a test set.

    Raises:
        GlamError: there are some, and they are not accepted.
    """
    tested = benchmark_images(image.path for image in collection.images)
    if tested and not force:
        raise GlamError(
            f"{collection.source} has {terminal.count(len(tested), 'image')} with a name from a test set, such as "
            f"{tested[0]}; results on that set would be invalid. Use other images, or pass --force."
        )
    return len(tested)


def describe_images(
    model: Model, collection: Collection, settings: Settings
) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[ImageError]]:
    """Computes the descriptors of images, and lists what was skipped or could not be read.

    Args:
        model: the model.
        collection: the images.
        settings: image size and scales.

    Returns:
        (n, dim) descriptors of unit length, NaN for an image that cannot be read; (n,) whether an image was read; and
        the errors.
    """
    errors: list[ImageError] = []
    files = [collection.file(i) for i in range(len(collection))]
    with terminal.progress("describing") as progress:
        rows = model.describe(files, size=settings.size, scales=settings.scales, errors=errors, progress=progress)
    terminal.skipped(collection.skipped, len(errors))
    terminal.unreadable([(error.source, error.reason) for error in errors])
    return rows, ~np.isnan(rows[:, 0]), errors
