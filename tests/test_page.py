"""The page in a real browser, on a real service with a real index of photographs."""

import base64
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

import glam
import glam.index
from glam.app.server import create_app
from glam.datasets.readers import read_folder

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, Response, expect, sync_playwright

PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "landmarks" / "val"
LANDMARKS = ("cologne_cathedral", "golden_gate_bridge", "lotus_temple", "petra", "stonehenge", "tugu_monas")
INDEXED = 10  # photographs of each landmark; the next one is the query
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMIUM_ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

on_both = pytest.mark.parametrize("context", ["desktop", "phone"], indirect=True)
on_phone = pytest.mark.parametrize("context", ["phone"], indirect=True)

pytestmark = [
    pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason=f"no photographs at {PHOTOGRAPHS}"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@dataclass(frozen=True)
class Site:
    """A running service: its address, and photographs of two landmarks that are not in its index."""

    url: str
    bridge: Path
    temple: Path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("photographs")
    queries: dict[str, Path] = {}
    for landmark in LANDMARKS:
        *indexed, queries[landmark] = sorted((PHOTOGRAPHS / landmark).iterdir())[: INDEXED + 1]
        (folder / landmark).mkdir()
        for photograph in indexed:
            shutil.copyfile(photograph, folder / landmark / photograph.name)
    model = glam.load("timm:tf_efficientnet_lite0")
    path = tmp_path_factory.mktemp("index") / "places.glam"
    glam.index.build(path, read_folder(folder), model)
    with glam.index.open(path) as index:
        server = uvicorn.Server(uvicorn.Config(create_app(index, model), port=0, log_level="warning"))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield Site(address(server), queries["golden_gate_bridge"], queries["lotus_temple"])
        finally:
            server.should_exit = True
            thread.join()


def address(server: uvicorn.Server) -> str:
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.05)
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(request: pytest.FixtureRequest, browser: Browser) -> Iterator[BrowserContext]:
    """A desktop browser, or a phone where a test asks for it."""
    phone = getattr(request, "param", "") == "phone"
    width, height = (360, 740) if phone else (1280, 860)
    context = browser.new_context(viewport={"width": width, "height": height}, has_touch=phone, is_mobile=phone)
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, site: Site) -> Iterator[Page]:
    """The page, just opened. In every test, no script may fail and no request may leave the service."""
    page = context.new_page()
    failures: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda message: failures.append(message.text) if "Content Security" in message.text else None)
    context.on("request", lambda request: asked.append(request.url))
    page.goto(site.url)
    yield page
    assert failures == []
    assert len(asked) > 5
    assert [url for url in asked if not url.startswith((site.url, f"blob:{site.url}", "data:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"


def choose(page: Page, file: Path) -> None:
    page.set_input_files("#file", file)
    expect_best_match(page)


def search_with_first(page: Page, site: Site) -> None:
    page.goto(f"{site.url}?image=0")
    expect_best_match(page)


def expect_best_match(page: Page, landmark: str = "") -> None:
    expect(page.get_by_role("status")).to_contain_text(f"Best match: {landmark}")


def tiles(page: Page) -> Locator:
    return page.locator("#found .tile:not(.placeholder)")


def scores(page: Page) -> list[str]:
    return page.locator("#found .score").all_inner_texts()


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag on the query photograph between points given as fractions of its sides."""
    page.locator("#stage").scroll_into_view_if_needed()
    area = page.locator("#stage").bounding_box()
    assert area
    points = [(area["x"] + x * area["width"], area["y"] + y * area["height"]) for x, y in (start, end)]
    page.mouse.move(*points[0])
    page.mouse.down()
    page.mouse.move(*points[1])  # in one step: no pause on the way can start a search of its own
    page.mouse.up()


def is_search(message: Request | Response) -> bool:
    return "/search" in message.url


def box_in_address(page: Page) -> list[int]:
    return [int(number) for number in page.evaluate("new URLSearchParams(location.search).get('box') ?? ''").split(",")]


def data_transfer(page: Page, file: Path, kind: str = "image/webp") -> Any:
    """A DataTransfer that holds a file, as a drop or a paste brings it."""
    data = base64.b64encode(file.read_bytes()).decode()
    return page.evaluate_handle(
        """([data, name, type]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], name, { type }));
            return transfer;
        }""",
        [data, file.name, kind],
    )


@on_both
def test_the_whole_round_from_upload_to_box_to_result_and_back(page: Page, site: Site) -> None:
    expect(page.get_by_role("heading", name="Which place is this?")).to_be_visible()
    choose(page, site.bridge)
    expect_best_match(page, "Golden Gate Bridge")
    expect(tiles(page).first).to_contain_text("Golden Gate Bridge")
    of_all = scores(page)

    with page.expect_response(is_search) as answer:
        drag(page, (0.1, 0.2), (0.6, 0.9))
    width, height = page.evaluate("[picture.naturalWidth, picture.naturalHeight]")
    expected = [0.1 * width, 0.2 * height, 0.6 * width, 0.9 * height]
    assert answer.value.json()["query"]["box"] == pytest.approx(expected, abs=2)
    expect(page.locator("#found .score").first).not_to_have_text(of_all[0])
    of_part = scores(page)

    chosen = tiles(page).first.locator(".file").inner_text()
    tiles(page).first.get_by_role("link").click()
    expect(page).to_have_url(re.compile(r"\?image=\d+$"))
    expect(page.locator("#query-note")).to_contain_text(chosen)
    expect_best_match(page)
    expect(page.locator(".box")).to_be_hidden()
    assert scores(page) != of_part

    page.go_back()
    expect(page).to_have_url(site.url)
    expect(page.locator("#query-name")).to_have_text(site.bridge.name)
    expect(page.locator(".box")).to_be_visible()
    expect(page.locator("#found .score").first).to_have_text(of_part[0])
    assert scores(page) == of_part

    page.go_back()
    expect(page.get_by_role("heading", name="Which place is this?")).to_be_visible()
    expect(tiles(page)).to_have_count(0)


@on_both
def test_a_box_on_an_indexed_image_is_kept_in_the_address(page: Page, site: Site) -> None:
    search_with_first(page, site)
    with page.expect_response(is_search) as answer:
        drag(page, (0.2, 0.2), (0.8, 0.8))
    box = box_in_address(page)
    assert answer.value.json()["query"]["box"] == box

    page.reload()
    expect(page.locator(".box")).to_be_visible()
    assert box_in_address(page) == box
    page.get_by_role("button", name="Search with all of it").click()
    expect(page.locator(".box")).to_be_hidden()
    expect(page).to_have_url(f"{site.url}?image=0")

    tiles(page).nth(1).get_by_role("link").click()
    expect(page).not_to_have_url(f"{site.url}?image=0")
    page.go_back()
    expect(page).to_have_url(f"{site.url}?image=0")
    expect_best_match(page)


@on_both
def test_a_box_is_moved_and_resized_by_its_body_and_handles(page: Page, site: Site) -> None:
    search_with_first(page, site)
    drag(page, (0.2, 0.2), (0.6, 0.6))
    x1, y1, x2, y2 = box_in_address(page)
    drag(page, (0.4, 0.4), (0.9, 0.4))  # farther than there is room
    width = page.evaluate("fetch('api/images/0').then((answer) => answer.json()).then((image) => image.width)")
    assert box_in_address(page) == [width - (x2 - x1), y1, width, y2]
    drag(page, (x1 / width + 0.4, 0.6), (x1 / width + 0.4, 0.9))  # the handle in the middle below
    moved = box_in_address(page)
    assert moved[:3] == [width - (x2 - x1), y1, width]
    assert moved[3] > y2


@on_phone
def test_a_finger_draws_a_box(page: Page, site: Site, context: BrowserContext) -> None:
    search_with_first(page, site)
    area = page.locator("#stage").bounding_box()
    assert area
    touch = context.new_cdp_session(page)
    for kind, at in (("touchStart", 0.2), ("touchMove", 0.5), ("touchMove", 0.7), ("touchEnd", None)):
        points = [] if at is None else [{"x": area["x"] + at * area["width"], "y": area["y"] + at * area["height"]}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    expect(page.locator(".box")).to_be_visible()
    expect(page).to_have_url(re.compile("box="))


def test_a_box_can_be_made_moved_resized_and_removed_by_keyboard(page: Page, site: Site) -> None:
    search_with_first(page, site)
    page.get_by_role("button", name="Select a part").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".box")).to_be_focused()
    x1, y1, x2, y2 = box_in_address(page)
    page.keyboard.press("ArrowLeft")
    moved = box_in_address(page)
    step = x1 - moved[0]
    assert step > 0
    assert moved == [x1 - step, y1, x2 - step, y2]
    page.keyboard.press("Shift+ArrowDown")
    assert box_in_address(page) == [x1 - step, y1, x2 - step, y2 + step]
    page.keyboard.press("Delete")
    expect(page.locator(".box")).to_be_hidden()
    expect(page).to_have_url(f"{site.url}?image=0")


def test_quick_changes_of_the_box_make_one_search(page: Page, site: Site) -> None:
    search_with_first(page, site)
    searches: list[str] = []
    page.on("request", lambda request: searches.append(request.url) if is_search(request) else None)
    with page.expect_response(is_search):
        page.evaluate(
            """() => {
                document.getElementById("box-add").click();
                const press = () => new KeyboardEvent("keydown", { key: "ArrowRight" });
                for (let i = 0; i < 6; i++) document.querySelector(".box").dispatchEvent(press());
            }"""
        )
    page.wait_for_timeout(400)
    assert len(searches) == 1
    assert f"x1={box_in_address(page)[0]}&" in searches[0]


def test_a_late_answer_to_a_former_query_is_not_shown(page: Page, site: Site) -> None:
    held: list[Any] = []
    page.route("**/api/images/0/search*", lambda route: held.append(route))
    page.goto(f"{site.url}?image=0")
    expect(page.get_by_role("status")).to_have_text("Searching…")
    choose(page, site.temple)
    expect_best_match(page, "Lotus Temple")
    shown = scores(page)
    held[0].fulfill(status=200, json={"results": [], "query": {"width": 1, "height": 1, "image": None, "box": None}})
    page.wait_for_timeout(300)
    assert scores(page) == shown
    expect_best_match(page, "Lotus Temple")


def test_a_pasted_photograph_is_searched_with(page: Page, site: Site) -> None:
    transfer = data_transfer(page, site.temple)
    page.evaluate("(data) => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))", transfer)
    expect_best_match(page, "Lotus Temple")


def test_a_dropped_photograph_is_searched_with(page: Page, site: Site) -> None:
    transfer = data_transfer(page, site.bridge)
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_hidden()
    expect_best_match(page, "Golden Gate Bridge")


@on_both
def test_a_text_named_jpg_shows_why_it_was_refused_and_the_next_photograph_works(
    page: Page, site: Site, tmp_path: Path
) -> None:
    fake = tmp_path / "holiday.jpg"
    fake.write_text("no image")
    page.dispatch_event("body", "drop", {"dataTransfer": data_transfer(page, fake, "text/plain")})
    expect(page.get_by_role("alert")).to_contain_text("holiday.jpg is not an image.")  # told so, it is not even sent
    page.set_input_files("#file", fake)
    expect(page.get_by_role("alert")).to_contain_text("not an image that can be read")
    expect(page.locator("#unseen")).to_be_visible()
    expect(page.get_by_role("button", name="Select a part")).to_be_disabled()
    choose(page, site.bridge)
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#picture")).to_be_visible()


def test_a_service_that_does_not_answer_is_told_and_can_be_tried_again(page: Page, site: Site) -> None:
    page.route("**/api/search", lambda route: route.abort())
    page.set_input_files("#file", site.bridge)
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.unroute("**/api/search")
    page.get_by_role("button", name="Try again").click()
    expect_best_match(page, "Golden Gate Bridge")


@on_both
def test_results_are_shown_bit_by_bit_and_can_be_grouped_by_landmark(page: Page, site: Site) -> None:
    choose(page, site.temple)
    expect(tiles(page)).to_have_count(40)
    page.get_by_role("button", name="Show more").click()
    expect(tiles(page)).to_have_count(INDEXED * len(LANDMARKS))
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    expect(page.locator("[data-rank='41']")).to_be_focused()

    page.get_by_role("button", name="Group by landmark").click()
    headings = page.locator("#found h2")
    expect(headings).to_have_count(len(LANDMARKS))
    expect(headings.first).to_have_text(f"Lotus Temple{INDEXED}")


@on_both
def test_rows_of_the_grid_are_flush_and_equally_high(page: Page, site: Site) -> None:
    choose(page, site.temple)
    pictures = page.locator("#found .picture")
    boxes = pictures.evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().toJSON())")
    right_edge = page.evaluate("found.getBoundingClientRect().right")
    rows: dict[int, list[dict[str, float]]] = {}
    for box in boxes:
        rows.setdefault(round(box["top"]), []).append(box)
    for row in list(rows.values())[:-1]:
        assert row[-1]["right"] == pytest.approx(right_edge, abs=1)
        assert max(box["height"] for box in row) - min(box["height"] for box in row) < 1.5


def test_every_picture_has_a_text_and_every_control_a_name(page: Page, site: Site) -> None:
    choose(page, site.temple)
    assert page.locator("#found img:not([alt]), #found img[alt='']").count() == 0
    nameless = page.locator("button:visible, a:visible").evaluate_all(
        "(all) => all.filter((one) => !(one.ariaLabel || one.textContent.trim())).length"
    )
    assert nameless == 0


@on_both
def test_the_api_page_lists_the_endpoints(page: Page, site: Site) -> None:
    page.get_by_role("link", name="API").click()
    expect(page.get_by_role("heading", name="Search with a photograph")).to_be_visible()
    expect(page.get_by_role("rowheader", name="results.image.label").first).to_be_visible()
