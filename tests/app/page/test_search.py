"""Ways to search: a photo that comes in, a part of it, a result, a link; and Back from each."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, expect

on_both = pytest.mark.parametrize("context", ["desktop", "phone"], indirect=True)
on_phone = pytest.mark.parametrize("context", ["phone"], indirect=True)


def is_search(message: Any) -> bool:
    return "/search" in message.url


@on_both
def test_the_whole_round_from_upload_to_box_to_result_and_back(visit: Any) -> None:
    page, bridge = visit.page, visit.site.bridge
    visit.open()
    expect(page.get_by_role("heading", name="Find photos of a landmark")).to_be_visible()
    visit.choose(bridge)
    visit.expect_found("Golden Gate Bridge")
    expect(visit.tiles.first).to_contain_text("Golden Gate Bridge")
    of_all = visit.scores()

    with page.expect_response(is_search) as answer:
        visit.drag((0.1, 0.2), (0.6, 0.9))
    width, height = page.evaluate("[picture.naturalWidth, picture.naturalHeight]")
    expected = [0.1 * width, 0.2 * height, 0.6 * width, 0.9 * height]
    assert answer.value.json()["query"]["box"] == pytest.approx(expected, abs=2)
    expect(page.locator("#found .score").first).not_to_have_text(of_all[0])
    of_part = visit.scores()
    searched = page.url

    visit.tiles.first.hover()
    visit.tiles.first.get_by_role("link", name="Search with").click()
    expect(page).to_have_url(re.compile(r"\?image=\d+$"))
    expect(page.locator("#query-name")).to_have_text("Golden Gate Bridge")
    visit.expect_found()
    expect(page.locator(".box")).to_be_hidden()
    assert visit.scores() != of_part

    page.go_back()
    expect(page).to_have_url(searched)
    expect(page.locator("#query-name")).to_have_text(bridge.name)
    expect(page.locator(".box")).to_be_visible()
    expect(page.locator("#found .score").first).to_have_text(of_part[0])

    page.go_back()
    expect(page.get_by_role("heading", name="Find photos of a landmark")).to_be_visible()
    expect(visit.tiles).to_have_count(0)
    page.go_forward()
    expect(page.locator("#query-name")).to_have_text(bridge.name)


def test_an_upload_is_found_again_after_a_reload(visit: Any) -> None:
    visit.choose(visit.site.temple)
    shown = visit.scores()
    visit.page.reload()
    visit.expect_found("Lotus Temple")
    expect(visit.page.locator("#query-name")).to_have_text(visit.site.temple.name)
    assert visit.scores() == shown


def test_a_link_to_an_upload_of_another_browser_says_what_is_missing(visit: Any) -> None:
    visit.open("?upload=0abcdefghijklmn")
    expect(visit.page.get_by_role("alert")).to_contain_text("does not have")
    visit.choose(visit.site.temple)
    expect(visit.page.get_by_role("alert")).to_be_hidden()


@on_both
def test_a_photo_of_the_index_is_a_way_to_begin(visit: Any) -> None:
    visit.open()
    samples = visit.page.locator("#samples a")
    expect(samples.first).to_be_visible()
    samples.first.click()
    expect(visit.page).to_have_url(re.compile(r"\?image=\d+$"))
    visit.expect_found()
    expect(visit.page.locator("#samples")).to_be_hidden()


@on_both
def test_a_box_on_an_indexed_image_is_kept_in_the_address(visit: Any) -> None:
    page = visit.page
    visit.search()
    with page.expect_response(is_search) as answer:
        visit.drag((0.2, 0.2), (0.8, 0.8))
    box = visit.box_in_address()
    assert answer.value.json()["query"]["box"] == box
    page.reload()
    expect(page.locator(".box")).to_be_visible()
    assert visit.box_in_address() == box
    visit.button("Search with the whole photo").click()
    expect(page.locator(".box")).to_be_hidden()
    expect(page).to_have_url(f"{visit.site.url}?image=0")


@on_both
def test_a_box_is_moved_and_resized_by_its_body_and_handles(visit: Any) -> None:
    visit.search()
    visit.drag((0.2, 0.2), (0.6, 0.6))
    x1, y1, x2, y2 = visit.box_in_address()
    visit.drag((0.4, 0.4), (0.9, 0.4))  # farther than there is room
    width = visit.page.evaluate("fetch('api/images/0').then((answer) => answer.json()).then((image) => image.width)")
    assert visit.box_in_address() == [width - (x2 - x1), y1, width, y2]
    visit.drag((x1 / width + 0.4, 0.6), (x1 / width + 0.4, 0.9))  # the handle in the middle below
    moved = visit.box_in_address()
    assert moved[:3] == [width - (x2 - x1), y1, width]
    assert moved[3] > y2


@on_phone
def test_a_finger_draws_a_box(visit: Any, context: BrowserContext) -> None:
    visit.search()
    area = visit.page.locator("#stage").bounding_box()
    touch = context.new_cdp_session(visit.page)
    for kind, at in (("touchStart", 0.2), ("touchMove", 0.5), ("touchMove", 0.7), ("touchEnd", None)):
        points = [] if at is None else [{"x": area["x"] + at * area["width"], "y": area["y"] + at * area["height"]}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    expect(visit.page.locator(".box")).to_be_visible()
    expect(visit.page).to_have_url(re.compile("box="))


@on_phone
def test_a_phone_offers_its_camera(visit: Any) -> None:
    visit.open()
    expect(visit.page.get_by_text("Take a picture")).to_be_visible()
    assert visit.page.locator("#camera").get_attribute("capture") == "environment"
    visit.page.set_input_files("#camera", visit.site.bridge)
    visit.expect_found("Golden Gate Bridge")


def test_a_box_can_be_made_moved_resized_and_removed_by_keyboard(visit: Any) -> None:
    page = visit.page
    visit.search()
    visit.button("Select a region").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".box")).to_be_focused()
    x1, y1, x2, y2 = visit.box_in_address()
    page.keyboard.press("ArrowLeft")
    moved = visit.box_in_address()
    step = x1 - moved[0]
    assert step > 0
    assert moved == [x1 - step, y1, x2 - step, y2]
    page.keyboard.press("Shift+ArrowDown")
    assert visit.box_in_address() == [x1 - step, y1, x2 - step, y2 + step]
    page.keyboard.press("Delete")
    expect(page.locator(".box")).to_be_hidden()
    expect(page).to_have_url(f"{visit.site.url}?image=0")


def test_quick_changes_of_the_box_make_one_search(visit: Any) -> None:
    page = visit.page
    visit.search()
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
    assert len([url for url in searches if "skip=" not in url]) == 1
    assert f"x1={visit.box_in_address()[0]}&" in searches[0]


def test_a_late_answer_to_a_former_query_is_not_shown(visit: Any) -> None:
    held: list[Any] = []
    visit.page.route("**/api/images/0/search*", lambda route: held.append(route))
    visit.open("?image=0")
    expect(visit.status).to_have_text("Searching…")
    visit.choose(visit.site.temple)
    shown = visit.scores()
    held[0].fulfill(status=200, json={"results": [], "query": {"width": 1, "height": 1, "image": None, "box": None}})
    visit.page.wait_for_timeout(300)
    assert visit.scores() == shown
    visit.expect_found("Lotus Temple")


def test_a_pasted_photo_is_searched_with(visit: Any) -> None:
    visit.open()
    transfer = visit.transfer(visit.site.temple)
    paste = "(data) => document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }))"
    visit.page.evaluate(paste, transfer)
    visit.expect_found("Lotus Temple")


def test_a_dropped_photo_is_searched_with(visit: Any) -> None:
    visit.open()
    page, transfer = visit.page, visit.transfer(visit.site.bridge)
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_hidden()
    visit.expect_found("Golden Gate Bridge")


def test_a_dropped_link_to_a_result_is_searched_with(visit: Any) -> None:
    visit.open()
    foreign = visit.link_transfer("http://example.org/?image=7")
    visit.page.dispatch_event("body", "drop", {"dataTransfer": foreign})
    expect(visit.page).to_have_url(visit.site.url)
    visit.page.dispatch_event("body", "drop", {"dataTransfer": visit.link_transfer(f"{visit.site.url}?image=7")})
    expect(visit.page).to_have_url(f"{visit.site.url}?image=7")
    visit.expect_found()


@on_both
def test_a_text_named_jpg_shows_why_it_was_refused_and_the_next_photo_works(visit: Any, tmp_path: Path) -> None:
    page = visit.page
    visit.open()
    fake = tmp_path / "holiday.jpg"
    fake.write_text("no image")
    page.dispatch_event("body", "drop", {"dataTransfer": visit.transfer(fake, "text/plain")})
    expect(page.get_by_role("alert")).to_contain_text("holiday.jpg is not an image.")  # it is not even sent
    page.set_input_files("#file", fake)
    expect(page.get_by_role("alert")).to_contain_text("not an image in a supported format")
    expect(page.locator("#unseen")).to_be_visible()
    expect(visit.button("Select a region")).to_be_disabled()
    visit.choose(visit.site.bridge)
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#picture")).to_be_visible()
