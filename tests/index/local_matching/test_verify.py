"""Local features and geometric verification: known mappings are recovered, and unrelated images do not match."""

import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from glam.errors import ImageError
from glam.images import read_image
from glam.index.local_matching import LocalFeatures, Matches, extract, match_features
from glam.index.local_matching.rootsift import MOST, UNIT, root_bytes
from glam.index.local_matching.verify import FEWEST, RATIO, REACH, SCALES, TOLERANCE, agreeing, homography, pair, vote

Matrix = NDArray[np.float64]

TILTED = np.array([[0.95, -0.12, 30.0], [0.08, 0.9, 12.0], [2e-4, -3e-4, 1.0]])
SHRUNK = np.array([[0.6, 0.0, 40.0], [0.0, 0.6, 25.0], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def busy() -> Image.Image:
    """An image of 360 x 270 pixels with many small shapes."""
    generator = np.random.default_rng(3)
    canvas = np.full((270, 360, 3), 128, np.uint8)
    for _ in range(400):
        x, y, w, h = generator.integers((0, 0, 4, 4), (360, 270, 30, 30))
        color = [int(value) for value in generator.integers(0, 256, 3)]
        cv2.rectangle(canvas, (int(x), int(y)), (int(x + w), int(y + h)), color, -1)
    return Image.fromarray(cv2.GaussianBlur(canvas, (0, 0), 1.0))


def warped(image: Image.Image, mapping: Matrix, size: tuple[int, int] | None = None) -> Image.Image:
    return Image.fromarray(cv2.warpPerspective(np.asarray(image), mapping, size or image.size, flags=cv2.INTER_AREA))


def mapped(mapping: Matrix, points: NDArray[np.floating]) -> Matrix:
    found = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ mapping.T
    return np.asarray(found[:, :2] / found[:, 2:])


def corners(image: Image.Image) -> Matrix:
    """Corners of the central region of an image, which overlaps the warped image."""
    w, h = image.size
    return np.array([[0.2 * w, 0.2 * h], [0.8 * w, 0.2 * h], [0.8 * w, 0.8 * h], [0.2 * w, 0.8 * h]])


def features(points: object, diameters: object = None, descriptors: object = None) -> LocalFeatures:
    centers = np.array(points, np.float32).reshape(-1, 2)
    sizes = np.full(len(centers), 8.0) if diameters is None else np.array(diameters)
    rows = np.eye(128, dtype=np.uint8)[: len(centers)] * 255 if descriptors is None else np.array(descriptors)
    return LocalFeatures(centers, sizes.astype(np.float32), rows.astype(np.uint8), 1.0)


def found(matches: Matches) -> Matrix:
    assert matches.model is not None
    return matches.model


# A known mapping


@pytest.mark.parametrize("mapping", [np.eye(3), TILTED, SHRUNK])
def test_a_known_homography_is_recovered_from_a_warped_photo(photographs: Path, mapping: Matrix) -> None:
    photograph = read_image(photographs / "val" / "cologne_cathedral" / "heritage13_0018.webp")
    matches = match_features(extract(photograph), extract(warped(photograph, mapping)))
    off = np.linalg.norm(mapped(found(matches), corners(photograph)) - mapped(mapping, corners(photograph)), axis=1)
    assert off.max() < 2
    assert matches.count > 60


@pytest.mark.parametrize("mapping", [TILTED, SHRUNK])
def test_inliers_are_the_pairs_that_fit_the_true_mapping(busy: Image.Image, mapping: Matrix) -> None:
    matches = match_features(extract(busy), extract(warped(busy, mapping)))
    off = np.linalg.norm(mapped(mapping, matches.points_a) - matches.points_b, axis=1)
    assert np.median(off[matches.inliers]) < 1
    assert off[matches.inliers].max() < 16
    assert matches.inliers[off < 2].mean() > 0.8


def test_points_are_pixels_of_the_upright_images_whatever_their_sizes(busy: Image.Image) -> None:
    large = busy.resize((1080, 810), Image.Resampling.BICUBIC)
    matches = match_features(extract(busy), extract(large))
    model = found(matches)
    assert model[0, 0] == pytest.approx(3, abs=0.02)
    assert model[1, 1] == pytest.approx(3, abs=0.02)
    # The center of pixel i of the small image is at 3 i + 1 in the large one.
    assert model[:2, 2] == pytest.approx([1, 1], abs=1.5)
    assert np.median(np.abs(matches.points_b - 3 * matches.points_a - 1)[matches.inliers]) < 1


def test_a_box_limits_the_features_and_keeps_the_coordinates(busy: Image.Image) -> None:
    part = extract(busy, box=(100.5, 50, 300, 250))
    assert (part.points >= (99, 49)).all()
    assert (part.points <= (300, 250)).all()
    matches = match_features(part, extract(busy))
    assert matches.count > 50
    assert mapped(found(matches), corners(busy)) == pytest.approx(corners(busy), abs=1.5)


def test_the_homographies_of_both_directions_are_inverse(busy: Image.Image) -> None:
    a, b = extract(busy), extract(warped(busy, TILTED))
    there, back = found(match_features(a, b)), found(match_features(b, a))
    assert mapped(back, mapped(there, corners(busy))) == pytest.approx(corners(busy), abs=1)


def test_different_landmarks_have_hardly_any_inliers(photographs: Path) -> None:
    """One in a hundred pairs of similar landmarks reaches six inliers (docs/explain.md)."""
    folders = ["cologne_cathedral", "india_gate", "stonehenge", "petra", "golden_gate_bridge"]
    landmarks = [extract(read_image(min((photographs / "val" / folder).iterdir()))) for folder in folders]
    assert all(match_features(a, b).count < 6 for a, b in itertools.permutations(landmarks, 2))


def test_matching_is_deterministic_in_any_thread(busy: Image.Image) -> None:
    other = warped(busy, TILTED)

    def run(_: int) -> Matches:
        return match_features(extract(busy), extract(other))

    first = run(0)
    with ThreadPoolExecutor(2) as threads:
        for matches in threads.map(run, range(4)):
            for name in ("points_a", "points_b", "inliers", "model"):
                np.testing.assert_array_equal(getattr(matches, name), getattr(first, name))


# Images with few features or none


@pytest.mark.parametrize("size", [(320, 240), (1, 1), (2, 900), (900, 1), (31, 33)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_blank_image_has_no_features_and_matches_nothing(busy: Image.Image, size: tuple[int, int], mode: str) -> None:
    blank = extract(Image.new(mode, size, 255 if mode == "L" else "white"))
    assert len(blank) == 0
    for a, b in ((blank, extract(busy)), (extract(busy), blank), (blank, blank)):
        matches = match_features(a, b)
        assert (len(matches), matches.count, matches.model) == (0, 0, None)
        assert matches.points_a.shape == matches.points_b.shape == (0, 2)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_than_four_features_match_nothing(count: int) -> None:
    few = features([(10, 10), (90, 20), (40, 70)][:count])
    matches = match_features(few, few)
    assert (matches.count, matches.model) == (0, None)


@pytest.mark.parametrize(
    "points",
    [
        [(20, 20)] * 8,
        [(10 * i, 20) for i in range(8)],
        [(7 * i, 5 * i) for i in range(8)],
        [(10, 10)] * 7 + [(50, 50)],
    ],
)
def test_coinciding_or_collinear_points_give_a_result(points: list[tuple[float, float]]) -> None:
    matches = match_features(features(points), features(points))
    assert matches.count in (0, 7, 8)
    assert matches.model is None or np.isfinite(matches.model).all()


def test_noise_matches_nothing() -> None:
    generator = np.random.default_rng(0)
    a, b = (extract(Image.fromarray(generator.integers(0, 256, (240, 320), dtype=np.uint8))) for _ in range(2))
    assert match_features(a, b).count < 6


def test_a_box_outside_the_image_is_rejected(busy: Image.Image) -> None:
    with pytest.raises(ImageError, match="outside the image"):
        extract(busy, box=(400, 10, 500, 90))


# Features


def test_features_are_limited_sorted_and_distinct(busy: Image.Image) -> None:
    assert len(extract(busy)) <= MOST
    ten, more = extract(busy, most=10), extract(busy, most=200)
    np.testing.assert_array_equal(ten.points, more.points[:10])
    placed = np.column_stack([more.points, more.diameters])
    assert len(np.unique(placed, axis=0)) == len(placed)


def test_descriptors_are_rootsift_in_bytes() -> None:
    sift = np.random.default_rng(0).integers(0, 120, (5, 128)).astype(np.float32)
    sift[4] = 0
    rows = root_bytes(sift).astype(np.float64)
    for row, histogram in zip(rows[:4], sift.astype(np.float64), strict=False):
        np.testing.assert_allclose(row, UNIT * np.sqrt(histogram / histogram.sum()), atol=0.501)
        assert np.linalg.norm(row) == pytest.approx(UNIT, rel=0.01)
    assert not rows[4].any()


# Each step compared with a slow implementation


def slow_pairs(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> set[tuple[int, int]]:
    def distance(i: int, j: int) -> float:
        return float(np.linalg.norm(a[i].astype(np.float64) - b[j].astype(np.float64)))

    pairs = set()
    for i in range(len(a)):
        order = sorted(range(len(b)), key=lambda j: distance(i, j))
        back = min(range(len(a)), key=lambda k: distance(k, order[0]))
        if back == i and distance(i, order[0]) <= RATIO * distance(i, order[1]):
            pairs.add((i, order[0]))
    return pairs


def test_pairs_are_mutual_neighbors_that_pass_the_ratio_test() -> None:
    generator = np.random.default_rng(1)
    a = generator.integers(0, 256, (30, 128), dtype=np.uint8)
    noise = generator.integers(-60, 60, (25, 128))
    b = np.clip(a[generator.permutation(30)[:25]].astype(int) + noise, 0, 255).astype(np.uint8)
    b[:3] = generator.integers(0, 256, (3, 128))
    pairs = pair(a, b)
    assert set(map(tuple, pairs.tolist())) == slow_pairs(a, b)
    assert len(pairs) >= 15


def slow_vote(a: Matrix, b: Matrix, ratios: Matrix) -> int:
    most = 0
    for i in range(len(a)):
        count = 0
        for j in range(len(a)):
            proposed = b[i] + ratios[i] * (a[j] - a[i])
            near = np.hypot(*(proposed - b[j])) < REACH * max(ratios[i], 1)
            count += bool(near and 1 / SCALES < ratios[j] / ratios[i] < SCALES)
        most = max(most, count)
    return most


def test_the_vote_is_the_largest_set_that_one_pair_explains() -> None:
    generator = np.random.default_rng(2)
    for scale in (0.4, 1.0, 2.5):
        a = generator.uniform(0, 300, (40, 2))
        b = a * scale + generator.normal(0, 6, (40, 2))
        b[15:] = generator.uniform(0, 300, (25, 2))
        ratios = scale * np.exp(generator.normal(0, 0.3, 40))
        chosen = vote(a, b, ratios)
        assert chosen.sum() == slow_vote(a, b, ratios)
        assert chosen[:15].sum() >= 10


def test_pairs_behind_the_horizon_do_not_agree() -> None:
    a = np.random.default_rng(4).uniform(0, 300, (30, 2))
    b = mapped(TILTED, a)
    b[:10] += TOLERANCE + 1
    np.testing.assert_array_equal(agreeing(a, b, TILTED), np.arange(30) >= 10)
    tipped = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 150, 0, 1]])  # the horizon is at x = 150
    np.testing.assert_array_equal(agreeing(a, mapped(tipped, a), tipped), a[:, 0] < 150)


def test_many_points_matched_to_one_spot_are_not_inliers() -> None:
    """A homography can map everything to one spot; the vote rejects that."""
    points = np.random.default_rng(4).uniform(0, 300, (30, 2))
    assert match_features(features(points), features(np.full((30, 2), 150.0))).count < 6


def test_a_homography_needs_four_pairs_that_are_not_on_a_line(busy: Image.Image) -> None:
    square = corners(busy)
    everything = np.ones(4, bool)
    assert homography(square[:3], square[:3], everything[:3]) is None
    recovered = homography(square, mapped(TILTED, square), everything)
    assert recovered is not None
    assert mapped(recovered, square) == pytest.approx(mapped(TILTED, square), abs=0.01)
    assert FEWEST == 4


def test_the_package_imports_no_torch() -> None:
    code = "import sys, glam.index.rerank; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
