"""From a photograph to the rows of an answer: describing it and searching the index."""

import time

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glam.app import schemas
from glam.images import Box
from glam.index import Entry, Index
from glam.model import Model


class BoxError(ValueError):
    """A box that is empty or reaches outside its image. ``str(error)`` is one sentence."""


class Searcher:
    """Answers queries from one index with the model that built it.

    Not for several threads at once where the model is used (``by_photograph``); the caller queues those calls.
    """

    def __init__(self, index: Index, model: Model) -> None:
        self._index = index
        self._model = model

    def by_photograph(
        self, image: Image.Image, box: Box | None, top: int, indexed: Entry | None = None
    ) -> schemas.SearchAnswer:
        """Search with a photograph, or with the part of it inside ``box``.

        Args:
            image: upright, RGB.
            box: (x1, y1, x2, y2) in pixels of ``image``; ``None`` for all of it.
            top: number of results.
            indexed: its entry where it is an image of the index, which is then left out of the results.

        Raises:
            BoxError: the box is empty or not within the image.
        """
        if box is not None:
            check_box(box, *image.size)
        start = time.perf_counter()
        # At the size and scales of the index: at others, the same place would score lower than it should.
        size, scales = self._index.size, self._index.scales
        descriptor = self._model.describe([image], boxes=[box], size=size, scales=scales)[0]
        facts = schemas.Image.of(indexed) if indexed else None
        query = schemas.Query(image=facts, width=image.width, height=image.height, box=box)
        return self._answer(query, descriptor, top, time.perf_counter() - start)

    def by_descriptor(self, entry: Entry, top: int) -> schemas.SearchAnswer:
        """Search with the stored descriptor of an indexed image, leaving that image out of the results."""
        start = time.perf_counter()
        descriptor = self._index.descriptor(entry.id)
        query = schemas.Query(image=schemas.Image.of(entry), width=entry.width, height=entry.height, box=None)
        return self._answer(query, descriptor, top, time.perf_counter() - start)

    def _answer(
        self, query: schemas.Query, descriptor: NDArray[np.float32], top: int, described_in: float
    ) -> schemas.SearchAnswer:
        start = time.perf_counter()
        # One more than asked, because an indexed query finds itself.
        itself = query.image.id if query.image else None
        hits = [hit for hit in self._index.search(descriptor, k=top + 1)[0] if hit.entry.id != itself][:top]
        took = time.perf_counter() - start
        return schemas.SearchAnswer(
            query=query,
            results=[
                schemas.Result(rank=rank, score=hit.score, image=schemas.Image.of(hit.entry))
                for rank, hit in enumerate(hits, start=1)
            ],
            milliseconds=schemas.Timing(describe=described_in * 1000, search=took * 1000),
        )


def check_box(box: Box, width: int, height: int) -> None:
    """Raise ``BoxError`` unless the box holds at least one pixel each way and lies within ``width`` by ``height``."""
    x1, y1, x2, y2 = box
    if x2 - x1 < 1 or y2 - y1 < 1:
        raise BoxError("The box is empty: x2 must be at least x1 + 1, and y2 at least y1 + 1.")
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        raise BoxError(f"The box reaches outside the image, which has {width} by {height} pixels.")
