"""Import of descriptors: only those whose image files are unchanged are used."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glam.datasets.collection import Collection
from glam.datasets.readers import read_folder
from glam.descriptor_files import Shard, map_descriptors, merge_shards, read_metadata, write_descriptors
from glam.errors import GlamError
from glam.index import Index, build, sync, verify
from glam.index.operations.import_descriptors import NotedFiles
from glam.stage_times import Times

COUNT = 11
PARTS = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for i in range(COUNT):
        (root / f"place {i % 2}").mkdir(parents=True, exist_ok=True)
        (root / f"place {i % 2}" / f"{i:02d}.jpg").write_text("broken" if i == 6 else f"content {i}")
    return root


@pytest.fixture
def shards(folder: Path, tmp_path: Path, content_model: Any) -> list[Path]:
    """The files that `glam describe --shard 1/3` to `3/3` write."""
    files = [describe_shard(read_folder(folder), Shard(number, PARTS), tmp_path, content_model) for number in (1, 2, 3)]
    content_model.described.clear()
    return files


def describe_shard(collection: Collection, shard: Shard, out: Path, model: Any) -> Path:
    images = [collection.images[i] for i in shard.indices(len(collection))]
    noted = NotedFiles(collection.root, images)
    stream = noted.described(model.stream(noted.sources(2, Times()), None))
    facts = {"model": model.name, "fingerprint": model.fingerprint, "size": 64, "scales": [1.0]}
    file = out / f"{shard.number}.safetensors"
    shown = {**facts, "shard": f"{shard.number}/{shard.count}"}
    write_descriptors(file, stream, [image.path for image in images], model.dim, shown, files=noted.files)
    return file


def check(index: Path, model: Any) -> None:
    """Checks that the index holds all images, with the descriptors and facts of their files."""
    with Index.open(index) as opened:
        assert len(opened) == COUNT - 1
        for image in opened.image_ids.tolist():
            content = opened.file(image).read_bytes()
            assert (opened.descriptor(image) == model.descriptor(content)).all()
            entry = opened.entry(image)
            assert (entry.width, entry.height, entry.landmark) == (len(content), 1, Path(entry.path).parent.name)
        assert opened.unreadable() == [("place 0/06.jpg", "broken")]
    assert verify(index, lambda: model, sample=COUNT).problems == ()


def test_an_index_is_built_from_shards_without_describing(
    shards: list[Path], folder: Path, tmp_path: Path, content_model: Any
) -> None:
    merged = tmp_path / "merged.safetensors"
    merge_shards(merged, shards)
    for name, files in (("parts", shards), ("merged", [merged])):
        index = tmp_path / f"{name}.glam"
        done = build(index, read_folder(folder), content_model, descriptors=files)
        assert (done.added, done.taken, done.present) == (COUNT - 1, COUNT - 1, 0)
        assert content_model.described == []
        check(index, content_model)
        again = sync(index, read_folder(folder), lambda: content_model)
        assert (again.added, again.changed, again.unchanged) == (0, 0, COUNT - 1)
        assert content_model.described == []


def test_images_that_changed_or_are_in_no_file_are_described(
    shards: list[Path], folder: Path, tmp_path: Path, content_model: Any
) -> None:
    (folder / "place 1" / "01.jpg").write_text("content X")
    (folder / "place 0" / "02.jpg").touch()
    os.utime(folder / "place 1" / "03.jpg", ns=(0, 0))
    index = tmp_path / "new.glam"
    done = build(index, read_folder(folder), content_model, descriptors=shards[1:])
    first = {image.path for image in read_folder(folder).images[: COUNT // PARTS]}
    assert done.added == COUNT - 1
    assert done.taken == COUNT - 1 - len({*first, "place 1/01.jpg"} - {"place 0/06.jpg"})
    assert b"content X" in content_model.described
    assert b"content 3" not in content_model.described
    check(index, content_model)


def test_a_killed_build_resumes(shards: list[Path], folder: Path, tmp_path: Path, content_model: Any) -> None:
    index = tmp_path / "new.glam"
    collection = read_folder(folder)
    build(index, Collection(collection.root, collection.images[:3]), content_model, descriptors=shards)
    done = build(index, read_folder(folder), content_model, descriptors=shards)
    assert (done.present, done.added, done.taken) == (3, COUNT - 4, COUNT - 4)
    check(index, content_model)


def test_descriptors_of_another_model_or_other_settings_are_rejected(
    shards: list[Path], folder: Path, tmp_path: Path, content_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(sentence: str) -> None:
        with pytest.raises(GlamError, match=sentence):
            build(tmp_path / "new.glam", read_folder(folder), content_model, settings=settings, descriptors=shards)
        assert not (tmp_path / "new.glam").exists()

    settings = replace(content_model.settings(), size=96)
    refused("1.safetensors: its size is 64, that of the index is 96. Describe the images again")
    settings = content_model.settings()
    about = read_metadata(shards[1])
    del about["files"]
    shards[1].with_suffix(".json").write_text(json.dumps(about))
    refused("2.safetensors was written by an older version of glam")
    monkeypatch.setattr(content_model, "fingerprint", "d" * 16)
    refused("1.safetensors: its model is 'contents', and the index has another model, 'contents'. Describe the images")


def change_values(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], str]:
    """Writes the JSON file after a change of its values."""

    def text(values: dict[str, Any]) -> str:
        change(values)
        return json.dumps(values)

    return text


@pytest.mark.parametrize(
    "spoil",
    [
        change_values(lambda values: values["paths"].pop()),
        change_values(lambda values: values["files"].pop()),
        change_values(lambda values: values.update(paths=7)),
        change_values(lambda values: values.update(files=None)),
        change_values(lambda values: values["paths"].__setitem__(0, ["a"])),
        *(
            change_values(lambda values, record=record: values["files"].__setitem__(1, record))  # type: ignore[misc]
            for record in (
                7,
                [],
                ["a" * 32, 1, 1, 1],
                ["\0" * 32, 1, 1, 1, 1],
                ["a", 1, 1, 1, 1],
                ["a" * 32, "1", 1, 1, 1],
                ["a" * 32, 1, 1.5, 1, 1],
                ["a" * 32, 1, 1, True, 1],
                ["a" * 32, 1, 1, 1, 1 << 63],
            )
        ),
        lambda values: "[" * 200_000,
        lambda values: "\ud800",
    ],
)
def test_a_damaged_description_is_one_sentence_and_starts_no_index(
    spoil: Callable[[dict[str, Any]], str], shards: list[Path], folder: Path, tmp_path: Path, content_model: Any
) -> None:
    text = spoil(read_metadata(shards[2]))
    shards[2].with_suffix(".json").write_text(text, errors="surrogatepass")
    with pytest.raises(GlamError, match=r"3\.(safetensors and its JSON file do not fit|json cannot be read)") as raised:
        build(tmp_path / "new.glam", read_folder(folder), content_model, descriptors=shards)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "new.glam").exists()


def test_descriptors_of_another_length_than_the_json_file_says_are_refused(
    shards: list[Path], folder: Path, tmp_path: Path, content_model: Any
) -> None:
    about = read_metadata(shards[0])
    facts = {name: about[name] for name in ("model", "fingerprint", "size", "scales", "shard")}
    write_descriptors(shards[0], [], about["paths"], content_model.dim + 1, facts, files=about["files"])
    shards[0].with_suffix(".json").write_text(json.dumps(about))
    with pytest.raises(GlamError, match=r"1\.safetensors and its JSON file do not fit together"):
        build(tmp_path / "new.glam", read_folder(folder), content_model, descriptors=shards)


def test_images_whose_descriptors_are_not_finite_are_described(
    shards: list[Path], folder: Path, tmp_path: Path, content_model: Any
) -> None:
    rows = map_descriptors(shards[0])
    content = shards[0].read_bytes()
    assert content.count(rows[0].tobytes()) == 1
    spoilt = rows[0].copy()
    spoilt[5] = np.inf
    shards[0].write_bytes(content.replace(rows[0].tobytes(), spoilt.tobytes()))
    done = build(tmp_path / "new.glam", read_folder(folder), content_model, descriptors=shards)
    assert (done.added, done.taken) == (COUNT - 1, COUNT - 2)
    check(tmp_path / "new.glam", content_model)
