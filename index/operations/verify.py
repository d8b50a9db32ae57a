"""`verify`: checks an index for damage, from its checksums to a sample of images described again.

    verify --> checksums.json --has digests of--> catalog, list.json --have digests of--> descriptors, search structure,
                                                                                            data for re-ranking
    verify --> counts in the catalog, a sample of images described again

It changes nothing, and holds a lock that keeps writers out. After a writer was killed there are no checksums: the
catalog is then checked only by SQLite's own integrity check.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from glam.datasets.collection import ImageFile
from glam.errors import GlamError, system_reason
from glam.index import ann_cache
from glam.index.operations.image_files import read_facts
from glam.index.rerank_store import files as rerank_files
from glam.index.storage import segments
from glam.index.storage.catalog import Catalog
from glam.index.storage.checks import check_content, folder_problems
from glam.index.storage.checksums import CHECKSUMS, digest_file, read_checksums
from glam.index.storage.lock import LOCK, read_lock, recorded_owner
from glam.index.storage.migrations import open_catalog
from glam.index.storage.records import DescriptorBatch, StoredImage
from glam.index.storage.schema import CATALOG, DamagedCatalogError, NoIndexError, catalog_digest
from glam.index.storage.segments import digest_descriptors, open_segment, segment_file
from glam.index.storage.snapshot import take_snapshot

if TYPE_CHECKING:
    from glam.model import Model

SAMPLE = 16
"""Images described again by default (arbitrary): a few seconds of work."""

SAME = 0.99
"""Lowest cosine similarity at which two descriptors of a file count as equal. A GPU computes them in 16 bits."""


@dataclass(frozen=True)
class Problem:
    """A problem that `verify` found.

    Attributes:
        file: path of the damaged file, relative to the folder of the index.
        what: description of the problem.
    """

    file: str
    what: str


@dataclass(frozen=True)
class Verification:
    """The result of `verify`.

    Attributes:
        images: number of images; 0 if the catalog cannot be read.
        sampled: number of images that were described again and compared.
        clean: whether the last writer finished, so that there were checksums to check every byte against.
        problems: the problems found; empty for a sound index.
        notes: remarks that are not problems.
    """

    images: int
    sampled: int
    clean: bool
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def verify(
    path: str | Path, load: "Callable[[], Model] | None" = None, *, sample: int = SAMPLE, seed: int | None = None
) -> Verification:
    """Checks every byte of an index, the counts in its catalog, and a sample of its descriptors.

    Args:
        path: folder of the index.
        load: loads the model of the index to describe the sample; None describes no images.
        sample: number of images to describe again.
        seed: seed of the sample; by default each run draws another sample.

    Returns:
        The problems found, and remarks.

    Raises:
        GlamError: there is no index, or a writer is active.
    """
    index = Path(path)
    if not (index / CHECKSUMS).exists():
        try:
            open_catalog(index).close()  # migrates a catalog of an older version
        except NoIndexError:
            raise
        except GlamError:
            pass  # the damage is reported below
    misplaced = tuple(Problem(file.relative_to(index).as_posix(), what) for file, what in folder_problems(index))
    if misplaced:
        return Verification(0, 0, clean=False, problems=misplaced, notes=())
    with read_lock(index):
        check = _Check(index)
        check.files()
        return check.result(load, sample, seed)


def damaged_segments(index: Path, catalog: Catalog, numbers: Sequence[int]) -> Iterator[tuple[Path, str]]:
    """Reads segments and compares them with their digests.

    Args:
        index: folder of the index.
        catalog: its catalog.
        numbers: numbers of the segments to read.

    Yields:
        The path of each damaged segment and a description of the damage.
    """
    dim, counts = catalog.config.dim, catalog.segments()
    batches: dict[int, list[DescriptorBatch]] = {number: [] for number in counts}
    for batch in catalog.batches():
        batches[batch.segment].append(batch)
    for number in numbers:
        file = segment_file(index, number)
        try:
            descriptors = open_segment(file, counts[number], dim)
        except FileNotFoundError:
            yield file, "missing"
            continue
        except OSError as error:
            yield file, f"cannot be read: {system_reason(error)}"
            continue
        except GlamError:
            yield file, f"too short for its {counts[number]} descriptors"
            continue
        wrong = [
            batch
            for batch in batches[number]
            if digest_descriptors(descriptors[batch.first : batch.first + len(batch.image_ids)]) != batch.digest
        ]
        if wrong:
            first, last = wrong[0].first, wrong[-1].first + len(wrong[-1].image_ids) - 1
            yield file, f"damaged between rows {first} and {last}: the digest does not match"
        elif not all(
            np.isfinite(descriptors[batch.first :][: len(batch.image_ids)]).all() for batch in batches[number]
        ):
            yield file, "has descriptors that are not finite"


class _Check:
    """One run of `verify`."""

    def __init__(self, index: Path) -> None:
        self._index = index
        self._problems: list[Problem] = []
        self._notes: list[str] = []
        self._checksums: dict[str, str] | None = None

    def files(self) -> None:
        """Checks the lock, and the files whose digests are in checksums.json or list.json."""
        try:
            recorded = recorded_owner(self._index)
        except GlamError:
            self._problem(self._index / LOCK, "damaged: neither empty nor the record of a writer")
        else:
            if recorded is not None:
                self._notes.append(f"the last writer was killed: {recorded}")
        try:
            self._checksums = read_checksums(self._index)
        except GlamError:
            self._problem(self._index / CHECKSUMS, "damaged: it does not match its own digest")
        else:
            if self._checksums is None:
                self._notes.append(
                    "the last writer did not finish, so the catalog has no checksum; the next writer creates it"
                )
        for name, digest in (self._checksums or {}).items():
            if name != CATALOG:  # it is read through SQLite
                self._digest(self._index / name, digest)
        try:
            found = ann_cache.read_list(self._index)
        except GlamError:
            self._problem(self._index / ann_cache.FOLDER / ann_cache.LIST, "damaged: it cannot be parsed")
        else:
            for name, digest in (found.digests if found else {}).items():
                self._digest(self._index / ann_cache.FOLDER / name, digest)
            if self._checksums is not None:
                known = {ann_cache.LIST, *found.digests} if found else set()
                self._strays(ann_cache.FOLDER, known)

    def result(self, load: "Callable[[], Model] | None", sample: int, seed: int | None) -> Verification:
        """Checks the catalog and the files that it lists, unless the catalog is damaged; returns all findings."""
        images = sampled = 0
        try:
            with closing(Catalog.open(self._index, self._catalog_content)) as catalog:
                self._catalog(catalog)
                images = len(catalog)
                if load is not None and sample and images and not self._problems:
                    sampled = self._sample(catalog, load(), sample, seed)
        except NoIndexError:
            self._problem(self._index / CATALOG, "missing")
        except DamagedCatalogError as error:
            self._problem(self._index / CATALOG, f"damaged: {error.what}")
        except (sqlite3.DatabaseError, OSError, GlamError) as error:
            self._problem(self._index / CATALOG, f"damaged: {error}")
        return Verification(images, sampled, self._checksums is not None, tuple(self._problems), tuple(self._notes))

    def _catalog_content(self, connection: sqlite3.Connection, index: Path) -> None:
        """Checks every byte of the catalog, and every value; raises ValueError if one is wrong."""
        if self._checksums is not None and self._checksums.get(CATALOG) != catalog_digest(connection, index):
            raise ValueError("the digest does not match")
        check_content(connection)

    def _catalog(self, catalog: Catalog) -> None:
        counts, dim = catalog.segments(), catalog.config.dim
        for file, what in damaged_segments(self._index, catalog, list(counts)):
            self._problem(file, what)
        for number, count in counts.items():
            file = segment_file(self._index, number)
            over = file.stat().st_size - count * dim * 4 if file.exists() else 0
            if over > 0 and self._checksums is not None:
                self._problem(file, f"{over} bytes longer than in the catalog")
        if self._checksums is not None:
            self._strays(segments.FOLDER, {segment_file(self._index, number).name for number in counts})
            self._strays(
                rerank_files.FOLDER, {file.path(self._index).name for file in rerank_files.store_files(catalog)}
            )
        for file, what in rerank_files.damaged_files(self._index, catalog):
            self._problem(file, what)
        self._image_ids(catalog)
        self._milvus(catalog)

    def _image_ids(self, catalog: Catalog) -> None:
        """Checks that the data for re-ranking lists images of the index, and each of them once."""
        image_ids = np.concatenate([np.empty(0, np.int64), *(batch.image_ids for batch in catalog.batches())])
        for file in rerank_files.store_files(catalog):
            if len(np.unique(file.image_ids)) < len(file.image_ids):
                self._problem(self._index / CATALOG, f"{file.path(self._index).name} lists an image twice")
            if np.isin(file.image_ids, image_ids).all():
                continue
            what = f"{file.path(self._index).name} lists images that are not in the index"
            if self._checksums is None:  # a writer was killed between removing images for good and updating the file
                self._notes.append(f"{what}; the next writer repairs this")
            else:
                self._problem(self._index / CATALOG, what)

    def _milvus(self, catalog: Catalog) -> None:
        """Compares the Milvus collection with the folder, if the index has one."""
        config = catalog.config
        if config.milvus is None or self._problems:
            return
        from glam.index.milvus.sync import find_problems

        try:
            problems = find_problems(config.milvus, config, take_snapshot(self._index, catalog))
        except GlamError as error:
            problems = [str(error).rstrip(".")]
        for what in problems:
            if self._checksums is None:
                self._notes.append(f"{what}; the next writer repairs this")
            else:
                self._problem(self._index / ann_cache.FOLDER, what)

    def _sample(self, catalog: Catalog, model: "Model", sample: int, seed: int | None) -> int:
        """Describes a sample of images again and compares the descriptors; returns how many were compared."""
        config, snapshot = catalog.config, take_snapshot(self._index, catalog)
        config.check_model(self._index, model)
        chosen = np.random.default_rng(seed).choice(
            snapshot.image_ids, min(sample, len(snapshot.image_ids)), replace=False
        )
        chosen_ids = set(chosen.tolist())
        images = [image for image in catalog.stored_images() if image.image_id in chosen_ids]
        same = [image for image in images if _unchanged(Path(config.root), image)]
        if len(same) < len(images):
            self._notes.append(
                f"{len(images) - len(same)} of {len(images)} sampled images have changed or are gone; run "
                "`glam index sync` to update the index"
            )
        if not same:
            return 0
        files = [Path(config.root) / image.facts.path for image in same]
        described = model.describe(files, size=config.size, scales=config.scales)
        image_ids = np.array([image.image_id for image in same], dtype=np.int64)
        stored = snapshot.descriptors_of(image_ids)[0 : len(same)]
        for image, cosine in zip(same, (described * stored).sum(axis=1), strict=True):
            if not cosine >= SAME:
                self._problem(
                    self._index / CATALOG,
                    f"the descriptor of {image.facts.path} does not belong to its file (cosine {cosine:.3f})",
                )
        return len(same)

    def _digest(self, file: Path, digest: str) -> None:
        try:
            if digest_file(file) != digest:
                self._problem(file, "damaged: the digest does not match")
        except FileNotFoundError:
            self._problem(file, "missing")
        except OSError as error:
            self._problem(file, f"cannot be read: {system_reason(error)}")

    def _strays(self, folder: str, known: set[str]) -> None:
        for file in sorted((self._index / folder).glob("*")):
            if file.name not in known:
                self._problem(file, "does not belong to this index")

    def _problem(self, file: Path, what: str) -> None:
        self._problems.append(Problem(file.relative_to(self._index).as_posix(), what))


def _unchanged(root: Path, image: StoredImage) -> bool:
    """Whether the file has the content that was described; without a stored hash, whether it exists."""
    facts = read_facts(root, ImageFile(image.facts.path))
    return facts is not None and image.facts.hash in (facts.hash, "")
