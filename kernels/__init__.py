"""The computations that GLAM spends its time on: for each, the plain form and the form that is fast.

Both forms of a computation stand in one module and compute the same function; the plain one is the oracle of the tests.
Nothing here holds parameters and nothing here imports the rest of the package.
"""

from glam.kernels.channel_attention import channel_attention, channel_attention_dense
from glam.kernels.dilated_taps import dilated_taps, dilated_taps_dense
from glam.kernels.spatial_attention import spatial_attention, spatial_attention_dense

__all__ = [
    "channel_attention",
    "channel_attention_dense",
    "dilated_taps",
    "dilated_taps_dense",
    "spatial_attention",
    "spatial_attention_dense",
]
