"""Filters on the columns of the index."""

from typing import Any

import pytest
from playwright.sync_api import expect

on_both = pytest.mark.parametrize("context", ["desktop", "phone"], indirect=True)


def landmarks(visit: Any) -> set[str]:
    return set(visit.page.locator("#found .landmark").all_inner_texts())


@on_both
def test_choices_of_texts_narrow_the_results_and_chips_take_them_away(visit: Any) -> None:
    page = visit.page
    visit.search()
    visit.page.locator("#filter").click()
    page.get_by_role("group", name="Landmark").get_by_label("Petra").check()
    expect(visit.status).to_contain_text("9 photos, most similar first")
    assert landmarks(visit) == {"Petra"}
    page.get_by_label("Stonehenge").check()
    expect(visit.status).to_contain_text("18 photos, most similar first")
    assert page.url.endswith("?image=0&is.landmark=petra&is.landmark=stonehenge")

    page.reload()
    expect(visit.status).to_contain_text("18 photos, most similar first")
    visit.button("Remove the filter Landmark: Petra, Stonehenge").click()
    expect(visit.tiles).to_have_count(40)
    expect(page.locator("#chips")).to_be_hidden()
    page.go_back()
    expect(visit.status).to_contain_text("18 photos, most similar first")


def test_a_range_of_numbers_narrows_the_results(visit: Any) -> None:
    page = visit.page
    visit.search()
    visit.page.locator("#filter").click()
    year = page.get_by_role("group", name="Year")
    assert year.get_by_label("from").get_attribute("placeholder") == "2000"
    year.get_by_label("from").fill("2007")
    year.get_by_label("from").press("Tab")
    expect(visit.status).to_contain_text("12 photos, most similar first")
    year.get_by_label("to").fill("2007")
    year.get_by_label("to").press("Tab")
    expect(visit.status).to_contain_text("6 photos, most similar first")
    assert visit.fields_of_address() == {"image": "0", "from.year": "2007", "to.year": "2007"}
    expect(visit.button("Remove the filter Year: 2007 to 2007")).to_be_visible()


def test_days_of_change_are_told_in_the_nanoseconds_of_the_index(visit: Any) -> None:
    visit.search("?image=0&from.modified=946684800000000000")
    visit.page.locator("#filter").click()
    changed = visit.page.get_by_role("group", name="File modified")
    expect(changed.get_by_label("from")).to_have_value("2000-01-01")
    changed.get_by_label("to").fill("2000-01-02")
    changed.get_by_label("to").press("Tab")
    expect(visit.page.locator(".empty")).to_contain_text("No photos match these filters.")
    assert visit.fields_of_address()["to.modified"] == "946857599000000000"


@on_both
def test_an_expression_is_used_and_a_wrong_one_is_explained_in_place(visit: Any) -> None:
    page = visit.page
    visit.search("?image=0&is.landmark=petra")
    visit.page.locator("#filter").click()
    page.get_by_text("Advanced filter").click()
    where = page.get_by_label("Show only photos that match this expression")
    where.fill("year > 2000 -- ) or (1")
    where.press("Enter")
    expect(visit.status).to_contain_text("8 photos, most similar first")
    where.fill("color = 'red'")
    visit.button("Apply").click()
    expect(page.locator("#where-wrong")).to_contain_text("there is no column 'color'")
    expect(where).to_have_attribute("aria-invalid", "true")
    expect(visit.tiles).to_have_count(0)
    where.fill("year > 2000")
    where.press("Enter")
    expect(page.locator("#where-wrong")).to_be_hidden()
    expect(visit.status).to_contain_text("8 photos, most similar first")
    assert visit.fields_of_address() == {"image": "0", "is.landmark": "petra", "where": "year > 2000"}


def test_filters_stay_when_another_photo_is_searched_with(visit: Any) -> None:
    visit.search("?image=0&is.landmark=lotus_temple")
    visit.choose(visit.site.temple)
    expect(visit.status).to_contain_text("9 photos, most similar first")
    assert visit.fields_of_address()["is.landmark"] == "lotus_temple"


def test_an_old_link_with_the_name_label_still_filters_and_is_rewritten(visit: Any) -> None:
    visit.search("?image=0&is.label=petra")
    expect(visit.status).to_contain_text("9 photos, most similar first")
    assert landmarks(visit) == {"Petra"}
    assert visit.page.url.endswith("?image=0&is.landmark=petra")
    expect(visit.button("Remove the filter Landmark: Petra")).to_be_visible()


def test_no_result_offers_to_clear_the_filters(visit: Any) -> None:
    visit.open("?image=0&from.year=3000")
    expect(visit.page.locator(".empty")).to_contain_text("No photos match these filters.")
    visit.page.locator(".empty").get_by_role("button", name="Clear filters").click()
    expect(visit.tiles).to_have_count(40)
    expect(visit.page).to_have_url(f"{visit.site.url}?image=0")


def test_many_choices_can_be_narrowed_down(visit: Any) -> None:
    values = [{"value": f"landmark_{i}", "count": 40 - i} for i in range(30)]
    column = {"name": "landmark", "kind": "text", "values": values, "least": None, "most": None}
    visit.answer("**/api/filters", {"json": {"columns": [column]}})
    visit.search()
    visit.page.locator("#filter").click()
    visit.page.get_by_role("searchbox", name="Search the values of Landmark").fill("Landmark 2")
    expect(visit.page.locator(".choice:visible")).to_have_count(11)


def test_a_service_without_filters_shows_none(visit: Any) -> None:
    visit.answer("**/api/filters", {"status": 404, "json": {"detail": "Not Found"}})
    visit.search()
    expect(visit.page.locator("#filter")).to_be_hidden()
