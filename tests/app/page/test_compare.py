"""The query and a result side by side: matched parts as lines, attention maps as overlays."""

import base64
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

on_both = pytest.mark.parametrize("context", ["desktop", "phone dark"], indirect=True)

HEIGHT, WIDTH = 2, 3
CELLS = HEIGHT * WIDTH


def encoded(values: list[int]) -> str:
    return base64.b64encode(bytes(values)).decode()


def attention(image: dict[str, Any]) -> dict[str, Any]:
    """Maps in which every place looks at the one after it, and the other maps rise from the upper left."""
    looks = [255 if column == (row + 1) % CELLS else 0 for row in range(CELLS) for column in range(CELLS)]
    rising = encoded([0, 51, 102, 153, 204, 255])
    names = ("local_channel", "local_spatial", "global_channel")
    maps = {**dict.fromkeys(names, rising), "global_spatial": encoded(looks)}
    return {"height": HEIGHT, "width": WIDTH, "box": [0, 0, image["width"], image["height"]], **maps}


def sizes(visit: Any, *images: int) -> list[dict[str, Any]]:
    return [visit.page.request.get(f"{visit.site.url}api/images/{image}").json() for image in images]


def area(locator: Locator) -> dict[str, float]:
    box = locator.bounding_box()
    assert box
    return dict(box)


def opacity(visit: Any, side: str, column: int, row: int) -> int:
    """Of the overlay in the middle of a cell: what is looked at is clearer than what is not."""
    return int(
        visit.page.locator(f"#side-{side} canvas").evaluate(
            """(canvas, [x, y]) => {
                const context = canvas.getContext("2d");
                return context.getImageData(x * canvas.width, y * canvas.height, 1, 1).data[3];
            }""",
            [(column + 0.5) / WIDTH, (row + 0.5) / HEIGHT],
        )
    )


@on_both
def test_a_result_opens_beside_the_query_and_back_closes_it(visit: Any) -> None:
    page, dialog = visit.page, visit.page.get_by_role("dialog")
    visit.choose(visit.site.bridge)
    visit.tiles.first.locator("a.open").click()
    expect(dialog.get_by_role("heading", name="Golden Gate Bridge")).to_be_visible()
    expect(dialog.get_by_role("img", name=f"Query: {visit.site.bridge.name}")).to_be_visible()
    expect(dialog.get_by_role("img", name="Result: Golden Gate Bridge")).to_be_visible()
    expect(dialog).to_contain_text(f"Result 1 · score {visit.scores()[0]}")
    for side in ("query", "result"):
        shown = area(page.locator(f"#side-{side} img"))
        own = page.locator(f"#side-{side} img").evaluate("(img) => img.naturalWidth / img.naturalHeight")
        assert shown["width"] / shown["height"] == pytest.approx(own, rel=0.02)
        assert shown["x"] >= 0
        assert shown["x"] + shown["width"] <= page.viewport_size["width"]
    page.go_back()
    expect(dialog).to_be_hidden()
    page.go_forward()
    expect(dialog).to_be_visible()
    page.reload()
    expect(dialog.get_by_role("heading", name="Golden Gate Bridge")).to_be_visible()


def test_the_keyboard_steps_through_the_results_and_closes(visit: Any) -> None:
    page, facts = visit.page, visit.page.locator("#compare-facts")
    visit.search()
    visit.tiles.first.locator("a.open").focus()
    page.keyboard.press("Enter")
    expect(facts).to_contain_text("Result 1 ·")
    expect(visit.button("Previous result")).to_be_disabled()
    page.keyboard.press("ArrowRight")
    expect(facts).to_contain_text("Result 2 ·")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page).to_have_url(f"{visit.site.url}?image=0")
    expect(page.locator("a.open[data-rank='2']")).to_be_focused()


