"""What happens to a feature in tests of alerts: it burns, a component overruns, all is calm again."""

from __future__ import annotations

from datetime import datetime, timedelta

from alerts.evaluation import Evaluated, evaluate
from alerts.models import Incident, Notification
from budgets.models import Feature
from tests.factories import make_traffic

MINUTE = timedelta(minutes=1)


def burn(
    feature: Feature, at: datetime, *, milestone: str = "first_token", bad: int = 40, of: int = 60
) -> None:
    """So many of the minute's requests miss the latency budget; without other traffic that pages."""
    make_traffic(feature, at=at, count=of, over=bad, over_ms=9_000, milestone=milestone)


def smoulder(feature: Feature, at: datetime) -> None:
    """A slow burn some time before `at`: over a day and two hours, and over no shorter window. A ticket."""
    make_traffic(feature, at=at - 40 * MINUTE, count=100, over=4, milestone="first_token", now=at)


def overrun(
    feature: Feature,
    at: datetime,
    *,
    component: str = "tools",
    over_ms: float = 2_100,
    over: int = 41,
    of: int = 63,
    status: str = "ok",
) -> None:
    """A component takes longer than its allocation, and not by chance."""
    make_traffic(
        feature, at=at, count=of, over=over, over_ms=over_ms, over_status=status, component=component
    )


def calm(feature: Feature, at: datetime, *components: str, milestone: str = "first_token") -> None:
    """A minute in which all is well."""
    make_traffic(feature, at=at, count=60, over=0, milestone=milestone)
    for component in components:
        make_traffic(feature, at=at, count=60, over=0, component=component)


def look(feature: Feature, now: datetime) -> Evaluated:
    return evaluate(feature_ids=[feature.pk], now=now)


def incidents_of(feature: Feature) -> list[Incident]:
    """In the order in which they opened."""
    return list(Incident.objects.filter(feature=feature).order_by("pk"))


def told(feature: Feature) -> list[tuple[str, str, str]]:
    """(channel, event, severity) of every message, in the order of writing."""
    messages = Notification.objects.filter(incident__feature=feature).order_by("pk")
    return [
        (one.channel.name, one.event.removeprefix("incident."), one.severity)
        for one in messages.select_related("channel")
    ]
