"""Writes `files/` with an installed glam: what the product keeps on disk, and the answers of the version that wrote it.

The committed files were written by commit 33b113e, the last one before modules and names changed. They are not meant to
be written again: a file that the present version writes proves nothing about reading an earlier one. For the record:

    git worktree add /tmp/before 33b113e && pip install --no-deps --target /tmp/site /tmp/before
    OMP_NUM_THREADS=1 PYTHONPATH=/tmp/site python tests/earlier_version/make_fixtures.py /tmp/new_files

Everything is made in `ROOT`, because an index remembers the absolute path of its images, and copied from there.
"""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from filler import COUNT, set_modified, write_filler
from PIL import Image

COMMIT = "33b113e"

ROOT = Path("/tmp/glam-earlier-version")
"""The folder that the fixture indexes and runs remember."""

MODEL = ROOT / "model.safetensors"

IMAGE_SIZE = 64
"""Longest side in pixels; larger images have so many local features that the precomputed file exceeds 0.5 MB."""

QUERIES = ("queries/a.jpg", "queries/b.jpg")

RERANKED = ("geometric", "aqe,diffusion", "superglobal")

TRAINING = [
    *("--data.train", str(ROOT / "photos"), "--data.val_share", "0.34", "--data.size", "64", "--data.batch_size", "4"),
    *("--data.workers", "0", "--model.backbone", "test_efficientnet", "--model.pretrained", "false"),
    *("--model.dim", "8", "--model.glam", "{reduction: 8}", "--model.optimizer", "sgd", "--model.lr", "1e-3"),
    *("--trainer.max_epochs", "3", "--trainer.accelerator", "cpu", "--trainer.precision", "32-true"),
    *("--trainer.log_every_n_steps", "1", "--save_every", "2"),
]
"""Options of a run of seconds. `test_efficientnet` is timm's smallest network, and SGD keeps one number a weight."""

RUNS = {"plain": [], "sharded": ["--model.sharded", "true"]}

KILLED = """
import os, signal, sys
from glam.training import module
step = module.LandmarkModule.training_step
def dying(self, batch, i):
    if self.current_epoch == 1 and i == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, i)
module.LandmarkModule.training_step = dying
from glam.training.cli import train
train(sys.argv[1:])
"""
"""`glam train`, killed in the middle of its second epoch."""

HALVED = """
import sys
from pathlib import Path
from glam import checkpoint
path = Path(sys.argv[1])
checkpoint.save(path, *checkpoint.load(path), half=True)
"""
"""Stores the weights of a model file as float16, as `glam train --half true` does."""


