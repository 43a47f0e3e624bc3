"""Incidents and channels over HTTP, exactly as the contract says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from alerts.channel_settings import MAX_CHANNELS, delete_channel
from alerts.models import Channel, Incident, IncidentEvent, Notification
from budgets.models import AuditEntry, Feature
from tests.alerts.scenes import burn, incidents_of, look, overrun
from tests.api import Api, error_code
from tests.factories import NOW, SECRET, make_channel, make_feature, make_key, make_team
from tests.people import make_person

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _public_url(settings: LazySettings) -> None:
    settings.PUBLIC_URL = "https://latency.example.com"
    settings.OUTBOUND_ALLOWED_CIDRS = ["127.0.0.1/32"]


@pytest.fixture
def feature(api: Api) -> Feature:
    return make_feature(team=api.team, slug="support-chat")


@pytest.fixture
def incident(feature: Feature) -> Incident:
    make_channel(feature.team)
    burn(feature, NOW)
    overrun(feature, NOW)
    look(feature, NOW)
    return Incident.objects.get()


def key_with(team, *scopes: str) -> str:
    return make_key(team, *scopes)[1]


# -- Reading ----------------------------------------------------------------------------------------


def test_an_incident_reads_as_its_message_does_and_tells_how_far_it_has_come(
    api: Api, incident: Incident
) -> None:
    answer = api.get(f"incidents/{incident.pk}")
    assert answer.status_code == 200
    document = answer.json()
    message = Notification.objects.get().data["incident"]
    assert document == {
        **message,
        "state": "open",
        "acknowledged_at": None,
        "resolved_at": None,
        "events": [
            {
                "kind": "opened",
                "at": "2026-11-21T20:00:30Z",
                "actor": None,
                "reason": "burning",
                "note": "",
                "details": incident.events.steps().get().details,
            }
        ],
        "events_left_out": 0,
        "told_left_out": 0,
        "reopened_at": None,
        "is_flapping": False,
        "attribution": incident.attribution,
        "changes": [],
        "told": [
            {
                "at": "2026-11-21T20:00:30Z",
                "event": "incident.opened",
                "told": [
                    {
                        "channel": Channel.objects.get().name,
                        "because": "a channel of the team, takes tickets and pages",
                    }
                ],
                "left_out": [],
                "held_by": None,
                "held_until": None,
            }
        ],
    }
    assert {key: document[key] for key in ("feature", "environment", "milestone", "component")} == {
        "feature": "support-chat",
        "environment": "production",
        "milestone": "first_token",
        "component": None,
    }
    assert b'"allocated_ms": 800,' in answer.content
    assert document["severity"] == "page"
    assert document["cause"].keys() == {"component", "allocated_ms", "observed_ms"}
    assert document["runbook_url"] is None
    assert document["url"] == f"https://latency.example.com/incidents/{incident.pk}/"


def test_a_list_has_the_first_and_the_latest_of_hundreds_of_steps_and_one_incident_has_all(
    api: Api, incident: Incident
) -> None:
    IncidentEvent.objects.bulk_create(
        IncidentEvent(incident=incident, kind=kind, at=NOW, reason=f"step {n}")
        for kind in ("evidence", "told")
        for n in range(100)
    )
    (listed,) = api.get("incidents").json()["items"]
    whole = api.get(f"incidents/{incident.pk}").json()
    for name in ("events", "told"):
        assert len(whole[name]) == 101
        assert whole[f"{name}_left_out"] == 0
        assert listed[name] == [whole[name][0], *whole[name][-20:]]
        assert listed[f"{name}_left_out"] == 80


def test_a_components_own_incident_has_no_milestone(api: Api, feature: Feature) -> None:
    overrun(feature, NOW)
    look(feature, NOW)
    (document,) = api.get("incidents").json()["items"]
    assert (document["milestone"], document["component"]) == (None, "tools")
    assert (document["severity"], document["burn_rate"]) == ("ticket", None)


def test_the_list_is_newest_first_and_narrows_by_state_and_feature(api: Api, feature: Feature) -> None:
    other = make_feature(team=api.team, slug="search-help")
    for one in (feature, other):
        overrun(one, NOW)
        look(one, NOW)
    first, second = (incidents_of(one)[0].pk for one in (feature, other))
    api.post(b"", path=f"incidents/{second}/resolve")

    def listed(**query: str) -> list[int]:
        return [item["id"] for item in api.get("incidents", **query).json()["items"]]

    assert listed() == [second, first]
    assert listed(state="open") == [first]
    assert listed(state="resolved") == [second]
    assert listed(feature="search-help") == [second]
    assert listed(feature="search-help", state="open") == []


def test_a_long_list_comes_in_pages_that_share_nothing(api: Api, feature: Feature) -> None:
    for number in range(120):
        Incident.objects.create(
            feature=feature,
            environment=f"environment {number}",
            milestone="first_token",
            severity="ticket",
            rule="burn_rate 1d/2h",
            summary="It burns.",
            opened_at=NOW + timedelta(seconds=number),
        )
    seen: list[int] = []
    query: dict[str, Any] = {}
    for _ in range(3):
        page = api.get("incidents", **query).json()
        seen += [item["id"] for item in page["items"]]
        query = {"cursor": page["next_cursor"]}
    assert page["next_cursor"] is None
    assert seen == [one.pk for one in reversed(incidents_of(feature))]


def test_a_page_of_the_list_takes_the_same_statements_however_many_it_holds(
    api: Api, feature: Feature
) -> None:
    def statements() -> int:
        with CaptureQueriesContext(connection) as queries:
            api.get("incidents")
        return len(queries)

    api.get("incidents")
    overrun(feature, NOW)
    look(feature, NOW)
    one = statements()
    for component in ("model", "retrieval"):
        overrun(feature, NOW, component=component)
    look(feature, NOW)
    assert statements() == one


# -- Steps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "state", "at"),
    [("acknowledge", "acknowledged", "acknowledged_at"), ("resolve", "resolved", "resolved_at")],
)
def test_a_step_answers_with_the_incident_and_is_told_once(
    api: Api, incident: Incident, verb: str, state: str, at: str
) -> None:
    path = f"incidents/{incident.pk}/{verb}"
    answer = api.post({"note": "Rolled back v412"}, path=path)
    assert answer.status_code == 200
    document = answer.json()
    assert document["state"] == state
    assert document[at] is not None
    assert document["events"][-1]["note"] == "Rolled back v412"
    assert document["events"][-1]["actor"].startswith("key ")
    again = api.post(b"", path=path)
    assert again.status_code == 200
    assert again.json() == document
    events = Notification.objects.order_by("pk").values_list("event", flat=True)
    assert list(events) == ["incident.opened", f"incident.{state}"]


@pytest.mark.parametrize("body", [b"", b"{}", b" \n", b'{"note": ""}'])
def test_the_note_may_be_left_out(api: Api, incident: Incident, body: bytes) -> None:
    assert api.post(body, path=f"incidents/{incident.pk}/acknowledge").status_code == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "malformed_json"),
        (b'{"note": NaN}', "malformed_json"),
        (b"\xff\xfe", "malformed_json"),
        (b"[" * 10_000, "malformed_json"),
        (b"[]", "invalid_note"),
        (b'"done"', "invalid_note"),
        (b'{"note": 7}', "invalid_note"),
        (b'{"note": null}', "invalid_note"),
        (b'{"note": "a\\u0000b"}', "invalid_note"),
        (b'{"comment": "done"}', "invalid_note"),
        (b'{"note": "' + b"a" * 5001 + b'"}', "invalid_note"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_body_that_is_no_note_changes_nothing(api: Api, incident: Incident, body: bytes, code: str) -> None:
    answer = api.post(body, path=f"incidents/{incident.pk}/resolve")
    assert (answer.status_code, error_code(answer)) == (400, code)
    incident.refresh_from_db()
    assert incident.state == "open"


def test_a_note_is_kept_and_told_to_nobody(api: Api, incident: Incident) -> None:
    before = Notification.objects.count()
    answer = api.post({"note": "Rolling back v412"}, path=f"incidents/{incident.pk}/note")
    assert answer.status_code == 200
    last = answer.json()["events"][-1]
    assert (last["kind"], last["note"]) == ("noted", "Rolling back v412")
    assert Notification.objects.count() == before


@pytest.mark.parametrize("body", [b"", b"{}", b'{"note": " "}'])
def test_a_note_without_words_is_refused(api: Api, incident: Incident, body: bytes) -> None:
    answer = api.post(body, path=f"incidents/{incident.pk}/note")
    assert (answer.status_code, error_code(answer)) == (400, "invalid_note")
    assert not incident.events.filter(kind="noted").exists()


# -- Who may ----------------------------------------------------------------------------------------


def paths(incident: Incident) -> list[tuple[str, str, str]]:
    """(method, path, scope it takes)."""
    return [
        ("get", "incidents", "read"),
        ("get", f"incidents/{incident.pk}", "read"),
        ("post", f"incidents/{incident.pk}/acknowledge", "write"),
        ("post", f"incidents/{incident.pk}/resolve", "write"),
        ("post", f"incidents/{incident.pk}/note", "write"),
        ("put", "channels/pager", "write"),
    ]


def call(api: Api, method: str, path: str) -> Any:
    if method == "get":
        return api.get(path)
    if method == "put":
        return api.put(path, {"kind": "webhook", "url": "http://127.0.0.1:9/hook"})
    return api.post({"note": "still on it"}, path=path)


def test_an_incident_of_another_team_does_not_exist(api: Api, incident: Incident) -> None:
    team = make_team()
    outsider = Api(team, key_with(team))
    for method, path, _ in paths(incident)[1:5]:
        answer = call(outsider, method, path)
        assert (answer.status_code, error_code(answer)) == (404, "unknown_incident"), path
    assert outsider.get("incidents").json() == {"items": [], "next_cursor": None}
    answer = outsider.get("incidents", feature="support-chat")
    assert (answer.status_code, error_code(answer)) == (404, "unknown_feature")


def test_each_operation_takes_a_key_with_its_scope(api: Api, incident: Incident) -> None:
    for method, path, scope in paths(incident):
        others = [one for one in ("ingest", "read", "write") if one != scope]
        answer = call(api.with_token(key_with(api.team, *others)), method, path)
        assert (answer.status_code, error_code(answer)) == (403, "missing_scope"), path
        assert call(api.with_token(None), method, path).status_code == 401, path
        assert call(api.with_token(key_with(api.team, scope)), method, path).status_code in (200, 201), path


@pytest.mark.parametrize("incident_id", ["0", "999999", "9" * 40, "-1", "seven", "1.5", "٧", "%00"])
def test_an_incident_that_is_not_there_is_not_found(api: Api, feature: Feature, incident_id: str) -> None:
    answer = api.get(f"incidents/{incident_id}")
    assert answer.status_code == 404
    error_code(answer)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"state": "asleep"}, 400, "invalid_state"),
        ({"state": ""}, 400, "invalid_state"),
        ({"feature": "unheard-of"}, 404, "unknown_feature"),
        ({"feature": "\0"}, 404, "unknown_feature"),
        ({"cursor": "!"}, 400, "invalid_cursor"),
    ],
)
def test_a_query_that_cannot_be_is_refused(
    api: Api, feature: Feature, query: dict[str, str], status: int, code: str
) -> None:
    answer = api.get("incidents", **query)
    assert (answer.status_code, error_code(answer)) == (status, code)


# -- Channels ---------------------------------------------------------------------------------------

WEBHOOK = {"kind": "webhook", "url": "https://93.184.215.14/hook", "secret": SECRET}


def test_a_channel_is_made_and_then_changed(api: Api) -> None:
    made = api.put("channels/pager", WEBHOOK)
    assert made.status_code == 201
    assert made.json() == {
        "name": "pager",
        "kind": "webhook",
        "leads_to": "Webhook to 93.184.215.14",
        "url": WEBHOOK["url"],
        "min_severity": "ticket",
        "enabled": True,
    }
    changed = api.put("channels/pager", {**WEBHOOK, "min_severity": "page"})
    assert (changed.status_code, changed.json()["min_severity"]) == (200, "page")
    assert api.put("channels/pager", {**WEBHOOK, "enabled": False}).json()["enabled"] is False
    channel = Channel.objects.get()
    assert (channel.team, channel.config) == (api.team, {"url": WEBHOOK["url"], "secret": SECRET})


def test_a_secret_that_is_left_out_is_made_and_shown_once(api: Api) -> None:
    document = {"kind": "webhook", "url": WEBHOOK["url"]}
    shown = api.put("channels/pager", document).json()["secret"]
    assert shown.startswith("whsec_")
    assert "secret" not in api.put("channels/pager", document).json()
    assert Channel.objects.get().config["secret"] == shown


def test_two_teams_may_each_have_a_channel_of_one_name(api: Api) -> None:
    team = make_team()
    assert api.put("channels/pager", WEBHOOK).status_code == 201
    assert Api(team, key_with(team)).put("channels/pager", WEBHOOK).status_code == 201


def test_an_empty_text_removes_a_secret_that_is_optional_and_no_other(api: Api) -> None:
    document = {"kind": "alertmanager", "url": "https://93.184.215.14/", "authorization": "Bearer am-token"}
    assert api.put("channels/am", document).status_code == 201
    assert api.put("channels/am", {**document, "authorization": None}).status_code == 200
    assert Channel.objects.get().config["authorization"] == "Bearer am-token"
    assert api.put("channels/am", {**document, "authorization": ""}).status_code == 200
    assert Channel.objects.get().config == {"url": "https://93.184.215.14/"}
    slack = {"kind": "slack", "url": ""}
    refused = api.put("channels/chat", slack)
    assert (refused.status_code, list(refused.json()["error"]["fields"])) == (400, ["url"])


def test_an_email_channel_is_made_and_then_changed(api: Api) -> None:
    made = api.put("channels/mail", {"kind": "email", "to": [" oncall@example.com"]})
    assert made.status_code == 201
    assert made.json() == {
        "name": "mail",
        "kind": "email",
        "leads_to": "Email to oncall@example.com",
        "to": ["oncall@example.com"],
        "min_severity": "ticket",
        "enabled": True,
    }
    document = {"kind": "email", "to": ["oncall@example.com", "kim@example.com"], "min_severity": "page"}
    changed = api.put("channels/mail", document)
    assert changed.status_code == 200
    assert (changed.json()["to"], changed.json()["min_severity"]) == (document["to"], "page")


def test_a_channel_may_become_another_kind(api: Api) -> None:
    api.put("channels/pager", WEBHOOK)
    assert api.put("channels/pager", {"kind": "email", "to": ["kim@example.com"]}).status_code == 200
    assert Channel.objects.get().config == {"to": ["kim@example.com"]}
    back = api.put("channels/pager", {"kind": "webhook", "url": WEBHOOK["url"]})
    assert back.json()["secret"] != SECRET


def test_the_name_of_a_deleted_channel_is_free(api: Api) -> None:
    api.put("channels/pager", WEBHOOK)
    delete_channel(channel_id=Channel.objects.get().pk, actor="kim@example.com", now=NOW)
    assert api.put("channels/pager", WEBHOOK).status_code == 201
    assert Channel.objects.kept().count() == 1


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        ({"kind": "email"}, ["to"]),
        ({"kind": "email", "to": []}, ["to"]),
        ({"kind": "email", "to": "kim@example.com"}, ["to"]),
        ({"kind": "email", "to": ["kim"]}, ["to"]),
        ({"kind": "email", "to": ["kim@example.com\nBcc: a@example.com"]}, ["to"]),
        ({"kind": "email", "to": ["kim@example.com"], "url": "https://example.com"}, ["url"]),
        ({"kind": "email", "to": ["kim@example.com"], "secret": SECRET}, ["secret"]),
    ],
    ids=str,
)
def test_an_email_channel_that_cannot_be_is_refused(
    api: Api, document: dict[str, Any], fields: list[str]
) -> None:
    answer = api.put("channels/mail", document)
    assert (answer.status_code, error_code(answer)) == (400, "invalid_channel")
    assert list(answer.json()["error"]["fields"]) == fields
    assert Channel.objects.count() == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "pigeon"}, "kind"),
        ({"kind": None}, "kind"),
        ({"kind": ["webhook"]}, "kind"),
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "http://10.0.0.1/hook"}, "url"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "url"),
        ({"url": 7}, "url"),
        ({"url": "https://example.com/\0"}, "url"),
        ({"secret": "hunter2"}, "secret"),
        ({"secret": 7}, "secret"),
        ({"min_severity": "disaster"}, "min_severity"),
        ({"min_severity": ["page"]}, "min_severity"),
        ({"enabled": "yes"}, "enabled"),
        ({"colour": "red"}, "colour"),
    ],
    ids=str,
)
def test_a_channel_that_cannot_be_is_refused_and_nothing_is_saved(
    api: Api, change: dict[str, Any], field: str
) -> None:
    answer = api.put("channels/pager", {**WEBHOOK, **change})
    assert (answer.status_code, error_code(answer)) == (400, "invalid_channel")
    assert list(answer.json()["error"]["fields"]) == [field]
    assert Channel.objects.count() == 0


@pytest.mark.parametrize(
    ("body", "code"), [(b"{", "malformed_json"), (b"[]", "invalid_document"), (b"", "malformed_json")]
)
def test_a_body_that_is_no_channel_is_refused(api: Api, body: bytes, code: str) -> None:
    answer = api.put("channels/pager", body)
    assert (answer.status_code, error_code(answer)) == (400, code)


def test_a_name_that_is_too_long_is_refused(api: Api) -> None:
    answer = api.put(f"channels/{'a' * 201}", WEBHOOK)
    assert (answer.status_code, error_code(answer)) == (400, "invalid_channel")


def test_a_team_has_only_so_many_channels_and_those_it_has_can_be_changed(api: Api) -> None:
    config = {"to": ["kim@example.com"]}
    Channel.objects.bulk_create(
        Channel(team=api.team, name=f"mail {number}", kind="email", config=config)
        for number in range(MAX_CHANNELS - 1)
    )
    assert api.put("channels/last", WEBHOOK).status_code == 201
    answer = api.put("channels/more", WEBHOOK)
    assert (answer.status_code, error_code(answer)) == (400, "invalid_channel")
    assert "delete one first" in answer.json()["error"]["fields"]["name"][0]
    assert api.put("channels/last", {**WEBHOOK, "min_severity": "page"}).status_code == 200
    assert api.delete("channels/last").status_code in (200, 204)
    assert api.put("channels/more", WEBHOOK).status_code == 201


# -- Channels to services, and whose they are ---------------------------------------------------------

SLACK = {"kind": "slack", "url": "https://93.184.215.14/services/T0/B0/slack-token"}
PAGERDUTY = {"kind": "pagerduty", "routing_key": "R0123456789abcdefghijklmnopqrstu", "region": "eu"}


def test_what_is_secret_of_a_channel_is_told_to_nobody_again(api: Api) -> None:
    answers = [
        api.put("channels/chat", SLACK),
        api.put("channels/pager", PAGERDUTY),
        api.put("channels/hook", {**WEBHOOK, "url": "https://93.184.215.14/hook-token"}),
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    said = [answers[0].json(), answers[1].json(), api.get("channels").json(), api.get("channels/hook").json()]
    for hidden in ("slack-token", PAGERDUTY["routing_key"], "hook-token", SECRET):
        assert hidden not in str(said)
    assert api.get("channels/pager").json() == {
        "name": "pager",
        "kind": "pagerduty",
        "leads_to": "PagerDuty, Europe",
        "region": "eu",
        "min_severity": "ticket",
        "enabled": True,
    }


def test_the_channels_are_listed_by_name_a_page_at_a_time(api: Api) -> None:
    for number in range(52):
        make_channel(api.team, name=f"channel {number:02}")
    make_channel(make_team())
    first = api.get("channels").json()
    assert len(first["items"]) == 50
    rest = api.get(f"channels?cursor={first['next_cursor']}").json()
    assert [one["name"] for one in rest["items"]] == ["channel 50", "channel 51"]
    assert rest["next_cursor"] is None


def test_what_is_left_out_of_a_change_stays_secret_and_as_it_is(api: Api) -> None:
    api.put("channels/chat", SLACK)
    api.put("channels/pager", PAGERDUTY)
    assert api.put("channels/chat", {"kind": "slack", "min_severity": "page"}).status_code == 200
    assert api.put("channels/pager", {"kind": "pagerduty", "region": "us"}).status_code == 200
    assert Channel.objects.get(name="chat").config == {"url": SLACK["url"]}
    assert Channel.objects.get(name="pager").config == {
        "routing_key": PAGERDUTY["routing_key"],
        "region": "us",
    }
    missing = api.put("channels/new", {"kind": "pagerduty"})
    assert (missing.status_code, list(missing.json()["error"]["fields"])) == (400, ["routing_key"])


def test_an_answer_may_come_back_as_a_change_that_changes_nothing(api: Api) -> None:
    api.put("channels/pager", {**PAGERDUTY, "min_severity": "page", "enabled": False})
    shown = api.get("channels/pager").json()
    before = Channel.objects.values().get()
    assert api.put("channels/pager", shown).json() == shown
    assert Channel.objects.values().get() == before


def test_a_secret_is_not_sent_to_another_address_unless_it_is_given_again(api: Api) -> None:
    """Otherwise whoever may edit a channel has its secret posted to themselves."""
    api.put("channels/pager", PAGERDUTY)
    thief = {"kind": "pagerduty", "api_url": "https://93.184.215.15/collect"}
    answer = api.put("channels/pager", thief)
    assert (answer.status_code, error_code(answer)) == (400, "invalid_channel")
    assert "Give it again" in answer.json()["error"]["fields"]["routing_key"][0]
    assert "api_url" not in Channel.objects.get().config
    assert api.put("channels/pager", {**PAGERDUTY, **thief}).status_code == 200


def test_a_channel_is_deleted_once(api: Api) -> None:
    api.put("channels/pager", PAGERDUTY)
    answer = api.delete("channels/pager")
    assert (answer.status_code, answer.content) == (204, b"")
    for again in (api.delete("channels/pager"), api.get("channels/pager")):
        assert (again.status_code, error_code(again)) == (404, "unknown_channel")
    deleted = Channel.objects.get()
    assert (deleted.deleted_at is not None, deleted.config) == (True, {"region": "eu"})
    assert AuditEntry.objects.filter(action="channel.deleted", subject="pager").exists()


def test_another_teams_channel_is_not_found(api: Api) -> None:
    other = make_channel(make_team())
    for answer in (api.get(f"channels/{other.name}"), api.delete(f"channels/{other.name}")):
        assert (answer.status_code, error_code(answer)) == (404, "unknown_channel")
    other.refresh_from_db()
    assert other.deleted_at is None


def test_a_channel_may_be_a_members_own(api: Api) -> None:
    kim = make_person("kim@example.com", team=api.team)
    own = {**PAGERDUTY, "owner": "Kim@example.com"}
    assert api.put("channels/kim", own).json()["owner"] == "kim@example.com"
    assert Channel.objects.get().owner == kim
    assert api.get("channels/kim").json()["owner"] == "kim@example.com"
    assert "owner" not in api.put("channels/kim", {"kind": "pagerduty"}).json()
    assert Channel.objects.get().owner is None


@pytest.mark.parametrize("owner", ["otto@example.com", "nobody@example.com", 7, "a\x00b"])
def test_an_owner_who_is_not_in_the_team_is_refused(api: Api, owner: Any) -> None:
    make_person("otto@example.com", team=make_team())
    answer = api.put("channels/x", {**PAGERDUTY, "owner": owner})
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["owner"])
    assert not Channel.objects.exists()
