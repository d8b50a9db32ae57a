"""The losses of pytorch-metric-learning, by the names of their classes, such as ``CircleLoss``."""

from inspect import Parameter, isclass, signature
from typing import Any

from pytorch_metric_learning import losses
from torch import Tensor

from glam.training.losses.base import LOSSES, Loss, LossContext

SIZES = {"num_classes": "landmarks", "embedding_size": "dim", "descriptors_dim": "dim"}
"""Attribute of `LossContext` that a required argument of the library takes."""

NOT_OF_LANDMARKS = ("BaseMetricLossFunction", "GenericPairLoss", "ManifoldLoss", "SmoothAPLoss", "VICRegLoss")
"""Base classes, and losses that need more than descriptors and landmarks, or as many images of each landmark."""


class LibraryLoss(Loss):
    """A loss of pytorch-metric-learning.

    Args:
        loss: maps (b, dim) descriptors and (b,) landmark ids to a scalar.
        needs_pairs: whether it compares the images of a batch with each other, and not with centers.
    """

    def __init__(self, loss: losses.BaseMetricLossFunction, *, needs_pairs: bool) -> None:
        super().__init__()
        self.loss = loss
        self.needs_pairs = needs_pairs  # type: ignore[misc]  # of this class, it depends on the loss

    def forward(self, descriptors: Tensor, landmark_ids: Tensor, images: Tensor | None = None) -> Tensor:
        """Computes the loss of a batch, see `Loss.forward`."""
        value: Tensor = self.loss(descriptors.float(), landmark_ids)
        return value


def _register(name: str, kind: type[losses.BaseMetricLossFunction]) -> None:
    """Registers one class of the library."""
    parameters = signature(kind).parameters.values()
    sizes = {parameter.name for parameter in parameters if parameter.default is Parameter.empty} & SIZES.keys()
    if issubclass(kind, losses.WeightRegularizerMixin):  # some have them among *args
        sizes = {"num_classes", "embedding_size"}

    @LOSSES.register(name)
    def create(context: LossContext, **options: Any) -> LibraryLoss:
        given = {size: getattr(context, SIZES[size]) for size in sizes}
        return LibraryLoss(kind(**given, **options), needs_pairs=not sizes)


for _name in sorted(dir(losses)):
    _kind = getattr(losses, _name)
    if isclass(_kind) and issubclass(_kind, losses.BaseMetricLossFunction) and _name not in NOT_OF_LANDMARKS:
        _register(_name, _kind)
