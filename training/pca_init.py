"""Initialization of the descriptor layer by PCA of the backbone's features.

With few landmarks, a random layer costs more than training regains: the backbone adapts to it in the first steps and
loses the features learned on ImageNet. A point halfway between PCA and PCA whitening is better than either.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glam.datasets.collection import Collection
from glam.errors import GlamError
from glam.inference.pipeline import Settings, describe_stream
from glam.network import DescriptorNetwork, Head
from glam.principal_axes import principal_axes


@torch.no_grad()
def start_from_pca(
    network: DescriptorNetwork,
    collection: Collection,
    settings: Settings,
    *,
    whitening: float,
    max_images: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Sets the head of a network, including its batch norm, so that descriptors are a PCA of the pooled features.

    Args:
        network: network with a trained backbone; its head is changed in place.
        collection: training images.
        settings: image size for computing the features.
        whitening: each dimension is divided by its standard deviation to this power: 0 for PCA, 1 for PCA whitening.
        max_images: maximum number of images that the PCA is fitted to, balanced over the landmarks.
        seed: seed of the sample of images.

    Returns:
        (n, dim) descriptors of the sampled images, of unit length, and their (n,) landmark ids.

    Raises:
        GlamError: the network has no descriptor layer, or there are no more readable images than dimensions.
    """
    head = network.head
    if not isinstance(head, Head):
        raise GlamError("A start from PCA requires a descriptor layer. Set --model.dim, or --model.start random.")
    indices = balanced_sample(collection, max_images, seed)
    dim = head.linear.out_features
    check_image_count(len(indices), dim)
    features, landmark_ids = pooled_features(network, collection, indices, settings)
    check_image_count(len(features), dim)
    components = Components.fit(features, dim)
    spread = components.variance.sqrt()
    basis = components.basis / spread.pow(whitening)[:, None]
    set_head(head, basis, -(basis @ components.mean), spread.pow(1 - whitening).square())
    return torch.nn.functional.normalize((features - components.mean) @ basis.T, dim=1), landmark_ids


def check_image_count(images: int, dim: int) -> None:
    """Makes sure that there are enough images for a PCA.

    Args:
        images: number of images that the PCA is fitted to.
        dim: dimensions of the descriptor.

    Raises:
        GlamError: there are not.
    """
    if images <= dim:
        raise GlamError(
            f"A descriptor of {dim} dimensions needs more than {dim} training images, and there are {images}. "
            "Use --config finetune, or a smaller --model.dim."
        )


def set_head(head: Head, weight: Tensor, bias: Tensor, variance: Tensor) -> None:
    """Makes a head compute ``weight x + bias``, in place.

    The batch norm of the head divides each dimension by its standard deviation, and its gain reverts this.

    Args:
        head: the head.
        weight: (dim, c) weight.
        bias: (dim,) bias.
        variance: (dim,) variance of each dimension of the output.
    """
    norm = head.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    head.linear.weight.copy_(weight)
    head.linear.bias.copy_(bias)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.zero_()
    norm.running_mean.zero_()
    norm.running_var.copy_(variance)


@dataclass(frozen=True)
class Components:
    """Principal components.

    Attributes:
        mean: (c,) mean of the features.
        basis: (dim, c) components, as orthonormal rows.
        variance: (dim,) variance along each component.
    """

    mean: Tensor
    basis: Tensor
    variance: Tensor

    @classmethod
    def fit(cls, features: Tensor, dim: int) -> "Components":
        """Fits the components in float64.

        Args:
            features: (n, c) features.
            dim: number of components.
        """
        exact = features.double()
        mean = exact.mean(dim=0)
        variance, axes = principal_axes(exact - mean, dim)
        return cls(mean.float(), axes.float(), variance.clamp(min=1e-12).float())


def balanced_sample(collection: Collection, max_images: int, seed: int) -> list[int]:
    """Samples images evenly over the landmarks: a random one of each landmark, then a second of each, and so on.

    Args:
        collection: the images.
        max_images: maximum number of images.
        seed: seed of the sample.

    Returns:
        Ascending indices in the collection.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(collection))
    counts: dict[int, int] = {}
    rounds = []
    for index in order:
        landmark_id = int(collection.landmark_ids[index])
        counts[landmark_id] = counts.get(landmark_id, 0) + 1
        rounds.append(counts[landmark_id])
    return sorted(int(index) for index in order[np.argsort(rounds, kind="stable")][:max_images])


def pooled_features(
    network: DescriptorNetwork, collection: Collection, indices: list[int], settings: Settings
) -> tuple[Tensor, Tensor]:
    """Computes the pooled features of images, before the head. Unreadable images are skipped.

    Args:
        network: the network; it stays unchanged.
        collection: the images.
        indices: indices of the images in the collection.
        settings: image size for computing the features.

    Returns:
        (n, c) features of unit length and (n,) landmark ids, on the device of the network.
    """
    head, network.head = network.head, torch.nn.Identity()
    was_training = network.training
    network.eval()
    try:
        items = ((collection.file(index), None) for index in indices)
        found = [d for d in describe_stream(network, items, settings) if d.descriptor is not None]
    finally:
        network.head = head
        network.train(was_training)
    device = next(network.parameters()).device
    features = np.stack([d.descriptor for d in found if d.descriptor is not None])
    landmark_ids = collection.landmark_ids[[indices[d.position] for d in found]]
    return torch.from_numpy(features).to(device), torch.from_numpy(landmark_ids).to(device)
