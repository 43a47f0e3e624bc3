"""Each list page says in an empty state what is missing: nothing yet, no match or all clear; and offers one action."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.utils import timezone

from budgets.models import Membership, Team, User
from tests.api import Api
from tests.budgets.test_pages import page, signed_in, text_of
from tests.factories import make_channel, make_feature, make_key, make_team, make_traffic, measurement
from tests.people import PASSWORD, make_person
from tests.world import make_world

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]

NOTHING_YET = {
    "/incidents/": "No incident yet",
    "/archived/": "No feature is archived",
    "/features/support-chat/rules/": "Nothing is watched yet",
    "/features/support-chat/versions/": "No latency budget has been declared",
    "/features/support-chat/annotations/": "Nothing is marked yet",
    "/features/support-chat/": "No milestone has been declared or measured",
    "/teams/assistants/keys/": "No key works",
    "/teams/assistants/batches/": "Nothing was received yet",
    "/teams/assistants/rejected/": "Nothing was received yet",
    "/teams/assistants/channels/": "Nobody is told of this team's incidents",
    "/teams/assistants/escalation/": "Every channel hears of every incident at once",
    "/teams/assistants/schedules/": "Nobody is on call",
    "/teams/assistants/silences/": "Nothing is silenced: all clear",
    "/teams/assistants/maintenance/": "No maintenance window",
}
NO_MATCH = {
    "/?state=breached": "All clear: no feature is breached.",
    "/?state=at_risk": "All clear: no feature is at risk.",
    "/?state=no_data": "No feature is in this state.",
    "/incidents/?state=acknowledged": "All clear",
    "/incidents/?state=resolved": "No incident matches",
    "/incidents/?feature=nowhere": "No incident matches",
    "/teams/assistants/batches/?state=failed": "No batch fits",
    "/teams/assistants/audit/?action=user.created": "No change matches",
}


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


def client_of(team: Team, role: Membership.Role) -> Client:
    return signed_in(make_person(f"{role}@example.com", team=team, role=role))


def empty_state(html: str) -> tuple[str, list[str]]:
    """Its title, and the texts of its actions."""
    [region] = re.findall(r'<div class="empty">(.*?)</div>', html, re.S)
    title = re.search(r'class="empty-title">(.*?)</p>', region, re.S)
    assert title is not None, region
    return text_of(title[1]).strip(), re.findall(r'<a class="button[^"]*" href="[^"]+">', region)


@pytest.mark.parametrize("role", [Membership.Role.VIEWER, Membership.Role.ADMIN])
def test_where_there_is_nothing_yet_a_page_says_so_and_offers_one_action(
    team: Team, role: Membership.Role
) -> None:
    make_feature(team=team, slug="support-chat", components=[], latency_budgets=[])
    client, found = client_of(team, role), {}
    for address in NOTHING_YET:
        title, actions = empty_state(page(client, address))
        found[address] = (title.startswith(NOTHING_YET[address]) or title, len(actions))
    assert found == dict.fromkeys(NOTHING_YET, (True, 1))


def test_where_nothing_matches_or_all_is_clear_a_page_says_which_and_leads_back() -> None:
    world = make_world()
    client = client_of(world.team, Membership.Role.VIEWER)
    make_traffic(world.feature, at=timezone.now(), count=100, over=0, milestone="first_token")
    found = {}
    for address in NO_MATCH:
        title, actions = empty_state(page(client, address))
        found[address] = (title.startswith(NO_MATCH[address]) or title, len(actions))
    assert found == dict.fromkeys(NO_MATCH, (True, 1))


def test_rejected_payloads_are_nothing_yet_all_clear_or_of_another_key(team: Team) -> None:
    client = client_of(team, Membership.Role.VIEWER)
    feature = make_feature(team=team, slug="support-chat", now=timezone.now())
    address = "/teams/assistants/rejected/"
    html = page(client, address)
    assert empty_state(html)[0] == "Nothing was received yet"
    assert 'href="/features/support-chat/start/"' in html

    _, token = make_key(team, "ingest", now=timezone.now())
    good = measurement(feature, ended_at=timezone.now(), duration_ms=900, milestone="first_token")
    assert Api(team, token).post({"measurements": [good]}).status_code == 200
    assert empty_state(page(client, address))[0] == "All clear: nothing was rejected"

    assert Api(team, token).post(b"{").status_code == 400
    other, _ = make_key(team, "ingest", now=timezone.now())
    assert 'class="empty"' not in page(client, address)
    assert empty_state(page(client, f"{address}?key={other.prefix}"))[0] == "Nothing of this key was rejected"


def test_a_channel_to_which_nothing_was_sent_leads_to_its_test(team: Team) -> None:
    client = client_of(team, Membership.Role.EDITOR)
    html = page(client, f"/teams/assistants/channels/{make_channel(team).pk}/")
    assert empty_state(html)[0] == "Nothing was sent yet"
    assert 'href="#test"' in html
    assert 'id="test"' in html


def test_an_installation_without_teams_and_a_team_without_people_say_how_to_begin() -> None:
    client = signed_in(User.objects.create_superuser("root@example.com", PASSWORD))
    for address, title in (("/", "Make a team first"), ("/teams/", "No team yet")):
        assert (empty_state(page(client, address))[0], len(empty_state(page(client, address))[1])) == (
            title,
            1,
        )
    make_team(slug="deserted")
    html = page(client, "/teams/deserted/")
    assert empty_state(html) == ("Nobody is in this team", ['<a class="button button-large" href="#invite">'])
    assert 'id="invite"' in html
