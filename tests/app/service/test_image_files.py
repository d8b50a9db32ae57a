"""The files behind an index: which are served, and how thumbnails are made and kept."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from PIL import Image

from glam.app.service.image_files import ImageFileGone, IndexedFiles
from glam.app.service.lru_cache import LruCache
from glam.index import Entry, Index

EXIF_ORIENTATION = 0x0112
TURNED_RIGHT = 6  # the camera was held upright: what is stored at the left belongs on top


def files_of(root: Path, path: str) -> IndexedFiles:
    """The files of an index with one image, whose image_id is 0."""
    entry = Entry(0, path, "", 1, 1)
    index = SimpleNamespace(root=root, entry=lambda image_id: entry, file=lambda image_id: root / path)
    return IndexedFiles(cast(Index, index), LruCache(1_000_000, len))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (40, 20), "red").save(folder / "red.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    return folder


Use = Callable[[IndexedFiles], object]
USES: dict[str, Use] = {
    "path": lambda files: files.path(0),
    "read": lambda files: files.read(0),
    "browser_type": lambda files: files.browser_type(0),
    "jpeg": lambda files: files.jpeg(0),
    "thumbnail": lambda files: files.thumbnail(0, 64),
}


@pytest.fixture(params=USES)
def use(request: pytest.FixtureRequest) -> Use:
    return USES[request.param]


@pytest.mark.parametrize("path", ["../secret.png", "sub/../../secret.png", "/etc/hostname"])
def test_a_catalog_cannot_point_out_of_its_folder(root: Path, path: str, use: Use) -> None:
    (root / "sub").mkdir()
    with pytest.raises(ImageFileGone, match="outside"):
        use(files_of(root, path))


def test_neither_a_link_to_a_file_nor_to_a_folder_outside_is_followed(root: Path, use: Use) -> None:
    (root / "file.png").symlink_to(root.parent / "secret.png")
    (root / "folder").symlink_to(root.parent)
    for path in ("file.png", "folder/secret.png"):
        with pytest.raises(ImageFileGone, match="outside"):
            use(files_of(root, path))


def test_a_folder_beside_whose_name_begins_the_same_is_outside(root: Path, use: Use) -> None:
    beside = root.with_name(root.name + "-private")
    beside.mkdir()
    (root / "red.png").rename(beside / "red.png")
    with pytest.raises(ImageFileGone, match="outside"):
        use(files_of(root, f"../{beside.name}/red.png"))


def test_links_within_the_folder_and_to_the_folder_are_followed(root: Path, use: Use) -> None:
    (root / "link.png").symlink_to("red.png")
    use(files_of(root, "link.png"))
    other_way_in = root.with_name("other")
    other_way_in.symlink_to(root)
    use(files_of(other_way_in, "red.png"))


def test_a_missing_file_is_told_without_its_place_on_disk(root: Path, use: Use) -> None:
    with pytest.raises(ImageFileGone, match=r"lost\.png") as error:
        use(files_of(root, "lost.png"))
    assert str(root) not in str(error.value)


@pytest.mark.parametrize("name", ["browser_type", "read", "jpeg", "thumbnail"])
def test_a_file_that_is_no_image_any_more_is_gone(root: Path, name: str) -> None:
    (root / "red.png").write_text("<script>alert(1)</script>")
    with pytest.raises(ImageFileGone, match="no longer"):
        USES[name](files_of(root, "red.png"))


def test_the_content_and_not_the_name_says_what_a_browser_shows(root: Path) -> None:
    (root / "red.png").rename(root / "red.jpg")
    assert files_of(root, "red.jpg").browser_type(0) == "image/png"
    Image.new("RGB", (4, 4)).save(root / "scan.jpg", "TIFF")
    assert files_of(root, "scan.jpg").browser_type(0) is None


@pytest.mark.parametrize(("size", "expected"), [(100, (50, 100)), (1000, (200, 400))])
def test_a_thumbnail_is_an_upright_jpeg_within_the_size_and_never_enlarged(
    root: Path, size: int, expected: tuple[int, int]
) -> None:
    stored = Image.new("RGB", (400, 200), "blue")
    stored.paste("red", (0, 0, 200, 200))
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = TURNED_RIGHT
    stored.save(root / "turned.jpg", exif=exif.tobytes())

    made = Image.open(io.BytesIO(files_of(root, "turned.jpg").thumbnail(0, size).jpeg or b""))
    assert (made.format, made.size) == ("JPEG", expected)
    assert not made.getexif()
    red, _, blue = cast(tuple[int, int, int], made.getpixel((5, 5)))
    assert red > blue


def test_a_kept_thumbnail_is_not_made_again_until_its_file_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_of(root, "red.png")
    first = files.thumbnail(0, 64)
    with monkeypatch.context() as no_reading:
        no_reading.setattr(files, "read", lambda image_id: pytest.fail("read again"))
        assert files.thumbnail(0, 64) == first
        assert files.thumbnail(0, 64, first.etag).jpeg is None
        assert files.thumbnail(0, 64, f'"other", W/{first.etag}').jpeg is None
    assert files.thumbnail(0, 32).etag != first.etag

    Image.new("RGB", (40, 20), "blue").save(root / "red.png")
    os.utime(root / "red.png", (1, 1))
    changed = files.thumbnail(0, 64, first.etag)
    assert changed.jpeg not in (None, first.jpeg)


def test_the_cache_drops_what_was_unused_longest() -> None:
    cache: LruCache[str, bytes] = LruCache(10, len)
    cache.put("a", b"1234")
    cache.put("b", b"1234")
    cache.get("a")
    cache.put("c", b"1234")
    assert [cache.get(key) for key in "abc"] == [b"1234", None, b"1234"]


def test_the_cache_gives_back_the_room_of_what_it_replaces_and_drops() -> None:
    cache: LruCache[str, bytes] = LruCache(10, len)
    for _ in range(5):
        cache.put("a", b"1234")
    cache.put("b", b"123456")
    assert [cache.get(key) for key in "ab"] == [b"1234", b"123456"]
    cache.put("huge", bytes(11))
    assert cache.get("huge") is None
    cache.put("c", bytes(10))
    assert cache.get("c") == bytes(10)