def test_a_comparison_leads_to_a_search_with_its_result(visit: Any) -> None:
    visit.search()
    visit.tiles.first.locator("a.open").click()
    image = visit.fields_of_address()["compare"]
    visit.page.get_by_role("link", name="Search with this").click()
    expect(visit.page).to_have_url(f"{visit.site.url}?image={image}")
    visit.expect_found()
    visit.page.go_back()
    expect(visit.page.get_by_role("dialog")).to_be_visible()


@on_both
def test_matched_parts_are_joined_by_lines(visit: Any) -> None:
    page = visit.page
    query, result = sizes(visit, 0, 1)
    corners = [[0, 0, 0, 0], [query["width"], query["height"], result["width"], result["height"]]]
    visit.answer("**/api/matches", {"json": {"inliers": 2, "tried": 31, "lines": corners}})
    visit.search("?image=0&compare=1")
    with page.expect_request("**/api/matches") as asked:
        page.get_by_role("radio", name="Matches").check()
    assert all(name in asked.value.post_data for name in ('name="query"', 'name="with"'))
    expect(page.locator("#compare-note")).to_have_text("2 matching points (of 31 candidates).")
    assert visit.fields_of_address()["show"] == "matches"
    ends = page.locator("#lines circle").evaluate_all(
        """(all) => all.map((one) => {
            const box = one.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        })"""
    )
    boxes = [area(page.locator(f"#side-{side} img")) for side in ("query", "result")]
    upper = [(box["x"], box["y"]) for box in boxes]
    lower = [(box["x"] + box["width"], box["y"] + box["height"]) for box in boxes]
    for end, corner in zip(ends, [*upper, *lower], strict=True):
        assert end == pytest.approx(corner, abs=1)
    page.get_by_role("radio", name="Photos").check()
    expect(page.locator("#lines circle")).to_have_count(0)


def test_the_service_finds_parts_that_match(visit: Any) -> None:
    visit.choose(visit.site.bridge)
    visit.tiles.first.locator("a.open").click()
    visit.page.get_by_role("radio", name="Matches").check()
    expect(visit.page.locator("#compare-note")).to_contain_text("matching point")


def test_no_matching_points_are_no_proof_of_another_place(visit: Any) -> None:
    visit.answer("**/api/matches", {"json": {"inliers": 0, "tried": 31, "lines": []}})
    visit.search("?image=0&compare=1&show=matches")
    expect(visit.page.locator("#compare-note")).to_have_text(
        "No matching points; the photos may still show the same place from another side."
    )


def test_the_service_shows_where_the_model_looks(visit: Any) -> None:
    visit.choose(visit.site.bridge)
    visit.tiles.first.locator("a.open").click()
    visit.page.get_by_role("radio", name="Attention").check()
    expect(visit.page.locator("#side-query canvas")).to_be_visible()
    assert visit.page.locator("#side-query canvas").evaluate("(canvas) => canvas.width") > 6 * WIDTH


@on_both
def test_attention_maps_lie_over_both_photos(visit: Any) -> None:
    page = visit.page
    query, result = sizes(visit, 0, 1)
    visit.answer("**/api/images/0/attention*", {"json": attention(query)})
    visit.answer("**/api/images/1/attention*", {"json": attention(result)})
    visit.search("?image=0&compare=1&show=local_spatial")
    expect(page.locator("#compare-note")).to_contain_text("emphasizes")
    for side in ("query", "result"):
        assert area(page.locator(f"#side-{side} canvas")) == pytest.approx(
            area(page.locator(f"#side-{side} img")), abs=1
        )
        assert opacity(visit, side, 2, 1) < opacity(visit, side, 0, 0)
    page.get_by_role("radio", name="Global channel").check()  # not asked for again: the service would answer otherwise
    expect(page.locator("#compare-note")).to_contain_text("combined")
    assert visit.fields_of_address()["show"] == "global_channel"


