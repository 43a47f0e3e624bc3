"""What an incident's page says first to somebody who was not paged, and of the component that is the cause."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client

from alerts import incidents
from alerts.contexts.causes import cause_table
from alerts.contexts.outcomes import Outcome, outcome
from alerts.contexts.tellings import tellings
from alerts.incidents import Finding
from alerts.models import EscalationPolicy, Incident, Notification, Silence
from alerts.silences import end_silence, holds
from budgets.models import Feature, Team
from tests.alerts import unpaged
from tests.alerts.test_incident_pages import at_now, page, read_aloud, signed_in
from tests.factories import NOW, make_channel, make_feature, make_team
from tests.people import make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files", "at_now")]

__all__ = ["at_now"]

MINUTE = timedelta(minutes=1)


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


@pytest.fixture
def feature(team: Team) -> Feature:
    return make_feature(team=team, slug="support-chat")


@pytest.fixture
def viewer(team: Team) -> Client:
    return signed_in(make_person("viewer@example.com", team=team))


def found(incident: Incident, minutes: float = 0.5) -> Outcome:
    """So many minutes after NOW."""
    incident = Incident.objects.select_related("feature__team").get(pk=incident.pk)
    events = list(incident.events.all())
    now = NOW + minutes * MINUTE
    hold = holds([incident], now=now).get(incident.pk) if incident.resolved_at is None else None
    return outcome(incident, events, tellings(incident, events, hold=hold).past, hold=hold, now=now)


@pytest.mark.parametrize("reason", unpaged.REASONS)
def test_why_nobody_was_paged_stands_in_the_verdict_with_the_way_to_mend_it(
    viewer: Client, feature: Feature, reason: str
) -> None:
    make, said = unpaged.REASONS[reason]
    html = page(viewer, make(feature, NOW).get_absolute_url())

    verdict = html[html.index('id="verdict"') : html.index('id="facts"')]
    text = read_aloud(verdict)
    for sentence in said:
        assert sentence in text
    assert text.index("Open") < text.index(said[0])
    places = {"silence": "silences/", "window": "maintenance/", "gap": "schedules/"}
    assert f'href="/teams/assistants/{places.get(reason, "channels/")}' in verdict


def test_a_message_on_its_way_is_no_failure_until_no_worker_takes_it_up(feature: Feature) -> None:
    make_channel(feature.team, name="pager")
    incident = unpaged.open_incident(feature, now=NOW)

    assert found(incident) == Outcome("waiting", "Being sent: pager.", [])
    late = found(incident, minutes=2)
    assert (late.state, late.said) == ("nobody", "Nobody was reached yet.")
    assert late.reasons[0].text == "pager: no worker has taken it up. It waits since"


def test_a_gap_on_call_is_told_also_where_others_heard(feature: Feature) -> None:
    make_channel(feature.team, name="chat")
    incident = unpaged.by_a_gap(feature, NOW)
    Notification.objects.update(state="delivered", finished_at=NOW, next_attempt_at=None)

    heard = found(incident)
    assert (heard.state, heard.said) == ("told", "Told: chat.")
    said = "primary: nobody was on call, the rotation is empty (step 1 of Nights), at"
    assert [(one.text, one.at) for one in heard.reasons] == [(said, NOW)]


def test_what_was_given_up_says_after_how_many_tries_and_why(feature: Feature) -> None:
    incident = unpaged.by_a_delivery_error(feature, NOW, tries=60)
    Notification.objects.update(
        state="undeliverable", reason="too_many_attempts", finished_at=NOW, next_attempt_at=None
    )

    lost = found(incident, minutes=90)
    assert (lost.state, lost.said) == ("nobody", "Nobody was reached.")
    assert lost.reasons[0].text == (
        "pager: given up after 60 tries, too many attempts: The receiver answered 503."
    )


def test_a_silence_that_outlived_the_incident_is_told_in_the_past(feature: Feature) -> None:
    incident = unpaged.by_a_silence(feature, NOW)
    incidents.resolve_by_rules(incident=incident, reason="recovered", now=NOW + 5 * MINUTE)

    held = found(incident, minutes=10)
    assert (held.state, held.said) == ("held", "Nobody was told.")
    assert held.reasons[0].text.endswith("held its messages back, and it was over before, until")


def silence(team: Team, *, minutes: int = 120) -> Silence:
    return Silence.objects.create(
        team=team,
        matchers=[{"name": "feature", "operator": "=", "value": "support-chat"}],
        reason="Load test",
        author="kim@example.com",
        starts_at=NOW,
        ends_at=NOW + minutes * MINUTE,
    )


SILENCED = "Silence “Load test” of kim@example.com holds its messages back, until"


@pytest.mark.parametrize("minutes_ago", [30, 0.5])
def test_a_silence_over_what_was_told_before_stands_in_the_verdict_and_in_the_list(
    viewer: Client, feature: Feature, minutes_ago: float
) -> None:
    """Also before the clock has noted it, and of one that somebody has."""
    make_channel(feature.team, name="chat")
    incident = unpaged.open_incident(feature, now=NOW - minutes_ago * MINUTE)
    Notification.objects.update(state="delivered", finished_at=NOW, next_attempt_at=None)
    silence(feature.team)

    assert (found(incident).state, found(incident).said) == ("told", "Told: chat.")
    html = page(viewer, incident.get_absolute_url())
    verdict = html[html.index('id="verdict"') : html.index('id="facts"')]
    assert f"{SILENCED} 21 Nov 2026, 22:00 UTC. Silences" in read_aloud(verdict)
    assert 'href="/teams/assistants/silences/"' in verdict
    coming = read_aloud(html[html.index("What comes next") :])
    assert (
        "Nothing is told while silence “Load test” of kim@example.com holds it back. If nobody has acknowledged it by "
        "then, whoever was told hears that it is still open 21 Nov 2026, 22:00 UTC"
    ) in coming
    assert "is told again" not in coming
    assert "silenced until 21 Nov 2026, 22:00 UTC" in read_aloud(page(viewer, "/incidents/"))
    for address in ("/", feature.get_absolute_url()):
        assert "‖ silenced" in read_aloud(page(viewer, address))

    incidents.acknowledge(incident_id=incident.pk, actor="kim@example.com", now=NOW)
    text = read_aloud(page(viewer, incident.get_absolute_url()))
    assert SILENCED in text
    assert "holds it back, until 21 Nov 2026, 22:00 UTC" in text

    incidents.resolve(incident_id=incident.pk, actor="kim@example.com", now=NOW)
    assert SILENCED not in read_aloud(page(viewer, incident.get_absolute_url()))
    assert "silenced" not in read_aloud(page(viewer, "/incidents/"))


def test_a_silence_is_said_also_where_nobody_could_be_told_before_it(feature: Feature) -> None:
    incident = unpaged.open_incident(feature, now=NOW)
    silence(feature.team)

    assert (found(incident).state, found(incident).said) == ("nobody", "Nobody has been told.")
    assert [one.text for one in found(incident).reasons] == [SILENCED, "The team had no channel."]


def test_what_a_silence_lets_go_is_told_as_what_it_is(feature: Feature) -> None:
    """The opening where none was told, and else the policy's step that became due meanwhile."""
    for name in ("chat", "pager"):
        make_channel(feature.team, name=name)
    steps = [{"notify": [{"kind": "channel", "name": name}], "wait_minutes": 5} for name in ("chat", "pager")]
    EscalationPolicy.objects.create(team=feature.team, name="Nights", steps=steps)

    def coming(incident: Incident) -> str:
        hold = holds([incident], now=NOW).get(incident.pk)
        (one,) = tellings(incident, list(incident.events.all()), hold=hold).coming
        return one.text

    first = unpaged.open_incident(feature, now=NOW)
    silence(feature.team)
    assert coming(first).endswith("step 2 of Nights (pager) is taken")
    assert coming(unpaged.open_incident(feature, component="tools", now=NOW)).endswith("it is told")


