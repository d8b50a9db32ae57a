"""`glam index ...` as people and scripts use it."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from glam.app.cli.main import app
from glam.datasets.readers import read_collection, read_folder
from glam.index import build
from glam.index.storage.lock import write_lock

GLAM = str(Path(sys.executable).with_name("glam"))


def glam(*arguments: object, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([GLAM, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for i in range(6):
        (root / f"landmark {i % 2}").mkdir(parents=True, exist_ok=True)
        (root / f"landmark {i % 2}" / f"{i}.jpg").write_text("twin" if i in (0, 2) else f"content {i}")
    return root


@pytest.fixture
def index(folder: Path, tmp_path: Path, content_model: Any) -> Path:
    build(tmp_path / "i.glam", read_folder(folder), content_model)
    return tmp_path / "i.glam"


def test_a_day_with_an_index_that_needs_no_model(index: Path, folder: Path) -> None:
    assert "0 added, 0 changed, 0 moved, 0 removed, 6 unchanged" in glam("index", "sync", index, folder).stdout
    (folder / "landmark 1" / "1.jpg").rename(folder / "landmark 0" / "moved.jpg")
    synced = json.loads(glam("index", "sync", index, folder, "--json").stdout)
    assert (synced["moved"], synced["unchanged"], synced["unreadable"]) == (1, 5, [])
    (twins,) = json.loads(glam("index", "duplicates", index, "--json").stdout)
    assert {image["path"] for image in twins["images"]} == {"landmark 0/0.jpg", "landmark 0/2.jpg"}
    assert "1 group of near-duplicates, 2 images" in glam("index", "duplicates", index, "--threshold", 0.99).stdout
    assert "2 images removed" in glam("index", "remove", index, "landmark 1").stdout
    assert json.loads(glam("index", "compact", index, "--json").stdout)["removed"] == 2
    assert "no problems found (4 images" in glam("index", "verify", index, "--sample", 0).stdout
    facts = json.loads(glam("index", "info", index, "--json").stdout)
    assert (facts["images"], facts["removed"], facts["clean"], facts["writer"]) == (4, 0, True, None)


def test_damage_is_named_and_exit_code_1(index: Path) -> None:
    file = index / "descriptors" / "000001.f32"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    done = glam("index", "verify", index, "--sample", 0, code=1)
    assert f"{file}: damaged between rows 0 and 5" in done.stdout
    found = json.loads(glam("index", "verify", index, "--json", "--sample", 0, code=1).stdout)
    assert [problem["file"] for problem in found["problems"]] == ["descriptors/000001.f32"]


def test_what_is_expected_to_fail_is_one_sentence(index: Path, folder: Path, tmp_path: Path) -> None:
    for arguments, sentence in (
        (("remove", index, "none.jpg"), "none.jpg is not in"),
        (("add", index, tmp_path / "none.jpg"), "no such file"),
        (
            ("sync", tmp_path / "none.glam", folder),
            "no index there. Check the path, or create an index with `glam index build`",
        ),
        (("compact", tmp_path), "no index there"),
        (("verify", folder), "no index there"),
    ):
        done = glam("index", *arguments, code=1)
        assert sentence in done.stderr.replace("\n", " ")
        assert done.stdout == ""
    with write_lock(index):
        assert "is in use by process" in glam("index", "sync", index, folder, code=1).stderr
    glam("index", "remove", index, code=2)
    glam("index", "verify", index, "--sample", -1, code=2)


def test_info_does_not_wait_for_pytorch(index: Path) -> None:
    program = (
        "import sys\nfrom glam.app.cli.main import app\n"
        f"app(['index', 'info', {str(index)!r}, '--json'], standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 0


def test_info_speaks_english(index: Path, folder: Path) -> None:
    lines = glam("index", "info", index).stdout.splitlines()
    facts = dict(line.split("\t") for line in lines)
    changed = datetime.fromtimestamp((index / "catalogue.sqlite").stat().st_mtime)
    assert facts["images"] == "6"
    assert facts["folder"] == str(folder)
    assert facts["scales"] == "1.0"
    assert facts["structure"] == "exact"
    assert facts["precomputed"] == "nothing"
    assert facts["closed"] == "cleanly"
    assert facts["last changed"] == f"{changed:%Y-%m-%d %H:%M}"
    assert re.fullmatch(r"[\d.]+ kB in 1 segment", facts["size on disk"])
    assert json.loads(glam("index", "info", index, "--json").stdout).keys() == {
        *("index", "images", "removed", "landmarks", "model", "fingerprint", "dim", "size", "scales", "root"),
        *("structure", "precomputed", "backend", "segments", "bytes", "clean", "writer", "unreadable"),
        *("source", "exclude", "landmark_from", "skipped"),
    }
    glam("index", "remove", index, "landmark 0/0.jpg")
    glam("index", "precompute", index, "--knn-graph")
    (index / "checksums.json").unlink()
    with write_lock(index):
        writing = glam("index", "info", index).stdout
    changed_facts = glam("index", "info", index).stdout
    assert "images\t5 (1 more removed, not yet compacted)" in changed_facts
    assert "precomputed\tkNN graph" in changed_facts
    assert "closed\tnot cleanly; the next change repairs it" in changed_facts
    assert f"closed\tno; process {os.getpid()} on " in writing


def test_sync_knows_the_folder_of_the_index(index: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "landmark 1" / "1.jpg").unlink()
    done = glam("index", "sync", index, cwd=tmp_path)
    assert "1 removed, 5 unchanged" in done.stdout
    assert str(folder) in done.stderr
    folder.rename(tmp_path / "moved")
    gone = glam("index", "sync", index, code=1).stderr
    assert f"{folder}, the folder of {index}, no longer exists." in gone
    assert f"run `glam index relocate {index} FOLDER`" in gone
    assert "5 unchanged" in glam("index", "sync", index, tmp_path / "moved").stdout
    assert "5 unchanged" in glam("index", "sync", index).stdout
    assert "no problems found" in glam("index", "verify", index, "--sample", 0).stdout


def test_a_folder_that_holds_none_of_the_images_is_no_moved_folder(index: Path, folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "unplugged")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.jpg").write_text("other")
    assert "is an index of" in glam("index", "sync", index, tmp_path / "other", code=1).stderr
    assert json.loads(glam("index", "info", index, "--json").stdout)["images"] == 6


def test_sync_of_an_index_that_was_built_from_a_list_reads_the_list(
    folder: Path, tmp_path: Path, content_model: Any
) -> None:
    (folder / "mine.csv").write_text("path,landmark\nlandmark 0/0.jpg,tower\nlandmark 1/1.jpg,gate\n")
    index = tmp_path / "listed.glam"
    build(index, read_collection(folder / "mine.csv"), content_model)
    done = glam("index", "sync", index)
    assert "2 unchanged" in done.stdout
    assert f"Comparing {index} with {folder / 'mine.csv'}." in done.stderr


def test_sync_of_an_earlier_index_that_was_built_from_a_list_asks_for_the_list(
    folder: Path, tmp_path: Path, content_model: Any
) -> None:
    """Reading the folder would overwrite the landmarks of the list, and add images that it leaves out."""
    (folder / "mine.csv").write_text("path,landmark\nlandmark 0/0.jpg,tower\nlandmark 1/1.jpg,gate\n")
    index = tmp_path / "listed.glam"
    build(index, replace(read_collection(folder / "mine.csv"), source=None), content_model)
    done = glam("index", "sync", index, code=1)
    assert f"Give the list that has them: glam index sync {index} LIST" in done.stderr
    assert json.loads(glam("index", "info", index, "--json").stdout)["images"] == 2
    assert "2 unchanged" in glam("index", "sync", index, folder / "mine.csv").stdout
    assert "2 unchanged" in glam("index", "sync", index).stdout


def test_a_text_file_that_lists_no_image_makes_no_index(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("buy milk\n")
    done = glam("index", "build", "x.glam", "notes.txt", code=1, cwd=tmp_path)
    assert "notes.txt lists no file that exists, such as buy milk." in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_list_without_files_does_not_empty_an_index(index: Path, folder: Path) -> None:
    (folder / "manifest.csv").write_text("path\nunplugged/1.jpg\n")
    assert "lists no file that exists" in glam("index", "sync", index, folder, code=1).stderr
    assert json.loads(glam("index", "info", index, "--json").stdout)["images"] == 6


def test_what_is_skipped_is_reported_and_the_options_are_kept(folder: Path, tmp_path: Path) -> None:
    root, index = tmp_path / "album", tmp_path / "p.glam"
    for name in ("1.png", "@eaDir/t.png", "drafts/2.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), "red").save(root / name)
    for name in ("a.MOV", "b.mov", "c.psd", "bad.jpg"):
        (root / name).touch()
    (root / "linked").symlink_to(folder)
    model = ("--model", "timm:tf_efficientnet_lite0", "--size", 64)
    built = glam("index", "build", index, root, "--exclude", "drafts/", *model)
    line = "skipped: 2 .mov, 1 .psd (format not read), 1 unreadable, 2 excluded, 1 link"
    assert "1 image added" in built.stdout
    assert line in built.stderr.splitlines()
    assert "  linked: it leads out of the folder" in built.stderr.splitlines()
    (root / "b.mov").unlink()
    synced = glam("index", "sync", index)
    assert "0 added, 0 changed, 0 moved, 0 removed, 1 unchanged" in synced.stdout
    assert "skipped: 1 .mov, 1 .psd" in synced.stderr
    assert "skipped: 1 .mov, 1 .psd (format not read), 1 unreadable" in glam("index", "info", index).stderr
    facts = json.loads(glam("index", "info", index, "--json").stdout)
    assert (facts["exclude"], facts["landmark_from"]) == (["drafts/"], "none")
    assert facts["skipped"]["formats"] == {".mov": 1, ".psd": 1}
    assert "1 added" in glam("index", "sync", index, "--exclude", "").stdout
    assert json.loads(glam("index", "info", index, "--json").stdout)["exclude"] == []
    named = glam("index", "sync", index, "--landmark-from", "parent")
    assert "Landmark names such as" not in named.stderr
    assert json.loads(glam("index", "info", index, "--json").stdout)["landmarks"] == 1


def test_a_second_build_uses_the_options_of_the_first(tmp_path: Path) -> None:
    root, index = tmp_path / "album", tmp_path / "p.glam"
    for name in ("Rome/1.png", "drafts/2.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), "red").save(root / name)
    build_it = ("index", "build", index, root, "--model", "timm:tf_efficientnet_lite0", "--size", 64)
    assert "1 image added" in glam(*build_it, "--exclude", "drafts/", "--landmark-from", "folder").stdout
    Image.new("RGB", (64, 64), "blue").save(root / "Rome" / "3.png")
    again = glam(*build_it)
    assert "1 image added, 1 already in the index" in again.stdout
    assert "still synced" not in again.stderr
    facts = json.loads(glam("index", "info", index, "--json").stdout)
    assert (facts["exclude"], facts["landmark_from"], facts["landmarks"]) == (["drafts/"], "folder", 1)


def test_another_source_than_the_recorded_one_is_named(folder: Path, tmp_path: Path, content_model: Any) -> None:
    (folder / "mine.csv").write_text("path,landmark\nlandmark 0/0.jpg,tower\nlandmark 1/1.jpg,gate\n")
    index = tmp_path / "listed.glam"
    build(index, read_collection(folder / "mine.csv"), content_model)
    added = build(index, read_folder(folder), content_model)
    assert added.added == 4
    assert json.loads(glam("index", "info", index, "--json").stdout)["source"] == str(folder / "mine.csv")
    synced = glam("index", "sync", index, folder)
    assert "6 unchanged" in synced.stdout
    assert f"`glam index sync {index}` now reads {folder} instead of {folder / 'mine.csv'}." in synced.stderr
    assert "now reads" not in glam("index", "sync", index, folder).stderr
    assert json.loads(glam("index", "info", index, "--json").stdout)["source"] == str(folder)


def test_a_name_that_is_not_utf8_is_shown_with_a_backslash_in_text_and_json(tmp_path: Path) -> None:
    root, index = tmp_path / "album", tmp_path / "p.glam"
    root.mkdir()
    Image.new("RGB", (64, 64), "red").save(root / "1.png")
    os.link(root / "1.png", os.fsdecode(bytes(root) + b"/caf\xe9.png"))
    build_it = ("index", "build", index, root, "--model", "timm:tf_efficientnet_lite0", "--size", 64)
    assert "  caf\\udce9.png: its name is not UTF-8" in glam(*build_it).stderr.splitlines()
    synced = json.loads(glam("index", "sync", index, "--json").stdout)
    assert (synced["unchanged"], synced["unreadable"]) == (1, [["caf\\udce9.png", "its name is not UTF-8"]])


def test_an_interrupt_says_what_it_leaves(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("glam.index.build", interrupted)
    index = tmp_path / "i.glam"
    done = CliRunner().invoke(app, ["index", "build", str(index), str(folder), "--model", "timm:tf_efficientnet_lite0"])
    assert done.exit_code == 130
    assert f"{index}: interrupted. It has what was done so far; run the command again to resume." in done.stderr


def test_relocate_follows_the_images(index: Path, folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "new")
    refused = glam("index", "build", index, tmp_path / "new", "--model", "timm:tf_efficientnet_lite0", code=1)
    assert "was built with" in refused.stderr
    done = glam("index", "relocate", index, tmp_path / "new")
    assert f"now an index of {tmp_path / 'new'} (6 of 6 compared images as indexed, 0 missing)" in done.stdout
    assert "6 unchanged" in glam("index", "sync", index).stdout


def test_keep_is_an_alias_with_a_notice(index: Path) -> None:
    done = glam("index", "keep", index, "--neighbours")
    assert done.stderr.splitlines()[0] == "`glam index keep` is now `glam index precompute`."
    assert "kNN graph precomputed" in done.stdout
    assert "nothing precomputed" in glam("index", "precompute", index, "--no-knn-graph").stdout


def test_names_are_escaped_but_exact_in_json(folder: Path, tmp_path: Path, content_model: Any) -> None:
    for i in range(2):
        (folder / "landmark 0" / f"line{i}\n\x1b[31m.jpg").write_text("the same")
    build(tmp_path / "n.glam", read_folder(folder), content_model)
    shown = glam("index", "duplicates", tmp_path / "n.glam").stdout
    assert "  landmark 0/line0\\n\\x1b[31m.jpg" in shown.splitlines()
    groups = json.loads(glam("index", "duplicates", tmp_path / "n.glam", "--json").stdout)
    paths = {image["path"] for group in groups for image in group["images"]}
    assert "landmark 0/line0\n\x1b[31m.jpg" in paths


def test_add_verify_and_search_with_a_model(tmp_path: Path) -> None:
    """In this process, where PyTorch is loaded once."""

    def run(*arguments: object) -> str:
        done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    root, index = tmp_path / "photos", tmp_path / "p.glam"
    for landmark in ("red", "blue"):
        (root / landmark).mkdir(parents=True)
        Image.new("RGB", (64, 64), landmark).save(root / landmark / "1.png")
    (root / "manifest.csv").write_text("path,landmark,city\nred/1.png,red,Rome\nblue/1.png,blue,Bonn\n")
    run("index", "build", index, root, "--model", "timm:tf_efficientnet_lite0", "--size", 64)
    Image.new("RGB", (64, 64), "green").save(root / "red" / "2.png")
    assert "1 added" in run("index", "add", index, root / "red" / "2.png")
    assert "3 images, 3 described again" in run("index", "verify", index)
    found = json.loads(run("search", index, root / "red" / "1.png", "--where", "city = 'Bonn'", "--json"))
    assert [(hit["path"], hit["metadata"]) for hit in found] == [("blue/1.png", {"city": "Bonn"})]
    found = json.loads(run("search", index, root / "red" / "1.png", "--threshold", 0.999, "--json"))
    assert [hit["path"] for hit in found] == ["red/1.png"]
