"""Kernels: the computations that dominate the running time of GLAM and of search, each in plain and in fast forms.

All forms of a computation return the same result, and the tests compare each to the plain form. `dispatch` selects the
form. The public modules contain the PyTorch forms; modules with a leading underscore contain Triton kernels. The
functions have no parameters of their own, and import nothing else from the package except its errors.
"""

from glam.kernels.channel_attention import (
    channel_attention,
    channel_attention_dense,
    channel_gates,
    power_sums,
)
from glam.kernels.combination import combine_and_pool, combine_and_pool_dense
from glam.kernels.dispatch import use_form
from glam.kernels.rows import rows_and_means
from glam.kernels.spatial_attention import spatial_attention, spatial_attention_dense
from glam.kernels.taps import dilated_taps, dilated_taps_dense, shifted_sum, taps_of
from glam.kernels.top_k import top_k, top_k_dense

__all__ = [
    "channel_attention",
    "channel_attention_dense",
    "channel_gates",
    "combine_and_pool",
    "combine_and_pool_dense",
    "dilated_taps",
    "dilated_taps_dense",
    "power_sums",
    "rows_and_means",
    "shifted_sum",
    "spatial_attention",
    "spatial_attention_dense",
    "taps_of",
    "top_k",
    "top_k_dense",
    "use_form",
]
