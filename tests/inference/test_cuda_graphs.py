"""Replaying work on a GPU gives what doing it gives."""

import pytest
import torch
from torch import Tensor

from glam.inference.cuda_graphs import CudaGraphCache

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")


def test_on_the_cpu_the_function_is_called() -> None:
    calls: list[Tensor] = []
    cached = CudaGraphCache(lambda x: calls.append(x) or 2 * x)  # type: ignore[func-returns-value]
    for _ in range(3):
        assert cached(torch.ones(2)).tolist() == [2, 2]
    assert len(calls) == 3


@on_gpu
def test_each_shape_is_recorded_when_it_comes_again_and_no_more_than_allowed() -> None:
    calls: list[torch.Size] = []

    def double(x: Tensor) -> Tensor:
        calls.append(x.shape)
        return 2 * x @ x.T

    cached = CudaGraphCache(double, max_graphs=2)
    for _ in range(4):
        for n in (3, 4, 5):
            x = torch.randn(n, 7, device="cuda")
            torch.testing.assert_close(cached(x), 2 * x @ x.T)
    assert [calls.count(torch.Size([n, 7])) for n in (3, 4, 5)] == [2, 2, 4]


@on_gpu
def test_what_cannot_be_recorded_is_done_each_time() -> None:
    cached = CudaGraphCache(lambda x: x * x.sum().item())
    for _ in range(3):
        assert cached(torch.ones(2, device="cuda")).tolist() == [2, 2]
