"""Helpers of the tests of stored re-ranking data: changes to the folder, and a check of the index after them."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glam.images import read_image
from glam.index import Index, verify
from glam.index.local_matching.rootsift import LocalFeatures, extract
from glam.index.rerank.base import NEIGHBORS as K
from glam.index.rerank_store.files import KNN_GRAPH, store_files
from glam.index.rerank_store.local_features import usable_files
from glam.index.storage.migrations import open_catalog

COUNT = 50
Draw = Callable[..., Image.Image]


def same(a: LocalFeatures, b: LocalFeatures) -> bool:
    return a.scale == b.scale and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("points", "diameters", "descriptors")
    )


def expected_neighbors(descriptors: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows and scores of the kNN graph, by brute force."""
    cosines = descriptors.astype(np.float64) @ descriptors.T.astype(np.float64)
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1)[:, : min(K, len(descriptors) - 1)]
    return order, np.take_along_axis(cosines, order, axis=1)


def check(index: Path) -> int:
    """Checks that the stored data of every image is complete and correct; returns the number of images."""
    with closing(open_catalog(index)) as catalog:
        stored_ids = np.concatenate([file.image_ids for file in usable_files(catalog)])
        (graph,) = store_files(catalog, KNN_GRAPH)
    assert verify(index).problems == ()
    with Index.open(index) as opened:
        assert len(np.unique(stored_ids)) == len(stored_ids)
        assert np.isin(opened.image_ids, stored_ids).all()
        np.testing.assert_array_equal(graph.image_ids, opened.image_ids)
        for row, image_id in enumerate(opened.image_ids.tolist()):
            found = opened.local_features_in_row(row)
            assert found is not None
            assert same(found, extract(read_image(opened.file(image_id))))
        everything = np.arange(len(opened))
        found = opened.neighbors(everything)
        rows, cosines = expected_neighbors(opened.descriptors(opened.image_ids.tolist()))
        np.testing.assert_array_equal(found.rows[:, : rows.shape[1]], rows)
        np.testing.assert_allclose(found.scores[:, : rows.shape[1]], cosines, atol=1e-6)
        assert (found.rows[:, rows.shape[1] :] == -1).all()
        return len(opened)


def change(folder: Path, draw_image: Draw) -> None:
    """Adds, changes, moves, and removes files."""
    draw_image(64, 48, 100).save(folder / "place 0" / "new.png")
    draw_image(64, 48, 101).save(folder / "place 1" / "01.png")
    (folder / "place 2" / "02.png").rename(folder / "place 2" / "moved.png")
    (folder / "place 3" / "03.png").unlink()
