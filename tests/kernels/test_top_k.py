"""Exact top-k by Triton kernels: scores and order against the plain form and float64.

On a GPU the kernels run as compiled; without one Triton's interpreter runs them on the CPU. Whole numbers, which every
form sums exactly, show that ties are broken alike; they make many ties.
"""

import pytest
import torch
from torch import Tensor

from glam.kernels import top_k, top_k_dense, use_form
from glam.kernels.top_k import answer_lost

_top_k = pytest.importorskip("glam.kernels._top_k", reason="Triton is not installed", exc_type=ImportError)
_top_k_few = pytest.importorskip("glam.kernels._top_k_few", reason="Triton is not installed", exc_type=ImportError)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TYPES = [torch.float16, torch.bfloat16, torch.int8]
SMALL = _top_k.Tile(queries=16, rows=16, width=64, warps=4)


def whole_numbers(q: int, n: int, d: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Queries (q, d) and descriptors (n, d) of small whole numbers."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(-3, 4, (m, d), generator=generator).to(DEVICE, dtype) for m in (q, n))  # type: ignore[return-value]


def best_in_double(queries: Tensor, descriptors: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`top_k` by a stable sort of scores in double precision."""
    scores, rows = (queries.double() @ descriptors.double().T).sort(dim=1, descending=True, stable=True)
    return scores[:, :k].float(), rows[:, :k]


def assert_same(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("dtype", "q", "n", "d", "k"),
    [
        (torch.float16, 1, 331, 33, 7),
        (torch.bfloat16, 1, 70, 5, 1),
        (torch.int8, 1, 331, 300, 7),
        (torch.float16, 5, 1283, 40, 3),
        (torch.bfloat16, 5, 1024, 64, 2),
        (torch.int8, 5, 1283, 130, 3),
    ],
)
def test_ties_go_to_the_lower_row(dtype: torch.dtype, q: int, n: int, d: int, k: int) -> None:
    queries, descriptors = whole_numbers(q, n, d, dtype)
    assert _top_k_few.suits(n, k) if q <= _top_k_few.FEW else _top_k.suits(q, n, k)
    with use_form("triton"):
        found = top_k(queries, descriptors, k)
    assert_same(found, best_in_double(queries, descriptors, k))
    assert_same(top_k_dense(queries, descriptors, k), found)


@pytest.mark.parametrize(("q", "n"), [(1, 100), (5, 800)])
def test_scores_of_real_numbers(q: int, n: int) -> None:
    torch.manual_seed(0)
    queries, descriptors = (torch.randn(m, 72, device=DEVICE).half() for m in (q, n))
    with use_form("triton"):
        scores, best = top_k(queries, descriptors, 3)
    wanted, rows = best_in_double(queries, descriptors, 3)
    torch.testing.assert_close(scores, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(best, rows)


def test_many_queries_in_several_groups() -> None:
    queries, descriptors = whole_numbers(18, 150, 40, torch.float16)
    scores, best, lost = _top_k.forward(queries, descriptors, 1, tile=SMALL, sampled=1, room=50, most_bytes=1)
    assert int(lost) == 0
    assert_same((scores, best), best_in_double(queries, descriptors, 1))


def test_rows_in_the_worst_order_are_answered_by_the_plain_form() -> None:
    queries = torch.tensor([[1.0, 0], [0, 1], [-1, 0]], device=DEVICE).half()
    rising = torch.arange(400, device=DEVICE)
    descriptors = torch.stack([rising, rising * 37 % 400], dim=1).half()
    scores, best, lost = _top_k.forward(queries, descriptors, 2, tile=SMALL, sampled=16, room=1)
    assert 0 < int(lost) == int((best[:, 0] < 0).sum()) < 3
    assert_same(answer_lost(queries, descriptors, scores, best), best_in_double(queries, descriptors, 2))


def test_equal_rows_overflow_and_are_answered() -> None:
    descriptors = torch.ones(1030, 8, device=DEVICE, dtype=torch.int8)
    with use_form("triton"):
        for q in (1, 5):
            scores, best = top_k(descriptors[:q], descriptors, 4)
            assert scores.eq(8).all()
            assert best.tolist() == [[0, 1, 2, 3]] * q


def test_rows_that_are_part_of_wider_ones() -> None:
    queries, descriptors = whole_numbers(1, 200, 48, torch.float16)
    with use_form("triton"):
        found = top_k(queries[:, 8:41], descriptors[::2, 8:41], 3)
    assert_same(found, best_in_double(queries[:, 8:41], descriptors[::2, 8:41], 3))


def test_int8_of_full_range_is_rounded_once() -> None:
    queries, descriptors = (torch.randint(-128, 128, (m, 1500), device=DEVICE, dtype=torch.int8) for m in (1, 130))
    descriptors[:60] = -128
    queries[0] = -128
    with use_form("triton"):
        assert_same(top_k(queries, descriptors, 4), best_in_double(queries, descriptors, 4))


def test_plain_form_is_the_same_in_chunks() -> None:
    for dtype in TYPES:
        queries, descriptors = whole_numbers(3, 100, 8, dtype)
        assert_same(top_k_dense(queries, descriptors, 20, chunk_scores=50), best_in_double(queries, descriptors, 20))


@pytest.mark.parametrize("k", [0, 11, 2000])
def test_k_out_of_range(k: int) -> None:
    queries, descriptors = whole_numbers(1, 10, 4, torch.int8)
    with pytest.raises(ValueError, match=f"k is {k}, but with 10 rows it must be from 1 to 10"):
        top_k(queries, descriptors, k)


def test_what_does_not_go_together() -> None:
    queries, descriptors = whole_numbers(1, 10, 4, torch.int8)
    for other in (descriptors[:, :3], descriptors[0], descriptors.half(), descriptors.float()):
        with pytest.raises(ValueError, match="must be"):
            top_k(queries, other, 1)
    with pytest.raises(ValueError, match="must be"):
        top_k(queries.float(), descriptors.float(), 1)
