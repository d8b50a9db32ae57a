"""The computations that GLAM spends its time on: for each, the plain form and the forms that are fast.

All forms of a computation compute the same function; the plain one is the oracle of the tests. `dispatch` says which
one runs. Each public module has the PyTorch forms and picks; modules that begin with an underscore hold Triton kernels.
Nothing here holds parameters and nothing here imports the rest of the package but its errors.
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
