"""Asking a service as fast as so many clients can, and what came of it."""

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from glam.app.client import form
from glam.errors import GlamError

TIMEOUT = 120.0
"""Seconds that a client waits for an answer."""

MOST_REST = 1.0
"""Seconds that a client rests after a 503, at most."""


@dataclass
class Outcome:
    """What the clients saw.

    Attributes:
        seconds: that it took.
        times: of each answer with results, in seconds.
        statuses: how many answers had each status; 0 for a connection that broke.
    """

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """Answers a second, quantiles of their times in milliseconds, and how many were refused or failed."""
        refused, broken = self.statuses[503], self.statuses[0]
        told: dict[str, Any] = {
            "seconds": round(self.seconds, 1),
            "answered": len(self.times),
            "refused_503": refused,
            "failed": sum(self.statuses.values()) - len(self.times) - refused,
            "broken_connections": broken,
            "per_second": round(len(self.times) / self.seconds, 2),
        }
        if self.times:
            p50, p95, p99 = (1000 * np.quantile(self.times, [0.5, 0.95, 0.99])).tolist()
            told |= {"p50_ms": round(p50, 1), "p95_ms": round(p95, 1), "p99_ms": round(p99, 1)}
            told |= {"p99_to_p50": round(p99 / p50, 2)}
        return told


def load(
    url: str, photographs: Sequence[bytes], *, clients: int, seconds: float, top: int = 20, token: str | None = None
) -> Outcome:
    """Searches with photographs, each client one after another, all at the same time.

    Args:
        url: of the service.
        photographs: files, taken in turn.
        clients: how many ask at the same time.
        seconds: for how long; what was asked by then is waited for.
        top: results that are wanted.
        token: for searching.

    Raises:
        GlamError: there is no service, or it cannot be asked.
    """
    check_service(url, token)
    outcome, lock = Outcome(), threading.Lock()
    turn = itertools.cycle(range(len(photographs)))
    bodies = [form({"top": top}, photograph) for photograph in photographs]
    began = time.perf_counter()

    def next_bodies() -> Iterator[tuple[bytes, str]]:
        while time.perf_counter() - began < seconds:
            with lock:
                body = bodies[next(turn)]
            yield body

    def run() -> None:
        client = _Client(url, token)
        for body, kind in next_bodies():
            asked = time.perf_counter()
            status, rest = client.ask(body, kind)
            took = time.perf_counter() - asked
            with lock:
                outcome.statuses[status] += 1
                if status == 200:
                    outcome.times.append(took)
            time.sleep(min(rest, MOST_REST))

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcome.seconds = time.perf_counter() - began
    return outcome


class _Client:
    """One connection, opened again where it broke."""

    def __init__(self, url: str, token: str | None) -> None:
        self._connection = _connect(url)
        self._path = urlsplit(url).path.rstrip("/") + "/api/search"
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def ask(self, body: bytes, kind: str) -> tuple[int, float]:
        """Status of the answer, and for how many seconds to rest."""
        try:
            self._connection.request("POST", self._path, body, {"Content-Type": kind, **self._headers})
            answer = self._connection.getresponse()
            answer.read()
            return answer.status, float(answer.headers.get("Retry-After", 0))
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, 0.0


def check_service(url: str, token: str | None) -> dict[str, Any]:
    """What a service says of itself.

    Raises:
        GlamError: there is none, or the token is refused.
    """
    connection = _connect(url)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        connection.request("GET", urlsplit(url).path.rstrip("/") + "/api/info", headers=headers)
        answer = connection.getresponse()
        told: dict[str, Any] = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise GlamError(f"{url}: no service there ({error})") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise GlamError(f"{url}: {told.get('detail', answer.status)}")
    return told


def _connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise GlamError(f"{url!r} is no address as http://localhost:8000")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, parts.port, timeout=TIMEOUT)
