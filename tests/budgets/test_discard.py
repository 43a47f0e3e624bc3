"""Wrong data goes: discarded batches count nowhere, and the rollups are what the rest of the raw rows gives."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from pytest_django import Settings

from budgets import discard, ingest, partitions, retention, rollups
from budgets.errors import Refusal
from budgets.locks import NAMESPACE, ROLL_UP
from budgets.models import AuditEntry, Batch, IngestKey, Measurement, Span
from budgets.rebuild import rebuild
from budgets.status import get_feature_status
from tests.concurrency import held, is_waiting
from tests.factories import NOW, make_feature, make_key, make_team, measurement, request_item

pytestmark = pytest.mark.django_db

LATER = NOW + timedelta(minutes=1)


def post(key: IngestKey, *items: dict[str, Any], requests: tuple[dict[str, Any], ...] = ()) -> Batch:
    body = msgspec.json.encode({"measurements": list(items), "requests": list(requests)})
    answer = ingest.accept(key=key, body=body, now=NOW)
    assert answer.status == 200, answer.document
    return Batch.objects.get(pk=answer.batch_id)


def roll_up() -> None:
    while rollups.roll_up(now=NOW).is_more:
        pass


def differences() -> list[str]:
    return rebuild(
        start=NOW - timedelta(days=2), end=NOW + timedelta(hours=1), now=LATER, only_check=True
    ).differences


def total(feature: Any) -> int:
    return get_feature_status(feature, milestone="first_token", now=LATER).counts.total


def in_seconds_by_mistake(feature: Any) -> dict[str, Any]:
    return measurement(
        feature, ended_at=NOW - timedelta(minutes=5), duration_ms=900_000, milestone="first_token"
    )


def sound(feature: Any, minutes_ago: int = 5) -> dict[str, Any]:
    return measurement(
        feature, ended_at=NOW - timedelta(minutes=minutes_ago), duration_ms=900, milestone="first_token"
    )


def test_a_discarded_batch_is_gone_from_raw_rows_rollups_and_status() -> None:
    feature = make_feature()
    key, _ = make_key(feature.team)
    post(key, sound(feature), sound(feature, 600))
    wrong = post(key, in_seconds_by_mistake(feature), in_seconds_by_mistake(feature))
    roll_up()
    rollups.compact(now=LATER)
    assert total(feature) == 4

    done = discard.discard(
        team=feature.team,
        batches=discard.discardable(feature.team, batch_ids=[wrong.pk]),
        reason="seconds as ms",
        actor="ada@example.com",
        now=LATER,
    )
    features = discard.finish_discards(now=LATER)

    assert (done.batches, done.measurements, done.feature_slugs) == (1, 2, [feature.slug])
    assert features == {feature.pk}
    status = get_feature_status(feature, milestone="first_token", now=LATER)
    assert (status.counts.total, status.counts.over) == (2, 0)
    assert not Measurement.objects.filter(batch=wrong).exists()
    wrong.refresh_from_db()
    assert (wrong.state, wrong.discarded_at) == ("discarded", LATER)
    assert differences() == []


def test_a_batch_that_waits_is_never_rolled_up_once_discarded() -> None:
    feature = make_feature()
    key, _ = make_key(feature.team)
    wrong = post(key, in_seconds_by_mistake(feature))

    discard.discard(
        team=feature.team,
        batches=discard.discardable(feature.team, batch_ids=[wrong.pk]),
        reason="x",
        actor="a",
        now=LATER,
    )
    roll_up()
    assert total(feature) == 0
    assert differences() == []

    discard.finish_discards(now=LATER)
    assert total(feature) == 0
    assert not Measurement.objects.exists()


def test_a_batch_that_waits_takes_nothing_with_it_that_only_rollups_still_know(settings: Settings) -> None:
    feature = make_feature()
    key, _ = make_key(feature.team)
    post(key, sound(feature, 6 * 24 * 60))
    roll_up()
    rollups.compact(now=LATER)
    # The raw measurements went by a retention that was shorter than it is now.
    settings.RAW_RETENTION_DAYS = 3
    partitions.drop_expired(LATER)
    settings.RAW_RETENTION_DAYS = 7
    partitions.make_partitions("budgets_measurement", [(NOW - timedelta(days=6)).date()])
    late = post(key, sound(feature, 6 * 24 * 60))

    discard.discard(
        team=feature.team,
        batches=discard.discardable(feature.team, batch_ids=[late.pk]),
        reason="x",
        actor="a",
        now=LATER,
    )
    discard.finish_discards(now=LATER)

    assert not Measurement.objects.exists()
    assert total(feature) == 1


def test_interrupted_after_any_hour_it_goes_on_where_it_was() -> None:
    feature = make_feature()
    key, _ = make_key(feature.team)
    post(key, *[sound(feature, minutes) for minutes in (5, 65, 125, 185)])
    wrong = post(key, *[sound(feature, minutes) for minutes in (5, 65, 125)])
    roll_up()
    rollups.compact(now=LATER)

    discard.discard(
        team=feature.team,
        batches=discard.discardable(feature.team, batch_ids=[wrong.pk]),
        reason="x",
        actor="a",
        now=LATER,
    )
    for left in (2, 1, 0):
        # No time at all: one hour a turn.
        discard.finish_discards(now=LATER, within=timedelta())
        assert Measurement.objects.filter(batch=wrong).count() == left
    discard.finish_discards(now=LATER)

    wrong.refresh_from_db()
    assert wrong.state == "discarded"
    assert total(feature) == 4
    assert differences() == []


def test_spans_of_a_discarded_batch_go_too() -> None:
    feature = make_feature()
    key, _ = make_key(feature.team)
    calls = [{"component": "tools", "offset_ms": 1000 * n, "duration_ms": 500} for n in range(3)]
    wrong = post(key, requests=(request_item(feature, trace_id=uuid4().hex, components=calls),))
    roll_up()
    assert Span.objects.filter(batch=wrong).count() == 3

    discard.discard(
        team=feature.team,
        batches=discard.discardable(feature.team, batch_ids=[wrong.pk]),
        reason="x",
        actor="a",
        now=LATER,
    )
    discard.finish_discards(now=LATER)

    assert not Span.objects.exists()


def test_spans_that_end_after_their_measurement_go_too() -> None:
    feature = make_feature()
    key, _ = make_key(feature.team)
    # Without one's offset the measurement is a sum, which begins at the request's start.
    calls = [
        {"component": "tools", "offset_ms": 50_000, "duration_ms": 500},
        {"component": "tools", "duration_ms": 500},
    ]
    wrong = post(
        key, requests=(request_item(feature, trace_id=uuid4().hex, milestones={}, components=calls),)
    )
    assert Span.objects.filter(batch=wrong, ended_at__gt=wrong.ended_to).exists()

    discard.discard(
        team=feature.team,
        batches=discard.discardable(feature.team, batch_ids=[wrong.pk]),
        reason="x",
        actor="a",
        now=LATER,
    )
    discard.finish_discards(now=LATER)

    assert not Span.objects.exists()


def test_a_keys_batches_of_a_range_are_chosen_by_when_they_were_received() -> None:
    feature = make_feature()
    (key, _), (other, _) = make_key(feature.team), make_key(feature.team)
    mine, others = post(key, sound(feature)), post(other, sound(feature))
    Batch.objects.filter(pk=post(key, sound(feature)).pk).update(received_at=NOW + timedelta(hours=1))

    found = discard.discardable(
        feature.team, key=key, received_from=NOW, received_to=NOW + timedelta(hours=1)
    )

    assert list(found) == [mine]
    assert others not in found


def test_another_teams_batch_is_not_found() -> None:
    feature, outsiders = make_feature(), make_team()
    batch = post(make_key(feature.team)[0], sound(feature))

    with pytest.raises(Refusal) as refused:
        discard.discard(
            team=outsiders,
            batches=discard.discardable(outsiders, batch_ids=[batch.pk]),
            reason="x",
            actor="a",
            now=LATER,
        )

    assert (refused.value.code, refused.value.status) == ("no_batches", 404)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001, "a\0b"])
def test_a_reason_is_asked_for_and_nothing_discarded_without(reason: str) -> None:
    feature = make_feature()
    batch = post(make_key(feature.team)[0], sound(feature))

    with pytest.raises(Refusal, match="Say why"):
        discard.discard(
            team=feature.team,
            batches=discard.discardable(feature.team, batch_ids=[batch.pk]),
            reason=reason,
            actor="a",
            now=LATER,
        )

    batch.refresh_from_db()
    assert batch.state == "pending"


def test_it_is_refused_where_raw_measurements_of_its_hours_are_gone() -> None:
    feature = make_feature()
    key, _ = make_key(feature.team)
    batch = post(key, sound(feature, 6 * 24 * 60))
    roll_up()

    with pytest.raises(Refusal) as refused:
        discard.discard(
            team=feature.team,
            batches=discard.discardable(feature.team, batch_ids=[batch.pk]),
            reason="x",
            actor="a",
            now=NOW + timedelta(days=3),
        )

    assert refused.value.code == "raw_incomplete"
    batch.refresh_from_db()
    assert batch.state == "rolled_up"


def test_it_is_written_down_who_discarded_what_and_why() -> None:
    feature = make_feature()
    batch = post(make_key(feature.team)[0], sound(feature))

    discard.discard(
        team=feature.team,
        batches=discard.discardable(feature.team, batch_ids=[batch.pk]),
        reason="seconds as ms",
        actor="ada@example.com",
        now=LATER,
    )

    entry = AuditEntry.objects.get(action="batches.discarded")
    assert (entry.actor, entry.team, entry.subject) == (
        "ada@example.com",
        feature.team,
        f"batch {batch.pk}",
    )
    assert entry.after["reason"] == "seconds as ms"
    assert entry.after["features"] == [feature.slug]


def test_an_idempotency_key_of_a_discarded_batch_still_answers_as_before() -> None:
    feature = make_feature()
    key, _ = make_key(feature.team)
    body = msgspec.json.encode({"measurements": [sound(feature)]})
    first = ingest.accept(key=key, body=body, idempotency_key="a", now=NOW)
    discard.discard(
        team=feature.team,
        batches=discard.discardable(feature.team, batch_ids=[first.batch_id or 0]),
        reason="x",
        actor="a",
        now=LATER,
    )
    discard.finish_discards(now=LATER)

    again = ingest.accept(key=key, body=body, idempotency_key="a", now=LATER)

    assert again.is_replay
    assert not Measurement.objects.exists()


def test_the_command_says_what_it_would_do_and_does_it() -> None:
    feature = make_feature()
    key, _ = make_key(feature.team)
    batch = post(key, sound(feature))
    roll_up()

    def run(*arguments: str) -> str:
        out = StringIO()
        call_command("discard_batches", "--team", feature.team.slug, *arguments, stdout=out)
        return out.getvalue()

    chosen = [
        "--key",
        key.prefix,
        "--from",
        (NOW - timedelta(hours=1)).isoformat(),
        "--to",
        (NOW + timedelta(hours=1)).isoformat(),
    ]
    assert "Would discard 1 batch with 1 measurement of" in run(*chosen, "--dry-run")
    batch.refresh_from_db()
    assert batch.state == "rolled_up"

    # The clock of the command is the machine's: for it, all of this may lie beyond the retention.
    Batch.objects.filter(pk=batch.pk).update(rolled_up_at=None, state="pending")
    assert "Discarded 1 batch" in run("--batch", str(batch.pk), "--reason", "seconds as ms")
    batch.refresh_from_db()
    assert batch.state == "discarded"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either --batch"),
        (["--batch", "1", "--key", "abcdefgh"], "either --batch"),
        (["--key", "abcdefgh"], "either --batch"),
        (["--key", "abcdefgh", "--from", "2026-11-21T00:00:00Z", "--to", "2026-11-22T00:00:00Z"], "no key"),
        (["--batch", "999999", "--reason", "x"], "no such batch"),
    ],
)
def test_the_command_says_what_is_missing(arguments: list[str], said: str) -> None:
    team = make_team()
    with pytest.raises(CommandError, match=said):
        call_command("discard_batches", "--team", team.slug, *arguments)


def test_discarded_batches_go_with_the_retention() -> None:
    feature = make_feature()
    batch = post(make_key(feature.team)[0], sound(feature))
    discard.discard(
        team=feature.team,
        batches=discard.discardable(feature.team, batch_ids=[batch.pk]),
        reason="x",
        actor="a",
        now=LATER,
    )
    discard.finish_discards(now=LATER)

    retention.drop_expired_rows(now=NOW + timedelta(days=30))

    assert not Batch.objects.filter(pk=batch.pk).exists()
    assert connection.needs_rollback is False


def test_what_is_yet_to_be_taken_out_of_the_rollups_is_kept_beyond_the_retention() -> None:
    feature = make_feature()
    key, _ = make_key(feature.team)
    post(key, sound(feature))
    wrong = post(key, in_seconds_by_mistake(feature))
    roll_up()
    discard.discard(
        team=feature.team,
        batches=discard.discardable(feature.team, batch_ids=[wrong.pk]),
        reason="x",
        actor="a",
        now=LATER,
    )

    # No worker has come to it for a month.
    partitions.drop_expired(NOW + timedelta(days=30))
    retention.drop_expired_rows(now=NOW + timedelta(days=30))
    discard.finish_discards(now=LATER)

    assert total(feature) == 1
    wrong.refresh_from_db()
    assert wrong.state == "discarded"


@pytest.mark.django_db(transaction=True)
def test_no_roll_up_waits_while_it_is_found_out_which_features_are_touched() -> None:
    feature = make_feature()
    key, _ = make_key(feature.team)
    wrong = post(key, sound(feature))

    with held("LOCK TABLE budgets_measurement IN ACCESS EXCLUSIVE MODE") as start:
        done = start(
            lambda: discard.discard(
                team=feature.team,
                batches=discard.discardable(feature.team, batch_ids=[wrong.pk]),
                reason="x",
                actor="a",
                now=LATER,
            )
        )
        assert is_waiting("budgets_measurement")
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock_shared(%s, %s)", [NAMESPACE, ROLL_UP])
            assert cursor.fetchone() == (True,)

    assert done.result().feature_slugs == [feature.slug]
