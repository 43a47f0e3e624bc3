"""The start page of a feature: a key, commands that work as they stand, and what arrived or was rejected."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from budgets.models import AuditEntry, Feature, IngestKey, Membership, Team
from budgets.presets import PRESETS
from tests.api import Api
from tests.budgets.test_pages import page, signed_in, text_of
from tests.factories import make_feature, make_key, make_team, measurement
from tests.people import make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]

PAGE = "/features/support-chat/start/"


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


@pytest.fixture
def feature(team: Team) -> Feature:
    return make_feature(team=team, slug="support-chat", now=timezone.now() - timedelta(minutes=1))


@pytest.fixture
def admin(team: Team) -> Client:
    return signed_in(make_person("ada@example.com", team=team, role=Membership.Role.ADMIN))


@pytest.fixture
def sending(team: Team) -> Api:
    return Api(team, make_key(team, "ingest", now=timezone.now())[1])


def command_in(html: str, which: str) -> str:
    found = re.search(rf'id="{which}"[^>]*><code>(.*?)</code>', html, re.S)
    assert found is not None, html
    return unescape(found[1])


def arrival(client: Client, address: str = PAGE) -> str:
    """What the region says that a refresh exchanges."""
    return text_of(page(client, address, headers={"HX-Request": "true"})).replace("\N{NO-BREAK SPACE}", " ")


def send(api: Api, of: Feature, duration_ms: float = 1840, **fields: Any) -> int:
    target = {} if "component" in fields else {"milestone": "first_token"}
    item = measurement(of, ended_at=timezone.now(), duration_ms=duration_ms) | target | fields
    return api.post({"measurements": [item]}).status_code


def test_a_key_is_made_there_that_may_only_send_and_is_shown_once(admin: Client, feature: Feature) -> None:
    html = admin.post(PAGE, {"name": "chat backend"}).content.decode()

    key = IngestKey.objects.get()
    token = command_in(html, "new-key")
    assert (key.name, key.scopes, key.team) == ("chat backend", ["ingest"], feature.team)
    assert token.startswith(f"ld_{key.prefix}_")
    assert token in command_in(html, "curl")
    assert token in command_in(html, "python")
    assert AuditEntry.objects.get(action="key.created").actor == "ada@example.com"

    again = page(admin, PAGE)
    assert token not in again
    assert "chat backend" in text_of(again), "a key that is there is named"
    assert "$KEY" in command_in(again, "curl")


def test_without_a_key_an_admin_makes_one_before_there_is_a_command_to_paste(
    admin: Client, feature: Feature
) -> None:
    html = page(admin, PAGE)
    assert "Make the key first" in text_of(html)
    assert 'id="curl"' not in html


def test_a_key_without_a_name_is_refused_at_its_field(admin: Client, feature: Feature) -> None:
    response = admin.post(PAGE, {"name": " "})
    assert response.status_code == 400
    assert "This field is required." in text_of(response.content.decode())
    assert not IngestKey.objects.exists()


def test_who_may_make_no_key_reads_who_may(team: Team, feature: Feature, admin: Client) -> None:
    editor = signed_in(make_person("eve@example.com", team=team, role=Membership.Role.EDITOR))
    assert "ask ada@example.com" in text_of(page(editor, PAGE))
    assert editor.post(PAGE, {"name": "mine"}).status_code == 403


@pytest.mark.parametrize("kind", PRESETS)
def test_the_curl_command_of_every_kind_sends_what_turns_the_page_green(
    kind: str, admin: Client, team: Team, sending: Api
) -> None:
    """Also where a request may take two minutes: it began so long ago, and does not end in the future."""
    document = PRESETS[kind].document() | {"name": "Flow", "team": team.slug}
    assert Api(team, make_key(team)[1]).put("features/flow", document).status_code == 201
    command = command_in(page(admin, "/features/flow/start/"), "curl")
    shown = subprocess.run(
        ["sh", "-c", command.replace("curl ", "printf '%s\\n' ", 1)],
        capture_output=True,
        text=True,
        check=True,
    )

    answer = sending.post(json.loads(shown.stdout.partition("\n-d\n")[2]))

    assert answer.json() == {"accepted": 1, "duplicates": 0, "rejected": []}
    assert re.search(
        r"In time Received [\d.]+ m?s .* – within its latency budget of",
        arrival(admin, "/features/flow/start/"),
    )


@pytest.mark.parametrize(
    ("duration_ms", "fields", "said"),
    [
        (1840, {}, "In time Received 1.84 s first token – within its latency budget of 3 s"),
        (3000.2, {}, "Over Received 3.0002 s first token – over its latency budget of 3 s"),
        (4910, {"milestone": "complete"}, "Received 4.91 s to complete – it has no latency budget"),
        (90, {"status": "timeout"}, "Timeout Received a timeout after 90.0 ms first token – over its"),
        (
            90,
            {"status": "error"},
            "Error Received an error after 90.0 ms first token – an error is never good",
        ),
        (
            401,
            {"component": "retrieval"},
            "Over Received 401 ms of retrieval – over its allocation of 400 ms",
        ),
        (12, {"component": "cache"}, "Received 12.0 ms of cache – it has no allocation"),
    ],
)
def test_what_arrived_is_told_with_how_it_is_judged(
    admin: Client, feature: Feature, sending: Api, duration_ms: float, fields: dict[str, str], said: str
) -> None:
    assert "Waiting for the first measurement …" in arrival(admin)
    assert send(sending, feature, duration_ms, **fields) == 200
    assert said in arrival(admin)


def test_a_whole_request_is_told_by_its_milestone_first_and_leads_to_its_environment(
    admin: Client, feature: Feature, sending: Api
) -> None:
    request = {
        "feature": feature.slug,
        "started_at": timezone.now().timestamp() - 7,
        "environment": "staging",
        "milestones": {"first_token": 1840, "complete": 6210},
        "components": [{"component": name, "duration_ms": 100} for name in ("model", "tools", "a", "b", "c")],
    }
    assert sending.post({"requests": [request]}).status_code == 200

    said = arrival(admin)
    assert "In time Received 1.84 s first token" in said
    assert "6.21 s to complete – it has no latency budget" in said
    assert "and 2 more in the same POST" in said
    assert "/features/support-chat/?milestone=first_token&amp;environment=staging" in page(admin, PAGE)


def test_what_was_rejected_is_told_with_field_and_reason_until_something_arrives(
    admin: Client, feature: Feature, sending: Api
) -> None:
    assert send(sending, feature, duration_ms=-3) == 400
    said = arrival(admin)
    assert "Rejected duration_ms must be ≥ 0, got -3." in said
    assert "measurements[0] negative_duration" in said
    assert '"duration_ms":-3' in said

    misspelt = {"feature": feature.slug, "milestone": "first_token", "started_at": 0, "duration": 1840}
    assert sending.post({"measurements": [misspelt]}).status_code == 400
    assert "duration_ms" in arrival(admin).partition("Rejected ")[2][:100]

    assert send(sending, feature) == 200
    assert "Rejected" not in arrival(admin).replace("page Rejected", "")


def test_a_misspelt_feature_and_a_body_that_is_no_json_are_told_and_another_features_mistakes_are_not(
    admin: Client, team: Team, feature: Feature, sending: Api
) -> None:
    other = make_feature(team=team, slug="inline-help", now=timezone.now())
    send(sending, other, duration_ms=-3)
    assert "Waiting for the first measurement" in arrival(admin)

    send(sending, feature, feature="suport-chat")
    assert "unknown_feature" in arrival(admin)

    sending.post(b"{")
    assert "malformed_json" in arrival(admin)
    assert "Waiting" not in arrival(admin)


def test_rejected_text_is_shown_as_text(admin: Client, feature: Feature, sending: Api) -> None:
    send(sending, feature, component="<img src=x onerror=alert(1)>", milestone=None, duration_ms=-1)
    html = page(admin, PAGE)
    assert "&lt;img src=x" in html
    assert "<img" not in html


def test_a_feature_whose_last_measurements_lie_further_back_is_not_said_to_wait(
    admin: Client, team: Team, feature: Feature, sending: Api
) -> None:
    other = make_feature(team=team, slug="inline-help", now=timezone.now())
    send(sending, feature)
    for _ in range(20):
        send(sending, other)
    assert "Measured before" in arrival(admin)


def test_the_page_asks_as_often_for_one_measurement_as_for_many(
    admin: Client, feature: Feature, sending: Api
) -> None:
    counts = []
    for batches in (1, 10):
        for _ in range(batches):
            send(sending, feature)
            send(sending, feature, component="model")
        with CaptureQueriesContext(connection) as captured:
            arrival(admin)
        counts.append(len(captured))
    assert counts[0] == counts[1]


def test_the_commands_have_the_address_at_which_the_page_is_reached(
    admin: Client, feature: Feature, sending: Api, settings: LazySettings
) -> None:
    settings.ALLOWED_HOSTS = ["latency.example.com", "10.1.2.3"]
    settings.PUBLIC_URL = "https://latency.example.com"

    behind_a_proxy = page(admin, PAGE, headers={"Host": "latency.example.com"})
    assert "https://latency.example.com/api/v1/measurements" in command_in(behind_a_proxy, "curl")
    assert '"https://latency.example.com/api/v1/measurements"' in command_in(behind_a_proxy, "python")

    directly = page(admin, PAGE, headers={"Host": "10.1.2.3:8000"})
    assert "http://10.1.2.3:8000/api/v1/measurements" in command_in(directly, "curl")


def test_an_archived_feature_has_nothing_to_start(admin: Client, feature: Feature) -> None:
    Feature.objects.update(archived_at=timezone.now())
    assert admin.get(PAGE)["Location"] == "/features/support-chat/"
