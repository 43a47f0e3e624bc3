"""The pages about what a team's services sent: its batches, discarding them, and what was rejected."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from django.test import Client
from django.utils import timezone

from budgets import ingest, rejections
from budgets.errors import Refusal
from budgets.models import AuditEntry, Batch, IngestKey, Membership, Team
from tests.factories import make_feature, make_key, make_team, measurement
from tests.people import make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


def client_of(team: Team, role: str = Membership.Role.ADMIN) -> Client:
    client = Client()
    client.force_login(make_person(f"{role}-{team.slug}@example.com", team=team, role=role))
    return client


def send(team: Team, count: int = 1) -> tuple[IngestKey, list[Batch]]:
    feature = make_feature(team=team)
    key, _ = make_key(team)
    now = timezone.now()
    ids = []
    for _ in range(count):
        items = [measurement(feature, ended_at=now, duration_ms=900, milestone="first_token")]
        answer = ingest.accept(key=key, body=msgspec.json.encode({"measurements": items}), now=now)
        ids.append(answer.batch_id)
    return key, list(Batch.objects.filter(pk__in=ids).order_by("pk"))


def test_batches_are_listed_newest_first_and_narrowed_by_key_state_and_range(team: Team) -> None:
    key, (older, newer) = send(team, 2)
    _, (others,) = send(team)
    client = client_of(team, Membership.Role.VIEWER)
    Batch.objects.filter(pk=older.pk).update(received_at=timezone.now() - timedelta(hours=2))

    def listed(**query: object) -> list[int]:
        return [batch.pk for batch in client.get("/teams/assistants/batches/", query).context["page"]]

    assert listed() == [others.pk, newer.pk, older.pk]
    assert listed(key=key.prefix) == [newer.pk, older.pk]
    hour_ago = (timezone.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S")
    assert listed(key=key.prefix, received_from=hour_ago) == [newer.pk]
    assert listed(received_to=hour_ago) == [older.pk]
    assert listed(state="rolled_up") == []
    assert listed(state="nonsense") == [others.pk, newer.pk, older.pk]


def test_the_list_takes_as_many_queries_for_fifty_batches_as_for_one(
    team: Team, django_assert_max_num_queries: pytest.FixtureRequest
) -> None:
    client = client_of(team)
    send(team)
    with django_assert_max_num_queries(10) as few:  # type: ignore[operator]
        client.get("/teams/assistants/batches/")
    send(team, 40)
    with django_assert_max_num_queries(len(few)):  # type: ignore[operator]
        client.get("/teams/assistants/batches/")


def test_an_admin_sees_what_would_go_says_why_and_discards_it(team: Team) -> None:
    _, (batch,) = send(team)
    client = client_of(team)
    address = f"/teams/assistants/batches/discard/?batch={batch.pk}"

    asked = client.get(address)
    assert "1 measurement that ended" in " ".join(asked.content.decode().split())

    kept = client.post(address, {"reason": ""})
    assert kept.status_code == 400
    batch.refresh_from_db()
    assert batch.state == "pending"

    done = client.post(address, {"reason": "seconds as ms"}, follow=True)
    assert "Discarded 1 batch with 1 measurement." in done.content.decode()
    batch.refresh_from_db()
    assert batch.state == "discarding"
    assert AuditEntry.objects.get(action="batches.discarded").actor == "admin-assistants@example.com"


def test_a_keys_range_is_discarded_whole_and_nothing_beside_it(team: Team) -> None:
    key, batches = send(team, 3)
    _, (others,) = send(team)
    now = timezone.now()
    start, end = ((now + timedelta(hours=n)).strftime("%Y-%m-%dT%H:%M:%S") for n in (-1, 1))
    query = f"key={key.prefix}&received_from={start}&received_to={end}"

    client_of(team).post(f"/teams/assistants/batches/discard/?{query}", {"reason": "a load test"})

    assert {batch.state for batch in Batch.objects.filter(pk__in=[one.pk for one in batches])} == {
        "discarding"
    }
    others.refresh_from_db()
    assert others.state == "pending"


@pytest.mark.parametrize("query", ["", "key=abcdefgh", "batch=0", "batch=x", "state=pending"])
def test_nothing_is_offered_to_discard_where_it_is_not_said_what(team: Team, query: str) -> None:
    send(team)
    response = client_of(team).post(
        f"/teams/assistants/batches/discard/?{query}", {"reason": "x"}, follow=True
    )
    assert "Choose what to discard" in response.content.decode()
    assert not Batch.objects.exclude(state="pending").exists()


def test_another_teams_batch_cannot_be_discarded(team: Team) -> None:
    _, (batch,) = send(make_team(slug="others"))
    response = client_of(team).post(f"/teams/assistants/batches/discard/?batch={batch.pk}", {"reason": "x"})
    assert response.status_code == 400
    batch.refresh_from_db()
    assert batch.state == "pending"


def test_rejected_payloads_show_field_reason_and_item_key_by_key(team: Team) -> None:
    key, _ = make_key(team)
    other, _ = make_key(team)
    now = timezone.now()
    body = b'{"measurements": [{"feature": "<img onerror>"}]}'
    reasons = {
        "rejected": [
            {"index": 0, "in": "measurements", "code": "unknown_feature", "message": "no <b>feature</b>"}
        ]
    }
    rejections.keep_rejected_items(key, body, reasons, status=200, now=now)
    rejections.keep_refusal(other, Refusal("malformed_json", "not JSON"), now=now)
    client = client_of(team, Membership.Role.VIEWER)

    everything = client.get("/teams/assistants/rejected/").content.decode()
    assert "unknown_feature" in everything
    assert "&lt;img onerror&gt;" in everything
    assert "<b>feature</b>" not in everything
    assert "malformed_json" in everything

    one = client.get("/teams/assistants/rejected/", {"key": other.prefix}).content.decode()
    assert "malformed_json" in one
    assert "unknown_feature" not in one
