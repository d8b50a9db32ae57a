"""Searching an index."""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from types import TracebackType

import faiss
import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.index import descriptors as descriptor_file
from glam.index.catalogue import Catalogue, Entry
from glam.model import Model

CATALOGUE = "catalogue.sqlite"
DESCRIPTORS = "descriptors.f32"


@dataclass(frozen=True)
class Hit:
    """One result of a search.

    Attributes:
        rank: from 1.
        score: cosine of query and image, in [-1, 1].
        entry: the image.
    """

    rank: int
    score: float
    entry: Entry


class Index:
    """An index opened for searching. Any number of threads may use it.

    Attributes:
        path: its folder.
        model_name: what its model was loaded by.
        fingerprint: of that model.
        dim: length of a descriptor.
        size, scales: its images were described at.
        root: folder that its images' paths are relative to.
    """

    def __init__(self, path: Path, catalogue: Catalogue) -> None:
        about = catalogue.about
        self.path = path
        self.model_name = about.model
        self.fingerprint = about.fingerprint
        self.dim = about.dim
        self.size = about.size
        self.scales = about.scales
        self.root = Path(about.root)
        self._catalogue = catalogue
        self._lock = Lock()
        self._rows = descriptor_file.read(path / DESCRIPTORS, len(catalogue), about.dim)
        self._faiss = faiss.IndexFlatIP(about.dim)
        self._faiss.add(self._rows)

    @classmethod
    def open(cls, path: str | Path) -> "Index":
        """Opens an index.

        Raises:
            GlamError: there is none, or it is damaged or of a newer version.
        """
        return cls(Path(path), Catalogue.open(Path(path) / CATALOGUE))

    def __len__(self) -> int:
        return len(self._rows)

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the catalogue."""
        self._catalogue.close()

    def check_model(self, model: Model) -> None:
        """Makes sure that descriptors of ``model`` can be compared with those in the index.

        Raises:
            GlamError: it is another model than the index was built with.
        """
        if model.fingerprint != self.fingerprint:
            raise GlamError(
                f"{self.path} was built with the model {self.model_name!r} (fingerprint {self.fingerprint}); "
                f"{model.name!r} (fingerprint {model.fingerprint}) cannot be compared with it"
            )

    def search(self, descriptors: NDArray[np.float32], k: int = 10) -> list[list[Hit]]:
        """The nearest images, by cosine, for each query.

        Args:
            descriptors: (q, dim), or (dim,) for one query, float32 of unit length.
            k: how many; fewer come back when the index is smaller.

        Returns:
            For each query its hits, best first.

        Raises:
            GlamError: the descriptors are of another length than the index's.
        """
        queries = np.atleast_2d(np.ascontiguousarray(descriptors, dtype=np.float32))
        if queries.shape[1] != self.dim:
            raise GlamError(f"descriptors of length {queries.shape[1]} cannot search an index of length {self.dim}")
        if not len(self):
            return [[] for _ in queries]
        scores, images = self._faiss.search(queries, min(k, len(self)))
        return [
            [
                Hit(rank, float(score), self.entry(int(image)))
                for rank, (score, image) in enumerate(zip(*row, strict=True), 1)
            ]
            for row in zip(scores, images, strict=True)
        ]

    def entry(self, image: int) -> Entry:
        """The image with this id.

        Raises:
            KeyError: there is none.
        """
        with self._lock:
            return self._catalogue.entry(image)

    def file(self, image: int) -> Path:
        """Where the image with this id lies on disk.

        Raises:
            KeyError: there is none.
        """
        return self.root / self.entry(image).path

    def descriptor(self, image: int) -> NDArray[np.float32]:
        """(dim,): the descriptor of the image with this id.

        Raises:
            KeyError: there is none.
        """
        return np.array(self._rows[self.entry(image).id])

    def unreadable(self) -> list[tuple[str, str]]:
        """(path, reason) of the files that could not be read when the index was built."""
        with self._lock:
            return self._catalogue.unreadable()

    def landmark_count(self) -> int:
        """How many landmarks are named among its images."""
        with self._lock:
            return self._catalogue.landmark_count()
