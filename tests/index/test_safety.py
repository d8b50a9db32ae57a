"""Guarantees of an index under kills, bit flips, a full disk, several writers, and concurrent readers."""

import json
import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glam.datasets.readers import read_folder
from glam.errors import GlamError
from glam.index import Index, add, build, compact, info, remove, sync, verify
from glam.index.limits import DEFAULT_LIMITS, IndexLimits
from glam.index.storage.checksums import CHECKSUMS
from glam.index.storage.lock import LOCK, InUseError, Owner, owner, write_lock
from glam.index.storage.records import IndexConfig
from glam.index.storage.schema import CATALOG
from glam.index.storage.segments import segment_file

ROOT = Path(__file__).resolve().parents[2]
COUNT = 24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    for i in range(COUNT):
        (root / f"{i:02d}.jpg").write_text(f"content {i}")
    return root


@pytest.fixture
def index(folder: Path, tmp_path: Path, content_model: Any) -> Path:
    build(tmp_path / "i.glam", read_folder(folder), content_model)
    return tmp_path / "i.glam"


def check(index: Path, model: Any) -> int:
    """Checks that each image has the descriptor of its file and is found by it; returns the number of images."""
    with Index.open(index) as opened:
        for image_id in opened.image_ids.tolist():
            expected = model.descriptor(opened.file(image_id).read_bytes())
            np.testing.assert_array_equal(opened.descriptor(image_id), expected)
            assert opened.search(expected, k=1)[0][0].image_id == image_id
        return len(opened)


def test_killed_at_random_moments(tmp_path: Path, draw_image: Callable[..., Image.Image]) -> None:
    """Runs `benchmarks/kills.py`, which describes the checks, with few images."""
    for i in range(60):
        draw_image(40, 30, i).save(tmp_path / f"{i}.jpg")
    program = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--photographs", str(tmp_path), "--kills", "3"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" kills, finished") == 6


def flips(file: Path, count: int, seed: int) -> Iterator[int]:
    """Flips one bit at a time, in the first byte, the last byte, and random ones."""
    content = file.read_bytes()
    random = np.random.default_rng(seed)
    for offset in {0, len(content) - 1, *random.integers(0, len(content), count).tolist()}:
        spoilt = bytearray(content)
        spoilt[offset] ^= 1 << int(random.integers(8))
        file.write_bytes(spoilt)
        yield offset
    file.write_bytes(content)


def test_a_flipped_byte_in_any_file_is_found_and_named(index: Path, folder: Path, content_model: Any) -> None:
    limits = IndexLimits(save_exact=True)  # so that the small index has a search structure on disk
    remove(index, ["01.jpg"], limits=limits)
    (folder / "new.jpg").write_text("new")
    sync(index, read_folder(folder), lambda: content_model, limits=limits)
    files = [file for file in sorted(index.rglob("*")) if file.is_file() and file.stat().st_size]
    names = {file.relative_to(index).as_posix() for file in files}
    assert {"catalogue.sqlite", "checksums.json", "descriptors/000001.f32", "search/list.json"} <= names
    assert any(name.startswith("search/structure-") for name in names)
    assert any(name.startswith("search/ids-") for name in names)
    for file in files:
        for offset in flips(file, 60, seed=len(file.name)):
            found = {problem.file for problem in verify(index).problems}
            assert file.relative_to(index).as_posix() in found, (file, offset)
    assert verify(index, lambda: content_model).problems == ()


def test_missing_and_stray_data_is_named(index: Path) -> None:
    stray = index / "descriptors" / "000009.f32"
    stray.write_bytes(b"1234")
    assert [p.file for p in verify(index).problems] == ["descriptors/000009.f32"]
    stray.unlink()
    with segment_file(index, 1).open("ab") as file:
        file.write(b"12")
    assert [p.what for p in verify(index).problems] == ["2 bytes longer than in the catalog"]
    segment_file(index, 1).unlink()
    assert [(p.file, p.what) for p in verify(index).problems] == [("descriptors/000001.f32", "missing")]
    with pytest.raises(GlamError, match="is missing: the index is damaged"):
        Index.open(index)


