"""The page in a real browser, on a real service with a real index of photos: what its tests share.

One browser and one service for all of them; each test gets a fresh browser context, and `visit` to act in it.
"""

import base64
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn

import glam
import glam.index
from glam.app.service.app import PAGE, create_app
from glam.app.service.middleware.auth import Access
from glam.datasets.readers import read_folder

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Browser, BrowserContext, Locator, Page, ViewportSize, expect, sync_playwright

PHOTOS = Path(__file__).parents[4] / "shared" / "landmarks" / "val"
LANDMARKS = ("cologne_cathedral", "golden_gate_bridge", "lotus_temple", "petra", "stonehenge", "tugu_monas")
INDEXED = 9  # photos of each landmark; the next one is the query
TOKEN = "open-sesame"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMIUM_ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
SIZES: dict[str, ViewportSize] = {"desktop": {"width": 1280, "height": 860}, "phone": {"width": 360, "height": 740}}


@dataclass(frozen=True)
class Site:
    """A running service: its address, that of one that requires `TOKEN`, and photos that are in neither index."""

    url: str
    guarded_url: str
    bridge: Path
    temple: Path
    images: int
    token: str = TOKEN


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if not PHOTOS.is_dir():
        pytest.skip(f"no photos at {PHOTOS}")
    folder = tmp_path_factory.mktemp("photos")
    queries: dict[str, Path] = {}
    for landmark in LANDMARKS:
        *indexed, queries[landmark] = sorted((PHOTOS / landmark).iterdir())[: INDEXED + 1]
        (folder / landmark).mkdir()
        for photo in indexed:
            shutil.copyfile(photo, folder / landmark / photo.name)
    model = glam.load("glam-lite0")
    path = tmp_path_factory.mktemp("index") / "places.glam"
    collection = read_folder(folder)
    images = [image._replace(metadata={"year": 2000 + i % INDEXED}) for i, image in enumerate(collection.images)]
    glam.index.build(path, replace(collection, images=images), model)
    with glam.index.open(path) as index, glam.index.open(path) as guarded:
        access = Access(read_token=TOKEN)
        with (
            running(create_app(index, model)) as url,
            running(create_app(guarded, model, access=access)) as guarded_url,
        ):
            yield Site(url, guarded_url, queries["golden_gate_bridge"], queries["lotus_temple"], len(images))


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The address of an app that is served meanwhile."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


Contexts = dict[str, BrowserContext]


@pytest.fixture(scope="package")
def contexts(browser: Browser) -> Iterator[Contexts]:
    """Those opened so far, by size and colors, each with one page: a new one for each test would take much longer."""
    opened: Contexts = {}
    yield opened
    for context in opened.values():
        context.close()


@pytest.fixture
def context(request: pytest.FixtureRequest, browser: Browser, contexts: Contexts) -> Iterator[BrowserContext]:
    """A browser: on a "desktop" or a "phone", in "light" or "dark", where a test's parameter says so."""
    kind = getattr(request, "param", "desktop")
    words = kind.split()
    size = "phone" if "phone" in words else "desktop"
    if kind not in contexts:
        contexts[kind] = browser.new_context(
            viewport=SIZES[size],
            has_touch=size == "phone",
            is_mobile=size == "phone",
            color_scheme="dark" if "dark" in words else "light",
            reduced_motion="reduce",  # no waiting for things to come to rest
        )
        contexts[kind].set_default_timeout(10_000)
        contexts[kind].new_page()
    yield contexts[kind]
    forget(contexts[kind], SIZES[size])


def forget(context: BrowserContext, size: ViewportSize) -> None:
    """Makes a browser as if it were new."""
    [page] = context.pages
    page.unroute_all(behavior="ignoreErrors")
    context.clear_permissions()
    context.clear_cookies()
    origin = page.evaluate("location.origin")
    page.goto("about:blank")
    context.new_cdp_session(page).send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})
    page.set_viewport_size(size)


