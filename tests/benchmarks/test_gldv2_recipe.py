"""`benchmarks/gldv2_recipe.py` at a toy size: drawn, trained, killed, resumed, described, indexed, and evaluated."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from glam.datasets.readers import read_collection

ROOT = Path(__file__).resolve().parents[2]


def test_the_recipe_goes_from_landmarks_to_a_searched_index(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "gldv2_recipe.py"), "--small", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(out.read_text())
    assert (result["landmarks"], result["images"]) == (8, 48)
    assert result["training"]["resumed_at_step"] > 0
    assert result["index"]["images"] == 24
    assert all(0 < result[model]["generated"]["map"] <= 100 for model in ("untrained", "trained"))


def test_landmarks_are_stored_as_in_gldv2(tmp_path: Path, landmarks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gldv2_recipe

    drawn = landmarks / "train"
    for file in drawn.glob("*/*.webp"):
        file.rename(file.with_suffix(".jpg"))
    assert gldv2_recipe.store_as_gldv2(drawn, tmp_path / "gldv2", seed=0) == 12
    with (tmp_path / "gldv2" / "train_clean.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [len(row["images"].split()) for row in rows] == [4, 4, 4]
    first = rows[0]["images"].split()[0]
    assert (tmp_path / "gldv2" / "train" / first[0] / first[1] / first[2] / f"{first}.jpg").is_file()
    assert read_collection(tmp_path / "gldv2").landmarks == ("0", "1", "2")