def test_a_descriptor_of_another_image_is_found_by_describing_again(index: Path, content_model: Any) -> None:
    """All checksums match, but two images were swapped before they were written."""
    (index / CHECKSUMS).unlink()
    with closing(sqlite3.connect(index / CATALOG)) as database, database:
        ((images,),) = database.execute("SELECT images FROM batches")
        swapped = images[8:16] + images[:8] + images[16:]
        database.execute("UPDATE batches SET images = ?", [swapped])
    found = verify(index, lambda: content_model, sample=COUNT)
    assert len(found.problems) == 2
    assert all("does not belong to its file" in problem.what for problem in found.problems)


def test_a_writer_rejects_a_damaged_index(index: Path, folder: Path, content_model: Any) -> None:
    (folder / "new.jpg").write_text("new")
    for file in (index / CATALOG, index / CHECKSUMS):
        for _ in flips(file, 3, seed=1):
            with pytest.raises(GlamError, match="verify"):
                sync(index, read_folder(folder), lambda: content_model)
    remove(index, ["02.jpg"])
    for _ in flips(segment_file(index, 1), 3, seed=2):
        with pytest.raises(GlamError, match="damaged between rows 0 and 23"):
            compact(index)
    sync(index, read_folder(folder), lambda: content_model)
    assert verify(index).problems == ()


def test_after_a_kill_verify_says_so_and_the_next_writer_cleans_up(index: Path, content_model: Any) -> None:
    (index / CHECKSUMS).unlink()
    (index / LOCK).write_text(json.dumps(asdict(Owner(1, "host", "glam index sync", "then"))))
    with segment_file(index, 1).open("ab") as file:
        file.write(b"half a row")
    (index / "descriptors" / "000002.f32").write_bytes(b"of a compaction")
    (index / "search").mkdir()
    (index / "search" / "structure-000001.faiss.partial").write_bytes(b"half a structure")
    found = verify(index)
    assert (found.clean, found.problems) == (False, ())
    assert "process 1 on host (glam index sync), since then" in " ".join(found.notes)
    assert check(index, content_model) == COUNT
    with pytest.raises(GlamError, match="nothing was removed"):  # a writer that fails cleans up too
        remove(index, ["none.jpg"])
    found = verify(index)
    assert (found.clean, found.problems, found.notes) == (True, (), ())


@pytest.mark.parametrize("left", [b"", b"half"])
def test_a_build_killed_before_it_made_the_catalog(
    left: bytes, folder: Path, tmp_path: Path, content_model: Any
) -> None:
    index = tmp_path / "i.glam"
    (index / "descriptors").mkdir(parents=True)
    (index / CATALOG).touch()
    (index / "descriptors" / "000001.f32").write_bytes(left)
    with pytest.raises(GlamError, match="no index there"):
        Index.open(index)
    with pytest.raises(GlamError, match="no index there"):
        sync(index, read_folder(folder), lambda: content_model)
    build(index, read_folder(folder), content_model)
    assert check(index, content_model) == COUNT


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"only root may mount a small disk: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_is_reported_and_loses_nothing(small_disk: Path, folder: Path, content_model: Any) -> None:
    """The disk fills up at many different moments; the index opens after each of them."""
    limits = IndexLimits(commit_images=3)
    index, ballast = small_disk / "i.glam", small_disk / "ballast"
    build(index, read_folder(folder), content_model, limits=limits)
    failures = 0
    for kilobytes in range(4, 130, 7):
        with ballast.open("wb") as file:
            free = shutil.disk_usage(small_disk).free
            file.write(bytes(max(free - kilobytes * 1024, 0)))
        before = check(index, content_model)
        for i in range(30):
            (folder / f"more {kilobytes} {i}.jpg").write_text(f"more {kilobytes} {i}")
        failures += not _synced_or("the disk is full", index, folder, content_model, limits)
        assert check(index, content_model) >= before
        assert verify(index).problems == ()
        ballast.unlink()
    assert failures > 3
    sync(index, read_folder(folder), lambda: content_model, limits=limits)
    assert check(index, content_model) == len(read_folder(folder))
    assert verify(index, lambda: content_model).clean
    described = content_model.described
    assert len(described) - len(set(described)) <= failures * 3


