"""The service under load, with and without batching across requests: many clients upload images in parallel.

    python benchmarks/serve.py ../shared/landmarks [--seconds 60] [--clients 64] [--out benchmarks/results/serve.json]
    python benchmarks/serve.py ../shared/landmarks --ways batched --seconds 600 --warm-up 60 --out .../serve_memory.json

The index contains the images, and generated descriptors (`World` in search.py) without files; it is built once and
kept in --work. The queries are the same images, uploaded in turn. There are more of them than the service caches
descriptors for, so it describes each one. The methods run one after another, --rounds times, each in a fresh process
`glam serve`. The clients run on the same machine; processor time is that of the service.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from search import World

import glam
from glam.app.bench.load import load
from glam.datasets.readers import read_folder
from glam.index import Index, build
from glam.index.storage.records import FileFacts
from glam.index.writer import ImageToAdd, open_writer

MODEL = "glam-lite0"
BLOCK = 10_000
WAYS = {"batched": [], "one at a time": ["--batch", "1"]}


@dataclass(frozen=True)
class Running:
    """A service in a separate process.

    Attributes:
        process: process of the service.
        url: address of the service.
    """

    process: subprocess.Popen[str]
    url: str

    def memory(self) -> float:
        """Returns the memory of the service in MiB, without mapped files."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssAnon"))

    def processor_seconds(self) -> float:
        """Returns the processor time of the service in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name: str) -> float:
        """Returns a metric of /metrics by its name with labels, 0 if it is missing."""
        with urlopen(f"{self.url}/metrics") as answer:
            found = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0


def make_index(folder: Path, source: Path, real: int, vectors: int) -> Path:
    """Builds an index of images and generated rows, or returns the existing one."""
    index = folder / f"places-{real}-{vectors}.glam"
    if (folder / f"{index.name}.done").exists():
        return index
    collection = read_folder(source)
    some = np.random.default_rng(0).permutation(len(collection.images))[:real]
    collection = replace(collection, images=tuple(collection.images[i] for i in sorted(some)))
    print(f"describing {len(collection)} images", flush=True)
    build(index, collection, glam.load(MODEL))
    with Index.open(index) as opened:
        dim = opened.dim
    with tempfile.TemporaryDirectory() as name, open_writer(index) as writer:
        World().make(Path(name), vectors - len(collection))
        descriptors = np.load(Path(name) / "rows.npy", mmap_mode="r")[: vectors - len(collection)]
        for start in range(0, len(descriptors), BLOCK):
            block = np.zeros((len(descriptors[start : start + BLOCK]), dim), np.float32)  # zeros change no cosine
            block[:, : descriptors.shape[1]] = descriptors[start : start + BLOCK]
            writer.add([_made_up(start + i, descriptor) for i, descriptor in enumerate(block)])
    (folder / f"{index.name}.done").touch()
    return index


def _made_up(number: int, descriptor: "np.ndarray[Any, np.dtype[np.float32]]") -> ImageToAdd:
    facts = FileFacts(f"made-up/{number:07d}.jpg", f"landmark {number % 5000}", "{}", "", -1, 0)
    return ImageToAdd(facts, 320, 240, descriptor)


@contextlib.contextmanager
def service(index: Path, options: list[str]) -> Iterator[Running]:
    """Runs `glam serve` while the block runs."""
    command = [str(Path(sys.executable).with_name("glam")), "serve", str(index), "--port", "0", *options]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stderr=log, text=True)
        try:
            yield Running(process, _address(process, log))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _address(process: "subprocess.Popen[str]", log: Any) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        log.seek(0)
        found = re.search(r"http://[\w.:]+", log.read())
        if found:
            return found[0]
        time.sleep(0.2)
    log.seek(0)
    raise SystemExit(f"the service did not start: {log.read()}")


def measure(running: Running, queries: list[bytes], clients: int, seconds: float, warm_up: float) -> dict[str, Any]:
    """Puts load on a service, and records its memory meanwhile."""
    load(running.url, queries[::-1], clients=clients, seconds=warm_up)
    kept, batches = 'glam_descriptors_total{kept="true"}', 'glam_batch_size_%s{queue="network"}'
    before = {name: running.metric(name) for name in (kept, batches % "sum", batches % "count")}
    used = running.processor_seconds()
    memory, ended = [running.memory()], threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):
            memory.append(running.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    outcome = load(running.url, queries, clients=clients, seconds=seconds)
    ended.set()
    watcher.join()
    used = running.processor_seconds() - used
    passed = {name: running.metric(name) - value for name, value in before.items()}
    tenth = max(1, len(memory) // 10)
    first, last = statistics.median(memory[:tenth]), statistics.median(memory[-tenth:])
    return {
        **outcome.to_dict(),
        "descriptors_remembered": int(passed[kept]),
        "processor_ms_an_answer": round(1000 * used / max(1, len(outcome.times)), 1),
        "images_a_batch": round(passed[batches % "sum"] / max(1.0, passed[batches % "count"]), 2),
        "memory_mib": {
            "first_tenth": round(first, 1),
            "last_tenth": round(last, 1),
            "most": round(max(memory), 1),
            "every_10_s": [round(value) for value in memory[::10]],
        },
    }


def main() -> None:
    """Makes the index, measures each method, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--real", type=int, default=3_000, help="number of images to index and to search with")
    parser.add_argument("--vectors", type=int, default=100_000, help="number of rows in the index, images included")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds of load before the measurement")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--work", type=Path, default=Path(".cache/serve"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serve.json"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    index = make_index(options.work, options.folder, options.real, options.vectors)
    with Index.open(index) as opened:
        entries = opened.entries(opened.image_ids[: options.real].tolist())
        queries = [(opened.root / entry.path).read_bytes() for entry in entries]
    order = np.random.default_rng(1).permutation(len(queries))
    queries = [queries[i] for i in order]
    ways: dict[str, list[dict[str, Any]]] = {way: [] for way in options.ways}
    for _ in range(options.rounds):
        for way in options.ways:
            with service(index, WAYS[way]) as running:
                ways[way].append(measure(running, queries, options.clients, options.seconds, options.warm_up))
            print(way, ways[way][-1], flush=True)
    rates = {way: statistics.median(result["per_second"] for result in results) for way, results in ways.items()}
    result = {
        "command": " ".join(["python", *sys.argv]),
        "model": MODEL,
        "vectors": options.vectors,
        "photographs": len(queries),
        "clients": options.clients,
        "seconds": options.seconds,
        "warm_up": options.warm_up,
        "ways": ways,
        "per_second": rates,
        "times_one_at_a_time": round(rates["batched"] / rates["one at a time"], 2) if len(rates) == 2 else None,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
            "load": os.getloadavg()[0],
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
