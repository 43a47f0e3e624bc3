"""The page of the API in a real browser: readable, and nothing of it comes from elsewhere."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe

from latency_dashboard.api import api
from latency_dashboard.openapi import openapi_document
from tests.browser.conftest import Visit

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def requested(visit: Visit) -> set[str]:
    """The hosts that the page asks, as they come up."""
    hosts: set[str] = set()
    visit.page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    return hosts


def test_everybody_can_read_every_operation_and_nothing_comes_from_another_origin(
    visit: Visit, requested: set[str]
) -> None:
    visit.go("/api/v1/docs")
    listed = visit.page.locator(".reference-index li a")
    document = openapi_document(api)
    assert listed.count() == sum(map(len, document["paths"].values()))
    for link in listed.all():
        target = link.get_attribute("href")
        assert visit.page.locator(f"section{target}").is_visible(), target
    assert requested == {urlsplit(visit.base).netloc}


def test_every_link_within_the_page_leads_to_something(visit: Visit) -> None:
    visit.go("/api/v1/docs")
    broken = visit.page.evaluate(
        """[...document.querySelectorAll('a[href^="#"]')]
           .map((link) => link.getAttribute('href'))
           .filter((target) => document.getElementById(target.slice(1)) === null)"""
    )
    assert broken == []


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_as_wide_as_the_window(visit: Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.go("/api/v1/docs")
    visit.page.get_by_text("Example: Single measurements").click()
    assert visit.page.get_by_text('"component": "retrieval"').first.is_visible()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_has_no_problem_that_axe_finds(visit: Visit) -> None:
    visit.go("/api/v1/docs")
    found = Axe().run(visit.page)
    assert found.violations_count == 0, found.generate_report()
