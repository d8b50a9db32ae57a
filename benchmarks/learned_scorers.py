"""Small networks that score pairs of images for learned_rerank.py, and their inputs.

The features of an image are its descriptor, and 16 local descriptors with the four attentions at their positions. The
positions are those of the attended feature map with the largest product of channel response and local spatial
attention; each goes through the last layers like a pooled map. Inputs of a pair:

    descriptors   a perceptron on the entrywise product of the two descriptors
    statistics    a perceptron on statistics of the local descriptors: means of best cosine similarities, mutual nearest
                  neighbors, and attentions
    transformer   two layers over the two descriptors and the 2 x 16 local ones, similar to F. Tan, J. Yuan, V. Ordonez,
                  "Instance-level image retrieval using reranking transformers", ICCV 2021 (arXiv 2103.12236)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

import glam
from glam.attention_maps import _features, compute_maps
from glam.index.types import Descriptors

TOKENS, DEPTH = 16, 100
"""Number of local descriptors per image, and of images per list that are scored."""


@dataclass(frozen=True)
class Looks:
    """Features of n images.

    Attributes:
        descriptors: descriptors, (n, dim).
        tokens: local descriptors, (n, `TOKENS`, dim), of unit length.
        attention: attentions at the positions of the local descriptors, (n, `TOKENS`, 4): local channel, local spatial,
            global channel, and how much other positions look there; the mean over the map is about 1 each.
    """

    descriptors: Tensor
    tokens: Tensor
    attention: Tensor


@torch.inference_mode()
def look(model: glam.Model, file: Path) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Computes the features of an image.

    Args:
        model: model with GLAM.
        file: path of the image.

    Returns:
        Local descriptors, (`TOKENS`, dim), float16, and attentions, (`TOKENS`, 4), float32. Positions repeat if the map
        has fewer than `TOKENS`.
    """
    network = model.fast
    features, area = _features(model, file, None, 320)
    maps = compute_maps(network.attention, features, area)
    assert maps is not None
    assert maps.local_channel is not None
    assert maps.local_spatial is not None
    assert maps.global_channel is not None
    assert maps.global_spatial is not None
    attention = np.stack(
        [
            (maps.local_channel / maps.local_channel.mean()).ravel(),
            1 + maps.local_spatial.ravel(),
            (maps.global_channel / maps.global_channel.mean()).ravel(),
            maps.global_spatial.sum(axis=0),
        ],
        axis=1,
    )
    chosen = np.resize(np.argsort(-attention[:, 0] * attention[:, 1], kind="stable")[:TOKENS], TOKENS)
    attended = network.attention(features)[0].flatten(1).T.float().clamp(min=1e-6)  # (h w, c)
    tokens = F.normalize(network.head(F.normalize(attended[torch.from_numpy(chosen)], dim=1)).float(), dim=1)
    return tokens.numpy().astype(np.float16), attention[chosen].astype(np.float32)


def cached_looks(
    model: glam.Model, name: str, files: Sequence[Path], descriptors: Descriptors, cache: Path | None
) -> Looks:
    """Computes the features of images, or reads them from the cache.

    Args:
        model: model with GLAM.
        name: name of the images in the cache.
        files: paths of the images.
        descriptors: descriptors of the images, (n, dim).
        cache: folder of the cache; None for no cache.
    """
    kept = None if cache is None else cache / f"{name}_looks.npz"
    if kept is not None and kept.exists():
        stored = np.load(kept)
        tokens, attention = stored["tokens"], stored["attention"]
    else:
        tokens, attention = (np.stack(parts) for parts in zip(*(look(model, file) for file in files), strict=True))
        if kept is not None:
            np.savez(kept, tokens=tokens, attention=attention)
    return Looks(torch.from_numpy(descriptors), torch.from_numpy(tokens).float(), torch.from_numpy(attention))


def products(looks: Looks, query: Tensor, images: Tensor, scores: Tensor) -> Tensor:
    """Computes entrywise products of the descriptors of a list, scaled to a mean square of about 1.

    Args:
        looks: features of all images.
        query: index of the query, ().
        images: indices of the images of the list, (d,).
        scores: scores of the list, (d,).

    Returns:
        (d, dim).
    """
    return looks.descriptors[query] * looks.descriptors[images] * looks.descriptors.shape[1]