def _synced_or(sentence: str, index: Path, folder: Path, model: Any, limits: IndexLimits = DEFAULT_LIMITS) -> bool:
    """Whether a sync finished; the only allowed error contains this sentence."""
    try:
        sync(index, read_folder(folder), lambda: model, limits=limits)
    except GlamError as error:
        if sentence not in str(error):
            raise
        return False
    return True


def test_a_file_size_limit_is_reported(index: Path, folder: Path, content_model: Any) -> None:
    """Like a full disk, but without root: a limit on the size of files."""
    (folder / "new.jpg").write_text("new")
    child = multiprocessing.get_context("fork").Process(target=_sync_with_a_limit, args=(index, folder, content_model))
    child.start()
    child.join()
    assert child.exitcode == 7
    with Index.open(index) as opened:
        assert len(opened) == COUNT
    assert verify(index).problems == ()


def _sync_with_a_limit(index: Path, folder: Path, model: Any) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    os._exit(8 if _synced_or("the disk is full", index, folder, model) else 7)


def test_a_second_writer_is_rejected(index: Path, folder: Path, content_model: Any) -> None:
    with write_lock(index):
        for change in (
            lambda: sync(index, read_folder(folder), lambda: content_model),
            lambda: add(index, [folder / "00.jpg"], lambda: content_model),
            lambda: remove(index, ["00.jpg"]),
            lambda: compact(index),
            lambda: build(index, read_folder(folder), content_model),
            lambda: verify(index),
        ):
            with pytest.raises(GlamError, match=rf"in use by process {os.getpid()} on .* since 2"):
                change()
        holder = info(index).writer
        assert holder is not None
        assert holder.pid == os.getpid()
        assert check(index, content_model) == COUNT
    assert owner(index) is None


def test_many_writers_at_once_leave_every_image_once(index: Path, folder: Path, content_model: Any) -> None:
    for i in range(40):
        (folder / f"new {i}.jpg").write_text(f"new {i}")
    done, refused = [], []

    def work(i: int) -> None:
        try:
            done.append(add(index, [folder / f"new {i}.jpg"], lambda: content_model).added)
        except InUseError:
            refused.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert check(index, content_model) == COUNT + sum(done)
    assert len(done) + len(refused) == 40
    assert verify(index, lambda: content_model).problems == ()


def test_readers_keep_their_snapshot_while_a_writer_works(index: Path, folder: Path, content_model: Any) -> None:
    """Other threads open and search the index; an index opened before keeps showing its snapshot."""
    limits = IndexLimits(commit_images=4)
    errors: list[BaseException] = []
    stop = threading.Event()
    hashes = {f"{content_model.descriptor(f'content {i}'.encode())[0]:.6f}": i for i in range(COUNT)}

    def read(opened: Index) -> None:
        for image_id in opened.image_ids.tolist()[:3]:
            descriptor = opened.descriptor(image_id)
            hit = opened.search(descriptor, k=1)[0][0]
            if hit.image_id != image_id or hit.path not in (f"{hashes[f'{descriptor[0]:.6f}']:02d}.jpg",):
                raise AssertionError(f"{image_id} was found as {hit.entry}")

    def work() -> None:
        try:
            while not stop.is_set():
                with Index.open(index) as opened:
                    read(opened)
        except BaseException as error:  # noqa: BLE001  (raised at the end)
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    with Index.open(index) as old:
        descriptors = old.descriptors(old.image_ids.tolist())
        for thread in threads:
            thread.start()
        for turn in range(4):
            for i in range(10):
                (folder / f"new {turn} {i}.jpg").write_text(f"new {turn} {i}")
            sync(index, read_folder(folder), lambda: content_model, limits=limits)
            remove(index, [f"{10 + turn}.jpg"])
            (folder / f"{10 + turn}.jpg").unlink()
            compact(index)
        stop.set()
        for thread in threads:
            thread.join()
        assert not errors, errors
        np.testing.assert_array_equal(old.descriptors(old.image_ids.tolist()), descriptors)
        found = {hit.path for hit in old.search(descriptors[0], k=100)[0]}
        assert found == {f"{i:02d}.jpg" for i in range(COUNT) if i not in range(10, 14)}  # these were removed
    assert check(index, content_model) == COUNT - 4 + 40


