"""Searches of honest clients beside an attack: latency with and without it, in alternating pairs.

    python benchmarks/attack.py ../shared/landmarks [--pairs 7] [--seconds 30] [--out benchmarks/results/attack.json]

The attackers run in a process of their own and connect from other loopback addresses (127.0.0.0/8, Linux only):

    half-open connections   send half a head, wait until the service closes the connection, and connect again
    slow clients            send a body, or read a response, of which a byte moves per second
    hostile clients         send large images, slow filters, garbage, and requests for many sizes of thumbnails, each
                            with a pause of 50 ms after the answer

A pair is a round without the attack and one with it, on the same service. The ratio of the 99th percentiles is that of
the median pair. Clients, attackers, and the service share the cores of the machine.
"""

import argparse
import asyncio
import io
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from PIL import Image

from glam.app.bench.load import load
from glam.app.client import form

HEAD = b"GET /api/info HTTP/1.1\r\nHost: localhost\r\n"

PAUSE = 0.05
"""Seconds that a hostile client waits after an answer; arbitrary."""

SLOW_FILTER = "+".join(f"length(trim(path||'{'a' * 400}','{'b' * 350}a'))" for _ in range(2)) + " > 0"
"""A filter that compares every letter with every other, for each image."""

LARGE = (7_000, 7_000)
"""Pixels of a large image: as many as the service accepts."""


@dataclass(frozen=True)
class Attackers:
    """Numbers of attackers.

    Attributes:
        half_open: half-open connections.
        slow: clients that send or read a byte per second.
        hostile: clients that send what is expensive or malformed.
    """

    half_open: int = 2_000
    slow: int = 200
    hostile: int = 50


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Attack:
    """Attacks a service until it is canceled.

    Args:
        url: address of the service.
        attackers: how many attackers of each kind.

    Attributes:
        seen: number of answers to hostile clients, by status; 0 for a broken connection.
    """

    def __init__(self, url: str, attackers: Attackers) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._attackers = attackers
        self._requests = [make() for make in (_large_image, _garbage_image, _filter, _thumbnail, _unknown, _no_http)]
        self.seen: Counter[int] = Counter()

    async def run(self) -> None:
        """Attack until the task is canceled."""
        kinds: list[tuple[int, Callable[[str, int], Coroutine[Any, Any, None]]]] = [
            (self._attackers.half_open, self._half_open),
            (self._attackers.slow, self._slow),
            (self._attackers.hostile, self._hostile),
        ]
        async with asyncio.TaskGroup() as group:
            for kind, (count, attack) in enumerate(kinds, start=1):
                for number in range(count):
                    group.create_task(self._forever(attack, f"127.{kind}.{number // 250}.{1 + number % 250}", number))

    async def _forever(
        self, attack: Callable[[str, int], Coroutine[Any, Any, None]], address: str, number: int
    ) -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                await attack(address, number)
            await asyncio.sleep(random.uniform(0.5, 1.5) * PAUSE)

    async def _connect(self, address: str) -> Connection:
        return await asyncio.open_connection(self._host, self._port, local_addr=(address, 0), limit=2**20)

    async def _half_open(self, address: str, number: int) -> None:
        reader, writer = await self._connect(address)
        try:
            writer.write(HEAD if number % 2 else b"")
            await reader.read()
        finally:
            writer.close()
        await asyncio.sleep(random.uniform(0, 2))

    async def _slow(self, address: str, number: int) -> None:
        reader, writer = await self._connect(address)
        try:
            if number % 2:
                writer.write(
                    b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
                    b"Content-Length: 1000000\r\n\r\n--b\r\n"
                )
                while not reader.at_eof():
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(1)
            else:
                writer.write(b"GET /api/images/0/file HTTP/1.1\r\nHost: localhost\r\n\r\n")
                while await reader.read(1):
                    await asyncio.sleep(1)
        finally:
            writer.close()

    async def _hostile(self, address: str, number: int) -> None:
        reader, writer = await self._connect(address)
        status = 0
        try:
            writer.write(random.choice(self._requests)())
            line = await reader.readline()
            status = int(line.split()[1]) if line.startswith(b"HTTP/1.1 ") else 0
            await reader.read()
        finally:
            self.seen[status] += 1
            writer.close()


Request = Callable[[], bytes]


