"""Whatever a name or a text is made of, a page shows it as text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from django.test import Client

from budgets.models import User
from tests.hostile import PRODUCT, make_hostile_world
from tests.test_permissions import PAGES

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]

# What is there for people who are not signed in, or is no page.
ELSEWHERE = (
    "/healthz",
    "/readyz",
    "/metrics",
    "/login/",
    "/invitations/",
    "/password/",
    "/api/",
    "/patterns/",
)


class _Elements(HTMLParser):
    """What a browser would make of a page, as far as a text could have put it there."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.injected: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        is_inline = tag == "script" and "src" not in names
        if tag in ("img", "b", "iframe") or is_inline or any(name.startswith("on") for name in names):
            self.injected.append(self.get_starttag_text() or tag)


def test_no_page_takes_a_text_for_html_or_for_a_template() -> None:
    world, found, pages = make_hostile_world(), [], 0
    client = Client()
    client.force_login(User.objects.create_superuser("root@example.com"))
    for row in PAGES:
        if row.method != "GET" or row.route.startswith(ELSEWHERE) or "{token}" in row.route:
            continue
        response = client.get(world.address(row.route), follow=True)
        assert response.status_code == 200, (row.route, response.status_code)
        if response["Content-Type"].startswith("text/html"):
            html, pages = response.content.decode(), pages + 1
            found += [f"{row.route}: {one}" for one in _Elements(html).injected]
            found += [f"{row.route}: a template ran"] * (PRODUCT in html)
    assert found == []
    assert pages > 45
