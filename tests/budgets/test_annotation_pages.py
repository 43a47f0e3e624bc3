"""Editors add notes on a feature's page and delete what is marked; everybody in the team reads it, as text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import time_machine
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from budgets.annotations import add_annotation
from budgets.models import Annotation, AuditEntry, Feature, Membership, Team
from tests.budgets.test_pages import page, text_of
from tests.factories import NOW, make_feature, make_team, make_traffic
from tests.people import make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]

LIST = "/features/support-chat/annotations/"
HOSTILE = '<img src=x onerror="alert(1)">{{ 7*7 }}'


@pytest.fixture(autouse=True)
def _clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


@pytest.fixture
def feature(team: Team) -> Feature:
    made = make_feature(team=team, slug="support-chat", now=NOW - timedelta(days=2))
    make_traffic(made, at=NOW - timedelta(minutes=30), count=20, over=0, milestone="first_token")
    return made


@pytest.fixture
def editor(team: Team, client: Client) -> Client:
    client.force_login(make_person("editor@example.com", team=team, role=Membership.Role.EDITOR))
    return client


def mark(feature: Feature, text: str, /, **more: str | None) -> Annotation:
    document = {"kind": "note", "text": text, "feature": feature.slug, **more}
    return add_annotation(team=feature.team, document=document, actor="a test", now=NOW).annotation


def typed(**fields: str) -> dict[str, str]:
    return {
        "text": "Cache cleared",
        "kind": "note",
        "at": "",
        "link": "",
        "environment": "production",
        **fields,
    }


def test_a_note_is_added_and_stands_on_the_features_page(feature: Feature, editor: Client) -> None:
    assert "Add note" in text_of(page(editor, "/features/support-chat/"))
    response = editor.post(LIST, typed(at="2026-11-21T19:30", link="https://wiki.example.com/cache"))
    assert (response.status_code, response["Location"]) == (302, LIST)
    note = Annotation.objects.get()
    assert (note.kind, note.text, note.author) == ("note", "Cache cleared", "editor@example.com")
    assert note.at == NOW.replace(minute=30, second=0) - timedelta(hours=1)
    html = page(editor, "/features/support-chat/")
    assert "Note Cache cleared 21 Nov 2026, 19:30 UTC" in text_of(html)
    assert '<a href="https://wiki.example.com/cache" rel="noreferrer">Cache cleared</a>' in html
    assert AuditEntry.objects.get(action="annotation.added").actor == "editor@example.com"


def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_stays(
    feature: Feature, editor: Client
) -> None:
    html = page_of_refused(editor, typed(text="Typed with care", at="2027-01-01T00:00", link="wiki/cache"))
    said = text_of(html)
    assert "at must be within the last 400 days and at most 60 s ahead" in said
    assert "url must be an address that begins with https://" in said
    assert 'value="Typed with care"' in html
    assert 'value="wiki/cache"' in html
    assert not Annotation.objects.exists()
    assert "This field is required." in text_of(page_of_refused(editor, typed(text="")))
    assert "Expected a day and a time" in text_of(page_of_refused(editor, typed(at="soon")))


def page_of_refused(client: Client, fields: dict[str, str]) -> str:
    response = client.post(LIST, fields)
    assert response.status_code == 200
    return response.content.decode()


def test_an_annotation_is_deleted_after_it_was_asked(feature: Feature, editor: Client) -> None:
    note = mark(feature, "Cache cleared", feature=None)
    address = f"{LIST}{note.pk}/delete/"
    assert address in page(editor, LIST)
    asked = text_of(page(editor, address))
    assert "Delete this note? Cache cleared" in asked
    assert "of every feature of Assistants" in asked
    assert Annotation.objects.exists()
    assert editor.post(address)["Location"] == LIST
    assert not Annotation.objects.exists()
    assert editor.post(address).status_code == 404


def test_another_features_annotation_is_not_deleted_from_here(feature: Feature, editor: Client) -> None:
    other = mark(make_feature(team=feature.team, slug="inline-help"), "Cache cleared")
    assert editor.post(f"{LIST}{other.pk}/delete/").status_code == 404


def test_a_viewer_reads_and_is_offered_nothing_else(feature: Feature, client: Client) -> None:
    mark(feature, "Cache cleared")
    client.force_login(make_person("viewer@example.com", team=feature.team))
    for address in ("/features/support-chat/", LIST):
        html = page(client, address)
        assert "Cache cleared" in html
        assert "Add note" not in html
        assert "/delete/" not in html


def test_without_any_the_page_says_how_they_come(feature: Feature, editor: Client) -> None:
    for address in ("/features/support-chat/", LIST):
        assert "Releases mark themselves" in text_of(page(editor, address))


def test_an_environment_shows_its_own(feature: Feature, editor: Client) -> None:
    mark(feature, "In staging", environment="staging")
    assert "In staging" not in page(editor, LIST)
    assert "In staging" in page(editor, f"{LIST}?environment=staging")
    assert 'value="staging"' in page(editor, f"{LIST}?environment=staging"), "the form adds to it"


def test_a_refresh_exchanges_the_list_and_leaves_the_form_alone(feature: Feature, editor: Client) -> None:
    mark(feature, "Cache cleared")
    html = page(editor, "/features/support-chat/", headers={"HX-Request": "true"})
    assert '<div id="annotations" hx-swap-oob="true">' in html
    assert "Cache cleared" in html
    assert "Add to charts" not in html


def test_hostile_texts_are_text(feature: Feature, editor: Client) -> None:
    note = mark(feature, HOSTILE)
    for address in ("/features/support-chat/", LIST, f"{LIST}{note.pk}/delete/"):
        html = page(editor, address)
        assert "<img" not in html
        assert "&lt;img src=x" in html
        assert "{{ 7*7 }}" in html


def test_long_lists_come_in_pages_by_a_constant_number_of_queries(
    feature: Feature, editor: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    mark(feature, "note 0")
    page(editor, LIST)
    with django_assert_max_num_queries(50) as first:
        page(editor, LIST)
    for number in range(1, 60):
        mark(feature, f"note {number}")
    with django_assert_max_num_queries(len(first)):
        assert "Page 1 of 2" in text_of(page(editor, LIST))
    assert "note 0" in page(editor, f"{LIST}?page=2")
