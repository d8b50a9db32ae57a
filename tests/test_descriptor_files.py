"""Descriptors on disk: one row an image in the order of the list, shards that make the same file, nothing by halves."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import glam
from glam.app.cli.main import app
from glam.descriptor_files import Shard, listing_of, map_descriptors, merge_shards, write_descriptors
from glam.errors import GlamError, ImageError
from glam.eval.descriptor_readers import read_descriptors
from glam.inference.pipeline import DescribedImage

Draw = Callable[..., Image.Image]
MODEL = "timm:tf_efficientnet_lite0"


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path, draw_image: Draw) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    for seed in range(5):
        draw_image(64 + 32 * (seed % 2), 64, seed).save(root / f"{seed}.jpg")
    (root / "2.jpg").write_text("no image")
    return root


def test_a_folder_is_described_in_shards_and_put_together(folder: Path, tmp_path: Path) -> None:
    common = (folder, "--model", MODEL, "--size", 64, "--device", "cpu")
    whole = tmp_path / "deep" / "whole.safetensors"
    told = json.loads(run("describe", *common, "--out", whole, "--json"))
    assert told["unreadable"] == {"2.jpg": "not an image that can be read"}
    assert {"read", "decode", "forward", "write", "total"} <= told["seconds"].keys()
    shards = [tmp_path / f"part{i}.safetensors" for i in (1, 2)]
    for i, shard in enumerate(shards, start=1):
        run("describe", *common, "--out", shard, "--shard", f"{i}/2")
    merged = tmp_path / "merged.safetensors"
    run("describe-merge", merged, *reversed(shards))
    descriptors = read_descriptors(str(whole), "database")
    np.testing.assert_array_equal(descriptors, read_descriptors(str(merged), "database"))
    np.testing.assert_array_equal(descriptors, load_file(whole)["descriptors"])
    assert np.isnan(descriptors[2]).all()
    alone = glam.load(MODEL, "cpu").describe([folder / "3.jpg"], size=64)[0]
    np.testing.assert_allclose(descriptors[3], alone, atol=1e-5)
    metadata, again = (json.loads(path.with_suffix(".json").read_text()) for path in (whole, merged))
    assert metadata["paths"] == [f"{i}.jpg" for i in range(5)]
    assert metadata == again
    assert not list(tmp_path.rglob("*.partial"))


def results(count: int) -> Iterator[DescribedImage]:
    for position in reversed(range(count)):
        yield DescribedImage(position, np.full(4, position, dtype=np.float32), None)


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[DescribedImage]:
        yield from results(2)
        raise ImageError("a.jpg", "stop")

    with pytest.raises(ImageError):
        write_descriptors(tmp_path / "a.safetensors", broken(), ["a", "b", "c"], 4, {"shard": None})
    assert not list(tmp_path.iterdir())


def test_shards_of_other_runs_are_refused(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in ("one", "two", "other", "whole")]
    for file, shard, size in zip(files, ("1/2", "2/2", "2/2", None), (64, 64, 96, 64), strict=True):
        write_descriptors(file, results(2), [f"{file.stem}{i}" for i in range(2)], 4, {"shard": shard, "size": size})
    out = tmp_path / "out.safetensors"
    for wrong, why in ((files[:1], "not all"), ([files[0], files[2]], "size"), ([files[3]], "not a shard")):
        with pytest.raises(GlamError, match=why):
            merge_shards(out, wrong)
    assert not out.exists()
    assert merge_shards(out, files[:2]) == 4
    np.testing.assert_array_equal(map_descriptors(out)[:, 0], [0, 1, 0, 1])


@pytest.mark.parametrize("count", [1, 3, 64])
def test_every_image_is_in_one_shard(count: int) -> None:
    parts = [i for number in range(1, count + 1) for i in Shard(number, count).indices(100)]
    assert parts == list(range(100))


@pytest.mark.parametrize("text", ["", "0/3", "4/3", "a/b", "3", "-1/2"])
def test_a_senseless_shard_is_refused(text: str) -> None:
    with pytest.raises(GlamError, match="3/64"):
        Shard.parse(text)


def test_no_images_give_a_file_that_others_read(tmp_path: Path) -> None:
    write_descriptors(tmp_path / "none.safetensors", [], [], 4, {"shard": None})
    assert load_file(tmp_path / "none.safetensors")["descriptors"].shape == (0, 4)
    assert map_descriptors(tmp_path / "none.safetensors").shape == (0, 4)


def test_a_file_of_other_arrays_is_no_file_of_descriptors(tmp_path: Path) -> None:
    for arrays in ({"other": np.ones((2, 4), np.float32)}, {"descriptors": np.ones((2, 4))}):
        save_file(arrays, tmp_path / "a.safetensors")
        with pytest.raises(GlamError, match="not a file of descriptors"):
            map_descriptors(tmp_path / "a.safetensors")


def write_shards(folder: Path, listings: list[list[str]], *, noted: bool) -> list[Path]:
    """Shard i/n as it is described where the list of images is ``listings[i]``."""
    files = []
    for number, listing in enumerate(listings, start=1):
        shard = Shard(number, len(listings))
        paths = [listing[i] for i in shard.indices(len(listing))]
        facts = {"shard": f"{number}/{len(listings)}", **({"listing": listing_of(listing)} if noted else {})}
        files.append(folder / f"{number}.safetensors")
        write_descriptors(files[-1], results(len(paths)), paths, 4, facts)
    return files


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_of_one_list_are_merged_without_a_trace_of_it(count: int, noted: bool, tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(12)]
    assert merge_shards(tmp_path / "all.safetensors", write_shards(tmp_path, [names] * count, noted=noted)) == 12
    metadata = json.loads((tmp_path / "all.json").read_text())
    assert metadata["paths"] == names
    assert "listing" not in metadata


NAMES = [f"{i:02}.jpg" for i in range(12)]


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(["000.jpg", "001.jpg", *NAMES], id="added in front"),
        pytest.param(["000.jpg", *NAMES], id="one added in front"),
        pytest.param(NAMES[2:], id="removed"),
    ],
)
def test_shards_of_a_folder_that_changed_are_refused(changed: list[str], noted: bool, tmp_path: Path) -> None:
    shards = write_shards(tmp_path, [NAMES, changed], noted=noted)
    with pytest.raises(GlamError, match="list of images changed"):
        merge_shards(tmp_path / "all.safetensors", shards)
    assert not (tmp_path / "all.safetensors").exists()


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ([*NAMES[:6], "x.jpg", *NAMES[7:]], "with other names or in another order"),
        ([*NAMES[:11], "99.jpg"], "with other names or in another order"),
        (NAMES[:6] + NAMES[:5:-1], "with other names or in another order"),
        (NAMES[:11], r"1\.safetensors comes from a list of 11 images, and .*2\.safetensors from one of 12"),
    ],
)
def test_a_noted_list_shows_every_change(changed: list[str], difference: str, tmp_path: Path) -> None:
    shards = write_shards(tmp_path, [changed, NAMES], noted=True)
    with pytest.raises(GlamError, match=difference):
        merge_shards(tmp_path / "all.safetensors", shards)
