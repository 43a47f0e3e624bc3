"""Names that mean harm in a real browser: nothing of them runs, none breaks a page, in charts neither."""

from __future__ import annotations

import pytest

from budgets.models import User
from tests.browser.conftest import Visit
from tests.hostile import PRODUCT, make_hostile_world
from tests.test_hostile_texts import ELSEWHERE
from tests.test_permissions import PAGES

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

INJECTED = "[...document.querySelectorAll('img, iframe, b, main script, [onerror], [onclick]')].map((one) => one.outerHTML)"
WIDE = """
document.documentElement.scrollWidth > innerWidth && [
  document.documentElement.scrollWidth,
  ...[...document.querySelectorAll("main *")]
    .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".table-scroll, pre"))
    .slice(0, 3)
    .map((one) => one.outerHTML.slice(0, 120)),
]
"""


def test_every_page_shows_hostile_names_as_text_and_fits_a_phone(visit: Visit) -> None:
    world, page, found = make_hostile_world(), visit.page, []
    User.objects.create_superuser("root@example.com")
    visit.enter("root@example.com")
    for row in PAGES:
        if row.method != "GET" or row.route.startswith(ELSEWHERE) or "{token}" in row.route:
            continue
        address = world.address(row.route)
        if any(form in row.route for form in (".csv", ".json")):
            continue
        page.set_viewport_size({"width": 320, "height": 900})
        visit.go(address)
        page.evaluate("document.querySelectorAll('main details').forEach((each) => (each.open = true))")
        visit.draw_all_charts()
        found += [f"{row.route}: {one[:200]}" for one in page.evaluate(INJECTED)]
        if PRODUCT in page.content() or page.title() == "1":
            found.append(f"{row.route}: a text ran")
        for width in (320, 390):
            page.set_viewport_size({"width": width, "height": 900})
            if wide := page.evaluate(WIDE):
                found.append(f"{row.route} at {width}: {wide}")
    assert found == [], "\n".join(found)
