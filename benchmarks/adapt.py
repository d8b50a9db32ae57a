"""`glam adapt` on real photos: its time, its gain on other landmarks, and cases that it must leave unchanged.

    python benchmarks/adapt.py --train ../shared/landmarks/train --more ../shared/landmarks_more \\
        --val ../shared/landmarks/val --distractors ../shared/landmarks/distractors --out benchmarks/results/adapt.json

- ``shrinkage``: gain on held-out landmarks of --train and --more, for several values of `adapt.SHRINKAGE`.
- ``seeds``: gain on held-out landmarks of --train. A seed changes the halves, but not the layer.
- ``val``: gain on --val with --distractors, on which no choice depends.
- ``unchanged``: folders on which adapting cannot help, with the reason why no model is written.

Seconds are CPU seconds of the process.
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
from glam.eval.whitening import Whitening
from glam.output import write_json
from glam.training.adapt import SHRINKAGE, Adaptation, fit_if_better
from glam.training.pca_init import balanced_sample

TRAINED_IMAGES = 10
"""Images per landmark that the trained model is adapted to (arbitrary)."""


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

    def of(self, chosen: NDArray[np.bool_]) -> "Described":
        """The ``chosen`` images, (n,)."""
        return Described(self.descriptors[chosen], self.landmark_ids[chosen], self.seconds)


def main() -> int:
    """Measures, prints, and writes --out. Returns the exit status."""
    given = arguments()
    torch.set_num_threads(1)
    train, more, val, distractors = (
        describe(given.model, folder, given.cache) for folder in (given.train, given.more, given.val, given.distractors)
    )
    fits = [fit(train, seed=seed) for seed in range(given.seeds)]
    result = {
        "model": given.model,
        "chosen_shrinkage": SHRINKAGE,
        "describe_seconds": round(train.seconds, 1),
        "val": val_row(fits[0][0].whitening, val, distractors),
        "seeds": [{"seed": seed, **row} for seed, (_, row) in enumerate(fits)],
        "unchanged": {
            "shuffled landmarks": outcome(shuffled(train)),
            "nine landmarks": outcome(train.of(train.landmark_ids < 9)),
            f"{given.trained}, on {TRAINED_IMAGES} images per landmark of the folder it was trained on": outcome(
                describe(given.trained, given.train, given.cache, TRAINED_IMAGES)
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
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0")
    parser.add_argument("--shrinkages", type=float, nargs="*", default=[1.0, 3.0, 10.0], metavar="X")
    parser.add_argument("--cache", type=Path, help="folder that keeps the descriptors for later calls")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/adapt.json"))
    return parser.parse_args()


def describe(name: str, folder: Path, cache: Path | None, per_landmark: int | None = None) -> Described:
    """Describes a folder with a model without whitening; unreadable images are left out.

    Args:
        name: name of the model.
        folder: folder of images.
        cache: folder of descriptors from earlier calls; None for none.
        per_landmark: most images per landmark; None for all.
    """
    parts = (name.replace(":", "_"), folder.resolve().name, "all" if per_landmark is None else str(per_landmark))
    file = None if cache is None else cache / f"{'-'.join(parts)}.npz"
    if file is not None and file.exists():
        with np.load(file) as saved:
            return Described(saved["descriptors"], saved["landmark_ids"], float(saved["seconds"]))
    model, collection = glam.load(name, "cpu"), read_collection(folder)
    chosen = list(range(len(collection)))
    if per_landmark is not None:
        chosen = balanced_sample(collection, per_landmark * len(collection.landmarks), seed=0)
    start = time.process_time()
    rows = model.describe([collection.file(i) for i in chosen], errors=[])
    seconds = time.process_time() - start
    read = ~np.isnan(rows[:, 0])
    print(f"{folder}: {read.sum()} images in {seconds:.1f} s", flush=True)
    found = Described(rows[read], collection.landmark_ids[chosen][read], seconds)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, descriptors=found.descriptors, landmark_ids=found.landmark_ids, seconds=seconds)
    return found


def shuffled(images: Described) -> Described:
    """The same images with their landmarks in random order."""
    return Described(images.descriptors, np.random.default_rng(0).permutation(images.landmark_ids), images.seconds)


def fit(images: Described, *, seed: int = 0, shrinkage: float = SHRINKAGE) -> tuple[Adaptation, dict[str, Any]]:
    """Adapts a model without whitening; returns the result, and its figures."""
    start = time.process_time()
    found = fit_if_better(images.descriptors, images.descriptors, images.landmark_ids, seed=seed, shrinkage=shrinkage)
    seconds = round(time.process_time() - start, 1)
    row = {"written": found.whitening is not None, "fit_seconds": seconds, **points(found.gain)}
    print(row, flush=True)
    return found, row


def shrinkage_row(shrinkage: float, train: Described, more: Described) -> dict[str, Any]:
    """Gain on held-out landmarks of both folders with one value of the shrinkage."""
    rows = {name: fit(part, shrinkage=shrinkage)[1] for name, part in (("train", train), ("more", more))}
    return {"shrinkage": shrinkage, **rows}


def val_row(whitening: Whitening | None, val: Described, distractors: Described) -> dict[str, Any]:
    """Gain on ``val`` of a layer that was fitted to other landmarks."""
    if whitening is None:
        return {"written": False}
    before = score_folder(val.descriptors, val.landmark_ids, distractors.descriptors)
    after = score_folder(whitening.apply(val.descriptors), val.landmark_ids, whitening.apply(distractors.descriptors))
    recall = [round(100 * scores.recall_at_1, 2) for scores in (before, after)]
    row = {**points(map_gain(before.ap, after.ap, val.landmark_ids)), "recall_at_1": recall}
    print(row, flush=True)
    return row


def outcome(images: Described) -> dict[str, Any]:
    """Figures of an adaptation, or why it was refused."""
    try:
        return fit(images)[1]
    except GlamError as error:
        return {"written": False, "refused": str(error)}


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