def make_version_1(path: Path, folder: Path, model: Any) -> None:
    """Writes an index with schema version 1."""
    images = read_folder(folder).images
    path.mkdir()
    descriptors = np.stack([model.descriptor((folder / image.path).read_bytes()) for image in images])
    (path / "descriptors.f32").write_bytes(descriptors.tobytes() + b"half a batch")
    config = asdict(IndexConfig(model.name, model.fingerprint, model.dim, 64, (1.0,), str(folder)))
    del config["structure"]
    with closing(sqlite3.connect(path / CATALOG)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(
            """
            BEGIN;
            CREATE TABLE about (description TEXT NOT NULL);
            CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, label TEXT NOT NULL,
                                 width INTEGER NOT NULL, height INTEGER NOT NULL);
            CREATE TABLE unreadable (path TEXT PRIMARY KEY, reason TEXT NOT NULL);
            PRAGMA user_version = 1;
            COMMIT;
            """
        )
        with database:
            database.execute("INSERT INTO about VALUES (?)", [json.dumps(config)])
            database.execute("INSERT INTO unreadable VALUES ('bad.jpg', 'an empty file')")
            database.executemany(
                "INSERT INTO images VALUES (?, ?, ?, 3, 4)", ((i, p.path, "here") for i, p in enumerate(images))
            )


def test_an_index_of_version_1_opens_and_syncs(folder: Path, tmp_path: Path, content_model: Any) -> None:
    index = tmp_path / "old.glam"
    make_version_1(index, folder, content_model)
    assert check(index, content_model) == COUNT
    with Index.open(index) as opened:
        assert opened.entry(0) == replace(opened.entry(0), path="00.jpg", landmark="here", width=3, height=4)
        assert opened.unreadable() == [("bad.jpg", "an empty file")]
    assert not (index / "descriptors.f32").exists()
    assert verify(index, lambda: content_model).problems == ()
    (folder / "00.jpg").write_text("changed since")
    (folder / "new.jpg").write_text("new")
    report = sync(index, read_folder(folder), lambda: content_model)
    assert (report.added, report.changed, report.unchanged) == (1, 1, COUNT - 1)
    assert len(content_model.described) == 2
    assert check(index, content_model) == COUNT + 1
    found = verify(index, lambda: content_model)
    assert (found.clean, found.problems) == (True, ())


def test_a_killed_migration_is_repeated(folder: Path, tmp_path: Path, content_model: Any) -> None:
    index = tmp_path / "old.glam"
    make_version_1(index, folder, content_model)
    (index / "descriptors").mkdir()
    (index / "descriptors.f32").rename(segment_file(index, 1))
    sync(index, read_folder(folder), lambda: content_model)
    assert content_model.described == []
    assert check(index, content_model) == COUNT


def test_an_index_of_a_newer_version_is_rejected(index: Path) -> None:
    with closing(sqlite3.connect(index / CATALOG)) as database:
        database.execute("PRAGMA user_version = 4")
    with pytest.raises(GlamError, match=r"schema version 4; this version of glam reads 3\. Upgrade glam"):
        Index.open(index)
