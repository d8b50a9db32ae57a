"""Makes the pictures of the README, from a folder of photographs with one folder a landmark:

python docs/screenshots.py PHOTOGRAPHS [--out docs/pictures] [--query PATH] [--result PATH]

It indexes the photographs with the bundled model, serves them, and looks at the page with Chromium: results and a
comparison, on a desktop and a phone, light and dark. Show only photographs that you may publish. Those of the README:

glam data generate photographs --landmarks 25
python docs/screenshots.py photographs --query landmark_00012/0000.jpg      # the results
python docs/screenshots.py photographs --query landmark_00000/0003.jpg      # matches and attention
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
MOST_BYTES = 300_000
QUALITIES = (88, 80, 70, 60, 50)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 780}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


def main() -> None:
    """Reads the command line and makes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--query", help="path of the query below the folder; else the first photograph")
    parser.add_argument("--result", help="path of the result to compare it with; else the best one")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "places.glam"
        model = glam.load(MODEL)
        glam.index.build(path, read_collection(given.photographs), model)
        with glam.index.open(path) as index, running(create_app(index, model)) as url:
            query = number(index, given.query) if given.query else 0
            found = index.search(index.descriptor(query), k=2)[0]
            result = number(index, given.result) if given.result else found[1].image_id
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            take(browser, given.out, url, query, result)
            browser.close()


def take(browser: Browser, out: Path, url: str, query: int, result: int) -> None:
    """Takes every picture."""
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
        page.wait_for_timeout(500)  # for pictures to be decoded
        size = write(page.screenshot(), out / f"{name}.webp")
        print(f"{out / name}.webp: {size / 1000:.0f} kB")
        context.close()


def write(picture: bytes, path: Path) -> int:
    """Writes a picture as WebP, as good as `MOST_BYTES` allow, and returns its bytes."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for quality in QUALITIES:
        image.save(path, quality=quality, method=6)
        if path.stat().st_size <= MOST_BYTES:
            break
    return path.stat().st_size


def number(index: glam.index.Index, path: str) -> int:
    """The image with a path in an index."""
    return next(int(image) for image in index.image_ids if index.entry(int(image)).path == path)


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The address of an app that is served meanwhile."""
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
