"""Whitening of descriptors: fitted to images, stored in the model file, and applied by the network.

- PCA: H. Jegou, O. Chum, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and whitening",
  ECCV 2012.
- Learned (Lw): K. Mikolajczyk, J. Matas, "Improving descriptors for fast tree matching by optimal linear projection",
  ICCV 2007, as used in F. Radenovic, G. Tolias, O. Chum (arXiv 1711.02512). The weight of a landmark is its number of
  images rather than its number of pairs, so that one large landmark does not dominate.

Do not fit a whitening to the images of a benchmark that it is tested on; `benchmark_images` finds them by name.
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
"""Names of the images of Oxford5k and Paris6k, without suffix."""

FLAT = 1e-10
"""A direction with less than this share of the largest variance counts as having none (arbitrary)."""


@dataclass(frozen=True)
class Whitening:
    """The map from x to ``projection (x - mean)``, which is then normalized to unit length.

    Attributes:
        mean: (c,) mean of the descriptors.
        projection: (dim, c) projection, with rows by decreasing variance.
    """

    mean: NDArray[np.float64]
    projection: NDArray[np.float64]

    def apply(self, descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Whitens (n, c) float32 descriptors: (n, dim), float32, of unit length."""
        whitened = (descriptors - self.mean) @ self.projection.T
        unit: NDArray[np.float64] = whitened / np.linalg.norm(whitened, axis=1, keepdims=True)
        return unit.astype(np.float32)


def fit_whitening(
    method: str,
    descriptors: NDArray[np.float32],
    landmark_ids: NDArray[np.int64],
    dim: int,
    *,
    shrinkage: float = 0.0,
) -> Whitening:
    """Fits a whitening to descriptors.

    Args:
        method: ``pca``, which ignores the landmarks, or ``learned``, which shrinks the differences between images of
            the same landmark.
        descriptors: (n, c) float32 descriptors of unit length.
        landmark_ids: (n,) landmark id of each image; ``learned`` ignores images with a negative id, of an unknown
            landmark.
        dim: number of dimensions to keep, 1 to c.
        shrinkage: ``learned`` adds this multiple of the mean variance of the descriptors to the variance of the
            differences in each direction, so that directions in which few images differ are not amplified. With 0,
            there must be more images than dimensions; a large one only centers the descriptors.

    Raises:
        GlamError: there are too few images, or ``dim`` is out of range.
    """
    if not 0 < dim <= descriptors.shape[1]:
        raise GlamError(
            f"The descriptors have {descriptors.shape[1]} dimensions, so {dim} cannot be kept. "
            f"Choose 1 to {descriptors.shape[1]}."
        )
    if method == "pca":
        return _pca(descriptors.astype(np.float64), dim)
    has_landmark = landmark_ids >= 0
    return _learned(descriptors[has_landmark].astype(np.float64), landmark_ids[has_landmark], dim, shrinkage)


def with_whitening(network: DescriptorNetwork, whitening: Whitening) -> DescriptorNetwork:
    """Returns a copy of a network that whitens its descriptors.

    Args:
        network: a network without whitening.
        whitening: the whitening to add.

    Raises:
        GlamError: the network already has a whitening.
    """
    if network.architecture.whitening is not None:
        raise GlamError("This model already has a whitening. Use the model that it was made from.")
    whitened = DescriptorNetwork(replace(network.architecture, whitening=len(whitening.projection)))
    layer = {"weight": whitening.projection, "bias": -whitening.projection @ whitening.mean}
    state = {f"whitening.{name}": torch.from_numpy(values).float() for name, values in layer.items()}
    whitened.load_state_dict({**network.state_dict(), **state})
    return whitened.eval()


def without_whitening(network: DescriptorNetwork) -> DescriptorNetwork:
    """Returns a copy of a network that does not whiten its descriptors.

    Args:
        network: a network with or without whitening.
    """
    bare = DescriptorNetwork(replace(network.architecture, whitening=None))
    state = {name: values for name, values in network.state_dict().items() if not name.startswith("whitening.")}
    bare.load_state_dict(state)
    return bare.eval()


def benchmark_images(paths: Iterable[str]) -> list[str]:
    """Selects the paths whose file name is that of an image of the test sets Oxford5k and Paris6k."""
    return [path for path in paths if TEST_NAME.fullmatch(PurePosixPath(path).stem)]


def _pca(descriptors: NDArray[np.float64], dim: int) -> Whitening:
    mean = descriptors.mean(axis=0)
    centered = descriptors - mean
    variances, directions = _principal(centered, dim)
    if variances[-1] <= FLAT * variances[0]:
        raise GlamError(
            f"The descriptors of {len(descriptors)} images vary in fewer than {dim} dimensions. "
            "Keep fewer dimensions (--dim), or use more images."
        )
    return Whitening(mean, directions / np.sqrt(variances)[:, None])


def _learned(
    descriptors: NDArray[np.float64], landmark_ids: NDArray[np.int64], dim: int, shrinkage: float
) -> Whitening:
    landmarks, group, counts = np.unique(landmark_ids, return_inverse=True, return_counts=True)
    means = np.zeros((len(landmarks), descriptors.shape[1]))
    np.add.at(means, group, descriptors)
    means /= counts[:, None]
    # The sum over the pairs of a landmark is its scatter about its mean, times its number of images.
    differences = descriptors - means[group]
    mean = descriptors.mean(axis=0)
    variances, directions = _principal(differences, descriptors.shape[1])
    variances = variances + shrinkage * descriptors.var(axis=0).mean()
    if variances[-1] <= FLAT * variances[0]:
        raise GlamError(
            f"{len(descriptors)} images of {len(landmarks)} landmarks are too few to learn a whitening of "
            f"{descriptors.shape[1]} dimensions. Use more images, or --method pca."
        )
    whitener = directions / np.sqrt(variances)[:, None]
    _, components = _principal((descriptors - mean) @ whitener.T, dim)
    return Whitening(mean, components @ whitener)


def _principal(vectors: NDArray[np.float64], dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The (dim,) largest variances of (n, c) vectors about the origin, descending, and their (dim, c) directions."""
    variances, directions = principal_axes(torch.from_numpy(vectors), dim)
    return variances.numpy(), directions.numpy()
