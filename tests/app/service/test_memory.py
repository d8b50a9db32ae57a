"""The memory that decoding takes: estimated before, reserved while it lasts, and refused beyond the budget."""

import io
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, features

from glam import machine_memory
from glam.app.service import memory_budget
from glam.app.service.decode_cost import decode_cost
from glam.app.service.memory_budget import MemoryBudget, MemoryFullError, decoding_capacity, used_memory
from glam.app.service.settings import ServiceLimits
from glam.images import read_image

from .colors import ColorModel, app_of, encoded, index_of, refused, upload, wait_until

SIDE = 3000
MB = 1_000_000


def test_a_reservation_waits_for_room_and_is_returned() -> None:
    budget = MemoryBudget(100)
    inside, leave, order = threading.Event(), threading.Event(), []

    def hold() -> None:
        with budget.reserve(70):
            inside.set()
            assert leave.wait(10)
            order.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(10)
    with budget.reserve(30):
        assert budget.reserved == 100
    leave.set()
    with budget.reserve(31):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert budget.reserved == 0


def test_what_never_fits_and_what_does_not_fit_in_time_are_refused() -> None:
    budget = MemoryBudget(100, wait_seconds=0.05)
    with pytest.raises(MemoryFullError, match="--memory"), budget.reserve(101):
        pass
    with budget.reserve(100), pytest.raises(MemoryFullError, match="Try again"), budget.reserve(1):
        pass
    assert budget.reserved == 0


def test_the_budget_is_a_quarter_of_the_machine_or_of_its_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("8000000000\n")
    monkeypatch.setattr(machine_memory, "CGROUP_LIMITS", [limit])
    monkeypatch.setattr(memory_budget, "used_memory", lambda: 500 * MB)
    assert decoding_capacity(None, 0) == 1500 * MB
    assert decoding_capacity(None, 2000 * MB) == 2000 * MB
    assert decoding_capacity(600 * MB, 2000 * MB) == 100 * MB
    limit.write_text("max\n")
    assert decoding_capacity(None, 0) > 1500 * MB


def noise(mode: str) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((SIDE, SIDE))
    if mode == "RGBA":
        image.putalpha(image.convert("L"))
    return (
        image
        if mode == "RGBA"
        else Image.fromarray(np.asarray(image.convert("L")).astype(np.float32))
        if mode == "F"
        else image.convert(mode)
    )


CASES: list[tuple[str, str, dict[str, object]]] = [
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    ("JPEG", "CMYK", {}),
    ("PNG", "RGB", {"compress_level": 1}),
    ("PNG", "RGBA", {"compress_level": 1}),
    ("PNG", "LA", {"compress_level": 1}),
    ("WEBP", "RGBA", {"method": 0}),
    ("TIFF", "F", {}),
    ("GIF", "P", {}),
    ("AVIF", "RGBA", {"speed": 10}),
]


@pytest.mark.parametrize(("format", "mode", "options"), CASES)
def test_decoding_takes_no_more_than_its_estimate(format: str, mode: str, options: dict[str, object]) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this build of Pillow has no AVIF")
    data = encoded(noise("RGBA").convert("LA") if mode == "LA" else noise(mode), format, **options)
    taken = peak(lambda: read_image(data))
    assert taken < decode_cost(data) + 16 * MB
    assert decode_cost(data) <= 34 * SIDE * SIDE


def peak(work: Callable[[], object]) -> int:
    """Most memory that a function held, looked at every few milliseconds."""
    before, most, ended = used_memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.003):
            most = max(most, used_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    result = work()
    most = max(most, used_memory())
    ended.set()
    thread.join()
    del result
    return most - before


def test_a_jpeg_of_which_little_is_needed_costs_little() -> None:
    data = encoded(noise("RGB"), "JPEG")
    assert decode_cost(data, 320) < decode_cost(data) / 8
    progressive = encoded(noise("RGB"), "JPEG", progressive=True)
    assert 6 * SIDE * SIDE < decode_cost(progressive, 320) < decode_cost(progressive) / 2


def test_images_that_do_not_fit_are_503_and_others_are_answered(root: Any, model: ColorModel) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(root / "large.png")
    Image.new("RGB", (SIDE, SIDE)).save(root / "large.tif")
    with index_of(root, ["red.png", "large.png", "large.tif"], model) as index:
        limits = ServiceLimits(memory_bytes=used_memory() + 64 * MB)
        with TestClient(app_of(index, model, limits)) as client:
            client.app.state.glam.decoders.budget.capacity = 64 * MB  # type: ignore[attr-defined]
            large = (root / "large.png").read_bytes()
            for answer in (
                client.get("/api/images/1/thumbnail"),
                client.get("/api/images/2/file"),
                client.get("/api/images/1/attention"),
                client.get("/api/images/1/search", params={"x1": 0, "y1": 0, "x2": 50, "y2": 50}),
                upload(client, large),
                client.post("/api/attention", files={"image": ("q", large)}),
                client.post("/api/matches", files={"image": ("q", large)}, data={"with": 0}),
                client.post("/api/matches", data={"query": 0, "with": 1}),
            ):
                assert "memory" in refused(answer, 503) or "MB" in refused(answer, 503)
                assert answer.headers["retry-after"]
            assert client.get("/api/images/0/thumbnail").status_code == 200
            assert upload(client, encoded(Image.new("RGB", (40, 20), "red"))).status_code == 200


def test_thumbnails_and_files_wait_for_memory_and_delay_no_other_request(root: Any, model: ColorModel) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(root / "large.png")
    with index_of(root, ["red.png", "large.png"], model) as index, TestClient(app_of(index, model)) as client:
        budget: MemoryBudget = client.app.state.glam.decoders.budget  # type: ignore[attr-defined]
        statuses: list[int] = []
        with budget.reserve(budget.capacity):
            threads = [
                threading.Thread(
                    target=lambda i: statuses.append(client.get(f"/api/images/1/thumbnail?size={100 + i}").status_code),
                    args=(i,),
                )
                for i in range(60)
            ]
            for thread in threads:
                thread.start()
            wait_until(lambda: client.app.state.glam.in_flight.count == 60)  # type: ignore[attr-defined]
            for path in ("/api/images/0", "/api/info", "/page.js", "/healthz", "/api/images/0/file"):
                assert client.get(path).status_code == 200, path
            assert not statuses
        for thread in threads:
            thread.join()
    assert statuses == [200] * 60


def test_a_thumbnail_of_a_large_jpeg_is_decoded_at_a_reduced_size(root: Any, model: ColorModel) -> None:
    noise("RGB").save(root / "large.jpg")
    with index_of(root, ["large.jpg"], model) as index, TestClient(app_of(index, model)) as client:
        client.app.state.glam.decoders.budget.capacity = 20 * MB  # type: ignore[attr-defined]  # at full size it takes 150
        answer = client.get("/api/images/0/thumbnail?size=200")
    assert answer.status_code == 200
    small = np.asarray(noise("RGB").resize((200, 200), Image.Resampling.LANCZOS), dtype=np.float32)
    found = np.asarray(Image.open(io.BytesIO(answer.content)), dtype=np.float32)
    assert found.shape == small.shape
    assert np.abs(found - small).mean() < 4
