"""Who is in a team: roles, invitations, and the pages that change them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from io import StringIO
from threading import Barrier

import pytest
import time_machine
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings

from budgets import invitations, teams
from budgets.account_mails import PER_HOUR_FROM_A_SOURCE, PER_HOUR_TO_AN_ADDRESS, forget
from budgets.errors import Refusal
from budgets.models import AccountMail, AuditEntry, Invitation, Membership, Team, User
from tests.budgets.test_pages import page, signed_in, text_of
from tests.concurrency import at_once, held, is_waiting
from tests.factories import NOW, make_team
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files", "at_now", "mail_server")]

PAGE = "/teams/assistants/"
Role = Membership.Role
NEW_PASSWORD = "seven purple lamps"


@pytest.fixture
def at_now() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def mail_server(settings: Settings) -> None:
    """As if one were configured; pytest-django keeps what is sent in mail.outbox."""
    settings.EMAIL_IS_CONFIGURED = True
    settings.PUBLIC_URL = "https://latency.example.org"


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


@pytest.fixture
def ada(team: Team) -> User:
    return make_person("ada@example.com", team=team, role=Role.ADMIN)


@pytest.fixture
def admin(ada: User) -> Client:
    return signed_in(ada)


def role_of(team: Team, user: User) -> str | None:
    return Membership.objects.filter(team=team, user=user).values_list("role", flat=True).first()


def mailed_link() -> str:
    """The path of the link in the latest mail."""
    found = re.search(r"https://latency\.example\.org(/invitations/\S+)", str(mail.outbox[-1].body))
    assert found, mail.outbox[-1].body
    return found[1]


def invite(admin: Client, email: str = "new@example.com", role: str = Role.EDITOR) -> str:
    response = admin.post(PAGE, {"email": email, "role": role})
    assert response.status_code == 302, text_of(response.content.decode())
    return mailed_link()


class TestRoles:
    def test_an_admin_gives_another_role(self, admin: Client, team: Team) -> None:
        bob = make_person("bob@example.com", team=team)

        response = admin.post(f"{PAGE}members/{bob.pk}/role/", {"role": "editor"}, follow=True)

        assert role_of(team, bob) == Role.EDITOR
        assert "bob@example.com is editor now." in text_of(response.content.decode())
        entry = AuditEntry.objects.get(action="member.role_changed")
        assert (entry.actor, entry.subject) == ("ada@example.com", "bob@example.com")
        assert (entry.before, entry.after) == ({"role": "viewer"}, {"role": "editor"})

    def test_a_team_keeps_its_last_admin(self, admin: Client, team: Team, ada: User) -> None:
        make_person("bob@example.com", team=team, role=Role.EDITOR)
        for address, data in (
            (f"{PAGE}members/{ada.pk}/role/", {"role": "viewer"}),
            (f"{PAGE}members/{ada.pk}/remove/", {}),
        ):
            response = admin.post(address, data, follow=True)
            assert "ada@example.com is the only admin of this team." in text_of(response.content.decode())
        assert role_of(team, ada) == Role.ADMIN
        assert not AuditEntry.objects.filter(action__startswith="member").exists()

    def test_an_admin_whose_account_is_switched_off_is_no_admin_that_stays(
        self, team: Team, ada: User
    ) -> None:
        off = make_person("off@example.com", team=team, role=Role.ADMIN)
        User.objects.filter(pk=off.pk).update(is_active=False)

        with pytest.raises(Refusal) as refused:
            teams.remove_member(team=team, user_id=ada.pk, actor="x", now=NOW)
        assert refused.value.code == "last_admin"

    def test_an_unknown_role_changes_nothing(self, admin: Client, team: Team) -> None:
        bob = make_person("bob@example.com", team=team)
        html = admin.post(f"{PAGE}members/{bob.pk}/role/", {"role": "owner"}, follow=True).content.decode()
        assert "A role is one of viewer, editor, admin, got 'owner'." in text_of(html)
        assert role_of(team, bob) == Role.VIEWER

    def test_the_zone_of_messages_is_changed_by_admins_and_recorded(self, admin: Client, team: Team) -> None:
        html = admin.post(f"{PAGE}time-zone/", {"time_zone": "Mars/Olympus"}).content.decode()
        assert "Expected the IANA name of a time zone such as Europe/Berlin" in text_of(html)
        assert 'value="Mars/Olympus"' in html
        assert not AuditEntry.objects.filter(action="team.time_zone_changed").exists()

        admin.post(f"{PAGE}time-zone/", {"time_zone": "Europe/Berlin"})

        team.refresh_from_db()
        entry = AuditEntry.objects.get(action="team.time_zone_changed")
        assert team.time_zone == "Europe/Berlin"
        assert (entry.before, entry.after) == ({"time_zone": "UTC"}, {"time_zone": "Europe/Berlin"})

    def test_removing_asks_first(self, admin: Client, team: Team) -> None:
        bob = make_person("bob@example.com", team=team)
        address = f"{PAGE}members/{bob.pk}/remove/"

        assert "Remove bob@example.com from Assistants ?" in text_of(page(admin, address))
        assert role_of(team, bob) == Role.VIEWER
        admin.post(address)

        assert role_of(team, bob) is None
        assert User.objects.filter(pk=bob.pk).exists()
        entry = AuditEntry.objects.get(action="member.removed")
        assert (entry.subject, entry.before, entry.after) == ("bob@example.com", {"role": "viewer"}, None)

    def test_everybody_may_leave(self, admin: Client, team: Team) -> None:
        bob = make_person("bob@example.com", team=team)
        response = signed_in(bob).post(f"{PAGE}members/{bob.pk}/remove/", follow=True)

        assert role_of(team, bob) is None
        assert "You are not in Assistants any more." in text_of(response.content.decode())
        assert "You are in no team yet" in text_of(response.content.decode())

    @pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR])
    def test_others_change_nobody(self, team: Team, ada: User, role: str) -> None:
        client = signed_in(make_person("other@example.com", team=team, role=role))
        pending = Invitation.objects.create(
            team=team,
            email="new@example.com",
            role=Role.VIEWER,
            invited_by="x",
            created_at=NOW,
            expires_at=NOW + timedelta(days=1),
        )
        html = page(client, PAGE)

        assert "ada@example.com" in html
        assert "new@example.com" not in html
        assert "Invite somebody" not in html
        for address in (
            PAGE,
            f"{PAGE}members/{ada.pk}/role/",
            f"{PAGE}members/{ada.pk}/remove/",
            f"{PAGE}invitations/{pending.pk}/resend/",
            f"{PAGE}invitations/{pending.pk}/withdraw/",
        ):
            assert client.post(address, {"email": "a@example.com", "role": "admin"}).status_code == 403
        assert role_of(team, ada) == Role.ADMIN
        assert mail.outbox == []

    def test_to_an_outsider_nothing_of_it_exists(self, team: Team, ada: User) -> None:
        outsider = signed_in(make_person("outsider@example.com", team=make_team(), role=Role.ADMIN))
        for address in (PAGE, f"{PAGE}members/{ada.pk}/role/", f"{PAGE}members/{ada.pk}/remove/"):
            assert outsider.post(address, {"role": "viewer"}).status_code == 404

    def test_queries_do_not_grow_with_members(self, admin: Client, team: Team) -> None:
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        def count() -> int:
            with CaptureQueriesContext(connection) as queries:
                page(admin, PAGE)
            return len(queries)

        make_person("first@example.com", team=team)
        few = count()
        for number in range(20):
            make_person(f"member-{number}@example.com", team=team)
        assert count() == few


@pytest.mark.django_db(transaction=True)
def test_two_admins_who_leave_at_once_leave_one(team: Team, ada: User) -> None:
    bob = make_person("bob@example.com", team=team, role=Role.ADMIN)
    barrier = Barrier(2)

    def leave(user: User) -> str:
        barrier.wait()
        try:
            teams.remove_member(team=team, user_id=user.pk, actor=user.email, now=NOW)
        except Refusal as refusal:
            return refusal.code
        return "left"

    assert sorted(at_once(lambda: leave(ada), lambda: leave(bob))) == ["last_admin", "left"]
    assert Membership.objects.filter(team=team, role=Role.ADMIN).count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_teams_links_used_at_once_one_makes_the_account(team: Team) -> None:
    invited = [
        invitations.invite(
            team=one, email="new@example.com", role=Role.VIEWER, actor="ada@example.com", now=NOW
        ).invitation
        for one in (team, make_team(slug="search"))
    ]

    def accept(invitation: Invitation) -> str:
        try:
            invitations.accept_as_new(invitation=invitation, password=NEW_PASSWORD, now=NOW)
        except Refusal as refusal:
            return refusal.code
        return "made"

    with held("LOCK TABLE budgets_user IN SHARE MODE") as start:
        done = [start(partial(accept, one)) for one in invited]
        assert is_waiting("budgets_user", count=2)

    assert sorted(one.result() for one in done) == ["account_exists", "made"]
    assert Invitation.objects.pending().count() == 1


class TestTeams:
    def test_a_superuser_makes_a_team_and_is_its_admin(self) -> None:
        root = User.objects.create_superuser("root@example.com", PASSWORD)
        client = signed_in(root)

        response = client.post("/teams/", {"name": "On-call  Ingénierie", "slug": ""}, follow=True)

        made = Team.objects.get(slug="on-call-ingenierie")
        assert made.name == "On-call Ingénierie"
        assert role_of(made, root) == Role.ADMIN
        assert "On-call Ingénierie is there" in text_of(response.content.decode())
        assert response.redirect_chain == [("/features/new/", 302)], "the first team's first feature is next"
        assert [e.action for e in AuditEntry.objects.filter(team=made)] == ["member.added", "team.created"]

    def test_a_name_that_is_taken_or_wrong_is_said_at_the_field(self, team: Team) -> None:
        client = signed_in(User.objects.create_superuser("root@example.com", PASSWORD))

        taken = client.post("/teams/", {"name": "Assistants 2", "slug": "assistants"})
        wrong = client.post("/teams/", {"name": "日本", "slug": ""})

        assert (taken.status_code, wrong.status_code) == (400, 400)
        assert "There is a team 'assistants' already." in text_of(taken.content.decode())
        assert 'value="Assistants 2"' in taken.content.decode()
        assert "Small letters, digits and single hyphens" in text_of(wrong.content.decode())
        assert Team.objects.count() == 1

    def test_others_make_none(self, admin: Client) -> None:
        assert "New team" not in text_of(page(admin, "/teams/"))
        assert admin.post("/teams/", {"name": "Mine", "slug": "mine"}).status_code == 403
        assert not Team.objects.filter(slug="mine").exists()

    def test_a_person_without_a_team_is_told_what_to_do(self) -> None:
        text = text_of(page(signed_in(make_person("new@example.com")), "/teams/"))
        assert "You are in no team yet" in text
        assert "Ask an admin of your team to invite new@example.com" in text


class TestInvitation:
    def test_somebody_new_chooses_a_password_and_is_in_the_team(self, admin: Client, team: Team) -> None:
        link = invite(admin, "New@Example.com ")
        assert mail.outbox[-1].to == ["new@example.com"]
        assert mail.outbox[-1].subject == "Join team Assistants on Latency Dashboard"
        visitor = Client()

        html = page(visitor, link)
        assert "ada@example.com invites you as Editor." in text_of(html)
        response = visitor.post(
            link, {"new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}, follow=True
        )

        assert response.redirect_chain == [(PAGE, 302)]
        assert "Welcome to Assistants." in text_of(response.content.decode())
        user = User.objects.get(email="new@example.com")
        assert role_of(team, user) == Role.EDITOR
        assert (user.is_staff, user.is_superuser) == (False, False)
        logged_in = Client().post("/login/", {"username": "new@example.com", "password": NEW_PASSWORD})
        assert logged_in.status_code == 302

    def test_the_way_in_is_written_down(self, admin: Client, team: Team) -> None:
        link = invite(admin)
        Client().post(link, {"new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD})

        entries = [(e.action, e.actor, e.subject) for e in AuditEntry.objects.order_by("pk")]
        assert entries == [
            ("invitation.created", "ada@example.com", "new@example.com"),
            ("user.created", "new@example.com", "new@example.com"),
            ("invitation.accepted", "new@example.com", "new@example.com"),
            ("member.added", "new@example.com", "new@example.com"),
        ]
        assert link.split("/")[2] not in str(list(AuditEntry.objects.values()))

    def test_a_password_is_judged_as_everywhere(self, admin: Client) -> None:
        link = invite(admin)
        response = Client().post(link, {"new_password1": "password1", "new_password2": "password1"})

        assert response.status_code == 400
        assert "too common" in text_of(response.content.decode())
        assert not User.objects.filter(email="new@example.com").exists()

    def test_who_has_an_account_logs_in_and_joins(self, admin: Client, team: Team) -> None:
        person = make_person("new@example.com")
        link, visitor = invite(admin), Client()

        html = page(visitor, link)
        assert "There is an account of new@example.com." in text_of(html)
        assert "New password" not in html
        # A password cannot be set for an account that is there.
        assert (
            visitor.post(link, {"new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}).status_code
            == 200
        )
        person.refresh_from_db()
        assert person.check_password(PASSWORD)
        came_back = visitor.post(
            "/login/", {"username": "new@example.com", "password": PASSWORD, "next": link}
        )
        assert came_back["Location"] == link
        assert "Join as new@example.com" in text_of(page(visitor, link))
        assert role_of(team, person) is None
        visitor.post(link)

        assert role_of(team, person) == Role.EDITOR

    def test_a_link_works_once(self, admin: Client) -> None:
        link = invite(admin)
        Client().post(link, {"new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD})

        again = Client().post(
            link, {"new_password1": "another good one", "new_password2": "another good one"}
        )

        assert again.status_code == 410
        assert "This invitation was used" in text_of(again.content.decode())
        assert User.objects.get(email="new@example.com").check_password(NEW_PASSWORD)

    def test_a_link_is_for_its_address_alone(self, admin: Client, team: Team) -> None:
        link = invite(admin)
        eve = make_person("eve@example.com")

        for response in (signed_in(eve).get(link), signed_in(eve).post(link)):
            assert response.status_code == 403
            said = text_of(response.content.decode())
            assert "It is for new@example.com, and you are logged in as eve@example.com." in said
        assert role_of(team, eve) is None
        assert Invitation.objects.get().status == "pending"

    def test_a_link_expires_after_seven_days(self, admin: Client) -> None:
        link = invite(admin)
        with time_machine.travel(NOW + timedelta(days=7, seconds=-1), tick=False):
            assert Client().get(link).status_code == 200
        with time_machine.travel(NOW + timedelta(days=7), tick=False):
            response = Client().post(link, {"new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD})
            assert response.status_code == 410
            assert "This invitation has expired" in text_of(response.content.decode())
            assert not User.objects.filter(email="new@example.com").exists()
            assert "Expired" in text_of(page(signed_in(User.objects.get(email="ada@example.com")), PAGE))

    def test_sent_again_the_same_link_works_for_seven_days_more(self, admin: Client) -> None:
        link = invite(admin)
        with time_machine.travel(NOW + timedelta(days=8), tick=False):
            again = signed_in(User.objects.get(email="ada@example.com"))
            again.post(f"{PAGE}invitations/{Invitation.objects.get().pk}/resend/")
            assert mailed_link() == link
            assert Client().get(link).status_code == 200
        assert AuditEntry.objects.filter(action="invitation.resent").count() == 1

    def test_withdrawn_it_says_so(self, admin: Client) -> None:
        link = invite(admin)
        address = f"{PAGE}invitations/{Invitation.objects.get().pk}/withdraw/"
        assert "Withdrawn" in text_of(admin.post(address, follow=True).content.decode())

        response = Client().get(link)
        assert response.status_code == 410
        assert "This invitation was withdrawn" in text_of(response.content.decode())
        # A second time, by whoever still has the list open.
        assert "was withdrawn" in text_of(admin.post(address, follow=True).content.decode())
        assert AuditEntry.objects.filter(action="invitation.withdrawn").count() == 1
        assert invite(admin) != link

    @pytest.mark.parametrize("change", ["cut", "number", "nonsense"])
    def test_a_link_that_was_never_sent_leads_nowhere(self, admin: Client, change: str) -> None:
        link = invite(admin)
        number, _, signature = link.split("/")[2].partition(".")
        wrong = {
            "cut": f"{number}.{signature[:-4]}",
            "number": f"{int(number) + 1}.{signature}",
            "nonsense": "x",
        }[change]

        response = Client().get(f"/invitations/{wrong}/")

        assert response.status_code == 404
        assert "This link leads nowhere" in text_of(response.content.decode())

    def test_an_account_that_is_switched_off_stays_out(self, admin: Client, team: Team) -> None:
        person = make_person("new@example.com")
        User.objects.filter(pk=person.pk).update(is_active=False)
        link = invite(admin)

        response = Client().post(link, {"new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD})

        assert response.status_code == 403
        assert "Your account cannot log in" in text_of(response.content.decode())
        assert role_of(team, person) is None

    @pytest.mark.parametrize(
        ("email", "said"),
        [
            ("ada@example.com", "ada@example.com is in this team already"),
            ("first@example.com", "first@example.com was invited on 21 Nov 2026, 20:00 UTC."),
            ("nobody", "Expected an e-mail address such as ada@example.com."),
            ("a@example.com\nBcc: b@example.com", "Expected an e-mail address"),
        ],
    )
    def test_who_cannot_be_invited_is_said_at_the_field(self, admin: Client, email: str, said: str) -> None:
        invite(admin, "first@example.com")

        response = admin.post(PAGE, {"email": email, "role": "admin"})

        assert response.status_code == 400
        assert said in text_of(response.content.decode())
        assert 'value="admin" selected' in response.content.decode()
        assert len(mail.outbox) == 1

    def test_a_mailbox_is_not_flooded(self, admin: Client) -> None:
        invite(admin)
        address = f"{PAGE}invitations/{Invitation.objects.get().pk}/resend/"
        for _ in range(PER_HOUR_TO_AN_ADDRESS + 3):
            html = admin.post(address, follow=True).content.decode()

        assert len(mail.outbox) == PER_HOUR_TO_AN_ADDRESS
        assert "you can ask again after 21 Nov 2026, 21:00:30 UTC" in text_of(html)
        # Another team's admin does not get around it.
        other = make_team()
        with pytest.raises(Refusal, match="to one address"):
            invitations.invite(team=other, email="new@example.com", role="viewer", actor="x", now=NOW)
        with time_machine.travel(NOW + timedelta(hours=1), tick=False):
            again = signed_in(User.objects.get(email="ada@example.com"))
            again.post(address)
            assert len(mail.outbox) == PER_HOUR_TO_AN_ADDRESS + 1

    def test_one_admin_does_not_mail_to_the_whole_world(self, team: Team) -> None:
        for number in range(PER_HOUR_FROM_A_SOURCE):
            invitations.invite(
                team=team, email=f"p{number}@example.com", role="viewer", actor="ada@example.com", now=NOW
            )
        with pytest.raises(Refusal, match="from one place"):
            invitations.invite(
                team=team, email="one-more@example.com", role="viewer", actor="ada@example.com", now=NOW
            )
        assert not Invitation.objects.filter(email="one-more@example.com").exists()
        assert forget(now=NOW + timedelta(days=1)) == 0
        assert forget(now=NOW + timedelta(days=1, seconds=1)) == PER_HOUR_FROM_A_SOURCE
        assert not AccountMail.objects.exists()

    def test_without_a_mail_server_the_admin_passes_the_link_on(
        self, admin: Client, settings: Settings
    ) -> None:
        assert "They get a mail with a link" in text_of(page(admin, PAGE))
        settings.EMAIL_IS_CONFIGURED = False
        assert "You pass on a link that works once" in text_of(page(admin, PAGE))
        response = admin.post(PAGE, {"email": "new@example.com", "role": "viewer"})

        html = response.content.decode()
        assert "no-store" in response["Cache-Control"]
        assert "Pass this link on to new@example.com" in text_of(html)
        found = re.search(r'id="invitation-link"[^>]*><code>https://latency.example.org(\S+)</code>', html)
        assert found
        assert Client().get(found[1]).status_code == 200
        assert "not sent" in text_of(page(admin, PAGE))

    def test_with_a_mail_server_nobody_but_the_mailbox_gets_the_link(self, admin: Client) -> None:
        response = admin.post(PAGE, {"email": "new@example.com", "role": "viewer"}, follow=True)
        assert mailed_link() not in response.content.decode()

    def test_a_mail_server_that_is_away_leaves_the_invitation_and_says_so(
        self, admin: Client, settings: Settings
    ) -> None:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9

        html = admin.post(PAGE, {"email": "new@example.com", "role": "viewer"}, follow=True).content.decode()

        assert "is invited, but the mail could not be sent (ConnectionRefusedError" in text_of(html)
        assert "not sent" in text_of(html)
        assert "/invitations/" in html
        assert Invitation.objects.get().sent_at is None


def test_the_first_account_and_its_team_are_written_down_once() -> None:
    for _ in range(2):
        call_command(
            "ensure_admin",
            "--email",
            "Root@example.com",
            "--password",
            PASSWORD,
            "--team",
            "ops",
            stdout=StringIO(),
        )

    root = User.objects.get(email="root@example.com")
    assert role_of(Team.objects.get(slug="ops"), root) == Role.ADMIN
    assert [(e.actor, e.action) for e in AuditEntry.objects.order_by("pk")] == [
        ("manage.py ensure_admin", action) for action in ("user.created", "team.created", "member.added")
    ]
    with pytest.raises(CommandError, match="Small letters, digits and single hyphens"):
        call_command(
            "ensure_admin", "--email", root.email, "--password", PASSWORD, "--team", "a b", stdout=StringIO()
        )
