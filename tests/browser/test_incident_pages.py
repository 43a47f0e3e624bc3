"""The pages of incidents in a real browser: why nobody was paged, every state, little and much."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from alerts import incidents
from alerts.models import Incident, Notification
from budgets.models import Feature, Membership, Team, User
from tests.alerts import unpaged
from tests.browser.conftest import Visit
from tests.browser.faults import faults_of
from tests.factories import make_channel, make_feature, make_team, make_traffic
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

EMAIL = "editor@example.com"
LONG = '<b>"x"</b> ' + "y" * 150
FROM_RIGHT_TO_LEFT = "دعم المحادثة السريعة"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def team() -> Team:
    team = make_team(slug="assistants", name="Assistants")
    make_person(EMAIL, team=team, role=Membership.Role.EDITOR)
    return team


def test_why_nobody_was_paged_is_on_the_first_screen_of_a_phone_whatever_the_reason(visit: Visit) -> None:
    User.objects.create_superuser("root@example.com", PASSWORD)
    began = timezone.now() - 6 * MINUTE
    made: dict[str, Incident] = {}
    for reason, (make, _) in unpaged.REASONS.items():
        made[reason] = make(make_feature(team=make_team(), now=began), began)
    page, found = visit.page, []
    visit.enter("root@example.com")
    for reason, incident in made.items():
        page.set_viewport_size({"width": 390, "height": 844})
        visit.go(incident.get_absolute_url())
        outcome = page.locator("#verdict .outcome")
        for sentence in unpaged.REASONS[reason][1]:
            # Without the link behind it.
            expect(outcome).to_contain_text(sentence.rpartition(". ")[0] or sentence[:20])
        box, form = outcome.bounding_box(), page.locator("#actions, #facts").first.bounding_box()
        assert box is not None
        assert form is not None
        assert box["y"] + box["height"] <= 844, f"{reason}: is read without scrolling"
        outcome.get_by_role("link", name="Every message and try").click()
        expect(page.locator("#told")).to_be_in_viewport()
        found += faults_of(visit.page, reason)
    assert found == [], "\n".join(found)


def test_the_cause_is_the_first_of_the_components_and_its_figures_stand_under_their_units(
    visit: Visit, team: Team
) -> None:
    began = timezone.now() - 6 * MINUTE
    incident = unpaged.open_incident(make_feature(team=team, now=began), now=began)
    page = visit.page
    visit.enter(EMAIL)
    visit.go(incident.get_absolute_url())
    heads, row = page.locator(".shares thead th"), page.locator(".shares tbody tr").first
    expect(row.locator("th")).to_contain_text("tools cause")
    for n in range(1, 6):
        head, figure = heads.nth(n).bounding_box(), row.locator("td").nth(n - 1).bounding_box()
        assert head is not None
        assert figure is not None
        assert head["x"] + head["width"] == pytest.approx(figure["x"] + figure["width"], abs=1)
    assert "ms" not in row.inner_text()
    page.set_viewport_size({"width": 390, "height": 844})
    for name in ("Longer by, ms", "Share, %"):
        shown = page.evaluate(
            "name => getComputedStyle(document.querySelector(`.shares td[data-label='${name}']`), '::before').content",
            name,
        )
        assert shown == f'"{name}"'


def test_every_state_of_an_incident_and_a_list_of_two_hundred_can_be_used(visit: Visit, team: Team) -> None:
    now = timezone.now()
    chat, long, rtl = (
        make_feature(team=team, slug=f"f{n}", name=name, now=now - timedelta(days=20))
        for n, name in enumerate(("Support chat", LONG, FROM_RIGHT_TO_LEFT))
    )
    visit.enter(EMAIL)
    visit.go("/incidents/")
    expect(visit.page.locator("main")).to_contain_text("No incident yet")
    found = faults_of(visit.page, "no incident")

    for n in range(196):
        make_resolved((chat, long, rtl)[n % 3], now - timedelta(days=15) + timedelta(hours=n))
    make_channel(team, name="hook")
    make_channel(team, name=LONG)
    make_channel(team, name=FROM_RIGHT_TO_LEFT, min_severity="page")
    states = make_states(chat, long, rtl, now - 30 * MINUTE)
    for address in (
        "/incidents/",
        "/incidents/?state=resolved&page=3",
        "/incidents/?feature=f1&state=open",
        *(incident.get_absolute_url() for incident in states.values()),
    ):
        visit.go(address)
        for details in visit.page.locator("main details:not(.menu)").all():
            details.evaluate("element => { element.open = true; }")
        found += faults_of(visit.page, address)
    assert found == [], "\n".join(found)


def make_resolved(feature: Feature, at: datetime) -> None:
    made = unpaged.open_incident(feature, now=at, summary=f"{feature.name}, first token: p99 4.20 s of 3 s.")
    incidents.resolve(incident_id=made.pk, actor="a@example.com", note="Fixed", now=at + 12 * MINUTE)


def make_states(chat: Feature, long: Feature, rtl: Feature, at: datetime) -> dict[str, Incident]:
    """Open with sixty failed tries, acknowledged with a long note, coming and going, merged, resolved."""
    made = {"open": unpaged.open_incident(chat, now=at)}
    first = Notification.objects.filter(incident=made["open"]).order_by("pk").first()
    assert first is not None
    unpaged.fail(first, tries=60, now=at)
    make_traffic(long, at=at - MINUTE, count=5, over=0, component=LONG)
    made["acknowledged"] = unpaged.open_incident(
        long,
        now=at,
        cause={**unpaged.CAUSE, "component": LONG},
        attribution=unpaged.attribution(unpaged.share(LONG, 1200.0, 0.9), unpaged.share("tools", 3.0, 0.001)),
    )
    incidents.acknowledge(
        incident_id=made["acknowledged"].pk, actor=EMAIL, note=f"Looking\n{LONG * 5}", now=at + MINUTE
    )
    made["flapping"] = unpaged.open_incident(rtl, now=at)
    for n in range(4):
        incident = Incident.objects.get(pk=made["flapping"].pk)
        incidents.resolve_by_rules(incident=incident, reason="recovered", now=at + (2 + 5 * n) * MINUTE)
        unpaged.open_incident(rtl, now=at + (4 + 5 * n) * MINUTE)
    assert Incident.objects.get(pk=made["flapping"].pk).is_flapping
    made["merged"] = unpaged.open_incident(chat, now=at, component="tools", attribution=None)
    incidents.merge(incident=made["merged"], into=made["open"], now=at + MINUTE)
    made["resolved"] = Incident.objects.filter(feature=chat, state="resolved").order_by("pk")[0]
    return made
