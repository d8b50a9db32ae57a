"""Error rates of "nothing like it here" on real images.

    OMP_NUM_THREADS=1 python benchmarks/confidence.py ../shared/landmarks [--out benchmarks/results/confidence.json]

The index has the images of val/, and the calibration is fitted to them without their landmarks. Queries without a match
are the images of distractors/; queries with a match are the images of val/, each searched among the others. Nobody has
checked that distractors/ contains no landmark of val/.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import glam
from glam.datasets.readers import read_folder
from glam.eval.report import versions
from glam.index.ann.confidence import Calibration
from glam.index.types import Descriptors
from glam.model import Model

RATES = (0.01, 0.05, 0.1, 0.2, 0.5)


class InMemoryDescriptors:
    """Descriptors in memory, with the interface of the descriptors of an index."""

    def __init__(self, descriptors: Descriptors) -> None:
        self._descriptors = descriptors
        self.dim = descriptors.shape[1]

    def __len__(self) -> int:
        return len(self._descriptors)

    def __getitem__(self, rows: slice | np.ndarray) -> Descriptors:
        return self._descriptors[rows]


def describe(model: Model, folder: Path) -> tuple[Descriptors, np.ndarray]:
    """Computes the descriptors of the images in a folder, (n, dim), and returns the landmark of each, (n,)."""
    collection = read_folder(folder)
    descriptors = model.describe([collection.root / image.path for image in collection.images])
    return descriptors, np.array([image.landmark for image in collection.images])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/confidence.json"))
    parser.add_argument("--model", default="glam-lite0")
    options = parser.parse_args()
    model = glam.load(options.model)
    descriptors, landmarks = describe(model, options.folder / "val")
    distractors, _ = describe(model, options.folder / "distractors")
    calibration = Calibration.fit(InMemoryDescriptors(descriptors))
    if calibration is None:
        parser.error("too few images to fit the confidence; choose a folder with more")
    scores = descriptors @ descriptors.T
    np.fill_diagonal(scores, -1)
    best = scores.max(axis=1)
    right = landmarks[scores.argmax(axis=1)] == landmarks
    distractor_best = (distractors @ descriptors.T).max(axis=1)
    table = []
    for rate in RATES:
        sure = calibration.confidence(best, len(descriptors) - 1) >= 1 - rate
        alarms = calibration.confidence(distractor_best, len(descriptors)) >= 1 - rate
        table.append(
            {
                "false_alarms_asked_for": rate,
                "threshold": round(calibration.threshold(rate, len(descriptors)), 4),
                "false_alarms": round(float(alarms.mean()), 4),
                "detected": round(float(sure.mean()), 4),
                "detected_and_right": round(float((sure & right).mean()), 4),
            }
        )
    result = {
        "command": f"OMP_NUM_THREADS=1 python benchmarks/confidence.py {options.folder}",
        "model": Path(options.model).stem,
        "fingerprint": model.fingerprint,
        "indexed": len(descriptors),
        "queries": {"with_match": len(descriptors), "without_match": len(distractors)},
        "calibration": calibration.to_dict(),
        "results": table,
        "versions": versions(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
