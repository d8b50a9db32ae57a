"""The operations whose power cuts are tried, on an index of a few drawn images, and what the index must hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from glam.datasets.collection import Collection, ScanOptions
from glam.index import Index, add, build, compact, info, precompute, relocate, remove, sync, verify
from glam.index.limits import IndexLimits
from glam.index.operations.source import read_images
from glam.index.storage.schema import NoIndexError

LIMITS = IndexLimits(commit_images=2, segment_rows=3, save_exact=True, added_in_memory=0)
"""So small that a few images take several batches, two segments, and a saved search structure."""


class Content(NamedTuple):
    """What an index holds.

    Attributes:
        root: root of the index.
        source: folder that its images come from.
        images: path, landmark, and descriptor of each image, in the order of the paths.
    """

    root: str
    source: str
    images: tuple[tuple[str, str, bytes], ...]


@dataclass(frozen=True)
class Operation:
    """One operation of the scenario.

    Attributes:
        name: its name.
        prepare: changes the images before it.
        run: runs it on an index; run again after a power cut, it completes what is left.
    """

    name: str
    prepare: Callable[[Path], None]
    run: Callable[[Path, Path, Any], None]


def read_content(index: Path) -> Content | None:
    """Reads what an index holds, as a search would, and checks that each image is found by its descriptor.

    Args:
        index: folder of the index; None is returned if it holds none.
    """
    try:
        opened = Index.open(index, limits=LIMITS)
    except NoIndexError:
        return None
    with opened:
        image_ids = opened.image_ids.tolist()
        descriptors = opened.descriptors(image_ids) if image_ids else []
        entries = opened.entries(image_ids)
        for descriptor, entry in zip(descriptors, entries, strict=True):
            assert opened.search(descriptor, k=1)[0][0].entry == entry
        if image_ids:
            opened.local_features(image_ids[0])
            opened.search(descriptors, k=2, rerank="dba")  # reads the kNN graph
        found = zip(entries, descriptors, strict=True)
        images = sorted((entry.path, entry.landmark, descriptor.tobytes()) for entry, descriptor in found)
        return Content(str(opened.root), info(index).source, tuple(images))


def problems(index: Path) -> Sequence[str]:
    """What `verify` finds in an index; nothing if there is none."""
    try:
        return [f"{problem.file}: {problem.what}" for problem in verify(index).problems]
    except NoIndexError:
        return []


def verified(index: Path) -> bool:
    """Whether the last writer of an index finished, and `verify` finds nothing."""
    found = verify(index)
    return found.clean and not found.problems


def draw(path: Path, seed: int) -> None:
    """Draws an image of 48 x 40 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tile = bytes((seed * 7919 + i * i * 31) % 256 for i in range(6 * 5 * 3))
    Image.frombytes("RGB", (6, 5), tile).resize((48, 40), Image.Resampling.NEAREST).save(path)


def _first_images(photos: Path) -> None:
    for i in range(4):
        draw(photos / "A" / f"{i}.png", i)


def _another_image(photos: Path) -> None:
    draw(photos / "A" / "4.png", 4)


def _changed_folder(photos: Path) -> None:
    draw(photos / "A" / "0.png", 10)
    (photos / "B").mkdir(exist_ok=True)
    (photos / "A" / "1.png").rename(photos / "B" / "1.png")
    (photos / "A" / "2.png").unlink()
    draw(photos / "B" / "5.png", 5)


def _nothing(photos: Path) -> None:
    pass


def _moved(photos: Path) -> None:
    photos.rename(photos.with_name("moved"))


def _moved_again(photos: Path) -> None:
    photos.with_name("moved").rename(photos.with_name("moved again"))


def _read(photos: Path) -> Collection:
    return read_images(photos, ScanOptions(landmark_from="folder"))


def _build(index: Path, photos: Path, model: Any) -> None:
    build(index, _read(photos), model, limits=LIMITS)


def _precompute(index: Path, photos: Path, model: Any) -> None:
    precompute(index, local_features=True, knn_graph=True, limits=LIMITS)


def _add(index: Path, photos: Path, model: Any) -> None:
    add(index, [photos / "A" / "4.png"], lambda: model, limits=LIMITS)


def _sync(index: Path, photos: Path, model: Any) -> None:
    sync(index, _read(photos), lambda: model, limits=LIMITS)


def _remove(index: Path, photos: Path, model: Any) -> None:
    content = read_content(index)
    if content is not None and any(path == "B/1.png" for path, _, _ in content.images):
        remove(index, ["B/1.png"], limits=LIMITS)
    else:  # it was removed before the power cut
        precompute(index, limits=LIMITS)


def _compact(index: Path, photos: Path, model: Any) -> None:
    compact(index, limits=LIMITS)


def _follow(index: Path, photos: Path, model: Any) -> None:
    sync(index, _read(photos.with_name("moved")), lambda: model, limits=LIMITS)


def _relocate(index: Path, photos: Path, model: Any) -> None:
    relocate(index, photos.with_name("moved again"), limits=LIMITS)


OPERATIONS = (
    Operation("build", _first_images, _build),
    Operation("precompute", _nothing, _precompute),
    Operation("add", _another_image, _add),
    Operation("sync", _changed_folder, _sync),
    Operation("remove", _nothing, _remove),
    Operation("compact", _nothing, _compact),
    Operation("sync of a moved folder", _moved, _follow),
    Operation("relocate", _moved_again, _relocate),
)
"""The operations, each on the index that the one before left."""
