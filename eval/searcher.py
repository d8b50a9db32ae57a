"""Search targets of an evaluation: an index or, in `glam.app.cli.service_searcher`, a running service."""

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
    """An index or a service that can be searched and that identifies its images by image_id."""

    def __len__(self) -> int:
        """The number of images that are searched."""

    @property
    def description(self) -> dict[str, Any]:
        """What is searched and how, for the result file."""

    def image_ids(self, files: Sequence[Path]) -> list[int | None]:
        """The image_id of each file; None for a file that is not in the index."""

    def search_image(self, image_id: int, depth: int) -> list[int]:
        """Searches with an image of the index.

        Args:
            image_id: the query, which is not returned.
            depth: maximum number of images.

        Returns:
            The image_ids of the nearest images, best first.
        """

    def search_file(self, file: Path, box: Box | None, depth: int) -> list[int]:
        """Searches with an image file.

        Args:
            file: the query.
            box: x1, y1, x2, y2 of the region to search with, in pixels of the upright image; None for the whole image.
            depth: maximum number of images.

        Returns:
            The image_ids of the nearest images, best first.
        """


class IndexSearcher:
    """Searches an index by its own search structure.

    Args:
        index: an open index.
        chain: re-ranks each result; None for plain search.
        model: computes the descriptors of query files; None if all queries are images of the index.

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
        """The image_id of each file, matched by path, else by content; None if neither matches.

        The result for the last list of files is cached.
        """
        return list(self._matched(tuple(files)))

    def search_image(self, image_id: int, depth: int) -> list[int]:
        """See `SearchTarget.search_image`. Re-ranking may use the image as a precomputed neighbor of other images."""
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
        for i, file in enumerate(files):
            if found[i] is None and file.is_file():
                same = by_content.get(digest_file(file))
                found[i] = same.pop(0) if same else None
        return found

    def _local_features(self, image_id: int) -> LocalFeatures:
        """The local features of an image of the index.

        Raises:
            GlamError: no local features are stored and the file of the image cannot be read.
        """
        features = self.index.local_features(image_id)
        return extract(read_image(self.index.file(image_id))) if features is None else features

    def _describe(self, file: Path, box: Box | None) -> NDArray[np.float32]:
        """Computes the (dim,) descriptor of a file at the image size and scales of the index."""
        if self.model is None:
            raise ValueError("This searcher has no model to compute descriptors with. Pass a model.")
        descriptors = self.model.describe([file], boxes=[box], size=self.index.size, scales=self.index.scales)
        descriptor: NDArray[np.float32] = descriptors[0]
        return descriptor
