"""Fine-tuning of a trained model, which keeps the better of the initial and the final weights.

The held-out landmarks are not trained on and do not select an epoch. The weights of the last epoch are compared with
the initial ones once, and this comparison decides which are written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray

from glam.datasets.collection import Collection
from glam.eval.folder import FolderReport, evaluate_folder
from glam.eval.gain import Gain, map_gain
from glam.model import Model
from glam.model_file import ModelHeader
from glam.network import DescriptorNetwork
from glam.training.arguments import OptionError, as_argument
from glam.training.compute_once import compute_once
from glam.training.module import LandmarkModule
from glam.training.pca_init import balanced_sample


def options_of(header: ModelHeader) -> dict[str, Any]:
    """The options of a run that fine-tunes a model: its architecture, and a start that replaces none of its weights.

    Args:
        header: settings of the model.

    Returns:
        Value by dotted name.
    """
    architecture = header.architecture
    return {
        "model.backbone": architecture.backbone,
        "model.dim": architecture.whitening or architecture.dim or DescriptorNetwork(architecture).dim,
        "model.attention": architecture.attention,
        "model.pooling": architecture.pooling,
        "model.dropout": architecture.dropout,
        "model.stride": architecture.stride,
        "model.pretrained": False,
        "model.start": "random",
        "model.whitening": 0.0,
        "model.drop_path": 0.0,
        "model.input_weight": None,
    }


def check_options(config: Any, options: dict[str, Any], bundled: Mapping[str, Any]) -> None:
    """Makes sure that no option is given that could have no effect.

    Args:
        config: configuration of `glam train`, with the name of the model to fine-tune. Options from a bundled
            configuration are replaced by those of the model.
        options: see `options_of`.
        bundled: value by dotted name in the bundled configurations that the run uses.

    Raises:
        OptionError: an option has another value.
    """
    for name, value in options.items():
        given = config[name]
        if name in bundled and given == bundled[name]:
            config[name] = value
        elif given != value:
            raise OptionError(
                f"--{name} {as_argument(given)} does not apply to --weights {config.weights}, which sets it to "
                f"{as_argument(value)}. Leave it out, or train from a backbone with --weights null."
            )


class StartAtMeans(L.Callback):
    """Sets the center of each landmark to the mean of its descriptors by the initial network."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Sets the centers, unless the run is resumed or learns from teachers."""
        assert isinstance(pl_module, LandmarkModule)
        if pl_module.resumed or pl_module.teachers:
            return
        data, network = pl_module.data, pl_module.network.to_device(pl_module.device)

        def compute() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            indices = balanced_sample(data.train, pl_module.options.start_images, pl_module.options.seed)
            model = Model("start", network.eval(), ModelHeader(network.architecture, size=data.val_size))
            descriptors = model.describe([data.train.file(i) for i in indices], errors=[])
            read = ~np.isnan(descriptors[:, 0])
            return descriptors[read], data.train.landmark_ids[indices][read]

        found = compute_once(trainer, compute)
        pl_module.loss.start_at_means(*(torch.from_numpy(values).to(pl_module.device) for values in found))


@dataclass(frozen=True)
class Comparison:
    """Comparison of two models on the same queries.

    Attributes:
        before: result of the first model.
        after: result of the second model.
        gain: gain of the second model.
    """

    before: FolderReport
    after: FolderReport
    gain: Gain

    @property
    def better(self) -> bool:
        """Whether the second model has the higher mAP."""
        return self.gain.mean > 0

    def to_dict(self) -> dict[str, Any]:
        """The comparison as a dict that can be written as JSON; scores are fractions."""
        return {
            "landmarks": self.gain.landmarks,
            "queries": self.gain.queries,
            "others": self.before.distractors,
            "before": {"map": self.before.scores.mean_ap, "recall_at_1": self.before.scores.recall_at_1},
            "after": {"map": self.after.scores.mean_ap, "recall_at_1": self.after.scores.recall_at_1},
            "gain": self.gain.mean,
            "interval": list(self.gain.interval),
            "better": self.better,
        }


def compare_models(before: Model, after: Model, held_out: Collection, others: Collection) -> Comparison:
    """Compares two models by retrieval: each held-out image queries the other held-out images and ``others``.

    Each model computes descriptors at its own image size and scales.

    Args:
        before: the first model.
        after: the second model.
        held_out: images of landmarks that neither model was trained on.
        others: further database images, such as the training images.

    Raises:
        GlamError: no held-out landmark has two readable images.
    """
    first, second = (evaluate_folder(model, held_out, others) for model in (before, after))
    landmark_ids = held_out.landmark_ids[_indices(held_out, first.paths)]
    return Comparison(first, second, map_gain(first.scores.ap, second.scores.ap, landmark_ids))


def _indices(collection: Collection, paths: Sequence[str]) -> list[int]:
    index_of = {image.path: i for i, image in enumerate(collection.images)}
    return [index_of[path] for path in paths]