def test_a_silence_that_was_ended_early_holds_nothing_back_any_more(feature: Feature) -> None:
    incident = unpaged.by_a_silence(feature, NOW)
    end_silence(silence_id=Silence.objects.get().pk, actor="kim@example.com", now=NOW + 5 * MINUTE)

    late = found(incident, minutes=5)
    assert (late.state, late.said) == ("held", "Nobody has been told.")
    assert [(one.text, one.at) for one in late.reasons] == [
        (
            "Silence “Load test” of kim@example.com held its messages back, and was ended before its time.",
            None,
        )
    ]
    (one,) = tellings(incident, list(incident.events.all()), hold=None).coming
    assert one.text == "Nothing holds it back any more. It is told, if it is still open,"


def test_where_every_message_was_given_up_nobody_is_promised_to_be_told_again(feature: Feature) -> None:
    make_channel(feature.team, name="chat")
    incident = unpaged.open_incident(feature, now=NOW)
    Notification.objects.update(
        state="undeliverable", finished_at=NOW, next_attempt_at=None, reason="expired"
    )
    (one,) = tellings(incident, list(incident.events.all()), hold=None).coming
    assert one.text == "No message arrived. It is told anew, while nobody acknowledges it,"


def test_a_page_that_begins_anew_did_not_come_back(viewer: Client, feature: Feature) -> None:
    incident = unpaged.open_incident(feature, now=NOW - 60 * MINUTE)
    finding = Finding(
        severity="page",
        rule="burn_rate 1h/5m",
        reason="burning",
        summary="s",
        cause=None,
        burn_rate=20.0,
    )
    incidents.acknowledge(incident_id=incident.pk, actor="kim@example.com", now=NOW - 50 * MINUTE)
    incident.refresh_from_db()
    incidents.reopen(incident=incident, finding=finding, evidence=["burn_rate 1h/5m"], now=NOW)
    text = read_aloud(page(viewer, incident.get_absolute_url()))
    assert "Began anew as a page: burn rate 1h/5m; nobody has it any more" in text
    incidents.resolve_by_rules(incident=incident, reason="recovered", now=NOW)
    incidents.reopen(incident=incident, finding=finding, evidence=["burn_rate 1h/5m"], now=NOW)
    assert "Came back as a page: burn rate 1h/5m" in read_aloud(page(viewer, incident.get_absolute_url()))


