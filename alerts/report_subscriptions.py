"""Who gets a team's reports by mail: members, each for themselves, weekly or monthly.

A subscription belongs to a membership and ends with it. It also ends by the link in each mail, which works without
logging in: whoever holds the link can end this one subscription, and do nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.urls import reverse

from budgets import audit, storable
from budgets.errors import Refusal
from budgets.models import Membership, Team, User
from budgets.zones import is_zone

from .models import ReportPeriod, ReportSubscription
from .report_periods import Kind, running

_SALT: Final = "alerts.report_subscriptions"
MAX_ENVIRONMENT_CHARACTERS: Final = 200


def subscribe(
    *, user: User, team: Team, period: str, environment: str, time_zone: str, now: datetime
) -> ReportSubscription:
    """Has the team's report mailed to a member; whoever gets it already gets it as said now.

    Raises Refusal: `invalid_report` for a period, a time zone or an environment that cannot be, `unknown_member`.
    """
    fields: dict[str, list[str]] = {}
    if period not in ReportPeriod.values:
        fields["period"] = [f"A report is of a week or a month, not {period!r:.50}."]
    if not is_zone(time_zone):
        fields["time_zone"] = [
            f"Expected the IANA name of a time zone such as Europe/Berlin, got {time_zone!r:.100}."
        ]
    if not 1 <= len(environment) <= MAX_ENVIRONMENT_CHARACTERS or not storable.is_storable(environment):
        fields["environment"] = [
            f"An environment has a name of 1 to {MAX_ENVIRONMENT_CHARACTERS} characters, without U+0000."
        ]
    if fields:
        raise Refusal.of("invalid_report", fields)
    with transaction.atomic():
        membership = _membership(user, team)
        if membership is None:
            raise Refusal(
                "unknown_member",
                f"Reports are mailed to members of a team, and {user.email} is not in {team.name}.",
                status=409,
            )
        before = ReportSubscription.objects.filter(membership=membership, period=period).first()
        saved, _ = ReportSubscription.objects.update_or_create(
            membership=membership,
            period=period,
            defaults={
                "environment": environment,
                "time_zone": time_zone,
                "due_at": next_due_at(Kind(period), time_zone, now=now),
            },
            create_defaults={
                "environment": environment,
                "time_zone": time_zone,
                "due_at": next_due_at(Kind(period), time_zone, now=now),
                "created_at": now,
            },
        )
        audit.record(
            team=team,
            actor=user.email,
            action="report.subscribed",
            subject=f"{period} report to {user.email}",
            before=_document(before) if before else None,
            after=_document(saved),
            now=now,
        )
    return saved


def unsubscribe(*, user_id: int, team_id: int, period: str, now: datetime) -> bool:
    """Has the report mailed no more; False where it was not. What is on its way arrives."""
    with transaction.atomic():
        found = (
            ReportSubscription.objects.select_for_update(of=("self",))
            .select_related("membership__user", "membership__team")
            .filter(membership__user=user_id, membership__team=team_id, period=period)
            .first()
        )
        if found is None:
            return False
        member = found.membership
        audit.record(
            team=member.team,
            actor=member.user.email,
            action="report.unsubscribed",
            subject=f"{period} report to {member.user.email}",
            before=_document(found),
            after=None,
            now=now,
        )
        found.delete()
    return True


def next_due_at(kind: Kind, time_zone: str, *, now: datetime) -> datetime:
    """When the next report is mailed: of the period before the running one if that is still to come, else of the
    running one."""
    period = running(kind, now, time_zone)
    return period.before.mailed_at if now < period.before.mailed_at else period.mailed_at


@dataclass(frozen=True, slots=True)
class Address:
    """What a link in a mail ends: whose report of which team."""

    user_id: int
    team_id: int
    period: str


def unsubscribe_url(*, user_id: int, team_id: int, period: str) -> str:
    """The link of a mail. It holds for ever, since the mail may lie in its box for as long."""
    token = signing.Signer(salt=_SALT).sign_object([user_id, team_id, str(period)])
    return str(settings.PUBLIC_URL) + reverse("report-unsubscribe", args=[token])


def read_token(token: str) -> Address | None:
    """What the link of a mail is about; None for one that is none of ours."""
    try:
        user_id, team_id, period = signing.Signer(salt=_SALT).unsign_object(token)
    except (signing.BadSignature, ValueError):
        return None
    return Address(user_id, team_id, period)


def _membership(user: User, team: Team) -> Membership | None:
    """Locked, so that nobody is taken out of the team meanwhile."""
    return Membership.objects.select_for_update(of=("self",)).filter(user=user, team=team).first()


def _document(subscription: ReportSubscription) -> dict[str, str]:
    return {"environment": subscription.environment, "time_zone": subscription.time_zone}
