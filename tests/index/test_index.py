"""Building an index from a realistic folder, and searching it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import glam
import glam.index
from glam.datasets.readers import read_folder
from glam.errors import GlamError
from glam.index import Index, build
from glam.index.limits import IndexLimits
from glam.index.storage.catalog import Catalog
from glam.index.storage.checksums import CHECKSUMS
from glam.index.storage.segments import segment_file
from glam.model import Model

Draw = Callable[..., Image.Image]


@pytest.fixture(scope="module")
def model() -> Model:
    return _untrained()


def _untrained() -> Model:
    """A small network with random weights, for tests that do not need accurate descriptors."""
    import torch

    from glam.model_file import ModelHeader
    from glam.network import Architecture, DescriptorNetwork

    torch.manual_seed(0)
    architecture = Architecture("resnet10t", dim=None, attention=None)
    return Model("untrained", DescriptorNetwork(architecture).eval(), ModelHeader(architecture, size=64))


@pytest.fixture
def folder(tmp_path: Path, draw_image: Draw) -> Path:
    root = tmp_path / "photos"
    for landmark, count in (("abbey", 3), ("bridge with spaces é", 2)):
        (root / landmark).mkdir(parents=True)
        for i in range(count):
            draw_image(80, 60, hash((landmark, i)) % 1000).save(root / landmark / f"bild {i} ü.png")
    return root


def spoil(root: Path, draw: Draw) -> dict[str, str]:
    """Adds unusual and broken files; returns the names of the broken ones, with a part of the expected reason."""
    odd = root / "odd"
    odd.mkdir()
    draw(64, 48).convert("CMYK").save(odd / "cmyk.jpg")
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(odd / "deep.png")
    draw(40, 40).quantize(8).save(odd / "palette.png", transparency=0)
    draw(40, 40).save(odd / "moving.gif", save_all=True, append_images=[draw(40, 40, 1)])
    Image.new("RGB", (1, 1), "red").save(odd / "dot.png")
    (odd / "text.jpg").write_text("no image")
    (odd / "empty.jpg").touch()
    draw(400, 300).save(odd / "cut.jpg")
    os.truncate(odd / "cut.jpg", 900)
    Image.new("1", (30_000, 30_000)).save(odd / "huge.png")
    (odd / "notes.txt").write_text("not taken as an image at all")
    return {"text.jpg": "not an image", "empty.jpg": "empty", "cut.jpg": "truncated", "huge.png": "megapixels"}


def test_unusual_files_are_indexed_and_broken_ones_are_listed(
    model: Model, folder: Path, draw_image: Draw, tmp_path: Path
) -> None:
    bad = spoil(folder, draw_image)
    seen: list[tuple[int, int]] = []
    report = build(tmp_path / "i.glam", read_folder(folder), model, progress=lambda *p: seen.append(p))
    assert report.added == 10
    reasons = {Path(path).name: reason for path, reason in report.unreadable}
    assert reasons.keys() == bad.keys()
    assert all(part in reasons[name] for name, part in bad.items()), reasons
    assert seen[-1] == (14, 14)
    with Index.open(tmp_path / "i.glam") as index:
        assert len(index) == 10
        assert dict(index.unreadable()).keys() == {f"odd/{name}" for name in bad}


def test_every_image_finds_itself_first_with_its_own_entry(model: Model, folder: Path, tmp_path: Path) -> None:
    collection = read_folder(folder)
    build(tmp_path / "i.glam", collection, model)
    with glam.index.open(tmp_path / "i.glam") as index:
        for image in collection.images:
            hits = index.search(model.describe([collection.root / image.path]), k=3)[0]
            assert (hits[0].path, hits[0].landmark) == (image.path, image.landmark)
            assert hits[0].score == pytest.approx(1.0, abs=1e-5)
            assert [hit.rank for hit in hits] == [1, 2, 3]
            assert (hits[0].entry.width, hits[0].entry.height) == (80, 60)
            assert index.file(hits[0].image_id) == folder / image.path


def test_search_ranks_by_inner_product(model: Model, folder: Path, tmp_path: Path) -> None:
    build(tmp_path / "i.glam", read_folder(folder), model)
    with Index.open(tmp_path / "i.glam") as index:
        descriptors = np.stack([index.descriptor(i) for i in range(len(index))])
        queries = np.random.default_rng(0).normal(size=(4, index.dim)).astype(np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        for query, hits in zip(queries, index.search(queries, k=50), strict=True):
            assert [hit.image_id for hit in hits] == np.argsort(-(descriptors @ query)).tolist()


def test_a_second_build_adds_what_is_new(model: Model, folder: Path, tmp_path: Path, draw_image: Draw) -> None:
    build(tmp_path / "i.glam", read_folder(folder), model)
    draw_image(70, 70, 77).save(folder / "abbey" / "new.png")
    report = build(tmp_path / "i.glam", read_folder(folder), model)
    assert (report.added, report.present) == (1, 5)


def test_a_repaired_image_is_removed_from_the_unreadable_files(
    model: Model, folder: Path, tmp_path: Path, draw_image: Draw
) -> None:
    (folder / "abbey" / "late.png").write_bytes(b"half an upload")
    assert len(build(tmp_path / "i.glam", read_folder(folder), model).unreadable) == 1
    draw_image(70, 70, 5).save(folder / "abbey" / "late.png")
    assert build(tmp_path / "i.glam", read_folder(folder), model).added == 1
    with Index.open(tmp_path / "i.glam") as index:
        assert index.unreadable() == []


def test_a_killed_build_resumes(model: Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after writing the descriptors of a batch and before its transaction: these rows are overwritten."""
    add, calls = Catalog.add_batch, iter(range(100))

    def killed_at_the_second_batch(self: Catalog, *batch: Any) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt
        add(self, *batch)

    monkeypatch.setattr(Catalog, "add_batch", killed_at_the_second_batch)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "i.glam", read_folder(folder), model, limits=IndexLimits(commit_images=2))
    monkeypatch.undo()
    with segment_file(tmp_path / "i.glam", 1).open("ab") as file:
        file.write(b"half a row")
    (tmp_path / "i.glam" / CHECKSUMS).unlink()
    build(tmp_path / "i.glam", read_folder(folder), model)
    with Index.open(tmp_path / "i.glam") as index:
        assert sorted(index.entry(i).path for i in range(len(index))) == sorted(
            p.path for p in read_folder(folder).images
        )
        for i in range(len(index)):
            np.testing.assert_allclose(index.descriptor(i), model.describe([index.file(i)])[0], atol=1e-5)


