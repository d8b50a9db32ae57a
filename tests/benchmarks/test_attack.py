"""A sample of `benchmarks/attack.py`: a small service under a short attack."""

import asyncio
import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from glam.app.bench.load import load
from glam.app.service.settings import ServiceLimits
from glam.index import Index
from tests.app.service.colors import ColorModel, app_of, encoded, two_color_index

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all addresses of 127.0.0.0/8")


@pytest.fixture
def attack(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("attack")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with two_color_index(tmp_path) as index:
        yield index


def test_honest_clients_are_answered_during_an_attack(attack: ModuleType, index: Index, serve: Any) -> None:
    limits = ServiceLimits(connections=40, head_seconds=1, body_seconds=1, write_seconds=1)
    app = app_of(index, ColorModel(), limits)
    with serve(app, 5) as (port, server):
        url = f"http://127.0.0.1:{port}"
        attacker = attack.Attack(url, attack.Attackers(half_open=100, slow=10, hostile=5))
        loop = asyncio.new_event_loop()
        task = loop.create_task(attacker.run())
        thread = threading.Thread(target=run_until_cancelled, args=(loop, task))
        thread.start()
        try:
            queries = [encoded(Image.new("RGB", (40, 20), (i, 100, 100))) for i in range(50)]
            outcome = load(url, queries, clients=4, seconds=5)
        finally:
            loop.call_soon_threadsafe(task.cancel)
            thread.join()
        assert set(outcome.statuses) <= {200, 503}
        assert outcome.statuses[200] > 20
        assert set(attacker.seen) >= {400, 404, 415}
        assert not {status for status in attacker.seen if status >= 500} - {503}
        budget = app.state.glam.decoders.budget
    assert budget.reserved == 0
    assert app.state.glam.body_budget.reserved == 0
    assert server._in_flight.count == 0


def run_until_cancelled(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
    try:
        loop.run_until_complete(task)
    except asyncio.CancelledError:
        loop.close()
