"""Bearer keys: made, shown once, recognised, and what the database keeps of them."""

from __future__ import annotations

import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from budgets.errors import Refusal
from budgets.keys import LAST_USED_RESOLUTION, authenticate, create_key, revoke_key
from budgets.models import AuditEntry, IngestKey, Team
from tests.factories import NOW, make_key, make_team

pytestmark = pytest.mark.django_db


def create(**overrides: Any) -> tuple[IngestKey, str]:
    return create_key(
        **{"team_slug": "assistants", "name": "ci", "scopes": ["ingest"], "actor": "a test", "now": NOW}
        | overrides
    )


def test_a_key_looks_as_documented() -> None:
    key, token = create()
    assert re.fullmatch(r"ld_[A-Za-z0-9]{8}_[A-Za-z0-9]{40}", token)
    assert token.split("_")[1] == key.prefix


def test_a_key_is_recognised_with_its_team_and_scopes() -> None:
    key, token = create(scopes=["ingest", "read", "ingest"])
    found = authenticate(token, NOW)
    assert found == key
    with CaptureQueriesContext(connection) as queries:
        assert found.team.slug == "assistants"
    assert len(queries) == 0
    assert found.scopes == ["ingest", "read"]


def test_the_database_does_not_hold_the_secret() -> None:
    key, token = create()
    secret = token.split("_")[2]
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(k)::text FROM budgets_ingestkey k")
        [(row,)] = cursor.fetchall()
    assert secret not in row
    assert secret.encode().hex() not in row
    assert len(bytes(key.digest)) == 32


def test_no_two_keys_are_alike() -> None:
    keys = [create() for _ in range(20)]
    assert len({token for _, token in keys}) == len({key.prefix for key, _ in keys}) == 20


def test_a_key_is_worth_nothing_under_another_pepper(settings: Settings) -> None:
    _, token = create()
    settings.KEY_PEPPER = "another"
    assert authenticate(token, NOW) is None


def test_a_key_outlives_a_change_of_the_secret_key(settings: Settings) -> None:
    _, token = create()
    settings.SECRET_KEY = "another"
    assert authenticate(token, NOW) is not None


@pytest.mark.parametrize("change", ["upper", "shorter", "longer", "other"])
def test_a_secret_that_is_nearly_right_is_wrong(change: str) -> None:
    _, token = create()
    wrong = {
        "upper": token.swapcase().replace("LD_", "ld_", 1),
        "shorter": token[:-1],
        "longer": token + "a",
        "other": token[:-1] + ("a" if token[-1] != "a" else "b"),
    }[change]
    assert authenticate(wrong, NOW) is None


@pytest.mark.parametrize(
    "token",
    ["", "ld", "ld__", "ld_short_x", "LD_aaaaaaaa_x", "ld_aaaaaaaa_\0", "ld_\0aaaaaaa_x", "ld-aaaaaaaa-x"],
)
def test_what_is_no_key_is_none(token: str) -> None:
    assert authenticate(token, NOW) is None


def test_a_key_expires_at_its_instant() -> None:
    _, token = create(expires_at=NOW + timedelta(hours=1))
    assert authenticate(token, NOW + timedelta(hours=1) - timedelta(microseconds=1)) is not None
    assert authenticate(token, NOW + timedelta(hours=1)) is None


def test_a_revoked_key_is_none() -> None:
    key, token = create()
    IngestKey.objects.filter(pk=key.pk).update(revoked_at=NOW)
    assert authenticate(token, NOW) is None


def test_revoking_is_for_ever_and_counts_once() -> None:
    key, token = create()

    assert revoke_key(key_id=key.pk, actor="ada@example.com", now=NOW) is True
    assert authenticate(token, NOW) is None
    assert revoke_key(key_id=key.pk, actor="eve@example.com", now=NOW + timedelta(days=1)) is False

    key.refresh_from_db()
    assert key.revoked_at == NOW


def test_making_and_revoking_is_written_down_without_the_secret() -> None:
    key, token = create(actor="ada@example.com", expires_at=NOW + timedelta(days=1))
    revoke_key(key_id=key.pk, actor="eve@example.com", now=NOW)

    revoked, created, team_created = AuditEntry.objects.all()

    assert [entry.action for entry in (team_created, created)] == ["team.created", "key.created"]
    assert (created.actor, created.team, created.before) == ("ada@example.com", key.team, None)
    assert created.after["expires_at"] == "2026-11-22T20:00:30Z"
    assert (revoked.action, revoked.actor, revoked.subject) == ("key.revoked", "eve@example.com", str(key))
    assert (revoked.before["revoked_at"], revoked.after["revoked_at"]) == (None, "2026-11-21T20:00:30Z")
    for entry in (created, revoked):
        written = f"{entry.subject} {entry.before} {entry.after}"
        assert key.prefix in written
        assert token.split("_")[2] not in written


def test_a_key_says_when_it_was_last_used_within_a_minute() -> None:
    key, token = create()
    later = NOW + LAST_USED_RESOLUTION / 2
    latest = NOW + LAST_USED_RESOLUTION * 2
    noted = []
    for at in (NOW, later, latest):
        authenticate(token, at)
        key.refresh_from_db()
        noted.append(key.last_used_at)
    assert noted == [NOW, NOW, latest]