@on_both
def test_pointing_at_a_place_shows_where_it_looks(visit: Any, context: Any) -> None:
    page = visit.page
    query, result = sizes(visit, 0, 1)
    visit.answer("**/api/images/0/attention*", {"json": attention(query)})
    visit.answer("**/api/images/1/attention*", {"json": attention(result)})
    visit.search("?image=0&compare=1&show=global_spatial")
    ring = page.locator("#side-query").get_by_role("button", name="Spot in Query")
    expect(ring).to_be_visible()

    photo = area(page.locator("#side-query img"))
    x, y = photo["x"] + photo["width"] / 6, photo["y"] + photo["height"] / 4  # the first cell
    if context.pages[0].viewport_size["width"] < 400:
        page.touchscreen.tap(x, y)
    else:
        page.mouse.move(x, y)
    expect(ring).to_have_accessible_name(
        "Spot in Query: " + query_name(page) + ": column 1 of 3, row 1 of 2. Move it with the arrow keys."
    )
    assert opacity(visit, "query", 1, 0) < opacity(visit, "query", 0, 0)
    expect(page.locator("#compare-note")).to_contain_text(
        "In the query photo, this spot (upper left) is linked most strongly with the upper"
    )

    ring.focus()
    page.keyboard.press("ArrowRight")
    assert opacity(visit, "query", 2, 0) < opacity(visit, "query", 1, 0)
    page.keyboard.press("ArrowDown")
    expect(ring).to_have_accessible_name(
        "Spot in Query: " + query_name(page) + ": column 2 of 3, row 2 of 2. Move it with the arrow keys."
    )
    assert visit.fields_of_address()["compare"] == "1"


def query_name(page: Any) -> str:
    return str(page.locator("#query-caption").inner_text()).removeprefix("Query · ")


def test_a_model_without_attention_says_so_in_place(visit: Any) -> None:
    sentence = "glam has no attention to show."
    visit.page.route("**/api/images/*/attention*", lambda route: route.fulfill(status=422, json={"detail": sentence}))
    visit.search("?image=0&compare=1&show=local_channel")
    expect(visit.page.locator("#compare-note")).to_have_text(sentence)
    expect(visit.page.locator("#compare-again")).to_be_hidden()


def test_a_map_that_a_model_was_trained_without_is_named(visit: Any) -> None:
    for image in sizes(visit, 0, 1):
        maps = {**attention(image), "local_spatial": None}
        visit.answer(f"**/api/images/{image['image_id']}/attention*", {"json": maps})
    visit.search("?image=0&compare=1&show=local_spatial")
    expect(visit.page.locator("#compare-note")).to_have_text("This model has no local spatial attention.")


def test_a_comparison_that_failed_can_be_tried_again(visit: Any) -> None:
    visit.answer("**/api/matches", {"status": 500, "json": {"detail": "Out of memory."}})
    visit.search("?image=0&compare=1&show=matches")
    expect(visit.page.locator("#compare-note")).to_have_text("Out of memory.")
    visit.page.locator("#compare-again").click()
    expect(visit.page.locator("#compare-note")).to_contain_text("matching point")


def test_the_box_is_drawn_on_the_query(visit: Any) -> None:
    [query] = sizes(visit, 0)
    width, height = query["width"], query["height"]
    visit.search(f"?image=0&box=0,0,{width // 2},{height // 2}&compare=1")
    photo, outline = area(visit.page.locator("#side-query img")), area(visit.page.locator("#side-query .outline"))
    assert outline["width"] == pytest.approx(photo["width"] / 2, abs=3)
    assert outline["height"] == pytest.approx(photo["height"] / 2, abs=3)


def test_another_map_may_be_chosen_while_the_first_is_on_its_way(visit: Any) -> None:
    held: list[Any] = []
    visit.page.route("**/api/images/*/attention*", lambda route: held.append(route))
    images = {image["image_id"]: image for image in sizes(visit, 0, 1)}
    visit.search("?image=0&compare=1&show=local_channel")
    expect(visit.page.locator("#compare-note")).to_have_text("Computing the attention maps…")
    visit.page.get_by_role("radio", name="Global channel").check()
    assert len(held) == 2
    for route in held:
        route.fulfill(json=attention(images[int(route.request.url.split("/images/")[1][0])]))
    expect(visit.page.locator("#compare-note")).to_contain_text("combined")
