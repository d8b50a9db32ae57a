"""What tests of the service share: a small made-up index of plain colors, described by their mean color."""

import io
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
import torch.nn.functional as F
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from torch import Tensor, nn

from glam.app.service.app import create_app
from glam.app.service.middleware.auth import Access
from glam.app.service.settings import ServiceLimits
from glam.datasets.collection import Collection, ImageFile
from glam.index import Index, build
from glam.inference.pipeline import Settings
from glam.model import Model

RED, GREEN, BLUE = (220, 20, 20), (20, 220, 20), (20, 20, 220)
EXIF_ORIENTATION = 0x0112
TURNED_RIGHT = 6  # the camera was held upright; the stored rows run down the upright image


class ColorNetwork(nn.Module):
    """In the place of a `DescriptorNetwork`: the descriptor is the mean color."""

    dim, architecture = 3, SimpleNamespace(whitening=None)

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(1, 1)
        self.backbone.multiple, self.backbone.mean, self.backbone.std = 1, (0.0,) * 3, (1.0,) * 3
        self.batches: list[int] = []
        self.running = self.most_running = 0
        self.may_finish = threading.Event()
        self.may_finish.set()

    def layout(self, device: torch.device) -> torch.memory_format:
        return torch.contiguous_format

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        assert self.may_finish.wait(10)
        self.running -= 1
        return F.normalize(images.mean(dim=(2, 3)) + 1e-3)

    def whitened(self, descriptors: Tensor) -> Tensor:
        return descriptors


class ColorModel(Model):
    """In the place of a `Model`."""

    def __init__(self) -> None:
        self.name, self.dim, self.size, self.scales = "color", 3, 64, (1.0,)
        self.network = self.fast = ColorNetwork()
        self.fingerprint = "c0"

    @property
    def calls(self) -> int:
        return len(self.network.batches)


def index_of(root: Path, paths: Sequence[str], model: ColorModel) -> Index:
    """An index of files, with the stem of the name as the landmark; the image_id is the position in the list."""
    path = root.parent / f"{len(list(root.parent.iterdir()))}.glam"
    image_files = tuple(
        ImageFile(name, Path(name).stem, metadata={"number": i, "kind": "test"}) for i, name in enumerate(paths)
    )
    build(path, Collection(root, image_files), cast(Model, model), settings=Settings(64, batch_size=1, workers=1))
    model.network.batches.clear()
    return Index.open(path)


@contextmanager
def two_color_index(folder: Path) -> Iterator[Index]:
    """An index of a red and a green image, in a folder that has no images yet."""
    (folder / "images").mkdir()
    for name, color in {"red": (220, 20, 20), "green": (20, 220, 20)}.items():
        Image.new("RGB", (40, 20), color).save(folder / "images" / f"{name}.png")
    with index_of(folder / "images", ["red.png", "green.png"], ColorModel()) as index:
        yield index


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def halves(left: tuple[int, int, int], right: tuple[int, int, int], size: tuple[int, int] = (40, 20)) -> Image.Image:
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return image


def app_of(
    index: Index,
    model: ColorModel,
    limits: ServiceLimits = ServiceLimits(),  # noqa: B008
    access: Access = Access(),  # noqa: B008
    root_path: str = "",
) -> FastAPI:
    return create_app(index, cast(Model, model), limits, access, root_path=root_path)


def upload(client: TestClient, data: bytes, **fields: object) -> Any:
    return client.post("/api/search", files={"image": ("query.jpg", data)}, data=fields)


def found(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [result["image"]["landmark"] for result in answer.json()["results"]]


def refused(answer: Any, status: int) -> str:
    """The sentence of a refusal, after checking that there is one."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"detail"}
    sentence = answer.json()["detail"]
    assert isinstance(sentence, str)
    assert sentence.endswith(".")
    return sentence


def wait_until(holds: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
