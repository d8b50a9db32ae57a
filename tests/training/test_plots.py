"""Plots of a run: charts, the curves of a resumed run, and the worst queries."""

import csv
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glam.datasets.readers import read_folder
from glam.eval.folder import score_folder
from glam.training.charts import Axis, line_chart
from glam.training.plots import RESULTS_SHOWN, TILE, draw_curves, draw_worst, worst_queries

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("values", [(0.0, 1.0), (71.3, 84.2), (-3.2, 0.4), (5.0,), (0.0,), (1e-7, 2e-7), (0, 123456)])
def test_an_axis_covers_its_values_with_round_ticks(values: tuple[float, ...]) -> None:
    axis = Axis(values, 100, 500)
    pixels = [pixel for pixel, _ in axis.ticks()]
    labels = [float(label.replace("\N{MINUS SIGN}", "-")) for _, label in axis.ticks()]
    assert all(100 - 1e-6 <= axis(value) <= 500 + 1e-6 for value in values)
    assert (pixels[0], pixels[-1]) == pytest.approx((100, 500))
    assert 2 <= len(pixels) <= 9
    np.testing.assert_allclose([axis(label) for label in labels], pixels, atol=1e-6)


def test_epochs_are_counted_in_whole_numbers() -> None:
    assert [label for _, label in Axis([1, 2], 60, 620, most=8, least=1).ticks()] == ["1", "2"]


def test_a_chart_is_well_formed_whatever_it_is_called(tmp_path: Path) -> None:
    line_chart(tmp_path / "a.svg", "<loss> & more", {"a": [(0, 1.0), (1, 0.5)], "b": [(0, 2.0)], "none": []}, "steps")
    root = ET.parse(tmp_path / "a.svg").getroot()
    assert len(root.findall(f"{SVG}polyline")) == 2
    assert "<loss> & more" in [element.text for element in root.findall(f"{SVG}text")]


def write_log(out: Path, version: int, rows: list[dict[str, float]]) -> None:
    path = out / "csv" / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, ["epoch", "step", "loss", "epoch_loss", "val_map", "val_recall_at_1"])
        table.writeheader()
        table.writerows(rows)


def test_the_curves_of_a_resumed_run_go_on(tmp_path: Path) -> None:
    """A step that was logged twice, before and after the kill, has one point: the last one."""
    write_log(tmp_path, 2, [{"epoch": 0, "step": 9, "loss": 5}, {"epoch": 0, "step": 19, "loss": 4}])
    after = [{"epoch": 0, "step": 19, "loss": 3}, {"epoch": 0, "step": 20, "val_map": 0.5, "val_recall_at_1": 0.75}]
    write_log(tmp_path, 10, after)
    draw_curves(tmp_path)
    loss = ET.parse(tmp_path / "plots" / "loss.svg").getroot().findall(f"{SVG}polyline")
    assert [len(str(curve.get("points")).split()) for curve in loss] == [2]
    low, high = (float(point.split(",")[1]) for point in str(loss[0].get("points")).split())
    assert (low, high) == pytest.approx((40, 270)), "from 5 at the top to 3 at the bottom"
    assert len(ET.parse(tmp_path / "plots" / "map.svg").getroot().findall(f"{SVG}polyline")) == 2


def test_the_worst_queries_are_those_with_the_lowest_ap() -> None:
    random = np.random.default_rng(0)
    landmark_ids = np.repeat(np.arange(30), 4)
    landmark_ids[0] = 99  # a landmark with one image is no query
    descriptors = random.normal(size=(30, 16))[landmark_ids % 30] + random.normal(scale=0.9, size=(120, 16))
    descriptors = (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)).astype(np.float32)
    found = worst_queries(descriptors, landmark_ids)
    ap = score_folder(descriptors, landmark_ids).ap
    lowest = sorted(np.nanmin(ap[landmark_ids == landmark_id]) for landmark_id in range(30))
    np.testing.assert_allclose([query.ap for query in found], lowest[: len(found)])
    assert len({landmark_ids[query.index] for query in found}) == len(found) == 12
    for query in found:
        order = [i for i in np.argsort(-(descriptors @ descriptors[query.index]), kind="stable") if i != query.index]
        assert list(query.first) == order[:RESULTS_SHOWN]
        assert list(query.right) == [landmark_ids[i] == landmark_ids[query.index] for i in query.first]
        assert order.index(query.nearest) + 1 == query.rank
        assert all(landmark_ids[i] != landmark_ids[query.index] for i in order[: query.rank - 1])


def test_the_worst_queries_are_drawn_with_what_came_first(
    tmp_path: Path, draw_image: Callable[..., Image.Image]
) -> None:
    """A damaged file leaves a blank image and does not end a run."""
    for landmark in range(3):
        (tmp_path / f"landmark {landmark}").mkdir()
        for i in range(3):
            draw_image(60, 40, landmark).save(tmp_path / f"landmark {landmark}" / f"{i}.png")
    (tmp_path / "landmark 1" / "1.png").write_bytes(b"no image")
    collection = read_folder(tmp_path)
    descriptors = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)
    queries = worst_queries(descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True), collection.landmark_ids)
    assert len(queries) == 3
    draw_worst(collection, queries, tmp_path / "out" / "worst.webp")
    with Image.open(tmp_path / "out" / "worst.webp") as sheet:
        assert sheet.format == "WEBP"
        assert sheet.width > (RESULTS_SHOWN + 2) * TILE
        assert len(sheet.convert("RGB").getcolors(1 << 20) or []) > 50
