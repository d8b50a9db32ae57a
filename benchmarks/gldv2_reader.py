"""Start-up time and memory of the reader of Google Landmarks v2, on generated tables of any length.

    python benchmarks/gldv2_reader.py --out benchmarks/results/gldv2_reader.json

Each table is read in a separate process; the images that it lists do not exist. Each landmark has 20 images, about as
many as in the clean list (1,580,470 images of 81,313 landmarks).
"""

import argparse
import json
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMAGES = (200_000, 1_580_470)
PER_LANDMARK = 20


def write_table(file: Path, images: int) -> None:
    """Writes a table with the columns of ``train_clean.csv``."""
    draw = random.Random(0)
    with file.open("w") as text:
        text.write("landmark_id,images\n")
        for landmark, first in enumerate(range(0, images, PER_LANDMARK)):
            count = min(PER_LANDMARK, images - first)
            text.write(f"{landmark},{' '.join(f'{draw.getrandbits(64):016x}' for _ in range(count))}\n")


def measure(table: str) -> None:
    """Reads a table, and prints time and peak memory as JSON; memory includes the interpreter and all imports."""
    began = time.perf_counter()
    from glam.datasets.readers import read_collection

    imported, before = time.perf_counter(), peak_megabytes()
    collection = read_collection(table)
    landmarks = int(collection.landmark_ids.max()) + 1
    figures = {
        "images": len(collection),
        "landmarks": landmarks,
        "import_seconds": round(imported - began, 2),
        "read_seconds": round(time.perf_counter() - imported, 2),
        "imports_mb": before,
        "peak_mb": peak_megabytes(),
    }
    print(json.dumps(figures))


def peak_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 10**6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the result")
    arguments = parser.parse_args()
    results = []
    for images in IMAGES:
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "train_clean.csv"
            write_table(table, images)
            command = [sys.executable, __file__, "--measure", str(table)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        results.append(json.loads(done.stdout))
        print(results[-1])
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    arguments.out.write_text(json.dumps({**machine, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2])
    else:
        main()
