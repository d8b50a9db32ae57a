"""Evaluation of a model on a benchmark: which regions of which images get descriptors."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.eval.benchmark import Benchmark, evaluate_benchmark
from glam.eval.ground_truth import BenchmarkQuery, GroundTruth

BOX = (3.0, 4.0, 50.0, 60.0)
TRUTH = GroundTruth(("a", "b"), (BenchmarkQuery("q", BOX, (0,), (), ()),))
BENCHMARK = Benchmark("own", TRUTH, (Path("a.jpg"), Path("b.jpg")), (Path("q.jpg"),))


class BoxModel:
    """Stand-in for a `glam.model.Model` that records the boxes it is called with.

    Attributes:
        boxes: boxes of the last call.
    """

    name, fingerprint, dim = "boxes", "b" * 16, 4
    network = SimpleNamespace(parameters=lambda: iter([torch.zeros(1)]))

    def __init__(self) -> None:
        self.boxes: list[Any] = []

    def settings(self) -> SimpleNamespace:
        return SimpleNamespace(size=64, scales=(1.0,))

    def describe(self, images: list[Path], *, boxes: list[Any], **settings: object) -> NDArray[np.float32]:
        self.boxes = boxes
        return np.eye(4, dtype=np.float32)[: len(images)]


@pytest.mark.parametrize(("crop", "box"), [(True, BOX), (False, None)])
def test_queries_are_cropped_to_their_boxes_and_database_images_never(crop: bool, box: object) -> None:
    model: Any = BoxModel()
    report = evaluate_benchmark(model, BENCHMARK, crop=crop)
    assert model.boxes == [box, None, None]
    assert report.crop is crop


def test_a_query_without_a_box_is_refused_where_queries_are_cropped() -> None:
    truth = GroundTruth(("a", "b"), (BenchmarkQuery("q", None, (0,), (), ()),))
    model: Any = BoxModel()
    with pytest.raises(GlamError, match="the query 'q' has no box"):
        evaluate_benchmark(model, Benchmark("own", truth, BENCHMARK.images, BENCHMARK.queries))
