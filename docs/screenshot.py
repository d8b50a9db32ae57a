"""Makes the picture of the README: the page of `glam demo`'s index, after a search with a box on a photograph.

python docs/screenshot.py demo docs/page.png
"""

import shutil
import sys
import threading
import time
from pathlib import Path

import uvicorn
from playwright.sync_api import sync_playwright

import glam
from glam.app.server import create_app
from glam.index import Index


def main(demo: Path, picture: Path) -> None:
    """Serves the index of a finished demo and takes the picture."""
    index = Index.open(demo / "unseen.glam")
    service = create_app(index, glam.load(index.model_name, "cpu"))
    server = uvicorn.Server(uvicorn.Config(service, port=0, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    with sync_playwright() as playwright:
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        page.goto(f"http://127.0.0.1:{port}/?image=43")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(500)
        page.screenshot(path=picture)
        browser.close()
    server.should_exit = True


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