def test_many_reasons_are_cut_to_what_somebody_reads(feature: Feature) -> None:
    for n in range(9):
        make_channel(feature.team, name=f"hook {n}")
    incident = unpaged.open_incident(feature, now=NOW)

    late = found(incident, minutes=5)
    assert len(late.reasons) == 5
    assert late.reasons[-1].text == "5 more reasons stand in the log of notifications."


def test_every_try_stands_there_with_its_answer_and_the_next(viewer: Client, feature: Feature) -> None:
    incident = unpaged.by_a_delivery_error(feature, NOW, tries=3)

    html = page(viewer, incident.get_absolute_url())
    told = html[html.index('id="told"') :]
    text = read_aloud(told)
    for number, minute in ((1, 1), (2, 2), (3, 3)):
        said = f"Try {number}: failed, HTTP 503, 184 ms. The receiver answered 503. 21 Nov 2026, 20:0{minute}:30 UTC"
        assert said in text
    assert "upstream is away" in text
    assert "Next try 21 Nov 2026, 20:07:30 UTC" in text
    # The latest try is read without opening anything.
    assert told.index("Try 3") < told.index("<details") < told.index("Try 1")


class TestCauseTable:
    def test_the_cause_is_said_first_and_what_contributed_nothing_is_left_out(self, feature: Feature) -> None:
        table = cause_table(unpaged.open_incident(feature, now=NOW))
        assert table is not None

        assert (table.cause, table.known_by) == ("tools", "by requests")
        assert table.lead == (
            "takes 1.30\N{NO-BREAK SPACE}s longer in requests over the latency budget: 81.2\N{NO-BREAK SPACE}% of it."
        )
        assert [row.name for row in table.rows] == ["tools", "model"]
        assert [row.is_cause for row in table.rows] == [True, False]
        assert table.others == "2 others contributed nothing measurable: retrieval, overhead."

    def test_a_column_has_one_unit_in_its_head_and_numbers_with_as_many_places(
        self, feature: Feature
    ) -> None:
        table = cause_table(unpaged.open_incident(feature, now=NOW))
        assert table is not None

        assert [column.label for column in table.columns] == [
            "Longer by, ms",
            "Share, %",
            "In time without, %",
            "p99, ms",
            "Allocated, ms",
        ]
        assert [[figure for _, figure in row.cells] for row in table.rows] == [
            ["+1300", "81.2", "92.0", "2104", "800"],
            ["+251", "15.7", "5.0", "1320", "1500"],
        ]

    def test_by_allocations_it_shows_what_is_over_and_counts_the_rest(self, feature: Feature) -> None:
        def of(component: str, allocated_ms: float | None, observed_ms: float | None) -> dict[str, object]:
            known = {"allocated_ms": allocated_ms, "observed_ms": observed_ms}
            return {
                "component": component,
                **known,
                "excess_ms": None,
                "share_ratio": None,
                "but_for_ratio": None,
            }

        found = unpaged.attribution(
            of("tools", 800, 2104.3),
            of("model", 1500, 1320.0),
            of("retrieval", 400, None),
            by="allocations",
            why="few_traces",
        )
        table = cause_table(unpaged.open_incident(feature, now=NOW, attribution=found))
        assert table is not None

        assert (table.cause, table.known_by) == ("tools", "by allocations")
        assert "against its allocation of 800" in table.lead
        assert table.how.startswith(
            "Known from the components' p99 against their allocations: too few requests"
        )
        assert [column.label for column in table.columns] == ["p99, ms", "Allocated, ms", "Over by, ms"]
        assert [[figure for _, figure in row.cells] for row in table.rows] == [["2104", "800", "+1304"]]
        assert table.others == (
            "1 other within its allocation: model. 1 other without a measurement in that time: retrieval."
        )

    def test_where_no_component_is_to_blame_none_is_named(self, feature: Feature) -> None:
        found = unpaged.attribution(unpaged.share(None, 1300.0, 0.9), unpaged.share("tools", -3.0, -0.01))
        incident = unpaged.open_incident(feature, now=NOW, attribution=found, cause=None)
        table = cause_table(incident)
        assert table is not None
        assert (table.cause, [row.name for row in table.rows]) == ("", ["in no measured component"])
        assert table.lead.startswith("Most of what slow requests take longer is in no component")
