"""Attention modules, by name in `ATTENTIONS`: GLAM, and those of timm that papers compare it with."""

from glam.attention.base import ATTENTIONS, Attention, NoAttention
from glam.attention.global_local import DEFAULT_PARTS, GLAM, GLAMParts

__all__ = ["ATTENTIONS", "DEFAULT_PARTS", "GLAM", "Attention", "GLAMParts", "NoAttention"]
