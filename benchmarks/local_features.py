"""Local features: which detector, how many features, and which verification separate same from different landmarks.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/local_features.py ../shared/landmarks/val

Pairs of images: for each image, PARTNERS random images of its landmark (many show another side of it and cannot match),
and the PARTNERS images of other landmarks with the highest scores. The score of a pair is its number of inliers; widths
in parentheses are in pixels. Results are the area under the ROC curve, and the recall of pairs of the same landmark at
false positive rates of 1% and 5%. Intervals are 95%, from bootstrap samples of landmarks. Times are processor time of
one thread, without decoding. AKAZE, KAZE, and BRISK are in OpenCV 4 only and skipped otherwise; `--tables detectors` in
an environment with `opencv-python-headless<5` measures them.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from local_matching import Score, by_chain, by_robust, by_votes, pair_binary, pair_floats
from numpy.typing import NDArray
from PIL import Image

import glam
from glam.datasets.readers import read_folder
from glam.images import read_image
from glam.index.local_matching import LocalFeatures, extract, rootsift, verify

COMMAND = "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/local_features.py"

PARTNERS = 6
RESAMPLES = 200
BYTES_BESIDE = 6  # bytes per stored feature for x, y, and diameter, 16 bits each


@dataclass(frozen=True)
class ImagePairs:
    """Images (gray, upright), and pairs of them.

    Attributes:
        images: images in the order of the folder.
        pairs: indices of the images of each pair, (n, 2).
        same: whether both images show the same landmark, (n,).
        landmarks: landmark id of the first image, (n,).
    """

    images: list[Image.Image]
    pairs: NDArray[np.intp]
    same: NDArray[np.bool_]
    landmarks: NDArray[np.intp]


def read_pairs(folder: Path, model: str) -> ImagePairs:
    """Reads the images and selects the pairs.

    Args:
        folder: folder with one sub-folder per landmark.
        model: name or path of the model that finds similar images of other landmarks.
    """
    collection = read_folder(folder)
    files = [collection.root / image.path for image in collection.images]
    _, landmark_ids = np.unique([image.landmark for image in collection.images], return_inverse=True)
    descriptors = glam.load(model).describe(files)
    similarities = descriptors @ descriptors.T
    generator = np.random.default_rng(0)
    pairs: set[tuple[int, int]] = set()
    for i, landmark_id in enumerate(landmark_ids):
        mates = np.flatnonzero((landmark_ids == landmark_id) & (np.arange(len(landmark_ids)) != i))
        near = np.argsort(np.where(landmark_ids == landmark_id, -2, similarities[i]))[::-1]
        for j in (*generator.choice(mates, PARTNERS, replace=False), *near[:PARTNERS]):
            pairs.add((min(i, int(j)), max(i, int(j))))
    chosen = np.array(sorted(pairs))
    images = [read_image(file).convert("L") for file in files]
    return ImagePairs(
        images, chosen, landmark_ids[chosen[:, 0]] == landmark_ids[chosen[:, 1]], landmark_ids[chosen[:, 0]]
    )


# Features


def opencv_features(
    make: Callable[[], Any], image: Image.Image, *, size: int, most: int, root: bool = False
) -> LocalFeatures:
    """Extracts features with an OpenCV detector, with orientations; binary descriptors have one bit per bit, in bytes.

    Args:
        make: function that creates the detector.
        image: gray image.
        size: longest side in pixels to resize the image to.
        most: maximum number of features.
        root: whether to convert SIFT descriptors to RootSIFT.
    """
    scale = max(image.size) / size
    gray = np.asarray(image)
    if scale != 1:
        shape = round(image.width / scale), round(image.height / scale)
        gray = cv2.resize(gray, shape, interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC)
    detector = make()
    keypoints = sorted(detector.detect(gray), key=lambda k: -k.response)[:most]
    keypoints, found = detector.compute(gray, keypoints)
    if not keypoints:
        empty = np.empty((0, 2), np.float32)
        return LocalFeatures(empty, empty[:, 0], np.empty((0, 8), np.uint8), scale)
    if root:
        found = rootsift.root_bytes(found)
    points = np.array([k.pt for k in keypoints], np.float32) * np.float32(scale)
    diameters = np.array([k.size for k in keypoints], np.float32) * np.float32(scale)
    return LocalFeatures(points, diameters, found, scale)


def detectors() -> Iterator[tuple[str, Callable[..., LocalFeatures], bool]]:
    """Yields name, extraction function, and whether the descriptors are binary."""
    yield "RootSIFT, upright", extract, False
    sift = partial(cv2.SIFT_create, contrastThreshold=rootsift.CONTRAST, enable_precise_upscale=True)
    yield "RootSIFT", partial(opencv_features, sift, root=True), False
    yield "SIFT", partial(opencv_features, sift), False
    yield "ORB", partial(opencv_features, partial(cv2.ORB_create, nfeatures=600, fastThreshold=10)), True
    rest = {"AKAZE": {"threshold": 0.0003}, "KAZE": {"threshold": 0.0003}, "BRISK": {"thresh": 20}}
    for name, options in rest.items():
        make = getattr(cv2, f"{name}_create", None)
        if make is not None:
            yield name, partial(opencv_features, partial(make, **options)), name != "KAZE"


# Figures


def separation(scores: NDArray[np.integer], dataset: ImagePairs) -> dict[str, Any]:
    """Measures how well scores separate pairs of the same landmark from other pairs."""
    generator = np.random.default_rng(0)
    kinds = int(dataset.landmarks.max()) + 1
    draws = [np.bincount(generator.integers(0, kinds, kinds), minlength=kinds) for _ in range(RESAMPLES)]
    weights = [draw[dataset.landmarks] for draw in draws]
    result: dict[str, Any] = {"auc": round(_auc(scores, dataset.same), 4)}
    result["auc_interval"] = _interval([_auc(scores, dataset.same, weight) for weight in weights])
    for rate in (0.01, 0.05):
        least = next(c for c in range(int(scores.max()) + 2) if (scores[~dataset.same] >= c).mean() <= rate)
        found = scores[dataset.same] >= least
        mates = [weight[dataset.same] for weight in weights]
        result[f"recall_at_{rate}"] = round(float(found.mean()), 4)
        result[f"recall_at_{rate}_interval"] = _interval([np.average(found, weights=mate) for mate in mates])
        result[f"least_at_{rate}"] = least
    return result


def _auc(scores: NDArray[np.integer], same: NDArray[np.bool_], weight: NDArray[Any] | None = None) -> float:
    """Probability that a pair of the same landmark scores higher than another pair; ties count half."""
    weight = np.ones(len(scores)) if weight is None else weight
    highest = int(scores.max()) + 1
    mates = np.bincount(scores[same], weights=weight[same], minlength=highest)
    others = np.bincount(scores[~same], weights=weight[~same], minlength=highest)
    below = np.cumsum(others) - others / 2
    return float((mates * below).sum() / (mates.sum() * others.sum()))


def _interval(values: list[float]) -> list[float]:
    return [round(float(value), 4) for value in np.percentile(values, (2.5, 97.5))]


@dataclass(frozen=True)
class ExtractedFeatures:
    """Features of all images.

    Attributes:
        features: features of each image.
        milliseconds: mean processor time per image in milliseconds.
        binary: whether the descriptors are binary.
    """

    features: list[LocalFeatures]
    milliseconds: float
    binary: bool = False

    def cut(self, most: int) -> "ExtractedFeatures":
        """Keeps only the strongest features of each image."""
        return replace(
            self,
            features=[
                LocalFeatures(f.points[:most], f.diameters[:most], f.descriptors[:most], f.scale) for f in self.features
            ],
        )

    def facts(self) -> dict[str, Any]:
        """Returns the mean number of features, bytes, and milliseconds per image."""
        count = float(np.mean([len(f) for f in self.features]))
        length = self.features[0].descriptors.shape[1]
        return {
            "features": round(count),
            "bytes_an_image": round(count * (length + BYTES_BESIDE)),
            "ms_an_image": round(self.milliseconds, 1),
        }


def extract_features(
    dataset: ImagePairs, take: Callable[[Image.Image], LocalFeatures], binary: bool = False
) -> ExtractedFeatures:
    """Extracts the features of all images."""
    began = time.process_time()
    found = [take(image) for image in dataset.images]
    return ExtractedFeatures(found, (time.process_time() - began) / len(found) * 1000, binary)


def paired(dataset: ImagePairs, extracted: ExtractedFeatures, ratio: float) -> tuple[list[verify.Pairs], float]:
    """Matches the features of all pairs of images; returns the matches and the milliseconds per pair."""
    take: Callable[..., verify.Pairs] = pair_binary if extracted.binary else verify.pair
    if extracted.features[0].descriptors.dtype != np.uint8:
        take = partial(pair_floats, mutual=True)
    return _timed(dataset, extracted, lambda a, b: take(a.descriptors, b.descriptors, ratio))


def _timed(
    dataset: ImagePairs, extracted: ExtractedFeatures, work: Callable[[LocalFeatures, LocalFeatures], Any]
) -> tuple[Any, float]:
    began = time.process_time()
    found = [work(extracted.features[i], extracted.features[j]) for i, j in dataset.pairs]
    return found, (time.process_time() - began) / len(found) * 1000


def measure(
    dataset: ImagePairs,
    extracted: ExtractedFeatures,
    pairs: list[verify.Pairs],
    pairing: float,
    score: Score,
    **facts: Any,
) -> dict[str, Any]:
    """Verifies all pairs of images, and returns one row of the table."""
    began = time.process_time()
    scores = np.array(
        [score(extracted.features[i], extracted.features[j], p) for (i, j), p in zip(dataset.pairs, pairs, strict=True)]
    )
    verifying = (time.process_time() - began) / len(pairs) * 1000
    row = {
        **facts,
        **extracted.facts(),
        "ms_pairing": round(pairing, 2),
        "ms_verifying": round(verifying, 2),
        **separation(scores, dataset),
    }
    print(json.dumps({name: value for name, value in row.items() if "interval" not in name}), flush=True)
    return row


Table = list[dict[str, Any]]


def chain_at(size: int) -> Score:
    """Returns the default verification, with its pixels scaled to the size of the images."""
    scale = size / rootsift.SIZE
    return by_chain(verify.REACH * scale, verify.TOLERANCE * scale)


def compare_detectors(dataset: ImagePairs) -> Table:
    """Compares all detectors at the default size, number, and verification."""
    table = []
    for name, take, binary in detectors():
        extracted = extract_features(dataset, partial(take, size=rootsift.SIZE, most=rootsift.MOST), binary)
        pairs, pairing = paired(dataset, extracted, verify.RATIO)
        table.append(measure(dataset, extracted, pairs, pairing, chain_at(rootsift.SIZE), detector=name))
    return table


def compare_sizes(dataset: ImagePairs) -> Table:
    """Compares sizes of images and numbers of features for the default features."""
    table = []
    for size in (240, 320, 480):
        strongest = extract_features(dataset, partial(extract, size=size, most=1000))
        for most in (250, 500, 1000):
            extracted = strongest.cut(most)
            pairs, pairing = paired(dataset, extracted, verify.RATIO)
            table.append(measure(dataset, extracted, pairs, pairing, chain_at(size), size=size, most=most))
    return table


def compare_pairing(dataset: ImagePairs) -> Table:
    """Compares limits of the ratio test, with and without mutual nearest neighbors."""
    table = []
    extracted = extract_features(dataset, extract)
    for mutual in (True, False):
        for ratio in (0.8, 0.85, 0.9, 0.95):
            take = partial(pair_floats, ratio=ratio, mutual=mutual)
            pairs, pairing = _timed(dataset, extracted, lambda a, b, take=take: take(a.descriptors, b.descriptors))
            chain = chain_at(rootsift.SIZE)
            table.append(measure(dataset, extracted, pairs, pairing, chain, mutual=mutual, ratio=ratio))
    return table


def compare_verification(dataset: ImagePairs) -> Table:
    """Compares ways to count inliers: robust estimation, voting, and both."""
    kinds = ("homography", "affine", "fundamental")
    ways: dict[str, Score] = {"number of pairs": lambda a, b, pairs: len(pairs)}
    ways |= {f"MAGSAC++ {kind} (8)": by_robust(kind, 8.0) for kind in kinds}
    ways |= {f"vote ({reach:g})": by_votes(reach) for reach in (10.0, 25.0, 35.0)}
    ways |= {f"vote (25), MAGSAC++ {kind} (8)": by_robust(kind, 8.0, reach=25.0) for kind in kinds}
    for reach, pixels in ((15.0, 8.0), (25.0, 4.0), (25.0, 8.0), (25.0, 12.0), (35.0, 8.0)):
        ways[f"vote ({reach:g}), MAGSAC++ homography, what it maps ({pixels:g})"] = by_chain(reach, pixels)
    extracted = extract_features(dataset, extract)
    pairs, pairing = paired(dataset, extracted, verify.RATIO)
    return [measure(dataset, extracted, pairs, pairing, score, way=name) for name, score in ways.items()]


TABLES = {
    "detectors": compare_detectors,
    "sizes": compare_sizes,
    "pairing": compare_pairing,
    "verification": compare_verification,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/local_features.json"))
    parser.add_argument("--model", default="glam-lite0", help="model that finds similar images of other landmarks")
    parser.add_argument(
        "--tables", nargs="+", choices=TABLES, default=list(TABLES), help="tables to measure; the others are kept"
    )
    options = parser.parse_args()
    cv2.setNumThreads(1)
    dataset = read_pairs(options.folder, options.model)
    result = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    result |= {
        "command": f"{COMMAND} {options.folder}",
        "pairs": {"same": int(dataset.same.sum()), "other": int((~dataset.same).sum())},
        "chosen": {
            "size": rootsift.SIZE,
            "most": rootsift.MOST,
            "ratio": verify.RATIO,
            "reach": verify.REACH,
            "tolerance": verify.TOLERANCE,
        },
    }
    for name in options.tables:
        result[name] = {"opencv": cv2.__version__, "rows": TABLES[name](dataset)}
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
