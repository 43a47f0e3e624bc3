"""Mails with links that give access: how many may be asked for, and how they are written.

They are counted in PostgreSQL, so that the bound holds whether or not Redis is there.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.mail import send_mail
from django.template.loader import render_to_string

from . import formats, locks
from .errors import Refusal
from .models import AccountMail

# A person who finds no mail asks again once or twice; whoever asks more often floods somebody's mailbox.
PER_HOUR_TO_AN_ADDRESS = 3
# From one network address, or by one admin.
PER_HOUR_FROM_A_SOURCE = 30
_HOUR = timedelta(hours=1)
KEPT_FOR = timedelta(days=1)


def count_mail(
    *, kind: AccountMail.Kind, address: str, source: str, now: datetime, due_at: datetime | None = None
) -> AccountMail:
    """Notes that a mail was asked for; with `due_at`, a worker sends it.

    Raises Refusal("too_many_mails", status 429) where the address or the source had its share of this hour.
    Call it in a transaction: whoever asks at the same time waits for its end.
    """
    locks.lock(locks.ACCOUNT_MAILS)
    recent = AccountMail.objects.filter(kind=kind, asked_at__gt=now - _HOUR).order_by("-asked_at")
    for asked, most, whom in (
        (recent.filter(address=address), PER_HOUR_TO_AN_ADDRESS, "to one address"),
        (recent.filter(source=source), PER_HOUR_FROM_A_SOURCE, "from one place"),
    ):
        latest = list(asked.values_list("asked_at", flat=True)[:most])
        if len(latest) == most:
            again_at = latest[-1] + _HOUR
            raise Refusal(
                "too_many_mails",
                f"At most {most} such mails an hour are sent {whom}. Look into the folder for spam; you can ask "
                f"again after {formats.instant(again_at, seconds=True)}.",
                status=429,
            )
    return AccountMail.objects.create(
        kind=kind, address=address, source=source[:300], asked_at=now, due_at=due_at
    )


def send_text(name: str, *, to: str, context: dict[str, Any]) -> None:
    """Sends templates/mails/<name>.txt, of which the first line is the subject. Raises what the mail server does."""
    written = render_to_string(f"mails/{name}.txt", {"public_url": settings.PUBLIC_URL, **context})
    subject, _, body = written.partition("\n")
    send_mail(" ".join(subject.split()), body.strip() + "\n", None, [to])


def forget(*, now: datetime) -> int:
    """Deletes what is not counted any more; how many rows."""
    deleted, _ = AccountMail.objects.filter(asked_at__lt=now - KEPT_FOR).delete()
    return deleted