def statistics(looks: Looks, query: Tensor, images: Tensor, scores: Tensor) -> Tensor:
    """Computes statistics of the local descriptors and attentions of a list.

    Args:
        looks: features of all images.
        query: index of the query, ().
        images: indices of the images of the list, (d,).
        scores: scores of the list, (d,).

    Returns:
        (d, 17).
    """
    asking, asked = looks.tokens[query], looks.tokens[images]
    cosines = torch.einsum("ic,njc->nij", asking, asked)
    best_q, best_x = cosines.max(dim=2), cosines.max(dim=1)
    mutual = torch.gather(best_x.indices, 1, best_q.indices) == torch.arange(TOKENS)
    weight_q, weight_x = (part[..., 0] * part[..., 1] for part in (looks.attention[query], looks.attention[images]))
    weight_q, weight_x = weight_q / weight_q.sum(), weight_x / weight_x.sum(dim=1, keepdim=True)
    seen_q, seen_x = looks.attention[query], looks.attention[images]
    partner = torch.gather(seen_x, 1, best_q.indices[..., None].expand(-1, -1, 4))
    count = mutual.sum(dim=1).clamp(min=1)
    to_descriptors = asked @ looks.descriptors[query]
    from_descriptors = looks.descriptors[images] @ asking.T
    columns = [
        looks.descriptors[images] @ looks.descriptors[query],
        scores - scores[0],
        best_q.values.mean(dim=1),
        best_x.values.mean(dim=1),
        (best_q.values * weight_q).sum(dim=1),
        (best_x.values * weight_x).sum(dim=1),
        best_q.values.max(dim=1).values,
        best_q.values.topk(4, dim=1).values.mean(dim=1),
        mutual.float().mean(dim=1),
        (best_q.values * mutual).sum(dim=1) / count,
        cosines.mean(dim=(1, 2)),
        to_descriptors.max(dim=1).values,
        from_descriptors.max(dim=1).values,
        *((seen_q - partner).abs() * mutual[..., None]).sum(dim=1).div(count[:, None]).T,
    ]
    return torch.stack(columns, dim=1)


def pairs(looks: Looks, query: Tensor, images: Tensor, scores: Tensor) -> Tensor:
    """Returns the indices of query and image for each image of a list, (d, 2)."""
    return torch.stack([query.expand_as(images), images], dim=1)


class Perceptron(nn.Module):
    """A perceptron: inputs of pairs, (..., n), to scores, (...), which are 0 before training.

    Args:
        looks: features of all images.
        inputs: training inputs, (..., n), for the normalization.
    """

    def __init__(self, looks: Looks, inputs: Tensor) -> None:
        super().__init__()
        self.looks = looks
        flat = inputs.flatten(0, -2)
        self.mean, self.spread = flat.mean(dim=0), flat.std(dim=0) + 1e-6
        self.hidden = nn.Sequential(nn.Linear(flat.shape[1], 32), nn.ReLU(), nn.Dropout(0.2))
        self.last = nn.Linear(32, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.last(self.hidden((inputs - self.mean) / self.spread))[..., 0]
        return scores


class PairTransformer(nn.Module):
    """A transformer: indices of pairs, (..., 2), to scores, (...), which are 0 before training.

    Args:
        looks: features of all images.
        inputs: training inputs, (..., 2); not used.
    """

    WIDTH = 64

    def __init__(self, looks: Looks, inputs: Tensor) -> None:
        super().__init__()
        self.looks = looks
        self.token = nn.Linear(looks.descriptors.shape[1], self.WIDTH)
        self.seen = nn.Linear(4, self.WIDTH)
        self.kind = nn.Parameter(
            0.02 * torch.randn(5, self.WIDTH)
        )  # class token, two descriptors, and their local descriptors
        layer = nn.TransformerEncoderLayer(self.WIDTH, 2, 2 * self.WIDTH, 0.1, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(self.WIDTH, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        indices = inputs.flatten(0, -2)
        scale = self.looks.descriptors.shape[1] ** 0.5
        parts = [self.kind[0].expand(len(indices), 1, -1)]
        for side in (0, 1):
            known = indices[:, side]
            overall = self.token(scale * self.looks.descriptors[known])[:, None]
            local = self.token(scale * self.looks.tokens[known]) + self.seen(self.looks.attention[known])
            parts += [overall + self.kind[1 + side], local + self.kind[3 + side]]
        scores: Tensor = self.last(self.layers(torch.cat(parts, dim=1))[:, 0])[:, 0]
        return scores.view(inputs.shape[:-1])


@dataclass(frozen=True)
class Kind:
    """A kind of network, and its training settings.

    Attributes:
        inputs: function of features, query index, image indices, and scores of a list, that returns the inputs.
        network: class of the network.
        epochs: number of epochs.
        pairs: number of pairs per list and step.
        seeds: number of trainings with different seeds.
    """

    inputs: Callable[[Looks, Tensor, Tensor, Tensor], Tensor]
    network: type[Perceptron] | type[PairTransformer]
    epochs: int
    pairs: int
    seeds: int


KINDS = {
    "descriptors": Kind(products, Perceptron, 15, DEPTH, 3),
    "statistics": Kind(statistics, Perceptron, 15, DEPTH, 3),
    "transformer": Kind(pairs, PairTransformer, 2, 24, 1),
}


class Column(nn.Module):
    """Uses one input as the score of a pair.

    Args:
        index: index of the input.
    """

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, inputs: Tensor, scores: Tensor) -> Tensor:
        """Selects the input: (..., d, n) and (..., d) to (..., d)."""
        return inputs[..., self.index]


class Scorer(nn.Module):
    """The score of a list at a learned scale, plus the score of a network.

    Args:
        network: network of the pair scores.
    """

    def __init__(self, network: Perceptron | PairTransformer) -> None:
        super().__init__()
        self.network = network
        self.scale = nn.Parameter(torch.tensor(40.0).log())

    def on(self, looks: Looks) -> "Scorer":
        """Switches to the features of other images; returns the scorer itself."""
        self.network.looks = looks
        return self

    def forward(self, inputs: Tensor, scores: Tensor) -> Tensor:
        total: Tensor = self.scale.exp() * scores + self.network(inputs)
        return total
