"""Every named constraint of these tables holds in the database, whatever the code in front of it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from django.apps import apps
from django.db import IntegrityError, connection, models, transaction

from budgets import ingest, rollups
from budgets.models import (
    AccountMail,
    Allocation,
    Annotation,
    AuditEntry,
    Batch,
    Component,
    DayRollup,
    Feature,
    HourRollup,
    IngestKey,
    Invitation,
    LatencyBudget,
    Measurement,
    Membership,
    MinuteRollup,
    RejectedPayload,
    Series,
    Span,
    Team,
    User,
)
from budgets.rejections import keep_rejected_items
from tests.factories import NOW, feature_document, make_feature, make_key, make_team, request_item

pytestmark = pytest.mark.django_db

PARTITIONED = ("budgets_measurement", "budgets_span", "budgets_rollup_minute")


@dataclass(frozen=True)
class Attempt:
    """What nobody may do: give a sound row these values, or add another row like it."""

    constraint: str
    model: type[models.Model]
    values: dict[str, Any] | None
    """None: another row of the same values."""

    def make(self) -> None:
        if self.values is not None and self.model is not AuditEntry:  # rows of which are never changed
            # One sound row, by what identifies it: some of these tables have no key of one column.
            row = self.model._default_manager.order_by("pk").first()
            assert row is not None
            assert self.model._default_manager.filter(pk=row.pk).update(**self.values) == 1
            return
        row = self.model._default_manager.order_by("pk").first()
        assert row is not None
        copied = {field.attname: getattr(row, field.attname) for field in self.model._meta.concrete_fields}
        copied.pop("id", None)
        if self.model is IngestKey:
            copied["prefix"] = "another1"
        self.model._default_manager.create(**{**copied, **(self.values or {})})


def attempts(constraint: str, model: type[models.Model], *values: dict[str, Any] | None) -> list[Attempt]:
    return [Attempt(constraint, model, one) for one in values]


NOTHING = {"budget_ms": None, "objective": None, "window_days": None}
ROLLUPS: list[type[models.Model]] = [MinuteRollup, HourRollup, DayRollup]
ATTEMPTS = [
    *attempts("membership_once_per_team", Membership, None),
    *attempts("membership_role_is_known", Membership, {"role": "owner"}, {"role": ""}),
    *attempts("invitation_one_pending_per_address", Invitation, None),
    *attempts("invitation_role_is_known", Invitation, {"role": "owner"}),
    *attempts(
        "invitation_settled_at_exactly_when_settled",
        Invitation,
        {"settled_at": NOW},
        {"status": "accepted"},
        {"status": "withdrawn", "settled_at": None},
        {"status": "lost", "settled_at": NOW},
    ),
    *attempts("invitation_address_is_in_lower_case", Invitation, {"email": "Eve@example.com"}, {"email": ""}),
    *attempts("invitation_expires_after_it_was_made", Invitation, {"expires_at": NOW}),
    *attempts("account_mail_kind_is_known", AccountMail, {"kind": "newsletter"}),
    *attempts("account_mail_address_is_in_lower_case", AccountMail, {"address": "Eve@example.com"}),
    *attempts("account_mail_is_not_due_once_sent", AccountMail, {"due_at": NOW, "sent_at": NOW}),
    *attempts("annotation_kind_is_known", Annotation, {"kind": "party", "author": "a test"}),
    *attempts("annotation_has_a_text", Annotation, {"text": ""}),
    *attempts("annotation_has_an_environment", Annotation, {"environment": ""}),
    *attempts(
        "annotation_url_is_a_web_address", Annotation, {"url": "javascript:alert(1)"}, {"url": "ftp://x/"}
    ),
    *attempts(
        "annotation_has_an_author_unless_a_release",
        Annotation,
        {"author": "key ci"},
        {"feature": None},
        {"kind": "deploy"},
    ),
    *attempts(
        "annotation_once", Annotation, {"at": NOW, "kind": "note", "author": "a test", "feature": None}
    ),
    *attempts("annotation_of_a_release_once", Annotation, {"text": "v413"}),
    *attempts("annotation_idempotency_key_once_per_team", Annotation, {"idempotency_key": "twice"}),
    *attempts(
        "annotation_with_idempotency_key_keeps_its_digest",
        Annotation,
        {"idempotency_key": "another", "payload_digest": None},
    ),
    *attempts("feature_kind_is_known", Feature, {"kind": "chat"}),
    *attempts("component_once_per_feature", Component, None),
    *attempts("component_state_is_known", Component, {"state": "gone"}),
    *attempts("component_has_a_name", Component, {"name": ""}),
    *attempts("latency_budget_version_once", LatencyBudget, None),
    *attempts("latency_budget_milestone_is_known", LatencyBudget, {"milestone": "last_token"}),
    *attempts("latency_budget_version_from_1", LatencyBudget, {"version": 0}),
    *attempts("latency_budget_is_positive", LatencyBudget, {"budget_ms": 0}, {"budget_ms": -1}),
    *attempts(
        "latency_budget_objective_between_0_and_1",
        LatencyBudget,
        {"objective": 0},
        {"objective": 1},
        {"objective": -0.5},
        {"objective": 1.5},
    ),
    *attempts("latency_budget_window_is_known", LatencyBudget, {"window_days": 14}, {"window_days": 0}),
    *attempts(
        "latency_budget_has_all_values_or_is_retired",
        LatencyBudget,
        *({name: None} for name in NOTHING),
        *({other: None for other in NOTHING if other != name} for name in NOTHING),
    ),
    *attempts(
        "latency_budget_effective_from_a_whole_minute",
        LatencyBudget,
        {"effective_from": NOW.replace(second=1)},
        {"effective_from": NOW.replace(second=0, microsecond=500_000)},
    ),
    *attempts("allocation_once_per_component", Allocation, None),
    *attempts("allocation_is_positive", Allocation, {"allocated_ms": 0}, {"allocated_ms": -1}),
    *attempts("ingest_key_scopes_are_known", IngestKey, {"scopes": ["admin"]}, {"scopes": []}),
    *attempts("ingest_key_scopes_are_known", IngestKey, {"scopes": ["ingest", "everything"]}),
    *attempts("batch_idempotency_key_once_per_team", Batch, None),
    *attempts("batch_is_not_empty", Batch, {"measurement_count": 0}),
    *attempts("batch_range_is_ordered", Batch, {"ended_to": NOW - timedelta(days=1)}),
    *attempts(
        "batch_rolled_up_at_exactly_when_rolled_up",
        Batch,
        {"state": "pending", "rolled_up_at": NOW},
        {"state": "rolled_up", "rolled_up_at": None},
        {"state": "lost", "rolled_up_at": None},
        {"state": "lost", "rolled_up_at": NOW},
        {"state": "failed", "rolled_up_at": NOW, "failed_at": NOW, "failure": "why"},
    ),
    *attempts(
        "batch_says_when_and_why_exactly_when_failed",
        Batch,
        {"failed_at": NOW},
        {"failure": "why"},
        {"failed_at": NOW, "failure": "why"},
        *(
            {"state": "failed", "rolled_up_at": None, **said}
            for said in ({}, {"failed_at": NOW}, {"failure": "why"})
        ),
    ),
    *attempts(
        "batch_discarded_at_exactly_when_discarded",
        Batch,
        {"state": "discarded"},
        {"discarded_at": NOW},
        {"state": "discarding", "discarded_at": NOW},
    ),
    *attempts("rejected_payload_says_what_was_rejected", RejectedPayload, {"code": "", "rejected_count": 0}),
    *attempts(
        "batch_with_idempotency_key_keeps_its_answer", Batch, {"payload_digest": None}, {"answer": None}
    ),
    *attempts("series_once", Series, None),
    *attempts(
        "series_has_exactly_one_of_component_and_milestone",
        Series,
        {"component": None, "milestone": None},
        {"component_id": 0, "milestone": "complete"},
    ),
    *attempts("series_milestone_is_known", Series, {"component": None, "milestone": "last_token"}),
    *attempts("series_has_an_environment", Series, {"environment": ""}),
    *(
        attempt
        for model, name in ((Measurement, "measurement"), (Span, "span"))
        for attempt in (
            *attempts(
                f"{name}_duration_between_0_and_7_days",
                model,
                {"duration_ms": -0.001},
                {"duration_ms": 604_800_000.1},
                {"duration_ms": float("nan")},
                {"duration_ms": float("inf")},
                {"duration_ms": float("-inf")},
            ),
            *attempts(f"{name}_status_is_known", model, {"status": 3}, {"status": -1}),
        )
    ),
    *(
        attempt
        for model in ROLLUPS
        for attempt in (
            *attempts(
                f"{model.__name__.lower()}_counts_add_up",
                model,
                {"total": 0, "judged": 0, "good": 0, "over": 0},
                {"errors": -1},
                {"timeouts": -1},
                {"errors": 1, "timeouts": 1},
            ),
            *attempts(f"{model.__name__.lower()}_judged_at_most_total", model, {"judged": 2}),
            *attempts(
                f"{model.__name__.lower()}_good_and_over_at_most_judged",
                model,
                {"good": 2},
                {"good": 1, "over": 1},
                {"good": -1},
                {"good": 0, "over": -1},
            ),
        )
    ),
    *attempts("audit_entry_has_an_actor", AuditEntry, {"actor": ""}),
    *attempts("audit_entry_action_is_noun_and_verb", AuditEntry, {"action": "declared"}, {"action": ""}),
    *attempts("budgets_rollup_minute_pkey", MinuteRollup, None),
]


@pytest.fixture
def _sound_rows() -> None:
    """At least one row in each table."""
    team = make_team()
    Membership.objects.create(
        team=team, user=User.objects.create_user("ada@example.com"), role=Membership.Role.ADMIN
    )
    Invitation.objects.create(
        team=team,
        email="eve@example.com",
        role=Membership.Role.VIEWER,
        invited_by="ada@example.com",
        created_at=NOW,
        expires_at=NOW + timedelta(days=7),
    )
    AccountMail.objects.create(
        kind=AccountMail.Kind.PASSWORD_RESET, address="eve@example.com", source="192.0.2.1", asked_at=NOW
    )
    feature = make_feature(team=team)
    # The first is what is tried; the others are what it must not become.
    for values in (
        {"kind": "release", "text": "v412", "feature": feature, "payload_digest": b"digest"},
        {"kind": "release", "text": "v413", "feature": feature, "at": NOW - timedelta(hours=1)},
        {
            "kind": "note",
            "text": "v412",
            "author": "a test",
            "idempotency_key": "twice",
            "payload_digest": b"",
        },
    ):
        Annotation.objects.create(
            **{"team": team, "environment": "production", "at": NOW, "created_at": NOW, **values}
        )
    key, _ = make_key(team)
    calls = [{"component": "tools", "offset_ms": n, "duration_ms": 1} for n in range(2)]
    request = request_item(feature, trace_id=uuid4().hex, components=calls, milestones={})
    body = msgspec.json.encode({"requests": [request]})
    assert ingest.accept(key=key, body=body, idempotency_key="a", now=NOW).status == 200
    refused = {"rejected": [{"index": 0, "in": "requests", "code": "a", "message": "b"}]}
    keep_rejected_items(key, body, refused, status=200, now=NOW)
    rollups.roll_up(now=NOW)
    rollups.compact(now=NOW + timedelta(days=2))


@pytest.mark.usefixtures("_sound_rows")
@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda one: f"{one.constraint} {one.values or 'twice'}")
def test_the_database_refuses(attempt: Attempt) -> None:
    with pytest.raises(IntegrityError) as refused, transaction.atomic():
        attempt.make()
    cause: Any = refused.value.__cause__
    name = cause.diag.constraint_name
    # A unique index of a partition has its partition's name in it.
    assert name.replace(f"_{NOW:%Y%m%d}", "") == attempt.constraint


def test_every_constraint_of_the_models_is_tried() -> None:
    declared = {
        constraint.name
        for model in apps.get_app_config("budgets").get_models()
        for constraint in model._meta.constraints
    }
    assert declared <= {attempt.constraint for attempt in ATTEMPTS}


def test_every_constraint_of_the_partitioned_tables_is_tried() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = ANY(%s::regclass[]) AND contype <> 'n'",
            [list(PARTITIONED)],
        )
        found = {name for (name,) in cursor.fetchall()}
    assert found
    assert found <= {attempt.constraint for attempt in ATTEMPTS}


def test_the_tables_have_the_columns_of_their_models() -> None:
    """Those that a migration makes by hand."""
    with connection.cursor() as cursor:
        for model in (Measurement, Span, MinuteRollup):
            table = model._meta.db_table
            cursor.execute(
                "SELECT column_name, is_nullable FROM information_schema.columns WHERE table_name = %s",
                [table],
            )
            stored = dict(cursor.fetchall())
            assert stored == {
                field.column: "YES" if field.null else "NO"
                for field in model._meta.concrete_fields
                if field.column is not None
            }


@pytest.mark.parametrize(
    "make",
    [
        lambda: Team.objects.create(slug="twice", name="x"),
        lambda: User.objects.create_user("twice@example.com"),
        lambda: User.objects.create_user("Twice@Example.COM"),
        lambda: Feature.objects.create(slug="twice", name="x", team=make_team()),
    ],
    ids=["team", "person", "person in other letters", "feature of another team"],
)
def test_what_is_addressed_by_its_name_has_it_alone(make: Callable[[], Any]) -> None:
    Team.objects.create(slug="twice", name="x")
    User.objects.create_user("twice@example.com")
    make_feature(slug="twice")
    with pytest.raises(IntegrityError), transaction.atomic():
        make()


def test_sound_rows_are_not_refused() -> None:
    """A retired version, a measurement of no time, an objective near its bounds."""
    latency_budgets = [feature_document()["latency_budgets"][0] | {"objective": 0.999999}]
    feature = make_feature(latency_budgets=latency_budgets)
    LatencyBudget.objects.create(
        feature=feature, milestone="first_token", version=2, effective_from=NOW.replace(second=0), **NOTHING
    )
