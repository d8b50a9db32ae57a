"""Fine-tuning: a run that starts from a trained model, and keeps the better of the two on held-out landmarks.

The held-out landmarks are neither trained on nor do they pick an epoch: the weights of the last epoch are compared with
the start once, and that comparison decides which are written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch

from glam.datasets.collection import Collection
from glam.eval.folder import FolderReport, evaluate_folder
from glam.eval.metrics import bootstrap_interval
from glam.model import Model
from glam.model_file import ModelHeader
from glam.network import DescriptorNetwork
from glam.training.distillation import Distillation
from glam.training.module import LandmarkModule
from glam.training.pca_init import balanced_sample


class StartAtMeans(L.Callback):
    """Puts the center of each landmark at the mean of its images, described by the network as it starts."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Does so, unless a run is resumed, or learns from a teacher and has no centers."""
        assert isinstance(pl_module, LandmarkModule)
        if pl_module.resumed or isinstance(pl_module.loss, Distillation):
            return
        data, network = pl_module.data, pl_module.network.to_device(pl_module.device)
        indices = balanced_sample(data.train, pl_module.options.start_images, pl_module.options.seed)
        model = Model("start", network.eval(), ModelHeader(network.architecture, size=data.val_size))
        descriptors = model.describe([data.train.file(i) for i in indices], errors=[])
        read = ~np.isnan(descriptors[:, 0])
        landmark_ids = data.train.landmark_ids[indices]
        pl_module.loss.start_at_means(
            *(torch.from_numpy(values[read]).to(pl_module.device) for values in (descriptors, landmark_ids))
        )


def diverged(network: DescriptorNetwork) -> bool:
    """Whether training has left a weight that is not finite."""
    return not all(bool(torch.isfinite(weights).all()) for weights in network.state_dict().values())


@dataclass(frozen=True)
class Comparison:
    """Two models on the same queries.

    Attributes:
        before, after: what they scored.
        gain: of mAP, a fraction.
        interval: 95% bootstrap interval of the gain, over landmarks.
        landmarks: how many were held out.
    """

    before: FolderReport
    after: FolderReport
    gain: float
    interval: tuple[float, float]
    landmarks: int

    @property
    def better(self) -> bool:
        """Whether the second is."""
        return self.gain > 0

    def to_dict(self) -> dict[str, Any]:
        """For a result file, fractions."""
        return {
            "landmarks": self.landmarks,
            "queries": int((~np.isnan(self.before.scores.ap)).sum()),
            "others": self.before.distractors,
            "before": {"map": self.before.scores.mean_ap, "recall_at_1": self.before.scores.recall_at_1},
            "after": {"map": self.after.scores.mean_ap, "recall_at_1": self.after.scores.recall_at_1},
            "gain": self.gain,
            "interval": list(self.interval),
            "better": self.better,
        }

    def __str__(self) -> str:
        before, after = 100 * self.before.scores.mean_ap, 100 * self.after.scores.mean_ap
        low, high = (100 * end for end in self.interval)
        return (
            f"mAP on {self.landmarks} landmarks held out: {before:.2f} before, {after:.2f} after "
            f"({100 * self.gain:+.2f}, 95% interval {low:+.2f} to {high:+.2f})"
        )


def compare_models(before: Model, after: Model, held_out: Collection, others: Collection) -> Comparison:
    """Compares two models by retrieval: each held-out image queries all other held-out images and the ``others``.

    Args:
        before: the first model; each describes at its own size and scales.
        after: the second.
        held_out: images of landmarks that neither was trained on.
        others: further images in the database, such as the training images.

    Raises:
        GlamError: no held-out landmark has two readable images.
    """
    first, second = (evaluate_folder(model, held_out, others) for model in (before, after))
    gains = second.scores.ap - first.scores.ap
    landmarks = np.array([held_out.images[i].landmark for i in _indices(held_out, first.paths)])
    has_positive = ~np.isnan(gains)
    groups = [gains[has_positive & (landmarks == landmark)] for landmark in np.unique(landmarks[has_positive])]
    return Comparison(first, second, float(gains[has_positive].mean()), bootstrap_interval(groups), len(groups))


def _indices(collection: Collection, paths: Sequence[str]) -> list[int]:
    index_of = {image.path: i for i, image in enumerate(collection.images)}
    return [index_of[path] for path in paths]
