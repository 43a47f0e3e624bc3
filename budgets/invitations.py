"""Inviting somebody into a team by a link in a mail, and what becomes of the invitation."""

from __future__ import annotations

import logging
import smtplib
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.urls import reverse

from . import audit, formats
from .account_mails import count_mail, send_text
from .errors import Refusal
from .models import AccountMail, Invitation, Membership, Team, User
from .teams import add_member

log = logging.getLogger(__name__)

Status = Invitation.Status

LASTS = timedelta(days=7)
_signer = signing.Signer(sep=".", salt="budgets.invitations")


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation, which is there whether or not its mail could be sent.

    `failure` says why the mail server refused. `link` is for the admin to pass on, where there is no mail
    server at all; where there is one, only who reads the mail gets it.
    """

    invitation: Invitation
    failure: str = ""
    link: str = ""


def invite(*, team: Team, email: str, role: str, actor: str, now: datetime) -> Invited:
    """Makes an invitation and mails its link. Raises Refusal: invalid_invitation or too_many_mails."""
    email, fields = email.strip().lower(), {}
    try:
        validate_email(email)
    except ValidationError:
        fields["email"] = [f"Expected an e-mail address such as ada@example.com, got {email!r:.100}."]
    if role not in Membership.Role.values:
        fields["role"] = [f"A role is one of {', '.join(Membership.Role.values)}, got {role!r:.100}."]
    if not fields:
        if Membership.objects.filter(team=team, user__email=email).exists():
            fields["email"] = [f"{email} is in this team already; change the role in the list above."]
        elif earlier := Invitation.objects.pending().filter(team=team, email=email).first():
            fields["email"] = [
                f"{email} was invited on {formats.instant(earlier.created_at)}. Send that invitation again, or "
                "withdraw it to invite with another role."
            ]
    if fields:
        said = " ".join(sentence for sentences in fields.values() for sentence in sentences)
        raise Refusal("invalid_invitation", f"{said} Nobody was invited.", fields=fields)
    with transaction.atomic():
        count_mail(kind=AccountMail.Kind.INVITATION, address=email, source=actor, now=now)
        invitation, is_new = Invitation.objects.get_or_create(
            team=team,
            email=email,
            status=Status.PENDING,
            defaults={"role": role, "invited_by": actor, "created_at": now, "expires_at": now + LASTS},
        )
        if is_new:
            _record(invitation, "invitation.created", actor, now, before=None, after=_audited(invitation))
    return _send(invitation, now)


def resend(*, invitation: Invitation, actor: str, now: datetime) -> Invited:
    """Mails the link again, which from now on works for LASTS. Raises Refusal: settled or too_many_mails."""
    with transaction.atomic():
        found = _pending(invitation.pk)
        count_mail(kind=AccountMail.Kind.INVITATION, address=found.email, source=actor, now=now)
        before = _audited(found)
        found.expires_at = now + LASTS
        found.save(update_fields=["expires_at"])
        _record(found, "invitation.resent", actor, now, before=before, after=_audited(found))
    return _send(found, now)


def withdraw(*, invitation: Invitation, actor: str, now: datetime) -> Invitation:
    """Makes the link worthless. Raises Refusal("settled")."""
    with transaction.atomic():
        found = _pending(invitation.pk)
        _settle(found, Status.WITHDRAWN, "invitation.withdrawn", actor, now)
    return found


def find(token: str) -> Invitation | None:
    """The invitation that a link leads to, in whatever state; None for a link that was never sent."""
    try:
        pk = int(_signer.unsign(token))
    except (signing.BadSignature, ValueError):
        return None
    return Invitation.objects.select_related("team").filter(pk=pk).first()


def accept(*, invitation: Invitation, user: User, now: datetime) -> bool:
    """Takes the person into the team; False where they were in it already. Raises Refusal.

    settled where the link was used or withdrawn, expired, or for_another_account where the person has not the
    address that was invited.
    """
    with transaction.atomic():
        found = _pending(invitation.pk)
        _require_open(found, now)
        if user.email.lower() != found.email:
            raise Refusal("for_another_account", f"This invitation is for {found.email}.", status=403)
        _settle(found, Status.ACCEPTED, "invitation.accepted", user.email, now)
        return add_member(
            team=found.team, user=user, role=Membership.Role(found.role), actor=user.email, now=now
        )


def accept_as_new(*, invitation: Invitation, password: str, now: datetime) -> User:
    """Makes the account of the address that was invited, with this password, and takes it into the team.

    Raises Refusal as `accept` does, and account_exists: an account that is there is entered by its own password,
    whoever holds the link.
    """
    with transaction.atomic():
        found = _pending(invitation.pk)
        _require_open(found, now)
        try:
            with transaction.atomic():
                user = User.objects.create_user(found.email, password)
        except IntegrityError as error:
            # Maybe only just, by another team's invitation.
            message = f"{found.email} has an account: log in with it."
            raise Refusal("account_exists", message, status=409) from error
        audit.record(
            team=None,
            actor=found.email,
            action="user.created",
            subject=found.email,
            before=None,
            after={"invited_by": found.invited_by, "team": found.team.slug},
            now=now,
        )
        accept(invitation=found, user=user, now=now)
    return user


def link_of(invitation: Invitation) -> str:
    """The address that the mail names."""
    return str(settings.PUBLIC_URL) + reverse("invitation", args=[_signer.sign(str(invitation.pk))])


def _send(invitation: Invitation, now: datetime) -> Invited:
    """Outside any transaction: a mail server may take its time, and a sent mail cannot be taken back."""
    link = link_of(invitation)
    try:
        send_text("invitation", to=invitation.email, context={"invitation": invitation, "link": link})
    except (OSError, smtplib.SMTPException) as error:
        log.warning("The invitation of team %s could not be mailed: %s", invitation.team.slug, error)
        return Invited(invitation, failure=f"{type(error).__name__}: {error}"[:300])
    if not settings.EMAIL_IS_CONFIGURED:
        return Invited(invitation, link=link)
    invitation.sent_at = now
    Invitation.objects.filter(pk=invitation.pk).update(sent_at=now)
    return Invited(invitation)


def _pending(pk: int) -> Invitation:
    found = Invitation.objects.select_for_update(of=("self",)).select_related("team").get(pk=pk)
    if found.status != Status.PENDING:
        raise Refusal(
            "settled",
            f"The invitation of {found.email} was {found.get_status_display().lower()}.",
            status=409,
        )
    return found


def _require_open(invitation: Invitation, now: datetime) -> None:
    if invitation.has_expired(now):
        raise Refusal("expired", "This invitation has expired.", status=410)


def _settle(invitation: Invitation, status: Status, action: str, actor: str, now: datetime) -> None:
    before = _audited(invitation)
    invitation.status, invitation.settled_at = status, now
    invitation.save(update_fields=["status", "settled_at"])
    _record(invitation, action, actor, now, before=before, after=_audited(invitation))


def _record(
    invitation: Invitation,
    action: str,
    actor: str,
    now: datetime,
    *,
    before: dict[str, str | None] | None,
    after: dict[str, str | None],
) -> None:
    audit.record(
        team=invitation.team,
        actor=actor,
        action=action,
        subject=invitation.email,
        before=before,
        after=after,
        now=now,
    )


def _audited(invitation: Invitation) -> dict[str, str | None]:
    return {
        "role": str(invitation.role),
        "status": str(invitation.status),
        "expires_at": audit.instant(invitation.expires_at),
    }