def test_another_model_or_other_settings_are_rejected(model: Model, folder: Path, tmp_path: Path) -> None:
    import torch

    build(tmp_path / "i.glam", read_folder(folder), model)
    other = _untrained()
    with torch.no_grad():
        other.network.pool.p.fill_(2.0)
    with Index.open(tmp_path / "i.glam") as index, pytest.raises(GlamError, match="cannot be compared"):
        index.check_model(other)
    with pytest.raises(GlamError, match="was built with"):
        build(tmp_path / "i.glam", read_folder(folder), other)
    with pytest.raises(GlamError, match="was built from images of"):
        build(tmp_path / "i.glam", read_folder(folder), model, settings=model.settings(size=96))


def test_a_path_without_a_sound_index_is_rejected(model: Model, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(GlamError, match="no index there"):
        Index.open(tmp_path / "nowhere.glam")
    with pytest.raises(GlamError, match=r"is neither an index nor empty\. Choose"):
        build(folder, read_folder(folder), model)
    build(tmp_path / "i.glam", read_folder(folder), model)
    os.truncate(segment_file(tmp_path / "i.glam", 1), 10)
    with pytest.raises(GlamError, match="damaged"):
        Index.open(tmp_path / "i.glam")
    (tmp_path / "i.glam" / "catalogue.sqlite").write_text("no database" * 100)
    with pytest.raises(GlamError, match="is not the catalog of an index"):
        Index.open(tmp_path / "i.glam")


def test_a_descriptor_of_another_length_is_rejected(model: Model, folder: Path, tmp_path: Path) -> None:
    build(tmp_path / "i.glam", read_folder(folder), model)
    with Index.open(tmp_path / "i.glam") as index, pytest.raises(GlamError, match="do not fit an index"):
        index.search(np.zeros(3, dtype=np.float32))


def test_images_of_a_landmark_find_each_other(photographs: Path, tmp_path: Path) -> None:
    """Real images and weights: one image of each landmark is a query against the others."""
    model = glam.load("timm:tf_efficientnet_lite0", device="cpu")
    collection = read_folder(photographs / "val")
    chosen = ("petra", "stonehenge", "lotus_temple", "golden_gate_bridge")
    few = [i for i, image in enumerate(collection.images) if image.landmark in chosen]
    queried = [i for i in few if collection.images[i - 1].landmark != collection.images[i].landmark]
    names = {collection.images[i].path for i in few if i not in queried}
    others = collection.filter(lambda image: image.path in names)
    build(tmp_path / "i.glam", others, model, settings=model.settings(size=224))
    with Index.open(tmp_path / "i.glam") as index:
        queries = model.describe([collection.file(i) for i in queried], size=224)
        first = [hits[0].landmark for hits in index.search(queries, k=1)]
        assert first == [collection.images[i].landmark for i in queried]
