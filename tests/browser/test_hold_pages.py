"""Silencing a deploy and putting people on call, as somebody does it in a browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from alerts.maintenance import save_window
from alerts.models import EscalationPolicy, Schedule, ScheduleOverride, Silence
from alerts.policies import save_policy
from alerts.schedules import on_call, save_schedule
from alerts.silences import create_silence
from budgets.models import Membership, Team
from tests.alerts.test_holds import make_incident, make_window
from tests.browser.conftest import Visit
from tests.browser.faults import BRIEFLY, EVERYWHERE, Theme, faults_of
from tests.factories import make_channel, make_feature, make_team
from tests.people import make_person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

EMAIL = "kim@example.com"
BASE = "/teams/assistants/"
LONG = "x" * 200


@pytest.fixture
def team() -> Team:
    team = make_team(slug="assistants", name="Assistants")
    make_person(EMAIL, team=team, role=Membership.Role.EDITOR)
    make_person("ada@example.com", team=team)
    make_channel(team, name="hooks")
    make_incident(make_feature(team=team, slug="support-chat"))
    return team


Look = Callable[..., None]


@pytest.fixture
def look(visit: Visit) -> Look:
    """Looks at the page that is open; fails at once where something is wrong."""

    def check(what: str, at: Sequence[tuple[Theme, int]] = EVERYWHERE) -> None:
        found = faults_of(visit.page, what, at=at)
        assert found == [], "\n".join(found)

    return check


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_a_deploy_is_silenced_until_tomorrow_morning_and_the_silence_ended(
    visit: Visit, team: Team, look: Look
) -> None:
    page = visit.page
    visit.enter(EMAIL)
    visit.go(f"{BASE}silences/")
    expect(page.locator("main")).to_contain_text("Nothing is silenced")
    look("no silence")
    page.get_by_role("link", name="New silence").first.click()
    zone = page.evaluate("Intl.DateTimeFormat().resolvedOptions().timeZone")
    expect(page.get_by_label("Time zone")).to_have_value(zone)
    look("a new silence")

    page.get_by_label("Feature: value").fill("support-chat")
    page.get_by_label("Reason").fill("Deployment of v413")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    page.get_by_label("until tomorrow 09:00").check()
    press(page, "Show what it mutes")
    preview = page.locator(".verdict")
    expect(preview).to_contain_text("Support chat, first token")
    expect(preview).to_contain_text("by the clock of Europe/Berlin")
    expect(page.get_by_label("Time zone")).to_have_value("Europe/Berlin")
    assert not Silence.objects.exists()
    look("what a silence mutes")

    press(page, "Silence")
    expect(page.locator(".message")).to_contain_text("Silenced.")
    ends = Silence.objects.get().ends_at.astimezone(ZoneInfo("Europe/Berlin"))
    today = timezone.now().astimezone(ZoneInfo("Europe/Berlin")).date()
    assert (ends.date(), ends.hour, ends.minute) == (today + timedelta(days=1), 9, 0)
    look("a silence in force")

    page.get_by_role("button", name="End now").click()
    expect(page.locator(".message")).to_contain_text("Ended.")
    page.get_by_text("1 over").click()
    expect(page.locator("details.ended")).to_contain_text(f"ended by {EMAIL}")
    look("a silence that is over")


def test_the_clock_of_the_browser_is_proposed_and_its_time_told_beside_utc(visit: Visit, team: Team) -> None:
    page = visit.page
    devtools = page.context.new_cdp_session(page)
    devtools.send("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Tokyo"})
    now = timezone.now()
    document = {
        "matchers": [{"name": "feature", "operator": "=", "value": "support-chat"}],
        "reason": "Load test",
        "ends_at": (now + timedelta(hours=1)).isoformat(),
    }
    silence = create_silence(team=team, document=document, actor="a test", now=now)
    visit.enter(EMAIL)
    visit.go(f"{BASE}silences/")
    local = silence.ends_at.astimezone(ZoneInfo("Asia/Tokyo"))
    expect(page.locator("[data-label=Until] .local-time")).to_contain_text(f"{local:%H:%M}")
    for new in ("silences/new/", "maintenance/new/", "schedules/new/"):
        visit.go(f"{BASE}{new}")
        expect(page.get_by_label("Time zone")).to_have_value("Asia/Tokyo")
    window = make_window(team)
    visit.go(f"{BASE}maintenance/{window.pk}/")
    expect(page.get_by_label("Time zone")).to_have_value("UTC")


def test_two_members_go_on_call_one_takes_over_and_a_policy_tells_them(
    visit: Visit, team: Team, look: Look
) -> None:
    page = visit.page
    visit.enter(EMAIL)
    visit.go(f"{BASE}schedules/")
    expect(page.locator("main")).to_contain_text("Nobody is on call")
    look("no schedule")
    page.get_by_role("link", name="New schedule").first.click()
    look("a new schedule")

    page.get_by_label("Name").fill("primary")
    page.get_by_label("Time zone").fill("America/New_York")
    page.get_by_label("First hand-over").fill("2026-01-05")
    page.get_by_label("Turn 1").select_option("ada@example.com")
    page.get_by_label("Turn 2").select_option(EMAIL)
    page.get_by_label("A turn lasts, in days").fill("90")
    press(page, "Save")
    expect(page.locator("#id_turn_days_error")).to_contain_text("“A turn lasts, in days” must be")
    expect(page.get_by_label("Time zone")).to_have_value("America/New_York")
    look("a schedule that was refused")
    # The browser tells of the form that was refused; that is what was asked for.
    visit.complaints.clear()
    page.get_by_label("A turn lasts, in days").fill("7")
    press(page, "Save")
    expect(page.locator(".message")).to_contain_text("Saved primary.")
    schedule = Schedule.objects.get()
    shift = on_call([schedule.pk], at=timezone.now())[schedule.pk]
    assert shift.person is not None
    expect(page.locator(".verdict")).to_contain_text(shift.person.email)
    look("a schedule")
    page.set_viewport_size({"width": 390, "height": 900})
    expect(page.locator(".calendar")).to_be_hidden()
    expect(page.locator(".shift-list").first).to_contain_text(f"{shift.person.email} now")
    page.set_viewport_size({"width": 1280, "height": 900})
    expect(page.locator(".calendar")).to_be_visible()
    expect(page.locator(".shift-list").first).to_be_hidden()

    other = {"ada@example.com": EMAIL, EMAIL: "ada@example.com"}[shift.person.email]
    local = timezone.now().astimezone(ZoneInfo("America/New_York")).replace(second=0, microsecond=0)
    form = page.locator(".override-form")
    form.get_by_label("On call").select_option(other)
    form.get_by_label("From").fill(f"{local - timedelta(minutes=5):%Y-%m-%dT%H:%M}")
    form.get_by_label("To").fill(f"{local + timedelta(hours=8):%Y-%m-%dT%H:%M}")
    press(page, "Add override")
    expect(page.locator(".verdict")).to_contain_text(f"{other} by an override")
    made = ScheduleOverride.objects.get()
    # Both ends lie in the same hour of the same zone's clock, whatever it does meanwhile.
    assert made.starts_at == _instant(local - timedelta(minutes=5))
    look("an override")

    visit.go(f"{BASE}escalation/")
    look("no policy")
    page.get_by_role("link", name="New policy").first.click()
    page.get_by_label("Name").fill("pages")
    page.get_by_label("Severity: value").fill("page")
    page.get_by_label("Step 1, whom").first.select_option("schedule:primary")
    page.get_by_label("Step 2, whom").first.select_option("channel:hooks")
    look("a new policy")
    press(page, "Save")
    expect(page.locator(".policies")).to_contain_text("schedule primary")
    look("policies")
    assert [one["notify"] for one in EscalationPolicy.objects.get().steps] == [
        [{"kind": "schedule", "name": "primary"}],
        [{"kind": "channel", "name": "hooks"}],
    ]

    visit.go(f"{BASE}schedules/{schedule.pk}/")
    press(page, "Take back")
    expect(page.locator(".verdict")).to_contain_text(shift.person.email)
    page.get_by_role("link", name="Delete …").click()
    look("the question before a schedule is deleted")
    press(page, "Delete the schedule")
    expect(page.get_by_role("alert")).to_contain_text("names the schedule 'primary'")


def _instant(local: datetime) -> datetime:
    return local.astimezone(ZoneInfo("UTC"))


def test_pages_of_much_and_long_things_are_whole(visit: Visit, team: Team, look: Look) -> None:
    now = timezone.now()
    people = [f"{'long' * 10}{number}@example.com" for number in range(8)]
    for person in people:
        make_person(person, team=team)
    matchers = [
        {"name": name, "operator": "~", "value": f"{name}-*|{LONG}"} for name in ("feature", "environment")
    ]
    schedule = save_schedule(
        team=team,
        name=LONG,
        document={
            "time_zone": "America/Argentina/ComodRivadavia",
            "starts_on": "2026-01-05",
            "hands_over_at": "09:00",
            "turn_days": 1,
            "people": [*people, None],
            "hours": [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "17:00"}] * 3,
        },
        actor="a test",
        now=now,
    ).schedule
    for number in range(4):
        everybody = [{"kind": "person", "name": one} for one in people]
        save_policy(
            team=team,
            name=f"{number}{LONG[1:]}",
            document={
                "matchers": matchers,
                "steps": [{"notify": [*everybody[:4], {"kind": "schedule", "name": LONG}]}] * 3,
            },
            actor="a test",
            now=now,
        )
    policy = EscalationPolicy.objects.first()
    assert policy is not None
    save_window(
        team=team,
        name=LONG,
        document={
            "time_zone": "America/Argentina/ComodRivadavia",
            "starts_on": "2026-01-05",
            "starts_at": "09:00",
            "duration_minutes": 60,
            "recurrence": "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYSETPOS=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            "matchers": matchers,
            "reason": LONG,
        },
        actor="a test",
        now=now,
    )
    broken = make_window(team, name="broken", recurrence=f"FREQ={LONG}")
    for number in range(30):
        document = {
            "matchers": matchers,
            "reason": f"{number} {LONG}",
            "ends_at": (now + timedelta(days=1)).isoformat(),
        }
        create_silence(team=team, document=document, actor=f"{LONG}@example.com", now=now)
    visit.enter(EMAIL)
    visit.go(f"{BASE}silences/")
    look("silences", at=BRIEFLY)
    for path in (
        "maintenance/",
        f"maintenance/{broken.pk}/",
        f"maintenance/{broken.pk}/delete/",
        "maintenance/new/",
        "schedules/",
        f"schedules/{schedule.pk}/",
        f"schedules/{schedule.pk}/edit/",
        "escalation/",
        f"escalation/{policy.pk}/",
        f"escalation/{policy.pk}/delete/",
    ):
        visit.go(f"{BASE}{path}")
        look(path, at=BRIEFLY)
