"""Principal axes, against the singular value decomposition."""

import pytest
import torch

from glam.principal_axes import principal_axes


@pytest.mark.parametrize("dim", [1, 3, 6])
def test_they_are_the_right_singular_vectors(dim: int) -> None:
    vectors = 1 + torch.randn(200, 6, dtype=torch.float64) * torch.tensor([5.0, 3.0, 1.0, 0.5, 0.2, 0.1])
    variances, axes = principal_axes(vectors, dim)
    _, singular, expected = torch.linalg.svd(vectors, full_matrices=False)
    torch.testing.assert_close(variances, singular[:dim].square() / 200)
    torch.testing.assert_close((axes @ expected[:dim].T).abs(), torch.eye(dim, dtype=torch.float64), atol=1e-8, rtol=0)


def test_single_precision_is_raised_to_double() -> None:
    variances, axes = principal_axes(torch.randn(20, 4), 2)
    assert (variances.dtype, axes.dtype, axes.shape) == (torch.float64, torch.float64, (2, 4))
