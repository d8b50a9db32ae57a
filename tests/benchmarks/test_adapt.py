"""`benchmarks/adapt.py` at a toy size."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_time_gain_and_unchanged_cases_are_measured(landmarks: Path, tmp_path: Path) -> None:
    train = landmarks / "train"
    for i in range(9):  # with the three that are there, twelve
        shutil.copytree(train / f"{i % 3}", train / f"copy {i}")
    out = tmp_path / "out.json"
    command = [
        *(sys.executable, str(ROOT / "benchmarks" / "adapt.py"), "--train", str(train), "--more", str(train)),
        *("--val", str(landmarks / "val"), "--distractors", str(landmarks / "distractors"), "--seeds", "1"),
        *("--trained", "timm:tf_efficientnet_lite0", "--shrinkages", "2", "--out", str(out)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(out.read_text())
    assert result["seeds"][0]["landmarks"] == 12
    assert [row["shrinkage"] for row in result["shrinkage"]] == [2.0]
    assert "refused" in result["unchanged"]["nine landmarks"]
    assert result["unchanged"]["shuffled landmarks"]["landmarks"] > 0
    assert len(result["unchanged"]) == 3
