"""Brute force on a GPU: the same results as FAISS, even if rows are equal in float16.

Without a GPU the same code runs on the CPU, with the plain form of the top-k kernel.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from glam.datasets.readers import read_folder
from glam.errors import GlamError
from glam.index import Index, build
from glam.index.ann import DescriptorSource, build_gpu_structure, read_structure
from glam.index.ann.exact import Exact
from glam.index.ann.exact_gpu import ExactGpu
from glam.index.limits import IndexLimits
from glam.index.types import Descriptors, Rows

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DIM = 24


class InMemory(DescriptorSource):
    """Descriptors in memory."""

    dim = DIM

    def __init__(self, descriptors: Descriptors) -> None:
        self.descriptors = descriptors

    def __len__(self) -> int:
        return len(self.descriptors)

    def __getitem__(self, rows: slice | Rows) -> Descriptors:
        return self.descriptors[rows]


def unit(rng: np.random.Generator, count: int) -> Descriptors:
    rows = rng.normal(size=(count, DIM))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def crowded(rng: np.random.Generator, count: int) -> Descriptors:
    """Descriptors that differ by less than the resolution of float16, so approximate scores cannot order them."""
    rows = unit(rng, 1) + rng.normal(size=(count, DIM)) * 1e-4
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def slow(descriptors: Descriptors, query: Descriptors, k: int, allowed: NDArray[np.bool_] | None) -> list[float]:
    scores = descriptors.astype(np.float64) @ query
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    return np.sort(scores)[::-1][:k].tolist()


@pytest.mark.parametrize("make", [unit, crowded])
@pytest.mark.parametrize("k", [1, 10, 300, 2_000])
@pytest.mark.parametrize("share", [None, 0.9, 0.2, 0.002])
def test_the_best_rows_are_found_despite_float16_rounding(make: Any, k: int, share: float | None) -> None:
    rng = np.random.default_rng(k)
    descriptors, queries = make(rng, 1_500), np.concatenate([unit(rng, 3), make(rng, 3)])
    allowed = None if share is None else rng.random(1_500) < share
    structure = ExactGpu.build(InMemory(descriptors), DEVICE)
    scores, rows = structure.search(queries, k, allowed)
    for query, some_scores, some_rows in zip(queries, scores, rows, strict=True):
        found = some_rows[some_rows >= 0]
        assert len(found) == len(set(found.tolist())) == min(k, 1_500 if allowed is None else int(allowed.sum()))
        assert allowed is None or allowed[found].all()
        expected = slow(descriptors, query, len(found), allowed)
        np.testing.assert_allclose(some_scores[: len(found)], expected, atol=1e-6)
        np.testing.assert_allclose(descriptors[found].astype(np.float64) @ query, expected, atol=1e-6)
        assert (some_scores[len(found) :] == -np.inf).all()


def test_equal_scores_are_ordered_by_row() -> None:
    descriptors = np.repeat(unit(np.random.default_rng(0), 3), 40, axis=0)
    _, rows = ExactGpu.build(InMemory(descriptors), DEVICE).search(descriptors[40:41], 40)
    assert rows[0].tolist() == list(range(40, 80))


@pytest.mark.parametrize("share", [None, 0.3])
def test_all_rows_above_a_threshold(share: float | None) -> None:
    rng = np.random.default_rng(1)
    descriptors, query = unit(rng, 700), unit(rng, 1)[0]
    allowed = None if share is None else rng.random(700) < share
    found = ExactGpu.build(InMemory(descriptors), DEVICE).range_search(query, 0.2, allowed)
    expected = Exact.build(InMemory(descriptors)).range_search(query, 0.2, allowed)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)


def test_added_descriptors_are_found_and_a_written_structure_is_read_as_exact(tmp_path: Path) -> None:
    descriptors = unit(np.random.default_rng(2), 60)
    structure = ExactGpu.build(InMemory(descriptors[:50]), DEVICE)
    assert structure.search(descriptors[55:56], 1)[0][0, 0] < 0.999
    structure.add(descriptors[50:])
    assert structure.search(descriptors[55:56], 1)[1].tolist() == [[55]]
    assert structure.memory_bytes == 60 * DIM * 6
    structure.write(tmp_path / "structure")
    assert len(read_structure(tmp_path / "structure", InMemory(descriptors))) == 60


def test_a_missing_device_is_reported() -> None:
    descriptors = InMemory(unit(np.random.default_rng(3), 6_000))
    assert build_gpu_structure(descriptors, "cpu", 1) is None
    assert build_gpu_structure(descriptors, "cuda:77", 6_001) is None
    with pytest.raises(GlamError, match=r"Cannot search on the device 'cuda:77': .+\. Search with --device cpu\."):
        build_gpu_structure(descriptors, "cuda:77", 6_000)


def test_an_index_searches_on_the_device_that_it_is_opened_with(tmp_path: Path, content_model: Any) -> None:
    folder, index = tmp_path / "images", tmp_path / "i.glam"
    folder.mkdir()
    for i in range(30):
        (folder / f"{i}.jpg").write_text(f"content {i}")
    build(index, read_folder(folder), content_model)
    few = IndexLimits(gpu_rows=31)
    with Index.open(index, device="cuda:77", limits=few) as opened:  # the CPU searches fewer images
        assert opened.search(content_model.descriptor(b"content 7"), 1)[0][0].path == "7.jpg"
    with pytest.raises(GlamError, match="Cannot search on the device 'cuda:77'"):
        Index.open(index, device="cuda:77", limits=IndexLimits(gpu_rows=30))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_an_index_gives_the_same_hits_on_a_gpu_and_a_cpu(tmp_path: Path, content_model: Any) -> None:
    folder, index = tmp_path / "images", tmp_path / "i.glam"
    folder.mkdir()
    for i in range(30):
        (folder / f"{i}.jpg").write_text(f"content {i}")
    build(index, read_folder(folder), content_model)
    query = content_model.descriptor(b"content 7")
    with Index.open(index) as cpu, Index.open(index, device="cuda", limits=IndexLimits(gpu_rows=1)) as gpu:
        for options in ({}, {"where": "image_id % 3 = 0"}, {"threshold": 0.1}):
            expected, found = cpu.search(query, 10, **options)[0], gpu.search(query, 10, **options)[0]
            assert [hit.path for hit in found] == [hit.path for hit in expected]
            np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in expected], atol=1e-6)
