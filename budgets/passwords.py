"""Forgotten passwords: asked for in a request that tells nothing, mailed by a worker."""

from __future__ import annotations

import logging
import smtplib
from datetime import datetime, timedelta

from axes.utils import reset as lift_lock
from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from . import audit
from .account_mails import count_mail, send_text
from .models import AccountMail, User

log = logging.getLogger(__name__)

TRIED_EVERY = timedelta(minutes=1)
TRIED_FOR = timedelta(hours=1)
# A run ends after so many, so that no task takes for ever; the next sweep goes on.
MAILS_A_RUN = 50


def ask_for_reset(*, email: str, source: str, now: datetime) -> None:
    """Has a link mailed to the address if it has an account. Raises Refusal("too_many_mails").

    Whether it has one is looked up by the worker: an answer takes as long, and is refused as soon, for one
    address as for any other.
    """
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        return
    with transaction.atomic():
        count_mail(kind=AccountMail.Kind.PASSWORD_RESET, address=email, source=source, now=now, due_at=now)


def send_due_resets(*, now: datetime) -> int:
    """Mails the links that were asked for; how many. What the mail server refuses is tried again for an hour."""
    sent = 0
    for _ in range(MAILS_A_RUN):
        mail = _claim(now)
        if mail is None:
            break
        user = User.objects.filter(email=mail.address, is_active=True).first()
        is_sent = user is not None and user.has_usable_password()
        if user is not None and is_sent:
            try:
                send_text("password_reset", to=user.email, context={"link": reset_link(user)})
            except (OSError, smtplib.SMTPException) as error:
                log.warning("A link for a new password could not be mailed: %s", error)
                continue
        AccountMail.objects.filter(pk=mail.pk).update(due_at=None, sent_at=now if is_sent else None)
        sent += is_sent
    return sent


def reset_link(user: User) -> str:
    """An address at which the person sets a new password: once, for PASSWORD_RESET_TIMEOUT."""
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    token = default_token_generator.make_token(user)
    return str(settings.PUBLIC_URL) + reverse("password-reset-confirm", args=[uid, token])


def note_new_password(*, user: User, action: str, now: datetime) -> None:
    """Writes down that a person has a new password, and lifts the lock that guesses at the old one brought."""
    audit.record(
        team=None, actor=user.email, action=action, subject=user.email, before=None, after={}, now=now
    )
    lift_lock(username=user.email)


def _claim(now: datetime) -> AccountMail | None:
    """One that is due, ours for TRIED_EVERY: a worker that dies leaves it to the next."""
    with transaction.atomic():
        due = AccountMail.objects.select_for_update(skip_locked=True).filter(due_at__lte=now)
        due.filter(asked_at__lt=now - TRIED_FOR).update(due_at=None)
        mail = due.order_by("due_at").first()
        if mail is not None:
            mail.due_at = now + TRIED_EVERY
            mail.save(update_fields=["due_at"])
    return mail
