"""The end of a training: descriptors are whitened a little, inside the descriptor layer, at no cost to whoever uses it.

Directions in which all descriptors of a collection spread say little about one place. Divided by their whole spread
(PCA whitening) noise in the smallest ones takes over; divided by a part of it they lose a little weight only:
attenuated whitening (Mukundan, Tolias, Chum, "Explicit spatial encoding for deep local descriptors", CVPR 2019).
"""

import torch
from torch.nn.utils.fusion import fuse_linear_bn_weights

from glam.datasets.collection import Collection
from glam.errors import GlamError
from glam.inference.pipeline import Settings
from glam.network import DescriptorNetwork, Head
from glam.training.pca_init import Components, evenly, pooled_features, set_head


@torch.no_grad()
def whiten_head(
    network: DescriptorNetwork, collection: Collection, settings: Settings, *, power: float, most: int, seed: int
) -> None:
    """Turns what the head gives to its principal components, each divided by a power of its spread.

    Linear layer, batch norm and that turn become one linear layer; the batch norm does nothing from then on. What is
    subtracted stays as it was trained: nothing is centered anew.

    Args:
        network: trained; its head is changed in place.
        collection: images that the components are fitted to, those of the training.
        settings: at what size they are looked at.
        power: of the spread: 0 turns descriptors only, which changes no cosine; 1 is PCA whitening.
        most: images that are looked at, drawn evenly over the landmarks.
        seed: of the draw.

    Raises:
        GlamError: a network without a descriptor layer; no more images than the descriptor has dimensions.
    """
    head = network.head
    if not isinstance(head, Head):
        raise GlamError("a whitening at the end wants a descriptor layer; set dim")
    pooled, _ = pooled_features(network, collection, evenly(collection, most, seed), settings)
    dim = head.linear.out_features
    if len(pooled) <= dim:
        raise GlamError(f"a whitening of {dim} dimensions wants more than {dim} images; there are {len(pooled)}")
    linear, norm = head.linear, head.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight, bias = fuse_linear_bn_weights(
        linear.weight, linear.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    components = Components.fit(pooled @ weight.T + bias, dim)
    turn = components.basis / components.variance.sqrt().pow(power)[:, None]
    set_head(head, turn @ weight, turn @ bias, torch.ones_like(bias))
