"""Having the first results looked at again."""

import re
from typing import Any

import pytest
from playwright.sync_api import expect

on_both = pytest.mark.parametrize("context", ["desktop", "phone"], indirect=True)


def order(visit: Any) -> list[str]:
    """Addresses of the results, in the order in which they stand."""
    return [str(link.get_attribute("href")) for link in visit.page.locator("#found a.open").all()]


@on_both
def test_a_better_order_is_a_press_away_and_its_cost_is_told(visit: Any) -> None:
    page = visit.page
    visit.search()
    plain = order(visit)
    expect(page.locator("#rerank-note")).to_be_hidden()
    with page.expect_response(re.compile(r"/search\?.*rerank=default")) as asked:
        visit.button("Improve the order").click()
    found = [result["image"]["image_id"] for result in asked.value.json()["results"]]
    expect(page.locator("#rerank-note")).to_contain_text(re.compile(r"better order\. .* This search took \d+ ms\.$"))
    expect(visit.button("Improve the order")).to_have_attribute("aria-pressed", "true")
    assert visit.fields_of_address() == {"image": "0", "rerank": "default"}
    reranked = order(visit)
    assert [re.search(r"compare=(\d+)", link)[1] for link in reranked] == [str(image) for image in found]
    assert all("rerank=default" in link for link in reranked)

    page.reload()
    expect(page.locator("#rerank-note")).to_contain_text("This search took")
    assert order(visit) == reranked
    page.go_back()
    expect(page.locator("#rerank-note")).to_be_hidden()
    expect(visit.button("Improve the order")).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#found a.open").first).to_have_attribute("href", plain[0])
    assert order(visit) == plain


def test_an_upload_is_looked_at_again_too_and_further_results_follow_in_its_order(visit: Any, site: Any) -> None:
    page = visit.page
    visit.choose(site.bridge)
    visit.button("Improve the order").click()
    expect(page.locator("#rerank-note")).to_contain_text("This search took")
    page.locator("#more").scroll_into_view_if_needed()
    expect(visit.tiles).to_have_count(site.images)
    assert len({re.sub(r".*compare=", "", link) for link in order(visit)}) == site.images


def test_what_the_service_has_against_it_is_told(visit: Any) -> None:
    page = visit.page
    sentence = "The index keeps no graph of nearest images."
    page.route("**/search?*rerank=*", lambda route: route.fulfill(status=422, json={"detail": sentence}))
    visit.open("?image=0&rerank=default")
    expect(page.get_by_role("alert").filter(has_text=sentence)).to_be_visible()
    visit.button("Improve the order").click()
    expect(visit.tiles).to_have_count(40)
