"""Partial whitening folded into the descriptor head after training, at no cost for inference.

The directions with the largest variance over a collection say little about a single landmark. Full PCA whitening, which
divides each direction by its standard deviation, amplifies the noise in the directions with the smallest variance.
Attenuated whitening divides by a power of the standard deviation below 1 (A. Mukundan, G. Tolias, O. Chum, "Explicit
spatial encoding for deep local descriptors", CVPR 2019).
"""

import torch
from torch.nn.utils.fusion import fuse_linear_bn_weights

from glam.datasets.collection import Collection
from glam.errors import GlamError
from glam.inference.pipeline import Settings
from glam.network import DescriptorNetwork, Head
from glam.training.pca_init import Components, balanced_sample, pooled_features, set_head


@torch.no_grad()
def whiten_head(
    network: DescriptorNetwork, collection: Collection, settings: Settings, *, power: float, max_images: int, seed: int
) -> None:
    """Rotates the output of the head to its principal components and divides each by a power of its spread.

    Linear layer, batch norm, and rotation are fused into one linear layer, and the batch norm becomes an identity. The
    descriptors are not centered again; the bias from training is kept.

    Args:
        network: trained network; its head is changed in place.
        collection: images that the components are fitted to, usually the training images.
        settings: image size for computing the features.
        power: power of the standard deviation, 0 to 1: 0 only rotates, which changes no cosine; 1 is PCA whitening.
        max_images: maximum number of images that the components are fitted to, balanced over the landmarks.
        seed: seed of the sample of images.

    Raises:
        GlamError: the network has no descriptor layer, or there are no more readable images than dimensions.
    """
    head = network.head
    if not isinstance(head, Head):
        raise GlamError("Whitening after training requires a descriptor layer. Set --model.dim.")
    features, _ = pooled_features(network, collection, balanced_sample(collection, max_images, seed), settings)
    dim = head.linear.out_features
    if len(features) <= dim:
        raise GlamError(
            f"Whitening {dim} dimensions requires more than {dim} images; there are {len(features)}. "
            "Set a smaller --model.dim, or --model.end_whitening 0."
        )
    linear, norm = head.linear, head.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = fuse_linear_bn_weights(
        linear.weight, linear.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    components = Components.fit(features @ weight.T + bias, dim)
    projection = components.basis / components.variance.sqrt().pow(power)[:, None]
    set_head(head, projection @ weight, projection @ bias, torch.ones_like(bias))
