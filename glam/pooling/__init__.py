"""Poolings, by name in `POOLINGS`: GeM for convolutional networks, and others for vision transformers."""

from glam.pooling.base import POOLINGS, Pooling
from glam.pooling.gem import GeM

__all__ = ["POOLINGS", "GeM", "Pooling"]
