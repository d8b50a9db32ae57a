"""The grid of results: its rows, captions, groups, more on scrolling, and the keyboard in it."""

import re
from typing import Any

import pytest
from playwright.sync_api import expect

on_both = pytest.mark.parametrize("context", ["desktop", "phone"], indirect=True)


def rows(visit: Any) -> list[list[dict[str, float]]]:
    boxes = visit.page.locator("#found .picture").evaluate_all(
        "(all) => all.map((one) => one.getBoundingClientRect().toJSON())"
    )
    found: dict[int, list[dict[str, float]]] = {}
    for box in boxes:
        found.setdefault(round(box["top"]), []).append(box)
    return list(found.values())


@on_both
def test_rows_are_flush_and_equally_high_also_at_another_width(visit: Any) -> None:
    visit.choose(visit.site.temple)
    height = visit.page.viewport_size["height"]
    for width in (visit.page.viewport_size["width"], 777):
        visit.page.set_viewport_size({"width": width, "height": height})
        visit.page.wait_for_timeout(100)
        left, right = visit.page.evaluate("[found.getBoundingClientRect().left, found.getBoundingClientRect().right]")
        assert len(rows(visit)) > 3
        for row in rows(visit)[:-1]:
            assert row[0]["left"] == pytest.approx(left, abs=0.5)
            assert row[-1]["right"] == pytest.approx(right, abs=1)
            assert max(box["height"] for box in row) - min(box["height"] for box in row) < 0.5


def test_photos_have_their_own_proportions(visit: Any) -> None:
    visit.search()
    visit.expect_picture()
    shown, own = visit.page.locator("#found img").first.evaluate(
        "(img) => [img.clientWidth / img.clientHeight, img.naturalWidth / img.naturalHeight]"
    )
    assert shown == pytest.approx(own, rel=0.02)


@on_both
def test_a_tile_shows_landmark_file_score_and_confidence(visit: Any) -> None:
    visit.open()
    with visit.page.expect_response("**/api/search") as answer:
        visit.page.set_input_files("#file", visit.site.bridge)
    best = answer.value.json()["results"][0]
    visit.expect_found("Golden Gate Bridge")
    tile = visit.tiles.first
    expect(tile.locator(".landmark")).to_have_text("Golden Gate Bridge")
    expect(tile.locator(".file")).to_have_text(best["image"]["path"].split("/")[-1])
    expect(tile.locator(".score")).to_have_text(f"{best['score']:.2f}")
    name = tile.get_by_role("link", name="Compare with result 1: Golden Gate Bridge, score")
    expect(name).to_be_visible()
    if best["confidence"] is not None:
        expect(tile.locator(".confidence")).to_have_text(re.compile(r"^\d+%$"))


def test_a_service_without_the_newer_fields_is_shown_all_the_same(visit: Any) -> None:
    image = {"image_id": 0, "path": "a/b.webp", "landmark": "", "width": 300, "height": 200}
    old = {
        "query": {"image": None, "width": 10, "height": 10, "box": None},
        "results": [{"rank": 1, "score": 0.5, "image": image}],
        "milliseconds": {"describe": 1, "search": 1},
    }
    visit.answer("**/api/search", {"json": old})
    visit.open()
    visit.page.set_input_files("#file", visit.site.bridge)
    expect(visit.tiles).to_have_count(1)
    expect(visit.tiles.first).to_have_text("b.webp0.50")
    expect(visit.button("Show more")).to_be_hidden()
    expect(visit.button("Group by landmark")).to_be_hidden()


@pytest.mark.parametrize(
    ("confidences", "sentence"),
    [
        ([0.97, 0.5, 0.1], "3 photos, most similar first. The first 2 show Petra."),
        ([0.94, 0.5, 0.1], "3 photos, most similar first."),
        ([None, None, None], "3 photos, most similar first."),
    ],
)
def test_the_summary_names_a_landmark_only_for_a_confident_match(
    visit: Any, confidences: list[float | None], sentence: str
) -> None:
    answer = visit.page.request.get(f"{visit.site.url}api/images/0/search?top=3").json()
    for result, confidence, landmark in zip(
        answer["results"], confidences, ("petra", "petra", "stonehenge"), strict=True
    ):
        result["confidence"] = confidence
        result["image"]["landmark"] = landmark
    visit.answer("**/api/images/0/search*", {"json": {**answer, "more": False}})
    visit.open("?image=0")
    expect(visit.status).to_have_text(sentence)


