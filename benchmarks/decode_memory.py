"""Peak memory of decoding an image, by format and mode, in bytes per pixel: the source of `app/service/decode_cost.py`.

    python benchmarks/decode_memory.py

Each image has 20 megapixels and is decoded in a process of its own, in two ways: in full, as for thumbnails and
explanations, and for the network at 480 pixels, which reduces JPEGs while they are decoded.
"""

import io
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from glam.app.service.decode_cost import decode_cost
from glam.app.service.memory_budget import used_memory
from glam.images import read_image
from glam.inference.decode import DRAFT_OVERSAMPLING, prepare
from glam.stage_times import Times

WIDTH, HEIGHT = 5_000, 4_000
LONGEST = 480

KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "JPEG": ("JPEG", "RGB", {}),
    "JPEG, progressive": ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    "JPEG, CMYK": ("JPEG", "CMYK", {}),
    "PNG": ("PNG", "RGB", {"compress_level": 1}),
    "PNG, transparent": ("PNG", "RGBA", {"compress_level": 1}),
    "PNG, palette": ("PNG", "P", {"compress_level": 1}),
    "PNG, 16 bits": ("PNG", "I;16", {"compress_level": 1}),
    "GIF": ("GIF", "P", {}),
    "WebP": ("WEBP", "RGB", {"method": 0}),
    "WebP, transparent": ("WEBP", "RGBA", {"method": 0}),
    "AVIF, transparent": ("AVIF", "RGBA", {"speed": 10}),
    "TIFF": ("TIFF", "RGB", {}),
    "TIFF, floats": ("TIFF", "F", {}),
    "JPEG 2000": ("JPEG2000", "RGB", {}),
}


def encode(kind: str) -> bytes:
    """Encodes a smooth random image of a kind."""
    format, mode, options = KINDS[kind]
    coarse = np.random.default_rng(0).integers(0, 256, (HEIGHT // 50, WIDTH // 50, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((WIDTH, HEIGHT))
    gray = image.convert("L")
    if mode == "RGBA":
        image.putalpha(gray)
    elif mode == "I;16":
        image = Image.fromarray(np.asarray(gray).astype(np.uint16) << 8)
    elif mode == "F":
        image = Image.fromarray(np.asarray(gray).astype(np.float32))
    elif mode != "RGB":
        image = image.convert(mode)
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def peak(work: Callable[[], object]) -> int:
    """Most bytes that a function held, sampled every 2 ms."""
    before, most, ended = used_memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.002):
            most = max(most, used_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    ended.set()
    watcher.join()
    return most - before


def main() -> None:
    """Measures every kind in a process of its own, or one kind."""
    pixels = WIDTH * HEIGHT
    if sys.argv[1:] == ["--child"]:
        data = sys.stdin.buffer.read()
        in_full = peak(lambda: read_image(data)) / pixels
        reduced = peak(lambda: prepare(data, None, LONGEST, 1, Times())) / pixels
        costs = decode_cost(data) / pixels, decode_cost(data, DRAFT_OVERSAMPLING * LONGEST) / pixels
        print(f"{in_full:8.1f} {costs[0]:9.1f} {reduced:12.1f} {costs[1]:9.1f}")
        return
    print(f"{'':20} in full estimated  for network estimated   (bytes per pixel)")
    for kind in KINDS:
        done = subprocess.run(
            [sys.executable, __file__, "--child"], input=encode(kind), capture_output=True, check=True
        )
        print(f"{kind:18}", done.stdout.decode().rstrip(), flush=True)


if __name__ == "__main__":
    main()
