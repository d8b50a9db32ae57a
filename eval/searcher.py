"""What an evaluation searches: an index, or (`glam.app.cli.service_searcher`) a running service."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glam.images import Box, read_image
from glam.index import Index, Query
from glam.index.local_matching.rootsift import LocalFeatures, extract
from glam.index.rerank.chain import Chain
from glam.index.storage.checksums import digest_file
from glam.index.storage.migrations import open_catalog
from glam.model import Model


class SearchTarget(Protocol):
    """Something that finds images by their image_id."""

    def __len__(self) -> int:
        """Number of images that it searches."""

    @property
    def description(self) -> dict[str, Any]:
        """What is searched, and how, for the result file."""

    def image_ids(self, files: Sequence[Path]) -> list[int | None]:
        """The image_id of each file; None for one that it does not hold."""

    def search_image(self, image_id: int, depth: int) -> list[int]:
        """image_ids of the ``depth`` images nearest to one of its own images, without that one, best first."""

    def search_file(self, file: Path, box: Box | None, depth: int) -> list[int]:
        """image_ids of the ``depth`` images nearest to a file, best first.

        Args:
            file: the query.
            box: x1, y1, x2, y2 in pixels of the upright image: the part to search with; None for all of it.
            depth: most images to return.
        """


class IndexSearcher:
    """Searches an index with its own structure.

    Args:
        index: open for searching.
        chain: re-ranks each list; None for plain search.
        model: describes files; None where only images of the index are queries.

    Raises:
        GlamError: the index was built with another model.
    """

    def __init__(self, index: Index, chain: Chain | None = None, model: Model | None = None) -> None:
        if model is not None:
            index.check_model(model)
        self.index = index
        self.chain = chain
        self.model = model
        self.describe = lru_cache(maxsize=None)(self._describe)
        self._matched = lru_cache(maxsize=1)(self._match)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def description(self) -> dict[str, Any]:
        """See `SearchTarget.description`."""
        return {
            "index": self.index.path.name,
            "structure": self.index.structure,
            "service": None,
            "rerank": None if self.chain is None else str(self.chain),
        }

    def image_ids(self, files: Sequence[Path]) -> list[int | None]:
        """The image_id of each file, matched by its path, or else by its content; the last answer is kept."""
        return list(self._matched(tuple(files)))

    def search_image(self, image_id: int, depth: int) -> list[int]:
        """See `SearchTarget.search_image`. A chain may meet the image as a precomputed neighbor of others."""
        descriptor = self.index.descriptor(image_id)
        if self.chain is None:
            hits = self.index.search(descriptor, depth + 1)[0]
            return [hit.image_id for hit in hits if hit.image_id != image_id][:depth]
        query = Query(descriptor, lambda: self._local_features(image_id))
        (hits,) = self.index.search(query, depth, where=f"image_id <> {image_id}", rerank=self.chain)
        return [hit.image_id for hit in hits]

    def search_file(self, file: Path, box: Box | None, depth: int) -> list[int]:
        """See `SearchTarget.search_file`."""
        descriptor = self.describe(file, box)
        if self.chain is None:
            return [hit.image_id for hit in self.index.search(descriptor, depth)[0]]
        query = Query(descriptor, lambda: extract(read_image(file), box=box))
        (hits,) = self.index.search(query, depth, rerank=self.chain)
        return [hit.image_id for hit in hits]

    def _match(self, files: tuple[Path, ...]) -> list[int | None]:
        searched = set(self.index.image_ids.tolist())
        catalog = open_catalog(self.index.path)
        try:
            stored = [image for image in catalog.stored_images() if image.image_id in searched]
        finally:
            catalog.close()
        by_path = {(self.index.root / image.facts.path).resolve(): image.image_id for image in stored}
        found = [by_path.get(file.resolve()) for file in files]
        taken = set(found)
        by_content: dict[str, list[int]] = {}
        for image in stored:
            if image.image_id not in taken:
                by_content.setdefault(image.facts.hash, []).append(image.image_id)
        for row, file in enumerate(files):
            if found[row] is None and file.is_file():
                same = by_content.get(digest_file(file))
                found[row] = same.pop(0) if same else None
        return found

    def _local_features(self, image_id: int) -> LocalFeatures:
        """The local features of an image of the index.

        Raises:
            GlamError: its file cannot be read.
        """
        features = self.index.local_features(image_id)
        return extract(read_image(self.index.file(image_id))) if features is None else features

    def _describe(self, file: Path, box: Box | None) -> NDArray[np.float32]:
        """(dim,): the descriptor of a file, at the size and scales of the index."""
        if self.model is None:
            raise ValueError("a searcher without a model describes no files")
        descriptors = self.model.describe([file], boxes=[box], size=self.index.size, scales=self.index.scales)
        descriptor: NDArray[np.float32] = descriptors[0]
        return descriptor
