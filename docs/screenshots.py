"""Take the screenshots of the README, from a folder of images with one sub-folder per landmark:

python docs/screenshots.py FOLDER [--out docs/pictures] [--query PATH] [--result PATH]

It indexes the images with the bundled model, serves them, and opens the page in Chromium: results and a comparison, on
a desktop and a phone, light and dark. Use only images that you may publish. Those of the README:

glam data generate generated --landmarks 25
python docs/screenshots.py generated --query landmark_00012/0000.jpg      # the results
python docs/screenshots.py generated --query landmark_00000/0003.jpg      # matches and attention
"""

import argparse
import io
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

import glam
import glam.index
from glam.app.service.app import create_app
from glam.datasets.readers import read_collection

MODEL = "glam-lite0"
MAX_BYTES = 300_000
QUALITIES = (88, 80, 70, 60, 50)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 780}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


def main() -> None:
    """Parse the command line and take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="images, one sub-folder per landmark")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--query", help="path of the query in the folder; by default the first image")
    parser.add_argument("--result", help="path of the result to compare it with; by default the best one")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        path = Path(temporary) / "landmarks.glam"
        model = glam.load(MODEL)
        glam.index.build(path, read_collection(options.folder), model)
        with glam.index.open(path) as index, running(create_app(index, model)) as url:
            query = image_id_of(index, options.query) if options.query else 0
            found = index.search(index.descriptor(query), k=2)[0]
            result = image_id_of(index, options.result) if options.result else found[1].image_id
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            take(browser, options.out, url, query, result)
            browser.close()


def take(browser: Browser, out: Path, url: str, query: int, result: int) -> None:
    """Take every screenshot."""
    search, comparison = f"?image={query}", f"?image={query}&compare={result}"
    for name, address, device, colors in (
        ("home-light", "", DESKTOP, "light"),
        ("results-light", search, DESKTOP, "light"),
        ("results-dark", search, DESKTOP, "dark"),
        ("matches-light", f"{comparison}&show=matches", DESKTOP, "light"),
        ("attention-dark", f"{comparison}&show=global_channel", DESKTOP, "dark"),
        ("phone-results-light", search, PHONE, "light"),
        ("phone-matches-dark", f"{comparison}&show=matches", PHONE, "dark"),
    ):
        context = browser.new_context(**device, color_scheme=colors, reduced_motion="reduce")  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(url + address)
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(500)  # for images to be decoded
        size = write(page.screenshot(), out / f"{name}.webp")
        print(f"{out / name}.webp: {size / 1000:.0f} kB")
        context.close()


def write(picture: bytes, path: Path) -> int:
    """Write a screenshot as WebP, in the best quality below `MAX_BYTES`, and return its size in bytes."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for quality in QUALITIES:
        image.save(path, quality=quality, method=6)
        if path.stat().st_size <= MAX_BYTES:
            break
    return path.stat().st_size


def image_id_of(index: glam.index.Index, path: str) -> int:
    """The image_id of the image with this path."""
    return next(int(image_id) for image_id in index.image_ids if index.entry(int(image_id)).path == path)


@contextmanager
def running(app: Any) -> Iterator[str]:
    """Context manager: the address of an app that is being served."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


if __name__ == "__main__":
    main()
