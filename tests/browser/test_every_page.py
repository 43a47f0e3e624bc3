"""Every page that docs/reference/permissions.md lists, with something on it: light and dark, from a phone to a desk."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from budgets.models import User
from tests.alerts.scenes import burn, overrun
from tests.browser.conftest import Visit
from tests.browser.faults import faults_of
from tests.people import PASSWORD
from tests.test_permissions import PAGES
from tests.world import make_world

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

ROOT = "root@example.com"

# What holds of any page, each as a sentence for whatever breaks it. Plotly's own elements are no controls.
_BROKEN = """
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const name = (element) => `<${element.localName} class="${element.className}"> ${element.textContent.trim().slice(0, 40)}`;
  const states = all(".state").filter((state) => {
    const icon = state.querySelector(".state-icon");
    return !icon?.textContent.trim() || state.textContent.trim() === icon.textContent.trim();
  });
  const regions = all("[aria-live=polite], [role=status], [role=log]").filter((one) => one.id !== "announcer");
  const lasts = (text) => text.split(",").some((part) => parseFloat(part) > 0);
  const moving = all("body *").filter((element) => {
    const style = getComputedStyle(element);
    return lasts(style.transitionDuration) || (style.animationName !== "none" && lasts(style.animationDuration));
  });
  const unmarked = all("a[href], button, summary, input, select, textarea, [tabindex='0']").filter((element) => {
    if (element.closest(".chart-plot")) return false;
    element.focus({ preventScroll: true });
    if (document.activeElement !== element) return false;
    const style = getComputedStyle(element);
    return style.outlineStyle === "none" && style.boxShadow === "none";
  });
  return [
    ...states.map((one) => `a state without icon or word: ${name(one)}`),
    ...regions.map((one) => `another polite live region: ${name(one)}`),
    ...(all("#announcer").length === 1 ? [] : ["no live region"]),
    ...moving.map((one) => `moves although less motion is asked for: ${name(one)}`),
    ...unmarked.map((one) => `nobody sees that it has the focus: ${name(one)}`),
  ];
})()
"""


def is_page(visit: Visit, address: str) -> bool:
    """Whether a person is meant to read what is there, rather than a program."""
    kind = visit.page.request.get(f"{visit.base}{address}").headers.get("content-type", "")
    return kind.startswith("text/html")


def test_on_every_page_axe_finds_nothing_all_can_be_reached_and_seen_and_nothing_moves_by_itself(
    visit: Visit,
) -> None:
    """Light and dark; at 320, 390 and 1280 px nothing scrolls sideways and no target is too small; every state has its
    icon and its word, whatever has the focus shows it, and one polite region tells of changes."""
    now = timezone.now()
    world = make_world()
    burn(world.feature, now - timedelta(minutes=1))
    overrun(world.feature, now - timedelta(minutes=1))
    User.objects.create_superuser(ROOT, PASSWORD)
    rows = [row for row in PAGES if row.method == "GET"]
    visit.page.emulate_media(reduced_motion="reduce")
    found: list[str] = []
    seen = set()

    def walk(routes: list[str]) -> None:
        for route in routes:
            address = world.address(route)
            if is_page(visit, address):
                seen.add(route)
                visit.go(address)
                visit.draw_all_charts()
                visit.page.keyboard.press("Tab")
                found.extend(f"{route}: {one}" for one in visit.page.evaluate(_BROKEN))
                found.extend(faults_of(visit.page, route))

    walk([row.route for row in rows if row.outcomes["anonymous"] == "yes"])
    visit.enter(ROOT)
    walk([row.route for row in rows if row.outcomes["anonymous"] != "yes"] + ["/nowhere/"])
    # The browser tells of pages that are not there; some of these are asked for.
    visit.complaints[:] = [one for one in visit.complaints if "status of 404" not in one]
    assert found == [], "\n".join(found)
    assert len(seen) > 50
    assert {"/", "/login/", "/features/{slug}/", "/incidents/{pk}/", "/features/{slug}/edit/"} <= seen