class Visit:
    """A person at the page.

    Attributes:
        page: in the browser.
        site: that it came from.
        status: the line that says how it stands.
        tiles: the results.
    """

    def __init__(self, page: Page, site: Site) -> None:
        self.page, self.site = page, site
        self.status = page.locator("#status")
        self.tiles = page.locator("#found .tile:not(.placeholder)")

    def open(self, address: str = "") -> None:
        """Go to an address of the page."""
        self.page.goto(self.site.url + address)

    def choose(self, file: Path) -> None:
        """Search with a photo, and wait for results."""
        if self.page.url == "about:blank":
            self.open()
        self.page.set_input_files("#file", file)
        self.expect_found()

    def search(self, address: str = "?image=0") -> None:
        """Open the address of a search, and wait for results."""
        self.open(address)
        self.expect_found()

    def expect_picture(self) -> None:
        """The first result's picture is there. Not `wait_for_function`, which the page's content policy refuses when it
        has to wait."""
        picture = self.page.locator("#found img").first
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("(img) => img.naturalWidth > 0")

    def expect_found(self, landmark: str = "") -> None:
        """There are results, and the first one shows a landmark."""
        expect(self.tiles.first).to_contain_text(landmark)
        expect(self.status).to_contain_text(" first.")

    def button(self, name: str) -> Locator:
        """A button by its name."""
        return self.page.get_by_role("button", name=name, exact=True)

    def scores(self) -> list[str]:
        """The scores of the results."""
        return self.page.locator("#found .score").all_inner_texts()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag on the query between points given as fractions of its sides."""
        self.page.locator("#stage").scroll_into_view_if_needed()
        area = self.page.locator("#stage").bounding_box()
        assert area
        (x1, y1), (x2, y2) = ((area["x"] + x * area["width"], area["y"] + y * area["height"]) for x, y in (start, end))
        self.page.mouse.move(x1, y1)
        self.page.mouse.down()
        self.page.mouse.move(x2, y2)  # in one step: no pause on the way can start a search of its own
        self.page.mouse.up()

    def box_in_address(self) -> list[int]:
        """The box that the address says."""
        text = self.page.evaluate("new URLSearchParams(location.search).get('box') ?? ''")
        return [int(number) for number in text.split(",")]

    def fields_of_address(self) -> dict[str, str]:
        """What the address says, by name."""
        return self.page.evaluate("Object.fromEntries(new URLSearchParams(location.search))")

    def transfer(self, file: Path, kind: str = "image/webp") -> Any:
        """A DataTransfer that holds a file, as a drop or a paste brings it."""
        data = base64.b64encode(file.read_bytes()).decode()
        return self.page.evaluate_handle(
            """([data, name, type]) => {
                const transfer = new DataTransfer();
                const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
                transfer.items.add(new File([bytes], name, { type }));
                return transfer;
            }""",
            [data, file.name, kind],
        )

    def link_transfer(self, url: str) -> Any:
        """A DataTransfer that holds a link."""
        return self.page.evaluate_handle(
            """(url) => {
                const transfer = new DataTransfer();
                transfer.setData("text/uri-list", url);
                return transfer;
            }""",
            url,
        )

    def answer(self, pattern: str, *answers: dict[str, Any]) -> None:
        """Let the next requests for a pattern be answered so (as `Route.fulfill`), then by the service again."""
        waiting = list(answers)
        self.page.route(pattern, lambda route: route.fulfill(**waiting.pop(0)) if waiting else route.fallback())


@pytest.fixture
def visit(context: BrowserContext, site: Site) -> Iterator[Visit]:
    """Before the page was opened. In every test, no script may fail and no request may leave the service."""
    [page] = context.pages
    failures: list[str] = []
    asked: list[str] = []
    listeners: list[tuple[Any, str, Callable[[Any], None]]] = [
        (page, "pageerror", lambda error: failures.append(str(error))),
        (page, "console", lambda said: failures.append(said.text) if "Content Security" in said.text else None),
        (context, "request", lambda request: asked.append(request.url)),
    ]
    for source, event, listener in listeners:
        source.on(event, listener)
    yield Visit(page, site)
    for source, event, listener in listeners:
        source.remove_listener(event, listener)
    assert failures == []
    assert len(asked) > 5
    ours = (site.url, site.guarded_url, f"blob:{site.url}", f"blob:{site.guarded_url}", "data:", "about:blank")
    assert [url for url in asked if not url.startswith(ours)] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"


@pytest.fixture(scope="package")
def evaluate(browser: Browser) -> Iterator[Callable[..., Any]]:
    """Evaluates an expression on `m`, a module of the page without imports, and `a`, the list of arguments."""
    page = browser.new_page()

    def run(module: str, expression: str, *arguments: Any) -> Any:
        source = base64.b64encode((PAGE / module).read_bytes()).decode()
        script = (
            f"async (a) => {{ const m = await import('data:text/javascript;base64,{source}'); return {expression}; }}"
        )
        return page.evaluate(script, arguments)

    yield run
    page.close()
