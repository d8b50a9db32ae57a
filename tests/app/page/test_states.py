"""What the page says when things are not as they should be, and what it remembers."""

import re
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, expect

on_both = pytest.mark.parametrize("context", ["desktop", "phone"], indirect=True)


def test_a_service_that_does_not_answer_is_told_and_can_be_tried_again(visit: Any) -> None:
    page = visit.page
    visit.open()
    page.route("**/api/search", lambda route: route.abort())
    page.set_input_files("#file", visit.site.bridge)
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    page.unroute("**/api/search")
    visit.button("Try again").click()
    visit.expect_found("Golden Gate Bridge")


def test_offline_is_told_and_the_search_goes_on_by_itself(visit: Any, context: BrowserContext) -> None:
    visit.search()
    context.set_offline(True)
    visit.page.set_input_files("#file", visit.site.bridge)
    expect(visit.page.get_by_role("alert")).to_contain_text("You are offline.")
    context.set_offline(False)
    visit.expect_found("Golden Gate Bridge")


@on_both
def test_a_busy_service_is_waited_for(visit: Any) -> None:
    busy = {"status": 503, "headers": {"Retry-After": "1"}, "json": {"detail": "Too many requests wait."}}
    visit.answer("**/api/images/0/search*", busy, busy)
    visit.open("?image=0")
    expect(visit.status).to_have_text("The service is busy. Trying again in 1 second.")
    expect(visit.page.locator("#progress")).to_be_visible()
    visit.expect_found()
    expect(visit.page.get_by_role("alert")).to_be_hidden()


def test_a_busy_service_is_not_asked_again_for_what_is_no_longer_wanted(visit: Any) -> None:
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url) if "/images/0/search" in request.url else None)
    busy = {"status": 503, "headers": {"Retry-After": "1"}, "json": {"detail": "Too many requests wait."}}
    visit.answer("**/api/images/0/search*", busy)
    visit.open("?image=0")
    expect(visit.status).to_contain_text("busy")
    visit.choose(visit.site.temple)
    visit.page.wait_for_timeout(1500)
    assert len(asked) == 1


@on_both
def test_a_token_is_asked_for_and_kept_for_the_session(visit: Any) -> None:
    page, site = visit.page, visit.site
    dialog = page.get_by_role("dialog")
    page.goto(f"{site.guarded_url}?image=0")
    expect(dialog).to_be_visible()
    page.get_by_label("Access token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The service did not accept this token.", exact=False)).to_be_visible()
    page.get_by_label("Access token").fill(site.token)
    visit.button("Continue").click()
    visit.expect_found()
    expect(dialog).to_be_hidden()
    visit.expect_picture()  # pictures take it along
    page.reload()
    visit.expect_found()
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    assert cookies["glam_token"]["expires"] == -1
    assert cookies["glam_token"]["sameSite"] == "Strict"


def test_without_a_token_the_page_says_so_and_asks_again(visit: Any) -> None:
    visit.page.goto(f"{visit.site.guarded_url}?image=0")
    visit.button("Cancel").click()
    expect(visit.page.locator("#problem")).to_contain_text("token is required")
    visit.button("Try again").click()
    visit.page.get_by_label("Access token").fill(visit.site.token)
    visit.page.keyboard.press("Enter")
    visit.expect_found()


def test_an_image_that_is_not_in_the_index_is_told(visit: Any) -> None:
    visit.open("?image=987654")
    expect(visit.page.get_by_role("alert")).to_contain_text("There is no image 987654 in this index.")
    expect(visit.button("Try again")).to_be_hidden()


def test_an_index_without_photos_says_so(visit: Any) -> None:
    info = visit.page.request.get(f"{visit.site.url}api/info").json()
    visit.answer("**/api/info", {"json": {**info, "images": 0}})
    visit.open()
    expect(visit.page.get_by_role("alert")).to_contain_text("no photos in this index yet")


def test_an_upload_that_is_too_large_is_not_even_sent(visit: Any) -> None:
    info = visit.page.request.get(f"{visit.site.url}api/info").json()
    visit.answer("**/api/info", {"json": {**info, "limits": {"bytes": 1000, "pixels": 1000}}})
    visit.open()
    expect(visit.page.locator("#info")).not_to_be_empty()
    visit.page.set_input_files("#file", visit.site.bridge)
    expect(visit.page.get_by_role("alert")).to_contain_text("Choose a file of at most 0 MB")


def test_shapes_stand_where_photos_will_come(visit: Any) -> None:
    visit.page.route("**/api/images/0/search*", lambda route: None)
    visit.open("?image=0")
    expect(visit.page.locator("#found .placeholder").first).to_be_visible()
    expect(visit.page.locator("#found")).to_have_attribute("aria-busy", "true")


@pytest.mark.parametrize("context", ["desktop", "phone dark"], indirect=True)
def test_the_theme_follows_the_system_until_it_is_switched_and_the_switch_is_remembered(visit: Any) -> None:
    page = visit.page

    def colors() -> str:
        red = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return "light" if int(re.findall(r"\d+", red)[0]) > 128 else "dark"

    visit.open()
    system = colors()
    other = {"light": "dark", "dark": "light"}[system]
    switch = visit.button("Dark colors")
    expect(switch).to_have_attribute("aria-pressed", str(system == "dark").lower())
    switch.click()
    assert colors() == other
    page.reload()
    assert colors() == other
    page.get_by_role("link", name="API").click()
    page.wait_for_url("**/docs.html")
    assert colors() == other
    page.go_back()
    visit.button("Dark colors").click()
    assert colors() == system
    assert page.evaluate("localStorage.length") == 0


def test_the_address_of_a_search_can_be_copied(visit: Any, context: BrowserContext) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.search("?image=3&group=landmark")
    visit.page.locator("#share").click()
    expect(visit.page.locator("#share")).to_contain_text("Copied")
    assert visit.page.evaluate("navigator.clipboard.readText()") == f"{visit.site.url}?image=3&group=landmark"
    visit.choose(visit.site.temple)
    expect(visit.page.locator("#share")).to_be_hidden()


def test_a_shared_address_brings_all_of_a_search(visit: Any) -> None:
    filters = "is.landmark=petra&from.year=2001&where=width+%3E+10"
    address = f"?image=0&box=10,10,120,120&{filters}&group=landmark&compare=27&show=matches"
    visit.search(address)
    page = visit.page
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_role("radio", name="Matches")).to_be_checked()
    assert page.url.removeprefix(visit.site.url) == address
    page.keyboard.press("Escape")
    expect(page.locator(".box")).to_be_visible()
    expect(page.locator("#chips li")).to_have_count(3)
    expect(visit.button("Group by landmark")).to_have_attribute("aria-pressed", "true")
    assert visit.box_in_address() == [10, 10, 120, 120]
