"""The page's pure modules, run in a browser without a page: boxes, rows of the grid, addresses, filter expressions."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from glam.app.service.app import PAGE

Evaluate = Callable[..., Any]
SIZE = {"width": 200, "height": 100}


def box(x1: float, y1: float, x2: float, y2: float) -> dict[str, float]:
    return {"x1": x1, "y1": y1, "x2": x2, "y2": y2}


@pytest.fixture
def boxes(evaluate: Evaluate) -> Evaluate:
    return lambda expression, *arguments: evaluate("geometry.js", expression, *arguments)


def test_a_box_spans_two_corners_given_in_any_order(boxes: Evaluate) -> None:
    corners = {"x": 150, "y": 20}, {"x": 30, "y": 80}
    assert boxes("m.spanned(...a)", *corners, SIZE) == box(30, 20, 150, 80)


def test_a_moved_box_keeps_its_size_at_the_edges(boxes: Evaluate) -> None:
    assert boxes("m.moved(...a)", box(10, 10, 60, 40), 500, -500, SIZE) == box(150, 0, 200, 30)


@pytest.mark.parametrize(
    ("edges", "expected"),
    [("nw", (15, 17, 60, 40)), ("e", (10, 10, 65, 40)), ("s", (10, 10, 60, 47)), ("ne", (10, 17, 65, 40))],
)
def test_only_the_edges_held_follow(boxes: Evaluate, edges: str, expected: tuple[float, ...]) -> None:
    assert boxes("m.resized(...a)", box(10, 10, 60, 40), edges, 5, 7, SIZE) == box(*expected)


def test_an_edge_stops_before_the_opposite_one(boxes: Evaluate) -> None:
    least = boxes("m.shortestSide(...a)", SIZE)
    assert least > 1
    assert boxes("m.resized(...a)", box(10, 10, 60, 40), "w", 500, 0, SIZE) == box(60 - least, 10, 60, 40)


def test_boxes_are_the_same_by_their_numbers(boxes: Evaluate) -> None:
    assert boxes("m.same(...a)", box(1, 2, 3, 4), box(1, 2, 3, 4))
    assert not boxes("m.same(...a)", box(1, 2, 3, 4), box(1, 2, 3, 5))
    assert not boxes("m.same(...a)", None, box(1, 2, 3, 4))
    assert boxes("m.same(...a)", None, None)


def test_no_change_takes_a_box_out_of_its_image_or_makes_it_too_small(boxes: Evaluate) -> None:
    loop = """(() => {
        let seed = 1;
        const random = (low, high) => low + ((seed = (seed * 16807) % 2147483647) / 2147483647) * (high - low);
        const point = () => ({ x: random(-300, 500), y: random(-300, 500) });
        const bad = [];
        for (let i = 0; i < 5000; i++) {
            const size = { width: Math.ceil(random(0, 400)), height: Math.ceil(random(0, 400)) };
            const edges = ["nw", "n", "ne", "e", "se", "s", "sw", "w"][i % 8];
            const drawn = m.resized(m.spanned(point(), point(), size), edges, point().x, point().y, size);
            const box = m.rounded(m.moved(drawn, point().x - 200, point().y - 200, size));
            const within = box.x1 >= 0 && box.y1 >= 0 && box.x2 <= size.width && box.y2 <= size.height;
            const least = Math.max(1, m.shortestSide(size) - 1); // rounding takes up to one
            if (!within || box.x2 - box.x1 < least || box.y2 - box.y1 < least) bad.push({ size, box });
        }
        return bad;
    })()"""
    assert boxes(loop) == []


@pytest.mark.parametrize("width", [200, 328, 825, 2000])
def test_rows_fill_the_width_and_are_about_as_high_as_wanted(evaluate: Evaluate, width: int) -> None:
    aspects = [(0.5 + (7 * i) % 11 / 6) for i in range(100)]
    space = {"width": width, "gap": 8, "height": 150}
    sizes = evaluate("justified.js", "m.justified(...a)", aspects, space)
    assert len(sizes) == len(aspects)
    rows: list[list[dict[str, float]]] = [[]]
    for size in sizes:
        if rows[-1] and sum(one["width"] + 8 for one in rows[-1]) + size["width"] > width + 0.5:
            rows.append([])
        rows[-1].append(size)
    for row in rows[:-1]:
        assert sum(one["width"] for one in row) + 8 * (len(row) - 1) == pytest.approx(width, abs=0.1)
        assert len({one["height"] for one in row}) == 1
        assert 75 < row[0]["height"] < 300


def test_a_last_row_is_not_blown_up_and_no_photos_make_no_rows(evaluate: Evaluate) -> None:
    space = {"width": 1000, "gap": 8, "height": 150}
    assert evaluate("justified.js", "m.justified(...a)", [1.5], space) == [{"width": 225, "height": 150}]
    assert evaluate("justified.js", "m.justified(...a)", [], space) == []


def test_an_expression_quotes_names_and_values(evaluate: Evaluate) -> None:
    columns = {'a"b': {"values": ["it's", ""]}, "year": {"from": 1900, "to": None}, "width": {"from": None, "to": 5}}
    filters = {"columns": columns, "where": " x = 1 -- or "}
    expected = '"a""b" in (\'it\'\'s\', \'\') and "year" >= 1900 and "width" <= 5 and (\nx = 1 -- or\n)'
    assert evaluate("expression.js", "m.expression(...a)", filters) == expected
    assert evaluate("expression.js", "m.expression(...a)", {"columns": {}, "where": "  "}) == ""
    assert evaluate("expression.js", "m.filterCount(...a)", filters) == 4


def state(evaluate: Evaluate, expression: str, *arguments: Any) -> Any:
    """As `evaluate`, on state.js, whose one import is put into it."""
    return evaluate("expression.js", "(await import(a.shift()))." + expression, state_module(), *arguments)


def state_module() -> str:
    def url(text: str) -> str:
        return f"data:text/javascript;base64,{base64.b64encode(text.encode()).decode()}"

    own = url((PAGE / "expression.js").read_text(encoding="utf-8"))
    return url((PAGE / "state.js").read_text(encoding="utf-8").replace("./expression.js", own))


VIEW = {
    "image": 7,
    "upload": None,
    "box": box(1, 2, 30, 40),
    "filters": {
        "columns": {"a&b": {"values": ["x=y", "é, z"]}, "year": {"from": 1.5, "to": None}},
        "where": "landmark like 'a%'",
    },
    "rerank": True,
    "group": True,
    "compare": 12,
    "show": "global_spatial",
}


def test_a_view_comes_back_from_its_address(evaluate: Evaluate) -> None:
    address = state(evaluate, "format(...a)", VIEW)
    assert state(evaluate, "parse(...a)", address) == VIEW
    upload = {**VIEW, "image": None, "upload": "0123abcdefgh"}
    assert state(evaluate, "parse(...a)", state(evaluate, "format(...a)", upload)) == upload


def test_an_old_address_is_read_by_its_former_names(evaluate: Evaluate) -> None:
    old = "?image=7&is.label=petra&is.landmark=stonehenge&from.id=3&compare=12&show=photographs"
    view = state(evaluate, "parse(...a)", old)
    assert view["filters"]["columns"] == {
        "landmark": {"values": ["petra", "stonehenge"]},
        "image_id": {"from": 3, "to": None},
    }
    assert view["show"] == "photos"
    assert state(evaluate, "isDeprecated(...a)", old)
    assert not state(evaluate, "isDeprecated(...a)", state(evaluate, "format(...a)", view))


def test_a_plain_search_has_a_short_address(evaluate: Evaluate) -> None:
    nothing = {"box": None, "filters": {"columns": {}, "where": ""}, "rerank": False, "group": False, "compare": None}
    plain = {**VIEW, **nothing}
    assert state(evaluate, "format(...a)", plain) == "?image=7"


@pytest.mark.parametrize(
    "address", ["", "?image=", "?image=-1", "?image=1e9", "?upload=..%2F..%2Fetc", "?box=1,2,3,4", "?where=1"]
)
def test_an_address_without_a_query_is_the_way_in(evaluate: Evaluate, address: str) -> None:
    view = state(evaluate, "parse(...a)", address)
    assert (view["image"], view["upload"], view["box"], view["compare"]) == (None, None, None, None)


def test_nonsense_in_an_address_is_left_out(evaluate: Evaluate) -> None:
    address = "?image=3&box=1,2,x,4&compare=no&show=everything&from.year=soon&rerank=maybe&group=color&is.=x"
    view = state(evaluate, "parse(...a)", address)
    assert json.loads(json.dumps(view)) == {
        **dict.fromkeys(("upload", "box", "compare")),
        "image": 3,
        "rerank": False,
        "group": False,
        "show": "photos",
        "filters": {"columns": {}, "where": ""},
    }
