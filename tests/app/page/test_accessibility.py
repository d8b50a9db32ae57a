"""axe-core finds no serious fault in any state of the page, on a desktop and a phone, light and dark."""

from importlib import resources
from typing import Any

import pytest
from playwright.sync_api import expect

pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")

AXE = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")

# Only colors differ between light and dark, only sizes between desktop and phone: two of the four try every rule.
everywhere = pytest.mark.parametrize(
    ("context", "rules"),
    [
        ("desktop", None),
        ("phone dark", None),
        ("desktop dark", ["color-contrast"]),
        ("phone", ["color-contrast", "target-size"]),
    ],
    indirect=["context"],
)


class Inspector:
    """Looks for faults in the state that the page is in."""

    def __init__(self, visit: Any, rules: list[str] | None) -> None:
        self.page = visit.page
        self.options: dict[str, Any] = {"resultTypes": ["violations"]}
        if rules:
            self.options["runOnly"] = rules

    def look(self, state: str) -> None:
        """No fault is serious or critical."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE)
        found = self.page.evaluate("(options) => axe.run(document, options)", self.options)
        faults = [
            f"{fault['id']}: {fault['help']} {[node['html'] for node in fault['nodes']][:3]}"
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
        ]
        assert faults == [], state


@everywhere
def test_no_state_of_a_search_has_a_serious_fault(visit: Any, rules: list[str] | None) -> None:
    page, inspector = visit.page, Inspector(visit, rules)
    visit.open()
    expect(page.locator("#samples img").first).to_be_visible()
    inspector.look("before a search")
    page.evaluate("document.getElementById('drop').hidden = false")
    inspector.look("while a photo is dragged over the page")

    visit.search("?image=0&box=10,10,150,150&is.landmark=petra&is.landmark=lotus_temple&rerank=default&group=landmark")
    page.locator("#filter").click()
    page.get_by_text("Advanced filter").click()
    page.get_by_label("Show only photos that match this expression").fill("nothing = 1")
    inspector.look("results by landmark, with a box and filters")
    visit.button("Apply").click()
    expect(page.locator("#where-wrong")).to_be_visible()
    inspector.look("a wrong expression")

    visit.open("?image=0&from.year=3000")
    expect(page.locator(".empty")).to_be_visible()
    inspector.look("nothing found")
    visit.open("?image=4711")
    expect(page.locator("#problem")).to_be_visible()
    inspector.look("a problem")


@everywhere
def test_no_state_of_a_comparison_has_a_serious_fault(visit: Any, rules: list[str] | None) -> None:
    page, inspector = visit.page, Inspector(visit, rules)
    visit.search("?image=0&compare=1")
    page.get_by_text("Details").click()
    inspector.look("two photos")
    for mode, said in (
        ("Matches", "matching point"),
        ("Attention", "bright areas"),
        ("Global spatial", "Move the ring"),
    ):
        page.get_by_role("radio", name=mode).check()
        expect(page.locator("#compare-note")).to_contain_text(said)
        inspector.look(mode)


@everywhere
def test_waiting_and_being_asked_for_a_token_have_no_serious_fault(visit: Any, rules: list[str] | None) -> None:
    page, inspector = visit.page, Inspector(visit, rules)
    page.route("**/api/images/0/search*", lambda route: None)
    visit.open("?image=0")
    expect(page.locator(".placeholder").first).to_be_visible()
    inspector.look("waiting")
    page.unroute("**/api/images/0/search*")
    page.goto(f"{visit.site.guarded_url}?image=0")
    page.get_by_label("Access token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#token-wrong")).to_be_visible()
    inspector.look("a token is asked for")


@pytest.mark.parametrize("context", ["desktop", "phone dark"], indirect=True)
def test_the_page_of_the_api_has_no_serious_fault(visit: Any) -> None:
    visit.open("docs.html")
    expect(visit.page.get_by_role("heading", name="Search with an uploaded image")).to_be_visible()
    Inspector(visit, None).look("the API")
