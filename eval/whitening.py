"""Whitening of descriptors: fitted on images of landmarks, stored in the model file, applied by the network.

- PCA: H. Jegou, O. Chum, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and whitening",
  ECCV 2012.
- Learned (Lw): K. Mikolajczyk, J. Matas, "Improving descriptors for fast tree matching by optimal linear projection",
  ICCV 2007, as used in F. Radenovic, G. Tolias, O. Chum (arXiv 1711.02512). A landmark weighs as much as it has images,
  not as it has pairs, so that no famous landmark decides alone.

Do not fit it on the images of a benchmark that it is tested on; `benchmark_images` finds them by their names.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.network import DescriptorNetwork
from glam.principal_axes import principal_axes

METHODS = ("pca", "learned")

TEST_NAME = re.compile(
    r"(all_souls|ashmolean|balliol|bodleian|christ_church|cornmarket|hertford|jesus|keble|magdalen|new|oriel|oxford"
    r"|pitt_rivers|radcliffe_camera|trinity|worcester"
    r"|paris_(defense|eiffel|general|invalides|louvre|moulinrouge|museedorsay|notredame|pantheon|pompidou|sacrecoeur"
    r"|triomphe))_\d{6}"
)
"""What the images of Oxford and Paris are called, without their suffix."""

FLAT = 1e-10
"""A direction with less than this share of the largest variance has none."""


@dataclass(frozen=True)
class Whitening:
    """x to ``projection (x - mean)``, which is then brought to unit length.

    Attributes:
        mean: (c,).
        projection: (dim, c), rows by decreasing variance.
    """

    mean: NDArray[np.float64]
    projection: NDArray[np.float64]


def fit_whitening(
    method: str, descriptors: NDArray[np.float32], landmark_ids: NDArray[np.int64], dim: int
) -> Whitening:
    """Fits a whitening.

    Args:
        method: ``pca``, which ignores the landmarks, or ``learned``, which shrinks the differences between images of
            one landmark.
        descriptors: (n, c) of unit length.
        landmark_ids: (n,) landmark of each; ``learned`` leaves out negative ones, which are unknown.
        dim: dimensions to keep, at most c.

    Raises:
        GlamError: there are too few images for c dimensions, or fewer than ``dim`` dimensions to keep.
    """
    if not 0 < dim <= descriptors.shape[1]:
        raise GlamError(f"the descriptors have {descriptors.shape[1]} dimensions, {dim} cannot be kept")
    if method == "pca":
        return _pca(descriptors.astype(np.float64), dim)
    has_landmark = landmark_ids >= 0
    return _learned(descriptors[has_landmark].astype(np.float64), landmark_ids[has_landmark], dim)


def with_whitening(network: DescriptorNetwork, whitening: Whitening) -> DescriptorNetwork:
    """A network like this one that whitens its descriptors.

    Raises:
        GlamError: it does already.
    """
    if network.architecture.whitening is not None:
        raise GlamError("this model has a whitening already; fit one to the model it was made from")
    whitened = DescriptorNetwork(replace(network.architecture, whitening=len(whitening.projection)))
    layer = {"weight": whitening.projection, "bias": -whitening.projection @ whitening.mean}
    state = {f"whitening.{name}": torch.from_numpy(values).float() for name, values in layer.items()}
    whitened.load_state_dict({**network.state_dict(), **state})
    return whitened.eval()


def benchmark_images(paths: Iterable[str]) -> list[str]:
    """Those of the paths whose file is called like an image of Oxford5k or Paris6k, the test sets."""
    return [path for path in paths if TEST_NAME.fullmatch(PurePosixPath(path).stem)]


def _pca(descriptors: NDArray[np.float64], dim: int) -> Whitening:
    mean = descriptors.mean(axis=0)
    centered = descriptors - mean
    variances, directions = _principal(centered, dim)
    if variances[-1] <= FLAT * variances[0]:
        raise GlamError(f"{len(descriptors)} photographs vary in fewer than {dim} dimensions; keep fewer or take more")
    return Whitening(mean, directions / np.sqrt(variances)[:, None])


def _learned(descriptors: NDArray[np.float64], landmark_ids: NDArray[np.int64], dim: int) -> Whitening:
    landmarks, group, counts = np.unique(landmark_ids, return_inverse=True, return_counts=True)
    means = np.zeros((len(landmarks), descriptors.shape[1]))
    np.add.at(means, group, descriptors)
    means /= counts[:, None]
    # Summed over the pairs of a landmark, differences are its scatter about its mean, times the number of images.
    differences = descriptors - means[group]
    variances, directions = _principal(differences, descriptors.shape[1])
    if variances[-1] <= FLAT * variances[0]:
        raise GlamError(
            f"{len(descriptors)} photographs of {len(landmarks)} landmarks are too few to learn a whitening of "
            f"{descriptors.shape[1]} dimensions; take more, or the method pca"
        )
    whitener = directions / np.sqrt(variances)[:, None]
    mean = descriptors.mean(axis=0)
    _, components = _principal((descriptors - mean) @ whitener.T, dim)
    return Whitening(mean, components @ whitener)


def _principal(vectors: NDArray[np.float64], dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ``dim`` largest variances of (n, c) vectors about the origin, descending, and their directions, (dim, c)."""
    variances, directions = principal_axes(torch.from_numpy(vectors), dim)
    return variances.numpy(), directions.numpy()