def glam(*arguments: object) -> str:
    """Standard output of a `glam` command, run in `ROOT`."""
    command = [sys.executable, "-m", "glam.app", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def main(out: Path) -> None:
    """Makes everything in `ROOT` and copies it to ``out``, a new folder."""
    if ROOT.exists() or out.exists():
        raise SystemExit(f"{ROOT} and {out} must not exist")
    make_images()
    runs = make_runs()
    make_descriptors()
    make_indexes()
    expected = {
        "commit": COMMIT,
        "versions": {name: metadata.version(name) for name in ("torch", "timm", "faiss-cpu", "pillow", "lightning")},
        **model_answers(),
        "indexes": {path.stem: index_answers(path) for path in sorted((ROOT / "indexes").glob("*.glam"))},
        "runs": runs,
    }
    shutil.rmtree(ROOT / "copies")
    shutil.rmtree(ROOT / "many")  # the tests write it again
    text = json.dumps(expected, indent=1, ensure_ascii=False)
    (ROOT / "expected.json").write_text(text + "\n", encoding="utf-8")
    (ROOT / ".gitattributes").write_text("# Checksums and digests count bytes.\n* -text\n", encoding="utf-8")
    for folder in sorted(ROOT.rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):  # git keeps no empty folder
            folder.rmdir()
    shutil.copytree(ROOT, out)
    shutil.rmtree(ROOT)


def make_images() -> None:
    """Six landmarks of four images each, a fifth image and part of an image to search with, a manifest, and the filler
    images."""
    ROOT.mkdir()
    glam("data", "generate", "photos", "--landmarks", 6, "--images", 5, "--size", IMAGE_SIZE)
    (ROOT / "queries").mkdir()
    shutil.copy(ROOT / "photos" / "landmark_00001" / "0004.jpg", ROOT / QUERIES[0])
    for file in (ROOT / "photos").glob("*/0004.jpg"):
        file.unlink()
    glam("data", "generate", "large", "--landmarks", 6, "--images", 5, "--size", 2 * IMAGE_SIZE)
    with Image.open(ROOT / "large" / "landmark_00001" / "0003.jpg") as image:
        left, top, right, bottom = 0.15 * image.width, 0.1 * image.height, 0.75 * image.width, 0.75 * image.height
        image.crop((int(left), int(top), int(right), int(bottom))).save(ROOT / QUERIES[1], quality=95)
    shutil.rmtree(ROOT / "large")
    lines = ["path,landmark,city,year"]
    for i, file in enumerate(sorted((ROOT / "photos").glob("*/*.jpg"))):
        lines.append(f"{file.relative_to(ROOT)},tower {i // 4},{'Paris' if i % 2 else 'Köln'},{2000 + i}")
    (ROOT / "photos.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_filler(ROOT / "many" / "filler")
    shutil.copytree(ROOT / "photos", ROOT / "many" / "photos")
    set_modified(ROOT)


def make_runs() -> dict[str, Any]:
    """Two trainings killed in their second epoch, and the last losses of the same trainings when nothing stops them.

    The plain one, whitened, is the model of the indexes: it has every part that a model file can have.
    """
    losses = {}
    for name, more in RUNS.items():
        unbroken = ROOT / "unbroken" / name
        glam("train", *TRAINING, *more, "--out", unbroken)
        losses[name] = {"options": [*TRAINING, *more], "epoch_loss": last_loss(unbroken)}
        run = ROOT / "runs" / name
        command = [sys.executable, "-c", KILLED, *TRAINING, *more, "--out", str(run)]
        if subprocess.run(command, check=False, cwd=ROOT).returncode != -signal.SIGKILL:
            raise SystemExit("the run was not killed")
        # Derived, or a second copy of the weights that a run resumed in another folder does not read.
        for folder in (run / "tensorboard", run / "plots"):
            shutil.rmtree(folder, ignore_errors=True)
        (run / "checkpoints" / "best.ckpt").unlink()
    trained = ROOT / "unbroken" / "plain" / "model.safetensors"
    glam("whiten", "fit", "photos", "--model", trained, "--method", "pca", "--out", MODEL)
    subprocess.run([sys.executable, "-c", HALVED, str(MODEL)], check=True, cwd=ROOT)
    shutil.rmtree(ROOT / "unbroken")
    return losses


def last_loss(run: Path) -> float:
    """Mean loss of the last epoch of a run."""
    lines = (run / "csv" / "version_0" / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("epoch_loss")
    return float([line.split(",")[column] for line in lines[1:] if line.split(",")[column]][-1])


def make_descriptors() -> None:
    """The descriptors of the images in two shards, as two machines write them, and an evaluation."""
    for shard in (1, 2):
        out = f"descriptors-{shard}.safetensors"
        glam("describe", "photos", "--out", out, "--model", MODEL, "--shard", f"{shard}/2", "--device", "cpu")
    glam("eval", "folder", "photos", "--model", MODEL, "--device", "cpu", "--json", "evaluation.json")


def make_indexes() -> None:
    """An index of every kind."""
    indexes = ROOT / "indexes"
    indexes.mkdir()
    make_exact(indexes / "exact.glam")
    build(indexes / "ivf_pq.glam", "many", "--structure", "ivf_pq")
    build(indexes / "precomputed.glam", "photos.csv")
    glam("index", "keep", indexes / "precomputed.glam", "--features", "--neighbours")
    make_version_1(indexes / "version_1.glam")
    make_version_2(indexes / "version_2.glam")
    build(indexes / "milvus.glam", "photos.csv", "--backend", "milvus", "--uri", ROOT / "milvus.db")


def build(index: Path, source: str, *more: object) -> None:
    glam("index", "build", index, source, "--model", MODEL, "--device", "cpu", *more)


def make_exact(index: Path) -> None:
    """An index in two batches, with an image that was removed and not compacted away, and an unreadable file."""
    extra, broken = ROOT / "photos" / "landmark_00000" / "extra.jpg", ROOT / "photos" / "broken.jpg"
    shutil.copy(ROOT / QUERIES[1], extra)
    broken.write_bytes(b"half an upload")
    moved = ROOT / "photos" / "landmark_00005"
    moved.rename(ROOT / "landmark_00005")
    build(index, "photos")
    (ROOT / "landmark_00005").rename(moved)
    build(index, "photos")
    glam("index", "remove", index, extra)
    extra.unlink()
    broken.unlink()


def make_version_1(index: Path) -> None:
    """An index as the first version wrote it: one file of descriptors, and nothing about the files of the images."""
    build(index, "photos")
    with closing(sqlite3.connect(index / "catalogue.sqlite")) as database:
        about = json.loads(database.execute("SELECT description FROM about").fetchone()[0])
        images = database.execute("SELECT id, path, label, width, height FROM images ORDER BY id").fetchall()
        ids = b"".join(row[0] for row in database.execute("SELECT images FROM batches ORDER BY segment, first"))
    rows = np.fromfile(index / "descriptors" / "000001.f32", dtype="<f4").reshape(len(images), -1)
    shutil.rmtree(index)
    index.mkdir()
    rows[np.argsort(np.frombuffer(ids, "<i8"))].tofile(index / "descriptors.f32")
    about = {name: about[name] for name in ("model", "fingerprint", "dim", "size", "scales", "root")}
    with closing(sqlite3.connect(index / "catalogue.sqlite")) as database, database:
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
        database.execute("INSERT INTO about VALUES (?)", [json.dumps(about)])
        database.execute("INSERT INTO unreadable VALUES ('broken.jpg', 'an empty file')")
        database.executemany("INSERT INTO images VALUES (?, ?, ?, ?, ?)", images)


def make_version_2(index: Path) -> None:
    """An index as the second version wrote it: without the table of files for re-ranking."""
    build(index, "photos.csv")
    catalog = index / "catalogue.sqlite"
    with closing(sqlite3.connect(catalog, isolation_level=None)) as database:
        database.execute("DROP TABLE kept")
        database.execute("DELETE FROM sqlite_sequence WHERE name = 'kept'")
        database.execute("UPDATE about SET description = json_remove(description, '$.keeps')")
        database.execute("PRAGMA user_version = 2")
        database.execute("VACUUM")
    digests = {catalog.name: blake2b(catalog.read_bytes())}
    content = {"files": digests, "own": blake2b(json.dumps(digests, sort_keys=True).encode())}
    (index / "checksums.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def blake2b(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def model_answers() -> dict[str, Any]:
    """Fingerprints, and the descriptors of the queries and of two images."""
    import glam as package

    print("made by", package.__file__, flush=True)
    model = package.load(MODEL, "cpu")
    photos = [*QUERIES, "photos/landmark_00000/0000.jpg", "photos/landmark_00003/0002.jpg"]
    rows = model.describe([ROOT / photo for photo in photos])
    return {
        "fingerprints": {
            "model.safetensors": model.fingerprint,
            "glam-lite0": package.load("glam-lite0", "cpu").fingerprint,
        },
        "descriptors": {photo: row.tolist() for photo, row in zip(photos, rows, strict=True)},
    }


def index_answers(original: Path) -> dict[str, Any]:
    """What an index says of itself and answers to the queries; a copy is asked, because opening may upgrade it."""
    import glam as package

    path = ROOT / "copies" / original.name
    shutil.copytree(original, path)
    info = json.loads(glam("index", "info", path, "--json"))
    verified = json.loads(glam("index", "verify", path, "--json", "--device", "cpu"))
    model = package.load(MODEL, "cpu")
    rows = model.describe([ROOT / query for query in QUERIES])
    if path.stem in ("precomputed", "version_2", "milvus"):
        conditions = [None, "city = 'Köln' and year > 2006", "width >= 64 and path like '%/0001.jpg'"]
    else:
        conditions = [None, "width >= 64 and path like '%/0001.jpg'"]
    searches: list[dict[str, Any]] = []
    with package.index.open(path) as index:
        for query, row in zip(QUERIES, rows, strict=True):
            for where in conditions:
                found: Any = index.search(row, k=5, where=where)[0]
                hits = [[hit.entry.path, hit.entry.label, round(hit.score, 6)] for hit in found]
                check_gaps(hits)
                searches.append({"query": query, "where": where, "hits": hits})
    reranked = []
    if path.stem == "precomputed":
        for query in QUERIES:
            for chain in RERANKED:
                output = glam("search", path, query, "--rerank", chain, "--top", 5, "--json", "--device", "cpu")
                hits = [[hit["path"], hit["label"], round(hit["score"], 6)] for hit in json.loads(output)]
                reranked.append({"query": query, "rerank": chain, "hits": hits})
        plain = [search["hits"] for search in searches if search["where"] is None]
        if plain == [search["hits"] for search in reranked if search["rerank"] == "geometric"]:
            raise SystemExit("the local features change no order, so they prove nothing")
    assert len(searches[0]["hits"]) == 5
    assert info["images"] == (COUNT + 24 if path.stem == "ivf_pq" else 24), info
    assert verified["problems"] == [], verified
    return {"info": info, "verified": verified, "searches": searches, "reranked": reranked}


def check_gaps(hits: list[list[Any]]) -> None:
    """Makes sure that no two neighbors score so alike that rounding could swap them."""
    gaps = -np.diff([score for _, _, score in hits])
    if len(gaps) and gaps.min() < 5e-5:
        raise SystemExit(f"scores too close: {hits}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(Path(sys.argv[1]).absolute())
