"""Read access to the images of an index: entries, files, and descriptors by image_id.

IndexReader --take_snapshot--> image_ids, matrix          base class of `glam.index.index.Index`, which adds searching
            --under a lock--> Catalog --> Entry
"""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from glam.index.ann import DescriptorSource
from glam.index.storage.catalog import Catalog
from glam.index.storage.records import Entry
from glam.index.storage.segment_check import check_segments
from glam.index.storage.snapshot import take_snapshot
from glam.index.types import Descriptors, Rows

if TYPE_CHECKING:
    from glam.model import Model


class IndexReader:
    """A snapshot of the images of an index. Any number of threads may use it.

    Args:
        path: folder of the index.
        catalog: catalog of the index; `close` closes it.

    Attributes:
        path: folder of the index.
        model_name: name or path that the model of the index was loaded by.
        fingerprint: fingerprint of that model.
        dim: length of a descriptor.
        size: longest side in pixels at which the images were described.
        scales: scales at which the images were described; the descriptors are averages over them.
        root: folder that the paths of the images are relative to.
        image_ids: (n,) int64, ids of the images in ascending order.
        matrix: (n, dim), descriptors of the images; the row of an image is its position in ``image_ids``.

    Raises:
        GlamError: a segment is missing, has the wrong size, or holds other descriptors than the catalog says.
    """

    def __init__(self, path: Path, catalog: Catalog) -> None:
        config = catalog.config
        self.path = path
        self.model_name = config.model
        self.fingerprint = config.fingerprint
        self.dim = config.dim
        self.size = config.size
        self.scales = config.scales
        self.root = Path(config.root)
        self._config = config
        self._catalog = catalog
        self._lock = Lock()  # guards the catalog
        with catalog.snapshot():
            check_segments(path, catalog)
            self._snapshot = take_snapshot(path, catalog)
        self.image_ids = self._snapshot.image_ids
        self.matrix: DescriptorSource = self._snapshot.descriptors_of(self.image_ids)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the catalog."""
        self._catalog.close()

    def check_model(self, model: "Model") -> None:
        """Checks that the descriptors of a model can be compared with those in the index.

        Args:
            model: model of the queries.

        Raises:
            GlamError: the index was built with another model.
        """
        self._config.check_model(self.path, model)

    def entry(self, image_id: int) -> Entry:
        """The catalog entry of an image.

        Args:
            image_id: id of the image.

        Raises:
            KeyError: there is no image with this id.
        """
        return self.entries([image_id])[0]

    def entries(self, image_ids: Sequence[int]) -> tuple[Entry, ...]:
        """The catalog entries of images.

        Args:
            image_ids: ids of the images.

        Returns:
            One entry per id, in the order of ``image_ids``.

        Raises:
            KeyError: there is no image with one of these ids.
        """
        self._rows_of(image_ids)
        found = self._read_entries(image_ids)
        return tuple(found[image_id] for image_id in image_ids)

    def file(self, image_id: int) -> Path:
        """The path of an image's file on disk.

        Args:
            image_id: id of the image.

        Raises:
            KeyError: there is no image with this id.
        """
        return self.root / self.entry(image_id).path

    def descriptor(self, image_id: int) -> NDArray[np.float32]:
        """The descriptor of an image.

        Args:
            image_id: id of the image.

        Returns:
            (dim,) float32 of unit length.

        Raises:
            KeyError: there is no image with this id.
        """
        descriptor: NDArray[np.float32] = self.descriptors([image_id])[0]
        return descriptor

    def descriptors(self, image_ids: Sequence[int]) -> Descriptors:
        """The descriptors of images.

        Args:
            image_ids: ids of n images.

        Returns:
            (n, dim) float32 of unit length, in the order of ``image_ids``.

        Raises:
            KeyError: there is no image with one of these ids.
        """
        descriptors = np.array(self.matrix[self._rows_of(image_ids)])
        gone = ~descriptors.any(axis=1)  # removed and compacted away since the snapshot
        if gone.any():
            raise KeyError(image_ids[int(np.flatnonzero(gone)[0])])
        return descriptors

    def unreadable(self) -> list[tuple[str, str]]:
        """Path and reason of each file that could not be read when the index was built or synced."""
        with self._lock:
            return self._catalog.unreadable()

    def landmark_count(self) -> int:
        """Number of distinct landmarks in the index."""
        with self._lock:
            return self._catalog.landmark_count()

    def _rows_of(self, image_ids: Sequence[int]) -> Rows:
        """The row of each image in ``matrix``; raises `KeyError` for an id that is not in ``self.image_ids``."""
        ids = np.array(image_ids, dtype=np.int64)
        rows = self._snapshot.rows_of(ids)
        if (rows < 0).any():
            raise KeyError(int(ids[rows < 0][0]))
        return rows

    def _read_entries(self, image_ids: Sequence[int]) -> dict[int, Entry]:
        """Entries by image_id, without images that were compacted away since the snapshot."""
        with self._lock:
            return self._catalog.entries(image_ids)
