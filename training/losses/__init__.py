"""Losses, by name in `LOSSES`: ArcFace, contrastive, triplet, distillation, and those of pytorch-metric-learning."""

from glam.training.losses.base import LOSSES, Loss, LossContext, create_loss

__all__ = ["LOSSES", "Loss", "LossContext", "create_loss"]
