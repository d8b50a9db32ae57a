"""What tests share: the photographs beside the repository, and small images made on the spot."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from glam.errors import ImageError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from glam.app.service.server import Server

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are first imported

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The folder of real photographs, with train/, val/ and distractors/."""
    folder = SHARED / "landmarks"
    if not folder.is_dir():
        pytest.skip("the photographs are not in ../shared/landmarks")
    return folder


@pytest.fixture
def draw_image() -> Callable[..., Image.Image]:
    """Draws an image of smooth random colors, another for each seed."""

    def draw(width: int, height: int, seed: int = 0) -> Image.Image:
        coarse = np.random.default_rng(seed).integers(0, 256, size=(5, 6, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

    return draw


@contextmanager
def served(app: "FastAPI", grace: float = 20) -> "Iterator[tuple[int, Server]]":
    """The port of an app that `glam.app.service.server.make_server` serves in a thread, and the server."""
    from glam.app.service.server import make_server

    port: list[int] = []
    server = make_server(app, "127.0.0.1", 0, grace, port.append)
    server.capture_signals = nullcontext  # type: ignore[method-assign]  # they go to the main thread only
    thread = threading.Thread(target=server.run)
    thread.start()
    while not port:
        assert thread.is_alive()
        thread.join(0.01)
    try:
        yield port[0], server
    finally:
        server.handle_exit(15, None)
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def serve() -> "Callable[..., AbstractContextManager[tuple[int, Server]]]":
    """See `served`."""
    return served


@dataclass(frozen=True)
class ContentSettings:
    """As `glam.inference.pipeline.Settings`."""

    size: int = 64
    scales: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class ContentDescribed:
    """As `glam.inference.pipeline.DescribedImage`."""

    position: int
    descriptor: NDArray[np.float32] | None
    error: ImageError | None
    width: int = 0
    height: int = 0


class ContentModel:
    """Stands in for a model where it does not matter what images show: each content has a random descriptor.

    Attributes:
        described: contents that were described, in order.
    """

    name, fingerprint, dim = "contents", "c" * 16, 32

    def __init__(self) -> None:
        self.described: list[bytes] = []

    def settings(self) -> ContentSettings:
        return ContentSettings()

    def stream(self, items: Iterable[tuple[bytes | Path, None]], settings: object) -> Iterator[ContentDescribed]:
        """Out of order, as images of various shapes come; what begins with "broken" cannot be read."""
        waiting: list[ContentDescribed] = []
        for position, (source, _) in enumerate(items):
            waiting.insert(0, self._describe(position, source))
            if len(waiting) == 3:
                yield from waiting
                waiting.clear()
        yield from waiting

    def describe(self, images: Sequence[Path | bytes], **settings: object) -> NDArray[np.float32]:
        contents = [image if isinstance(image, bytes) else Path(image).read_bytes() for image in images]
        return np.stack([self.descriptor(content) for content in contents])

    def descriptor(self, content: bytes) -> NDArray[np.float32]:
        seed = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
        row = np.random.default_rng(seed).normal(size=self.dim).astype(np.float32)
        return row / np.linalg.norm(row)

    def _describe(self, position: int, source: bytes | Path) -> ContentDescribed:
        if not isinstance(source, bytes) or source.startswith(b"broken"):
            return ContentDescribed(position, None, ImageError(str(source), "broken"))
        self.described.append(source)
        return ContentDescribed(position, self.descriptor(source), None, len(source), 1)


@pytest.fixture
def content_model() -> Any:
    """A `ContentModel`, in the place of a `glam.model.Model`."""
    return ContentModel()
