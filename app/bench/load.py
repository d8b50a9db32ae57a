"""Load test of a service: concurrent clients, each of which sends a search when the last one is answered."""

import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from glam.app.client import Client, form

TIMEOUT = 120.0
"""Timeout of a client for an answer, in seconds."""

MAX_REST = 1.0
"""Longest pause of a client after a 503, in seconds."""


@dataclass
class Outcome:
    """Result of a load test.

    Attributes:
        seconds: duration of the test.
        times: latency of each answer with results, in seconds.
        statuses: number of answers by status; 0 for a broken connection.
    """

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """Answers per second, quantiles of the latency in milliseconds, and numbers of refused and failed requests."""
        refused, broken = self.statuses[503], self.statuses[0]
        figures: dict[str, Any] = {
            "seconds": round(self.seconds, 1),
            "answered": len(self.times),
            "refused_503": refused,
            "failed": sum(self.statuses.values()) - len(self.times) - refused,
            "broken_connections": broken,
            "per_second": round(len(self.times) / self.seconds, 2),
        }
        if self.times:
            p50, p95, p99 = (1000 * np.quantile(self.times, [0.5, 0.95, 0.99])).tolist()
            figures |= {"p50_ms": round(p50, 1), "p95_ms": round(p95, 1), "p99_ms": round(p99, 1)}
            figures |= {"p99_to_p50": round(p99 / p50, 2)}
        return figures


def load(
    url: str, images: Sequence[bytes], *, clients: int, seconds: float, top: int = 20, token: str | None = None
) -> Outcome:
    """Search with images from concurrent clients.

    Args:
        url: address of the service.
        images: contents of image files, uploaded in turn.
        clients: number of concurrent clients.
        seconds: duration of the test; requests sent by then are still awaited.
        top: most results per search.
        token: access token; None if the service requires none.

    Raises:
        GlamError: there is no service.
    """
    Client(url, token).info()  # one sentence if there is no service
    outcome, lock = Outcome(), threading.Lock()
    turn = itertools.cycle(range(len(images)))
    bodies = [form({"top": top}, image) for image in images]
    began = time.perf_counter()

    def next_bodies() -> Iterator[tuple[bytes, str]]:
        while time.perf_counter() - began < seconds:
            with lock:
                body = bodies[next(turn)]
            yield body

    def run() -> None:
        client = _Client(url, token)
        for body, kind in next_bodies():
            sent = time.perf_counter()
            status, rest = client.search(body, kind)
            took = time.perf_counter() - sent
            with lock:
                outcome.statuses[status] += 1
                if status == 200:
                    outcome.times.append(took)
            time.sleep(min(rest, MAX_REST))

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.seconds = time.perf_counter() - began
    return outcome


class _Client:
    """One connection, opened again after it broke."""

    def __init__(self, url: str, token: str | None) -> None:
        self._connection = _connect(url)
        self._path = urlsplit(url).path.rstrip("/") + "/api/search"
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def search(self, body: bytes, kind: str) -> tuple[int, float]:
        """Status of the answer, and seconds to wait before the next request."""
        try:
            self._connection.request("POST", self._path, body, {"Content-Type": kind, **self._headers})
            answer = self._connection.getresponse()
            answer.read()
            return answer.status, float(answer.headers.get("Retry-After", 0))
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            return 0, 0.0


def _connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=TIMEOUT)
