"""The end of a training: descriptors are whitened a little, inside the descriptor layer, at no cost to whoever uses it.

Directions in which all descriptors of a collection spread say little about one landmark. Divided by their whole spread
(PCA whitening) noise in the smallest ones takes over; divided by a part of it they lose a little weight only:
attenuated whitening (Mukundan, Tolias, Chum, "Explicit spatial encoding for deep local descriptors", CVPR 2019).
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
    """Turns what the head gives to its principal components, each divided by a power of its spread.

    Linear layer, batch norm and that turn become one linear layer; the batch norm does nothing from then on. What is
    subtracted stays as it was trained: nothing is centered anew.

    Args:
        network: trained; its head is changed in place.
        collection: images that the components are fitted to, those of the training.
        settings: size at which the images are described.
        power: of the spread: 0 turns descriptors only, which changes no cosine; 1 is PCA whitening.
        max_images: most images that the components are fitted to, balanced over the landmarks.
        seed: of the sample.

    Raises:
        GlamError: a network without a descriptor layer; no more images than the descriptor has dimensions.
    """
    head = network.head
    if not isinstance(head, Head):
        raise GlamError("a whitening at the end wants a descriptor layer; set dim")
    features, _ = pooled_features(network, collection, balanced_sample(collection, max_images, seed), settings)
    dim = head.linear.out_features
    if len(features) <= dim:
        raise GlamError(f"a whitening of {dim} dimensions wants more than {dim} images; there are {len(features)}")
    linear, norm = head.linear, head.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = fuse_linear_bn_weights(
        linear.weight, linear.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    components = Components.fit(features @ weight.T + bias, dim)
    turn = components.basis / components.variance.sqrt().pow(power)[:, None]
    set_head(head, turn @ weight, turn @ bias, torch.ones_like(bias))
