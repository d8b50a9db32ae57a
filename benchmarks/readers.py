"""Consistency of the service while a writer adds images: no request fails, and no row points to another image.

    python benchmarks/readers.py [--images 10000] [--readers 100] [--pause 10] [--out benchmarks/results/readers.json]

The images are generated, small, and all different. The index starts with the first tenth of them. While
`glam.index.add` adds the others in a separate process, in parts, readers search with random images. For the query and
three results, they request the image's facts and its file, and compare the checksum of the file with the one recorded
for its path.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from PIL import Image
from serve import service

import glam
from glam.datasets.readers import read_folder
from glam.index import build, verify
from glam.inference.pipeline import Settings

MODEL, SIZE = "glam-lite0", 64
PART = 250
"""Number of images that the writer adds at a time."""

WRITE = """
import sys, glam
from pathlib import Path
files = Path(sys.argv[2]).read_text().split("\\n")
model = glam.load(sys.argv[3], "cpu")
for start in range(0, len(files), int(sys.argv[4])):
    glam.index.add(sys.argv[1], files[start : start + int(sys.argv[4])], lambda: model)
"""


def draw(folder: Path, count: int) -> dict[str, str]:
    """Draws images of random colors; returns the checksum of each by path."""
    digests = {}
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
        path = f"{number % 50:02d}/{number:05d}.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.NEAREST).save(folder / path)
        digests[path] = hashlib.sha256((folder / path).read_bytes()).hexdigest()
    return digests


class Readers:
    """Clients that send requests until the block ends, with a pause after each answer.

    Args:
        url: address of the service.
        digests: SHA-256 of each image file by path.
        count: number of clients.
        pause: mean pause in seconds.

    Attributes:
        seen: number of answers by outcome, "right" or an error.
        times: seconds of each round.
    """

    def __init__(self, url: str, digests: dict[str, str], count: int, pause: float) -> None:
        self._url, self._digests, self._pause = url, digests, pause
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.seen: Counter[str] = Counter()
        self.times: list[float] = []
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(count)]

    def __enter__(self) -> "Readers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._ended.is_set():
            began = time.perf_counter()
            try:
                found = self._look(chance)
            except Exception as error:  # noqa: BLE001  (counted and reported)
                found = [f"error: {error!r}"]
            with self._lock:
                self.seen.update(found)
                self.times.append(time.perf_counter() - began)
            self._ended.wait(self._pause * chance.uniform(0.5, 1.5))

    def _look(self, chance: random.Random) -> list[str]:
        """Searches with an image and checks the query and three results: "right", or the error, for each."""
        count = self._json("/api/info")["images"]
        answer = self._json(f"/api/images/{chance.randrange(count)}/search?top=20")
        images = [answer["query"]["image"], *(hit["image"] for hit in chance.sample(answer["results"], 3))]
        return [self._checked(image) for image in images]

    def _checked(self, image: dict[str, Any]) -> str:
        again = self._json(f"/api/images/{image['image_id']}")
        with urlopen(f"{self._url}/api/images/{image['image_id']}/file", timeout=120) as answer:
            content = hashlib.sha256(answer.read()).hexdigest()
        if again != image:
            return "another image under the same number"
        return "right" if content == self._digests[image["path"]] else "another content"

    def _json(self, path: str) -> Any:
        with urlopen(f"{self._url}{path}", timeout=120) as answer:
            return json.load(answer)


def main() -> None:
    """Draws images, indexes a tenth, adds the others under load, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="number of images")
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--pause", type=float, default=10, help="mean pause between requests in seconds")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/readers.json"))
    options = parser.parse_args()
    first = max(50, options.images // 10)
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), glam.load(MODEL, "cpu")
        root, index = folder / "images", folder / "i.glam"
        digests = draw(root, first + options.images)
        collection = read_folder(root)
        paths = sorted(digests, key=lambda path: path[-9:])
        begin = [image for image in collection.images if image.path in set(paths[:first])]
        build(index, type(collection)(collection.root, tuple(begin)), model, settings=Settings(SIZE))
        (folder / "files").write_text("\n".join(str(root / path) for path in paths[first:]), encoding="utf-8")
        with service(index, ["--waiting", str(4 * options.readers)]) as running:
            began = time.perf_counter()
            with Readers(running.url, digests, options.readers, options.pause) as readers:
                command = [sys.executable, "-c", WRITE, str(index), str(folder / "files"), MODEL, str(PART)]
                written = subprocess.run(command, check=False).returncode
                seconds = time.perf_counter() - began
                served = wait_for(running.url, first + options.images)
            opened = running.metric('glam_index_opened_total{outcome="done"}')
            failed = running.metric('glam_index_opened_total{outcome="failed"}')
        problems = [str(problem) for problem in verify(index).problems]
    right = readers.seen.pop("right", 0)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "readers": options.readers,
        "pause_seconds": options.pause,
        "images_at_first": first,
        "images_added": options.images,
        "writer_exit_code": written,
        "writer_seconds": round(seconds, 1),
        "images_served_at_the_end": served,
        "index_opened_anew": {"done": int(opened), "failed": int(failed)},
        "rows_checked_and_right": right,
        "anything_else": dict(readers.seen),
        "reader_p50_ms": round(1000 * float(np.median(readers.times)), 1),
        "verify_problems": problems,
        "machine": {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def wait_for(url: str, images: int) -> int:
    """Waits up to a minute until the service has all images; returns the number that it has."""
    for _ in itertools.repeat(None, 60):
        with urlopen(f"{url}/api/info", timeout=120) as answer:
            served = int(json.load(answer)["images"])
        if served == images:
            break
        time.sleep(1)
    return served


if __name__ == "__main__":
    main()
