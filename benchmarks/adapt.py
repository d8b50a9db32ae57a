"""`glam adapt` on real photos: its time, its gain on other landmarks, and cases that it must leave unchanged.

    python benchmarks/adapt.py --train ../shared/landmarks/train --more ../shared/landmarks_more \\
        --val ../shared/landmarks/val --distractors ../shared/landmarks/distractors --out benchmarks/results/adapt.json

- ``shrinkage``: gain on held-out landmarks of --train and --more, for several values of `adapt.SHRINKAGE`.
- ``seeds``: gain on held-out landmarks of --train. A seed changes the halves, but not the layer.
- ``val``: gain on --val with --distractors, on which no choice depends.
- ``unchanged``: folders on which adapting cannot help, with the reason why no model is written.

Each image is described once. Seconds are CPU seconds of one thread of `time.process_time`.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import glam
from glam.datasets.readers import read_collection
from glam.errors import GlamError
from glam.eval.folder import score_folder
from glam.eval.gain import Gain, map_gain
from glam.eval.report import versions
from glam.output import write_json
from glam.training.adapt import SHRINKAGE, Adaptation, fit_if_better


@dataclass(frozen=True)
class Described:
    """Descriptors of the readable images of a folder.

    Attributes:
        descriptors: (n, dim) float32 descriptors of unit length.
        landmark_ids: (n,) landmark id of each image; -1 if it has none.
        seconds: CPU seconds of describing.
    """

    descriptors: NDArray[np.float32]
    landmark_ids: NDArray[np.int64]
    seconds: float

    def of(self, landmark_ids: NDArray[np.int64]) -> "Described":
        """The images of some landmarks."""
        chosen = np.isin(self.landmark_ids, landmark_ids)
        return Described(self.descriptors[chosen], self.landmark_ids[chosen], self.seconds)


def main() -> int:
    """Measures, prints, and writes --out. Returns the exit status."""
    given = arguments()
    torch.set_num_threads(1)
    model = glam.load(given.model, "cpu")
    train, more, val, distractors = (
        describe(model, folder) for folder in (given.train, given.more, given.val, given.distractors)
    )
    result = {
        "model": given.model,
        "chosen_shrinkage": SHRINKAGE,
        "describe_seconds": round(train.seconds, 1),
        "val": val_row(train, val, distractors),
        "seeds": [seed_row(seed, train) for seed in range(given.seeds)],
        "unchanged": {
            "shuffled landmarks": outcome(shuffled(train)),
            "nine landmarks": outcome(train.of(np.arange(9))),
            f"{given.trained}, on the folder it was trained on": outcome(
                describe(glam.load(given.trained, "cpu"), given.train)
            ),
        },
        "shrinkage": [shrinkage_row(value, train, more) for value in given.shrinkages],
        "versions": versions(),
    }
    write_json(given.out, result)
    return 0


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="folder to adapt to")
    parser.add_argument("--more", type=Path, required=True, help="second folder, for the choice of the shrinkage")
    parser.add_argument("--val", type=Path, required=True, help="folder of other landmarks to score")
    parser.add_argument("--distractors", type=Path, required=True, help="folder of distractors of --val")
    parser.add_argument("--model", default="timm:tf_efficientnet_lite0", help="model to adapt")
    parser.add_argument("--trained", default="glam-lite0", help="model that was trained on --train")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0")
    parser.add_argument("--shrinkages", type=float, nargs="*", default=[0.3, 1.0, 3.0, 10.0], metavar="X")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/adapt.json"))
    return parser.parse_args()


def describe(model: glam.Model, folder: Path) -> Described:
    """Describes a folder with a model without whitening; unreadable images are left out."""
    collection = read_collection(folder)
    start = time.process_time()
    rows = model.describe([collection.file(i) for i in range(len(collection))], errors=[])
    seconds = time.process_time() - start
    read = ~np.isnan(rows[:, 0])
    print(f"{folder}: {read.sum()} images in {seconds:.1f} s", flush=True)
    return Described(rows[read], collection.landmark_ids[read], seconds)


def shuffled(images: Described) -> Described:
    """The same images with their landmarks in random order."""
    return Described(images.descriptors, np.random.default_rng(0).permutation(images.landmark_ids), images.seconds)


def fit(images: Described, *, seed: int = 0, shrinkage: float = SHRINKAGE) -> Adaptation:
    """Adapts a model without whitening."""
    return fit_if_better(images.descriptors, images.descriptors, images.landmark_ids, seed=seed, shrinkage=shrinkage)


def shrinkage_row(shrinkage: float, train: Described, more: Described) -> dict[str, Any]:
    """Gain on held-out landmarks of both folders with one value of the shrinkage."""
    row = {
        "shrinkage": shrinkage,
        "train": points(fit(train, shrinkage=shrinkage).gain),
        "more": points(fit(more, shrinkage=shrinkage).gain),
    }
    print(row, flush=True)
    return row


def seed_row(seed: int, train: Described) -> dict[str, Any]:
    """Seconds, and gain on held-out landmarks, with one seed of the halves."""
    start = time.process_time()
    found = fit(train, seed=seed)
    seconds = time.process_time() - start
    row = {
        "seed": seed,
        "fit_seconds": round(seconds, 1),
        "held_out": points(found.gain),
        "written": found.whitening is not None,
    }
    print(row, flush=True)
    return row


def val_row(train: Described, val: Described, distractors: Described) -> dict[str, Any]:
    """Gain on ``val`` of the layer fitted to ``train``, which no seed changes."""
    whitening = fit(train).whitening
    if whitening is None:
        return {"written": False}
    before = score_folder(val.descriptors, val.landmark_ids, distractors.descriptors)
    after = score_folder(whitening.apply(val.descriptors), val.landmark_ids, whitening.apply(distractors.descriptors))
    recall = [round(100 * scores.recall_at_1, 2) for scores in (before, after)]
    row = {**points(map_gain(before.ap, after.ap, val.landmark_ids)), "recall_at_1": recall}
    print(row, flush=True)
    return row


def outcome(images: Described) -> dict[str, Any]:
    """Whether adapting to images writes a model, and the gain or the refusal."""
    try:
        found = fit(images)
    except GlamError as error:
        result: dict[str, Any] = {"written": False, "refused": str(error)}
    else:
        result = {"written": found.whitening is not None, "held_out": points(found.gain)}
    print(result, flush=True)
    return result


def points(gain: Gain) -> dict[str, Any]:
    """A gain in percentage points."""
    return {
        "landmarks": gain.landmarks,
        "queries": gain.queries,
        "before": round(100 * gain.before, 2),
        "after": round(100 * gain.after, 2),
        "gain": round(100 * gain.mean, 2),
        "interval": [round(100 * end, 2) for end in gain.interval],
    }


if __name__ == "__main__":
    sys.exit(main())
