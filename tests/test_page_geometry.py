"""The page's arithmetic on boxes (`app/page/geometry.js`), run in a browser without a page."""

import base64
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from glam.app.server import PAGE

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMIUM_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

Evaluate = Callable[..., Any]
SIZE = {"width": 200, "height": 100}


def box(x1: float, y1: float, x2: float, y2: float) -> dict[str, float]:
    return {"x1": x1, "y1": y1, "x2": x2, "y2": y2}


@pytest.fixture(scope="module")
def evaluate() -> Iterator[Evaluate]:
    """Evaluates an expression on `g`, the module, and `a`, the list of arguments."""
    source = base64.b64encode((PAGE / "geometry.js").read_bytes()).decode()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        page = browser.new_page()
        script = (
            f"async (a) => {{ const g = await import('data:text/javascript;base64,{source}'); return EXPRESSION; }}"
        )
        yield lambda expression, *arguments: page.evaluate(script.replace("EXPRESSION", expression), arguments)
        browser.close()


def test_a_box_spans_two_corners_given_in_any_order(evaluate: Evaluate) -> None:
    corners = {"x": 150, "y": 20}, {"x": 30, "y": 80}
    assert evaluate("g.spanned(...a)", *corners, SIZE) == box(30, 20, 150, 80)


def test_a_moved_box_keeps_its_size_at_the_edges(evaluate: Evaluate) -> None:
    assert evaluate("g.moved(...a)", box(10, 10, 60, 40), 500, -500, SIZE) == box(150, 0, 200, 30)


@pytest.mark.parametrize(
    ("edges", "expected"),
    [("nw", (15, 17, 60, 40)), ("e", (10, 10, 65, 40)), ("s", (10, 10, 60, 47)), ("ne", (10, 17, 65, 40))],
)
def test_only_the_edges_held_follow(evaluate: Evaluate, edges: str, expected: tuple[float, ...]) -> None:
    assert evaluate("g.resized(...a)", box(10, 10, 60, 40), edges, 5, 7, SIZE) == box(*expected)


def test_an_edge_stops_before_the_opposite_one(evaluate: Evaluate) -> None:
    least = evaluate("g.shortestSide(...a)", SIZE)
    assert least > 1
    assert evaluate("g.resized(...a)", box(10, 10, 60, 40), "w", 500, 0, SIZE) == box(60 - least, 10, 60, 40)


def test_boxes_are_the_same_by_their_numbers(evaluate: Evaluate) -> None:
    assert evaluate("g.same(...a)", box(1, 2, 3, 4), box(1, 2, 3, 4))
    assert not evaluate("g.same(...a)", box(1, 2, 3, 4), box(1, 2, 3, 5))
    assert not evaluate("g.same(...a)", None, box(1, 2, 3, 4))
    assert evaluate("g.same(...a)", None, None)


def test_no_change_takes_a_box_out_of_its_image_or_makes_it_too_small(evaluate: Evaluate) -> None:
    loop = """(() => {
        let seed = 1;
        const random = (low, high) => low + ((seed = (seed * 16807) % 2147483647) / 2147483647) * (high - low);
        const point = () => ({ x: random(-300, 500), y: random(-300, 500) });
        const bad = [];
        for (let i = 0; i < 5000; i++) {
            const size = { width: Math.ceil(random(0, 400)), height: Math.ceil(random(0, 400)) };
            const edges = ["nw", "n", "ne", "e", "se", "s", "sw", "w"][i % 8];
            const drawn = g.resized(g.spanned(point(), point(), size), edges, point().x, point().y, size);
            const box = g.rounded(g.moved(drawn, point().x - 200, point().y - 200, size));
            const within = box.x1 >= 0 && box.y1 >= 0 && box.x2 <= size.width && box.y2 <= size.height;
            const least = Math.max(1, g.shortestSide(size) - 1); // rounding takes up to one
            if (!within || box.x2 - box.x1 < least || box.y2 - box.y1 < least) bad.push({ size, box });
        }
        return bad;
    })()"""
    assert evaluate(loop) == []
