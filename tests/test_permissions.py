"""Every page and every operation of the API answers each kind of caller as docs/reference/permissions.md says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from budgets.models import Membership, User
from latency_dashboard.api import api
from tests.people import make_person
from tests.world import World, make_world

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]

TABLE = Path(__file__).parent.parent / "docs" / "reference" / "permissions.md"
PEOPLE = ("anonymous", "outsider", "viewer", "editor", "admin", "superuser")
KEYS = ("no key", "another team's", "ingest", "read", "write")
# Not ours, or the same for everybody: Django's administration, and what the API's own table lists.
ELSEWHERE = ("admin/", "api/v1/")


@dataclass(frozen=True)
class Row:
    """A line of the table: a method, an address, and what each caller gets."""

    method: str
    route: str
    outcomes: dict[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.route}"


def rows(columns: tuple[str, ...]) -> list[Row]:
    """The table that has these columns after method and address."""
    found: list[Row] = []
    is_inside = False
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]
        if tuple(cells[2:]) == columns:
            is_inside = True
        elif not line.startswith("|"):
            is_inside = False
        elif is_inside and not set(line) <= set("|- "):
            assert len(cells) == len(columns) + 2, line
            found.append(Row(cells[0], cells[1], dict(zip(columns, cells[2:], strict=True))))
    return found


PAGES, OPERATIONS = rows(PEOPLE), rows(KEYS)


def routes(patterns: list[Any], prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern).removeprefix("^").removesuffix("$")
        if isinstance(pattern, URLResolver):
            if not route.startswith(ELSEWHERE):
                yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route)


@cache
def all_routes() -> frozenset[str]:
    return frozenset(routes(get_resolver().url_patterns))


def test_the_table_names_every_page() -> None:
    assert {row.route for row in PAGES} == all_routes()


def test_the_table_names_every_operation() -> None:
    listed = {(row.method, row.route) for row in OPERATIONS}
    assert listed == {
        (method.upper(), path)
        for path, operations in api.get_openapi_schema()["paths"].items()
        for method in operations
    }


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def people(world: World) -> dict[str, User | None]:
    return {
        "anonymous": None,
        "outsider": make_person("outsider@example.com", team=world.other_team, role=Membership.Role.ADMIN),
        "viewer": make_person("viewer@example.com", team=world.team, role=Membership.Role.VIEWER),
        "editor": make_person("editor@example.com", team=world.team, role=Membership.Role.EDITOR),
        "admin": make_person("admin@example.com", team=world.team, role=Membership.Role.ADMIN),
        "superuser": User.objects.create_superuser("root@example.com"),
    }


def test_each_page_answers_each_person_as_the_table_says(
    world: World, people: dict[str, User | None]
) -> None:
    clients = {who: client_of(person) for who, person in people.items()}
    got = {
        (row.method, row.route): {
            who: outcome_of_page(undone(client, row.method, world.address(row.route)))
            for who, client in clients.items()
        }
        for row in PAGES
    }
    assert got == {(row.method, row.route): row.outcomes for row in PAGES}


def test_no_page_takes_a_method_that_the_table_does_not_list(
    world: World, people: dict[str, User | None]
) -> None:
    admin = client_of(people["admin"])
    listed = {(row.method, row.route) for row in PAGES}
    answers = {
        (method, route): undone(admin, method, world.address(route)).status_code
        for route in sorted({row.route for row in PAGES})
        for method in ("GET", "POST", "PUT", "DELETE")
        if (method, route) not in listed
    }
    assert answers == dict.fromkeys(answers, 405)


def test_each_operation_answers_each_key_as_the_table_says(world: World) -> None:
    got = {}
    for row in OPERATIONS:
        of_row = got[row.method, row.route] = {}
        for which in KEYS:
            token = world.tokens.get(which)
            status = undone(
                Client(raise_request_exception=False),
                row.method,
                world.address(row.route),
                data=world.body(row.method, row.route),
                content_type="application/json",
                headers={"Authorization": f"Bearer {token}"} if token else {},
            ).status_code
            of_row[which] = "yes" if status < 400 else str(status)
    assert got == {(row.method, row.route): row.outcomes for row in OPERATIONS}


def client_of(person: User | None) -> Client:
    client = Client(raise_request_exception=False)
    if person is not None:
        client.force_login(person)
    return client


def undone(client: Client, method: str, address: str, **request: Any) -> HttpResponse:
    """The answer to a request whose effects are taken back."""
    cookies = client.cookies.copy()
    with transaction.atomic():
        response = client.generic(method, address, **request)
        transaction.set_rollback(True)
    client.cookies = cookies  # a logout, or a changed password, takes the session with it
    return response


def outcome_of_page(response: HttpResponse) -> str:
    # /readyz says 503 where no worker runs, and says it to everybody.
    assert response.status_code in (503, *range(200, 500)), response.status_code
    if response.status_code in (302, 303) and response["Location"].startswith("/login/"):
        return "login"
    return str(response.status_code) if response.status_code in (403, 404) else "yes"
