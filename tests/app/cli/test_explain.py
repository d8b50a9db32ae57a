"""Attention maps against GLAM's equations written out, the pictures drawn of them, and the command that draws."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import glam
from glam import GLAM, GlamError, Model
from glam.app.cli.explain import explain
from glam.app.cli.explain_picture import (
    GAP,
    INNER,
    MARGIN,
    TILE,
    WIDTH,
    Subject,
    explanation,
    joined,
    overlay,
    row,
    summary,
)
from glam.attention_maps import MAX_POSITIONS, AttentionMaps, attention_maps, compute_maps
from glam.index.local_matching import Matches
from glam.model_file import ModelHeader
from glam.network import Architecture, DescriptorNetwork

COMMAND = str(Path(sys.executable).with_name("glam"))
PARTS = ("local_channel", "local_spatial", "global_channel", "global_spatial")


def model_of(glam_options: dict[str, Any] | None, size: int = 128) -> Model:
    torch.manual_seed(0)
    attention = None if glam_options is None else {"name": "glam", **glam_options}
    architecture = Architecture("resnet10t", dim=8, attention=attention)
    return Model("small", DescriptorNetwork(architecture).eval(), ModelHeader(architecture, size))


@pytest.fixture(scope="module")
def model() -> Model:
    return model_of({"reduction": 6})


@pytest.fixture
def image(draw_image: Any) -> Image.Image:
    drawn: Image.Image = draw_image(192, 128)
    return drawn


# The maps


def along_channels(conv: torch.nn.Conv1d, pooled: Tensor) -> Tensor:
    """A convolution with one channel in and out along a vector, written out: (c,) to (c,)."""
    kernel = conv.weight.flatten()
    padded = F.pad(pooled, (1, 1))
    return torch.stack([(padded[i : i + 3] * kernel).sum() for i in range(len(pooled))])


def plain_maps(module: Any, image: Tensor) -> dict[str, Tensor]:
    """The maps of one feature map, (c, h, w), number by number."""
    c, h, w = image.shape
    pooled, flat = image.mean(dim=(1, 2)), image.reshape(c, h * w)
    a_lc = along_channels(module.local_channel.conv, pooled).sigmoid()
    query = along_channels(module.global_channel.query, pooled).sigmoid()
    key = along_channels(module.global_channel.key, pooled).sigmoid()
    g_c = torch.stack([torch.softmax(key * query[j], dim=0) @ flat for j in range(c)]).reshape(c, h, w)
    q, k = (
        conv(image[None])[0].reshape(-1, h * w) for conv in (module.global_spatial.query, module.global_spatial.key)
    )
    return {
        "local_channel": ((a_lc[:, None, None] * image) ** 2).mean(dim=0).sqrt(),
        "local_spatial": module.local_spatial.as_drawn(image[None])[0, 0],
        "global_channel": (g_c**2).mean(dim=0).sqrt(),
        "global_spatial": torch.stack([torch.softmax(k.T @ q[:, i], dim=0) for i in range(h * w)]),
    }


@pytest.mark.parametrize("shape", [(8, 1, 1), (16, 7, 3), (12, 4, 6)])
def test_maps_are_the_papers_equations(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(1)
    module = GLAM(shape[0], reduction=5)
    features = torch.randn(1, *shape)
    maps = compute_maps(module, features, (0, 0, 10, 10))
    assert (maps.height, maps.width) == shape[1:]
    for name, expected in plain_maps(module, features[0]).items():
        np.testing.assert_allclose(getattr(maps, name), expected.detach(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_spatial_map_is_the_one_that_mixes_the_values() -> None:
    """Rows are the places that look: applied to the values they give what the module gives."""
    torch.manual_seed(2)
    module = GLAM(12, reduction=5)
    spatial = module.global_spatial
    assert spatial is not None
    features = torch.randn(1, 12, 3, 5)
    maps = compute_maps(module, features, (0, 0, 5, 3))
    assert maps.global_spatial is not None
    values = spatial.value(features).flatten(2)[0].T  # (h w, r)
    mixed = torch.from_numpy(maps.global_spatial) @ values
    expected = spatial.output(mixed.T.reshape(1, -1, 3, 5))
    torch.testing.assert_close(spatial(features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("off", PARTS)
def test_an_attention_that_is_switched_off_has_no_map(off: str) -> None:
    maps = compute_maps(GLAM(8, reduction=4, **{off: False}), torch.randn(1, 8, 3, 4), (0, 0, 4, 3))
    assert [name for name in PARTS if getattr(maps, name) is None] == [off]
    assert (maps.spatial_attention_from(1, 1) is None) == (off == "global_spatial")


def test_a_model_shows_where_it_looks_in_an_image_as_it_describes_it(model: Model, image: Image.Image) -> None:
    maps = attention_maps(model, image)
    assert (maps.height, maps.width) == (3, 4)  # at 128 x 80 pixels, rounded to 16: every 32nd, and what is left
    assert maps.box == (0, 0, 192, 128)
    features: list[Tensor] = []
    hook = model.fast.attention.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    model.describe([image])
    hook.remove()
    with torch.inference_mode():
        for name, expected in plain_maps(model.fast.attention, features[0][0].float()).items():
            np.testing.assert_allclose(getattr(maps, name), expected, rtol=1e-2, atol=1e-3, err_msg=name)


def test_a_box_is_shown_to_the_model_alone(model: Model, image: Image.Image) -> None:
    box = (40, 20, 160, 100)
    maps, part = attention_maps(model, image, box), attention_maps(model, image.crop(box))
    assert maps.box == box
    assert part.box == (0, 0, 120, 80)
    for name in PARTS:
        np.testing.assert_array_equal(getattr(maps, name), getattr(part, name))


def test_the_place_that_looks_is_found_by_its_pixel() -> None:
    looks = np.zeros((6, 6), np.float32)
    looks[np.arange(6), [5, 4, 3, 2, 1, 0]] = 1  # position i looks at position 5 - i
    maps = AttentionMaps(2, 3, (100, 50, 160, 90), None, None, None, looks)
    for (x, y), expected in {(101, 51): (1, 2), (159, 89): (0, 0), (121, 51): (1, 1), (0, 0): (1, 2)}.items():
        seen = maps.spatial_attention_from(x, y)
        assert seen is not None
        assert np.unravel_index(seen.argmax(), seen.shape) == expected


def test_a_large_image_is_made_smaller_until_its_map_is_bounded(model: Model, draw_image: Any) -> None:
    maps = attention_maps(model, draw_image(3000, 1500), size=3000)
    assert MAX_POSITIONS / 2 < maps.height * maps.width <= MAX_POSITIONS


def test_a_model_without_glam_is_refused_in_a_sentence(image: Image.Image) -> None:
    with pytest.raises(GlamError, match="small has no attention maps to show"):
        attention_maps(model_of(None), image)


# The drawing


def flat_maps(height: int = 3, width: int = 4) -> AttentionMaps:
    flat = np.full((height, width), 2.0, np.float32)
    looks = np.full((height * width, height * width), 1 / (height * width), np.float32)
    return AttentionMaps(height, width, (0, 0, 40, 30), flat, flat, flat, looks)


def hot_spot(drawn: NDArray[np.uint8], plain: NDArray[np.uint8]) -> tuple[float, float]:
    """Middle of what was changed, as shares of width and height."""
    changed = np.abs(drawn.astype(int) - plain.astype(int)).sum(axis=2)
    y, x = np.indices(changed.shape)
    return float((x * changed).sum() / changed.sum() / x.max()), float((y * changed).sum() / changed.sum() / y.max())


def test_heat_lies_where_the_map_has_its_most() -> None:
    image = np.full((90, 120, 3), 128, np.uint8)
    values = np.zeros((3, 4), np.float32)
    flat = overlay(image, values)
    values[2, 3] = 0.001  # however small: from its least to its most
    x, y = hot_spot(overlay(image, values), flat)
    assert x == pytest.approx(3.5 / 4, abs=0.07)
    assert y == pytest.approx(2.5 / 3, abs=0.07)


def test_a_flat_map_gives_no_heat() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    drawn = overlay(image, np.full((3, 4), 7.0, np.float32))
    assert np.ptp(drawn, axis=2).max() == 0


def matches_between(points_a: object, points_b: object, inliers: object) -> Matches:
    a, b = np.array(points_a, np.float32).reshape(-1, 2), np.array(points_b, np.float32).reshape(-1, 2)
    return Matches(a, b, np.array(inliers, bool), None)


def test_lines_lead_from_place_to_place_and_only_inliers_have_one() -> None:
    a, b = Image.new("RGB", (200, 100)), Image.new("RGB", (50, 50))
    matches = matches_between([(20, 80), (150, 10)], [(40, 10), (5, 45)], [True, False])
    drawn = joined(a, b, matches)
    scale_a, scale_b, start = drawn.shape[0] / 100, drawn.shape[0] / 50, round(drawn.shape[0] * 2) + GAP

    def is_lit(x: float, y: float) -> bool:
        return bool(drawn[round(y), round(x)].max() > 150)

    begin, end = (20 * scale_a, 80 * scale_a), (start + 40 * scale_b, 10 * scale_b)
    assert is_lit(*begin)
    assert is_lit(*end)
    for share in (0.25, 0.5, 0.6):
        assert is_lit(*(p + share * (q - p) for p, q in zip(begin, end, strict=True)))
    assert not is_lit(150 * scale_a, 10 * scale_a)
    assert not is_lit(start + 5 * scale_b, 45 * scale_b)


@pytest.mark.parametrize("sizes", [((40, 30), (30, 40)), ((1, 1), (3000, 2)), ((2, 900), (900, 2))])
def test_images_of_any_shape_fit_on_the_page(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    images = [Image.new("RGB", size) for size in sizes]
    subjects = [Subject(str(image.size), image, flat_maps(), (0, 0)) for image in images]
    none = matches_between([], [], [])
    assert joined(*images, none).shape[1] <= INNER
    picture = explanation(subjects, none)
    assert picture.width == WIDTH
    assert picture.height < 4000


def test_one_image_gives_a_row_and_two_a_row_each_below_the_pair() -> None:
    subject = Subject("a.jpg", Image.new("RGB", (40, 30)), flat_maps(), (20, 15))
    one = explanation([subject])
    two = explanation([subject, subject], matches_between([(1, 1)], [(2, 2)], [True]))
    assert two.height > 2 * one.height - MARGIN
    assert one.height > row(subject).shape[0] + 2 * MARGIN


def test_an_attention_that_is_not_there_is_said_not_to_be() -> None:
    subject = Subject("a.jpg", Image.new("RGB", (40, 30), "red"), flat_maps(), (20, 15))
    missing = Subject("a.jpg", subject.image, AttentionMaps(3, 4, (0, 0, 40, 30), None, None, None, None), (20, 15))
    tile = (slice(0, 100), slice(TILE + GAP, 2 * TILE + GAP))
    np.testing.assert_array_equal(row(missing)[tile], row(subject)[tile])  # flat or missing: the image in gray


def test_the_summary_counts() -> None:
    three = [(0, 0), (1, 1), (2, 2)]
    assert summary(matches_between(three, three, [True, False, True])) == "2 matching points (of 3 candidates)"
    assert summary(matches_between([], [], [])) == "No matching points (of 0 candidates)"


# The command


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([COMMAND, "explain", *map(str, arguments)], capture_output=True, text=True, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def files(tmp_path: Path, image: Image.Image) -> list[Path]:
    paths = [tmp_path / "one.jpg", tmp_path / "two.png"]
    for path in paths:
        image.save(path)
    return paths


def test_the_command_draws_one_image(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "why.png"
    assert run(files[0], "--out", out, "--point", 10, 20).stdout.strip() == str(out)
    assert Image.open(out).size[0] == WIDTH
    assert Image.open(out).format == "PNG"


def test_the_command_draws_two_images_and_counts(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "why.png"
    answer = json.loads(run(*files, "--out", out, "--json").stdout)
    assert set(answer) == {"out", "inliers", "tried"}
    assert 0 <= answer["inliers"] <= answer["tried"]
    assert out.stat().st_size > 10_000


def test_the_command_says_what_is_wrong_with_the_question_before_it_loads_the_model(
    files: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "why.png"
    refusals: dict[str, tuple[object, ...]] = {
        "is outside": (files[0], "--out", out, "--point", 500, 5),
        "no such file": (tmp_path / "none.jpg", "--out", out),
        "is an input": (files[1], "--out", files[1]),
        "is not a picture that": (files[0], "--out", files[1]),
        "suffixes: .png": (files[0], "--out", tmp_path / "why.text"),
    }
    for sentence, arguments in refusals.items():
        assert sentence in run(*arguments, "--model", "there-is-none", code=1).stderr
    run(files[0], code=2)
    assert not out.exists()


def test_the_command_refuses_a_model_without_glam(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(GlamError, match="has no attention maps"):
        explain(files[0], out=tmp_path / "why.png", model="timm:tf_efficientnet_lite0", device="cpu")


def test_the_bundled_model_has_all_four(image: Image.Image) -> None:
    maps = attention_maps(glam.load("glam-lite0", "cpu"), image)
    assert all(getattr(maps, name) is not None for name in PARTS)
    assert maps.global_spatial is not None
    np.testing.assert_allclose(maps.global_spatial.sum(axis=1), 1, rtol=1e-5)