def _post(content: bytes) -> bytes:
    body, kind = form({"top": 5}, content)
    head = f"POST /api/search HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def _large_image() -> Request:
    out = io.BytesIO()
    Image.new("RGBA", LARGE, (10, 20, 30, 40)).save(out, "PNG")
    content = out.getvalue()
    return lambda: _post(content + os.urandom(8))  # never cached


def _garbage_image() -> Request:
    return lambda: _post(os.urandom(100_000))


def _filter() -> Request:
    return lambda: _get(f"/api/images/0/search?where={quote(f'{SLOW_FILTER} and {random.random()} < 1')}")


def _thumbnail() -> Request:
    return lambda: _get(f"/api/images/0/thumbnail?size={random.randrange(32, 1024)}")


def _unknown() -> Request:
    return lambda: _get(f"/api/images/{random.randrange(10**9)}/{random.randrange(10**9)}")


def _no_http() -> Request:
    return lambda: os.urandom(200) + b"\r\n\r\n"


@contextmanager
def attacked(url: str, attackers: Attackers) -> Iterator[None]:
    """Context manager: a service is attacked from another process while the block runs."""
    numbers = f"{attackers.half_open},{attackers.slow},{attackers.hostile}"
    process = subprocess.Popen([sys.executable, __file__, "--attack", url, numbers])
    try:
        time.sleep(3)  # until most attackers are connected
        assert process.poll() is None, "the attack has ended"
        yield
    finally:
        process.terminate()
        process.wait()


def measure(
    url: str, queries: list[bytes], clients: int, seconds: float, memory: Callable[[], float]
) -> dict[str, Any]:
    """Puts the load of honest clients on a service, and records its memory in MiB meanwhile."""
    seen, ended = [memory()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            seen.append(memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    outcome = load(url, queries, clients=clients, seconds=seconds)
    ended.set()
    watcher.join()
    return {**outcome.to_dict(), "statuses": dict(outcome.statuses), "memory_mib": round(max(seen))}


def main() -> None:
    """Runs the pairs, and writes the results."""
    if sys.argv[1:2] == ["--attack"]:
        asyncio.run(Attack(sys.argv[2], Attackers(*map(int, sys.argv[3].split(",")))).run())
        return
    from serve import make_index, service

    from glam.app.service.server import raise_file_limit
    from glam.index import Index
    from glam.machine_memory import machine_memory

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--real", type=int, default=3_000, help="number of images to index and to search with")
    parser.add_argument("--vectors", type=int, default=20_000, help="number of rows in the index, images included")
    parser.add_argument("--half-open", type=int, default=2_000)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--hostile", type=int, default=50)
    parser.add_argument("--work", type=Path, default=Path(".cache/serve"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/attack.json"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    raise_file_limit()
    index = make_index(options.work, options.folder, options.real, options.vectors)
    with Index.open(index) as opened:
        entries = opened.entries(opened.image_ids[: options.real].tolist())
        queries = [(opened.root / entry.path).read_bytes() for entry in entries]
    attackers = Attackers(options.half_open, options.slow, options.hostile)
    pairs: list[dict[str, dict[str, Any]]] = []
    with service(index, []) as running:

        def honest() -> dict[str, Any]:
            random.shuffle(queries)
            return measure(running.url, queries, options.clients, options.seconds, running.memory)

        measure(running.url, queries, options.clients, 5.0, running.memory)  # shapes of the first batches
        for _ in range(options.pairs):
            quiet = honest()
            with attacked(running.url, attackers):
                pairs.append({"quiet": quiet, "attacked": honest()})
            print(json.dumps(pairs[-1]), flush=True)
            time.sleep(5)
    ratios = [pair["attacked"]["p99_ms"] / pair["quiet"]["p99_ms"] for pair in pairs]
    result = {
        "command": " ".join(["python", *sys.argv]),
        "p99_ratio": round(statistics.median(ratios), 2),
        "p99_ratios": [round(ratio, 2) for ratio in ratios],
        "memory_mib": max(pair["attacked"]["memory_mib"] for pair in pairs),
        "budget_mib": round(machine_memory() / 4 / 2**20),
        "pairs": pairs,
        "machine": {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"p99 {result['p99_ratio']} times that without the attack, most memory {result['memory_mib']} MiB")


if __name__ == "__main__":
    main()
