"""The audit log as people read it: changed paths, filters in the URL, CSV, and who may see it."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from budgets import audit
from budgets.changes import changes
from budgets.contexts import audit as audit_context
from budgets.models import Membership, Team, User
from tests.budgets.test_pages import page, signed_in, text_of
from tests.factories import NOW, feature_document, make_feature, make_team, redeclare
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]

PAGE = "/teams/assistants/audit/"


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


@pytest.fixture
def viewer(team: Team) -> Client:
    return signed_in(make_person("viewer@example.com", team=team, role=Membership.Role.VIEWER))


@pytest.fixture
def root() -> Client:
    return signed_in(User.objects.create_superuser("root@example.com", PASSWORD))


def note(team: Team | None, **values: Any) -> None:
    entry: dict[str, Any] = {
        "actor": "ada@example.com",
        "action": "member.role_changed",
        "subject": "bob@example.com",
        "before": {"role": "viewer"},
        "after": {"role": "editor"},
        "now": NOW,
    }
    audit.record(team=team, **{**entry, **values})


def table(response: Any) -> list[list[str]]:
    return list(csv.reader(io.StringIO(b"".join(response.streaming_content).decode())))


def test_a_changed_budget_reads_as_the_paths_that_changed(viewer: Client, team: Team) -> None:
    feature = make_feature(team=team, slug="support-chat")
    budget = feature_document()["latency_budgets"][0]
    allocations = budget["allocations"] | {"tools": 300}
    redeclare(feature, latency_budgets=[budget | {"budget_ms": 2500, "allocations": allocations}])

    text = text_of(page(viewer, PAGE))

    assert "a test Feature declared support-chat" in text
    assert "latency_budgets › first_token › budget_ms 3000 → is now 2500" in text
    assert "latency_budgets › first_token › allocations › tools 800 → is now 300" in text
    assert "allocations › model 1500 →" not in text


def test_what_is_long_or_much_is_folded(viewer: Client, team: Team) -> None:
    note(team, before={"note": "short"}, after={"note": "x" * 500})
    note(team, before=None, after={f"field_{n}": n for n in range(9)})

    html = page(viewer, PAGE)

    assert "6 more changes" in text_of(html)
    assert "1 change" in text_of(html)
    folded = html.split('<details class="folded">')
    assert "x" * 500 not in folded[0]
    assert "field_2" in folded[0]
    assert "field_3" not in folded[0]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"bob", "eve", "hooks"}),
        ("?action=channel.saved", {"hooks"}),
        ("?actor=ADA", {"bob", "hooks"}),
        ("?subject=eve", {"eve"}),
        ("?actor=ada&action=member.role_changed", {"bob"}),
        ("?actor=nobody", set()),
        ("?action=no.such", set()),
        ("?actor=%25", set()),
    ],
)
def test_the_url_says_which_entries(viewer: Client, team: Team, query: str, expected: set[str]) -> None:
    note(team, subject="bob@example.com")
    note(team, subject="eve@example.com", actor="kim@example.com")
    note(team, subject="hooks@example.com", action="channel.saved")

    html = page(viewer, PAGE + query)

    shown = {name for name in ("bob", "eve", "hooks") if f"{name}@example.com</bdi>" in html}
    assert shown == expected
    assert ("No change matches" in html) == (not expected)
    exported = table(viewer.get(f"/teams/assistants/audit.csv{query}"))
    assert {row[4].split("@")[0] for row in exported[1:]} == expected


def test_a_log_without_entries_says_what_will_stand_there(viewer: Client) -> None:
    assert "Nothing was changed yet" in text_of(page(viewer, PAGE))


def test_fifty_a_page_newest_first(viewer: Client, team: Team) -> None:
    for number in range(51):
        note(team, subject=f"subject-{number:02}", now=NOW + timedelta(minutes=number))

    first, second = page(viewer, PAGE), page(viewer, f"{PAGE}?page=2")

    assert "51 changes" in text_of(first)
    assert first.index("subject-50") < first.index("subject-01")
    assert "subject-00" not in first
    assert "subject-00" in second
    assert 'href="?page=2"' in first


def test_the_export_holds_every_entry_whatever_its_size(
    viewer: Client, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_context, "_ROWS_A_QUERY", 4)
    for number in range(12):
        note(team, subject=f"subject-{number:02}")

    rows = table(viewer.get("/teams/assistants/audit.csv"))

    assert rows[0] == list(audit_context.CSV_FIELDS)
    assert [row[4] for row in rows[1:]] == [f"subject-{number:02}" for number in reversed(range(12))]
    assert rows[1][:4] == ["2026-11-21T20:00:30Z", "assistants", "ada@example.com", "member.role_changed"]
    assert rows[1][5:] == ['{"role": "viewer"}', '{"role": "editor"}']


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx"])
def test_no_cell_of_the_export_is_a_formula(viewer: Client, team: Team, name: str) -> None:
    note(team, subject=name, actor=name)
    [_, row] = table(viewer.get("/teams/assistants/audit.csv"))
    assert (row[2], row[4]) == (f"'{name}", f"'{name}")


def test_what_was_typed_by_others_is_text(viewer: Client, team: Team) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    note(team, actor=hostile, subject=hostile, before={hostile: "a"}, after={hostile: hostile})
    html = page(viewer, PAGE)
    assert "<img" not in html
    assert html.count("&lt;img") >= 4


def test_an_outsider_and_a_stranger_see_nothing(team: Team, client: Client) -> None:
    outsider = signed_in(make_person("outsider@example.com", team=make_team(), role="admin"))
    for address in (PAGE, "/teams/assistants/audit.csv"):
        assert outsider.get(address).status_code == 404
        assert client.get(address).status_code == 302
        assert outsider.post(address).status_code in (404, 405)


def test_the_log_of_the_installation_is_for_superusers(viewer: Client, root: Client, team: Team) -> None:
    note(team, subject="in a team")
    note(None, subject="of the installation", action="user.created")

    text = text_of(page(root, "/audit/"))

    assert "in a team" in text
    assert "none ada@example.com User created of the installation" in text
    assert len(table(root.get("/audit.csv"))) == 3
    assert "of the installation" not in page(viewer, PAGE)
    for address in ("/audit/", "/audit.csv"):
        assert viewer.get(address).status_code == 404
        assert Client().get(address).status_code == 302


def test_entries_outlive_their_team(root: Client, team: Team) -> None:
    note(team, subject="of a team that is gone")
    Team.objects.filter(pk=team.pk).delete()
    assert "of a team that is gone" in page(root, "/audit/")


def test_queries_do_not_grow_with_entries(viewer: Client, root: Client, team: Team) -> None:
    def count() -> list[int]:
        counted = []
        for client, address in ((viewer, PAGE), (root, "/audit/")):
            with CaptureQueriesContext(connection) as queries:
                page(client, address)
            counted.append(len(queries))
        return counted

    note(team)
    few = count()
    for _ in range(20):
        note(team)
    assert count() == few


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": True}, [("a", "1", "yes")]),
        ({"a": None}, {"a": {"b": 1}}, [("a › b", None, "1")]),
        ({"a": {"b": 1}}, {"a": "text"}, [("a", '{"b": 1}', "text")]),
        ({"a": []}, {"a": [1]}, [("a", None, "1")]),
        ({"a": [{"x": 1}]}, {"a": [{"x": 2}]}, [("a › 1 › x", "1", "2")]),
        # Two of one name cannot be told apart by it.
        (
            {"a": [{"name": "x"}, {"name": "x"}]},
            {"a": []},
            [("a", '[{"name": "x"}, {"name": "x"}]', None)],
        ),
        ({"a": ""}, {"a": "b"}, [("a", None, "b")]),
        ("a", "b", [("", "a", "b")]),
        (None, {"a": 0}, [("a", None, "0")]),
    ],
)
def test_paths_that_changed(
    before: Any, after: Any, expected: list[tuple[str, str | None, str | None]]
) -> None:
    assert [(one.path, one.before, one.after) for one in changes(before, after)] == expected
