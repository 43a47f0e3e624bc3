"""Every change is written down with who made it, and what is written stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from alerts.channel_settings import save_channel
from budgets import audit
from budgets.errors import Refusal
from budgets.features import declare_feature
from budgets.models import AuditEntry
from tests.factories import NOW, SECRET, feature_document, make_feature, make_team

pytestmark = pytest.mark.django_db


def test_a_declaration_is_written_down_as_the_document_before_and_after() -> None:
    feature = make_feature(slug="support-chat")
    changed = feature_document(name="Help desk")
    declare_feature(
        team=feature.team,
        slug=feature.slug,
        document=changed,
        actor="ada@example.com",
        now=NOW + timedelta(hours=1),
    )

    second, first = AuditEntry.objects.filter(action="feature.declared")

    assert (first.actor, first.subject, first.before) == ("a test", "support-chat", None)
    assert (second.actor, second.team) == ("ada@example.com", feature.team)
    assert second.before == first.after
    assert second.after == {**first.after, "name": "Help desk"}


def test_what_changes_nothing_and_what_is_refused_is_not_written_down() -> None:
    feature = make_feature()
    count = AuditEntry.objects.count()

    declare_feature(
        team=feature.team, slug=feature.slug, document=feature_document(), actor="ada@example.com", now=NOW
    )
    with pytest.raises(Refusal):
        declare_feature(team=feature.team, slug=feature.slug, document={}, actor="ada@example.com", now=NOW)

    assert AuditEntry.objects.count() == count


def test_a_channel_is_written_down_without_its_secret_and_its_address() -> None:
    team = make_team()
    document = {"kind": "webhook", "url": "https://192.0.2.7/T0/secret-path", "secret": SECRET}
    with pytest.raises(Refusal):
        save_channel(team=team, name="hooks", document={**document, "kind": "?"}, actor="key a", now=NOW)
    assert not AuditEntry.objects.exists()

    document["url"] = "https://93.184.215.14/T0/secret-path"
    save_channel(team=team, name="hooks", document=document, actor="key a", now=NOW)
    save_channel(team=team, name="hooks", document={**document, "enabled": False}, actor="key b", now=NOW)

    entry = AuditEntry.objects.first()
    assert entry is not None
    assert (entry.action, entry.subject, entry.actor) == ("channel.saved", "hooks", "key b")
    assert (entry.before["enabled"], entry.after["enabled"]) == (True, False)
    assert "secret" not in str(entry.before)
    assert SECRET not in str(entry.before)


def test_an_entry_can_neither_be_changed_nor_deleted() -> None:
    audit.record(
        team=None,
        actor="ada@example.com",
        action="feature.declared",
        subject="x",
        before=None,
        after={},
        now=NOW,
    )
    entry = AuditEntry.objects.get()

    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        AuditEntry.objects.update(actor="somebody else")
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        entry.delete()

    entry.refresh_from_db()
    assert entry.actor == "ada@example.com"
