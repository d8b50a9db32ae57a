"""A running service as a search target of an evaluation (`glam.eval.searcher.SearchTarget`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glam.app.client import Client, Query
from glam.errors import GlamError
from glam.images import Box, image_errors, read_regular_file

PAGE = 200
"""Results per request, at most what the service allows."""

MOST_EMPTY_PAGES = 1_000
"""Consecutive pages of removed image_ids after which no further image is expected; arbitrary."""


class ServiceSearcher:
    """Searches a running service through its API.

    Args:
        url: address of the service.
        token: access token; None if it requires none.
        rerank: re-ranking steps, such as ``aqe,superglobal``; None for plain search.

    Raises:
        GlamError: the service cannot be reached.
    """

    def __init__(self, url: str, token: str | None = None, rerank: str | None = None) -> None:
        self.url = url
        self.rerank = rerank
        self._client = Client(url, token)
        info = self._client.info()
        self.model_name = info.model
        self._images = info.images

    def __len__(self) -> int:
        return self._images

    @property
    def description(self) -> dict[str, Any]:
        """See `glam.eval.searcher.SearchTarget`. A service does not report the path and the structure of its index."""
        return {
            "index": None,
            "structure": None,
            "service": self.url,
            "model": self.model_name,
            "rerank": self.rerank,
        }

    def image_ids(self, files: Sequence[Path]) -> list[int | None]:
        """The image_id of each file, matched by the end of its path, since a service has paths relative to its root.

        Raises:
            GlamError: two files match one image.
        """
        by_path = self._paths(files[0])
        found = [self._match(file.resolve(), by_path) for file in files]
        first_file: dict[int, Path] = {}
        for file, image_id in zip(files, found, strict=True):
            if image_id is not None and first_file.setdefault(image_id, file) != file:
                raise GlamError(
                    f"{first_file[image_id]} and {file} both end with the path of image {image_id} of {self.url}. "
                    "Evaluate the folder that the index was built from."
                )
        return found

    def search_image(self, image_id: int, depth: int) -> list[int]:
        """See `glam.eval.searcher.SearchTarget`; the service leaves the image out."""
        return self._search(image_id, None, depth)

    def search_file(self, file: Path, box: Box | None, depth: int) -> list[int]:
        """See `glam.eval.searcher.SearchTarget`."""
        with image_errors(file):
            return self._search(read_regular_file(file), box, depth)

    def _search(self, query: Query, box: Box | None, depth: int) -> list[int]:
        """The image_ids of the best results, each once: re-ranked pages can overlap."""
        found: list[int] = []
        while len(found) < depth:
            top = min(PAGE, depth - len(found))
            answer = self._client.search(query, box=box, top=top, skip=len(found), rerank=self.rerank)
            found += [result.image.image_id for result in answer.results]
            if not answer.more:
                break
        return list(dict.fromkeys(found))

    def _paths(self, any_file: Path) -> dict[str, int]:
        """The image_id of each image of the index, by path; listed by searches that filter by image_id."""
        query = read_regular_file(any_file)
        by_path: dict[str, int] = {}
        first, empty = 0, 0
        while len(by_path) < self._images and empty < MOST_EMPTY_PAGES:
            where = f"image_id >= {first} and image_id < {first + PAGE}"
            results = self._client.search(query, top=PAGE, where=where).results
            by_path.update({result.image.path: result.image.image_id for result in results})
            empty = 0 if results else empty + 1
            first += PAGE
        return by_path

    @staticmethod
    def _match(file: Path, by_path: dict[str, int]) -> int | None:
        ends = ("/".join(file.parts[start:]) for start in range(1, len(file.parts)))
        return next((by_path[end] for end in ends if end in by_path), None)