def test_using_a_key_again_within_a_minute_writes_nothing() -> None:
    _, token = create()
    authenticate(token, NOW)
    with CaptureQueriesContext(connection) as queries:
        authenticate(token, NOW + timedelta(seconds=1))
    assert [query["sql"].split()[0] for query in queries] == ["SELECT"]


def test_a_wrong_secret_is_no_use_of_the_key() -> None:
    key, token = create()
    authenticate(token[:-1], NOW)
    key.refresh_from_db()
    assert key.last_used_at is None


# -- making -----------------------------------------------------------------------------------------


def test_a_new_teams_first_key_makes_the_team() -> None:
    create(team_slug="on-call")
    assert Team.objects.get(slug="on-call").name == "On call"


def test_a_known_teams_next_key_is_its_own() -> None:
    team = make_team()
    assert create(team_slug=team.slug)[0].team == team
    assert Team.objects.count() == 1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\0"}, "name"),
        ({"team_slug": ""}, "team"),
        ({"team_slug": "no spaces"}, "team"),
        ({"team_slug": "é"}, "team"),
        ({"team_slug": "x" * 201}, "team"),
        ({"team_slug": "a\n"}, "team"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["ingest", "admin"]}, "scopes"),
        ({"expires_at": NOW}, "expires_at"),
    ],
    ids=str,
)
def test_a_key_that_cannot_be_is_refused_and_nothing_is_made(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(Refusal) as refused:
        create(**wrong)
    assert refused.value.code == "invalid_key"
    assert list(refused.value.fields) == [field]
    assert not IngestKey.objects.exists()
    assert not Team.objects.exists()


@pytest.mark.parametrize("slug", ["a", "A_b-1", "_private", "x" * 200])
def test_a_team_is_named_by_letters_digits_hyphens_and_underscores(slug: str) -> None:
    assert create(team_slug=slug)[0].team.slug == slug


def test_the_command_prints_the_key_alone() -> None:
    out = StringIO()
    call_command(
        "create_key",
        "--team",
        "assistants",
        "--name",
        "ci",
        "--scope",
        "ingest",
        "--scope",
        "read",
        stdout=out,
    )
    key = authenticate(out.getvalue().strip(), NOW)
    assert key is not None
    assert (key.team.slug, key.name, key.scopes) == ("assistants", "ci", ["ingest", "read"])


def test_the_command_says_what_is_wrong() -> None:
    with pytest.raises(CommandError, match="A team is named by letters"):
        call_command("create_key", "--team", "a b", "--name", "b", "--scope", "read")


def test_the_factory_makes_keys_of_every_scope() -> None:
    key, token = make_key(make_team())
    assert key.scopes == ["ingest", "read", "write"]
    assert authenticate(token, NOW) == key


def test_a_key_made_under_a_former_pepper_goes_on_and_is_kept_under_the_new_one(settings: Settings) -> None:
    key, token = create()
    before = bytes(IngestKey.objects.get(pk=key.pk).digest)
    settings.KEY_PEPPER, settings.KEY_PEPPER_FALLBACKS = "new " * 12, ["older " * 12, settings.KEY_PEPPER]
    assert authenticate(token, NOW) == key
    assert bytes(IngestKey.objects.get(pk=key.pk).digest) != before
    settings.KEY_PEPPER_FALLBACKS = []
    assert authenticate(token, NOW) == key


def test_a_key_under_a_pepper_that_is_gone_is_worthless(settings: Settings) -> None:
    _, token = create()
    settings.KEY_PEPPER = "new " * 12
    assert authenticate(token, NOW) is None
    settings.KEY_PEPPER_FALLBACKS = ["another " * 12]
    assert authenticate(token, NOW) is None


def test_a_wrong_secret_is_wrong_under_every_pepper_and_changes_nothing(settings: Settings) -> None:
    key, token = create()
    settings.KEY_PEPPER, settings.KEY_PEPPER_FALLBACKS = "new " * 12, [settings.KEY_PEPPER]
    before = bytes(IngestKey.objects.get(pk=key.pk).digest)
    assert authenticate(f"{token[:-1]}{'a' if token[-1] != 'a' else 'b'}", NOW) is None
    assert authenticate("ld_nobody00_" + "a" * 40, NOW) is None
    assert bytes(IngestKey.objects.get(pk=key.pk).digest) == before


def test_a_revoked_key_stays_worthless_under_a_former_pepper(settings: Settings) -> None:
    key, token = create()
    revoke_key(key_id=key.pk, actor="a test", now=NOW)
    settings.KEY_PEPPER, settings.KEY_PEPPER_FALLBACKS = "new " * 12, [settings.KEY_PEPPER]
    assert authenticate(token, NOW) is None


def test_asking_under_the_present_pepper_writes_no_digest(settings: Settings) -> None:
    key, token = create()
    settings.KEY_PEPPER_FALLBACKS = ["older " * 12]
    authenticate(token, NOW)
    with CaptureQueriesContext(connection) as queries:
        assert authenticate(token, NOW) == key
    assert len(queries) == 1