def test_a_missing_file_is_named_in_its_tile_and_in_the_comparison(visit: Any) -> None:
    page = visit.page
    page.route("**/thumbnail*", lambda route: route.fulfill(status=404, json={"detail": "Gone."}))
    visit.search()
    expect(visit.tiles.first).to_contain_text("Photo not available. Was its file moved or deleted?")
    expect(page.locator("#unseen")).to_contain_text("Photo not available.")
    visit.tiles.first.locator("a.open").click()
    expect(page.locator("#side-result")).to_contain_text("Photo not available.")


@on_both
def test_scrolling_brings_more_until_there_is_no_more(visit: Any) -> None:
    visit.choose(visit.site.temple)
    expect(visit.tiles).to_have_count(40)
    expect(visit.status).to_contain_text("40 photos so far")
    visit.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(visit.tiles).to_have_count(visit.site.images)
    expect(visit.status).to_contain_text(f"{visit.site.images} photos, most similar first")
    expect(visit.button("Show more")).to_be_hidden()
    ranks = visit.page.locator("#found a.open").evaluate_all("(all) => all.map((one) => Number(one.dataset.rank))")
    assert ranks == list(range(1, visit.site.images + 1))


def test_more_that_failed_can_be_asked_for_again(visit: Any) -> None:
    visit.choose(visit.site.temple)
    visit.answer("**/api/search", {"status": 500, "json": {"detail": "The disk is gone."}})
    visit.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(visit.status).to_have_text("The disk is gone.")
    expect(visit.tiles).to_have_count(40)
    visit.page.locator("#more").click()
    expect(visit.tiles).to_have_count(visit.site.images)


@on_both
def test_results_stand_by_landmark_and_the_address_says_so(visit: Any) -> None:
    visit.choose(visit.site.temple)
    visit.button("Group by landmark").click()
    headings = visit.page.locator("#found h2")
    expect(headings.first).to_contain_text("Lotus Temple")
    assert visit.fields_of_address()["group"] == "landmark"
    visit.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(visit.tiles).to_have_count(visit.site.images)
    expect(headings).to_have_count(6)
    expect(headings.first).to_have_text("Lotus Temple9")
    visit.page.reload()
    expect(headings.first).to_contain_text("Lotus Temple")
    visit.button("Group by landmark").click()
    expect(headings).to_have_count(0)


def test_arrow_keys_walk_through_the_grid(visit: Any) -> None:
    visit.search()
    links = visit.page.locator("#found a.open")
    links.first.focus()
    visit.page.keyboard.press("ArrowRight")
    expect(links.nth(1)).to_be_focused()
    visit.page.keyboard.press("ArrowDown")
    top = "document.activeElement.getBoundingClientRect().top"
    below = visit.page.evaluate(top)
    visit.page.keyboard.press("ArrowUp")
    assert visit.page.evaluate(top) < below
    visit.page.keyboard.press("Home")
    expect(links.first).to_be_focused()


def test_every_picture_has_a_text_and_every_control_a_name(visit: Any) -> None:
    visit.choose(visit.site.temple)
    assert visit.page.locator("#found img:not([alt]), #found img[alt='']").count() == 0
    nameless = visit.page.locator("button:visible, a:visible").evaluate_all(
        "(all) => all.filter((one) => !(one.ariaLabel || one.textContent.trim())).length"
    )
    assert nameless == 0


@on_both
def test_the_api_page_lists_the_endpoints(visit: Any) -> None:
    visit.open()
    visit.page.get_by_role("link", name="API").click()
    expect(visit.page.get_by_role("heading", name="Search with an uploaded image")).to_be_visible()
    expect(visit.page.get_by_role("rowheader", name="results.image.landmark").first).to_be_visible()
