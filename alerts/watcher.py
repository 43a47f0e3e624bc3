"""Who watches the watcher: a service elsewhere that expects a sign of life and calls somebody where none comes.

The sign is given only while everything that an alert needs is seen to work: measurements are rolled up, rules
are evaluated, incidents followed up and messages sent. A process that runs and does nothing gives none.
"""

from __future__ import annotations

import ipaddress
import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, Min, OuterRef

from budgets.models import Batch, Sweep

from .models import DeliveryAttempt, FollowUp, Notification
from .outbound import DeliveryError, ForbiddenAddress, InvalidURL, post

logger = logging.getLogger(__name__)

# Each of these is done within seconds; a minute late is a fault.
LATE: timedelta = timedelta(seconds=60)
# The last sweep that evaluated all features: one that left out a feature that it could not decide is none.
EVERY_FEATURE = "evaluate_every_feature"
DEADLINE_S = 5.0
# The operator named the address, not a team: it may be one of the operator's own network.
_EVERYWHERE = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


def faults(*, now: datetime) -> list[str]:
    """What does not work, in words; nothing where all is well."""
    found = []
    oldest = Batch.objects.filter(state=Batch.State.PENDING).aggregate(oldest=Min("received_at"))["oldest"]
    if oldest is not None and now - oldest > LATE:
        found.append(f"the oldest batch waits for its roll-up since {(now - oldest).total_seconds():.0f} s")
    evaluated_at = Sweep.objects.filter(name=EVERY_FEATURE).values_list("finished_at", flat=True).first()
    if evaluated_at is None or now - evaluated_at > LATE:
        found.append("the rules of every feature have not been evaluated within a minute")
    followed_up = FollowUp.objects.filter(next_at__lte=now - LATE).count()
    if followed_up:
        found.append(f"{followed_up} incidents wait to be followed up for over a minute")
    # Of a channel that hangs or fails, the others wait for their turn: that is the channel's fault, and its log says so.
    tries = DeliveryAttempt.objects.filter(
        notification__channel=OuterRef("channel"),
        notification__state=Notification.State.PENDING,
        started_at__gt=now - LATE,
    )
    overdue = Notification.objects.claimable(now - LATE).filter(~Exists(tries)).count()
    if overdue:
        found.append(f"{overdue} notifications are overdue by over a minute")
    return found


def give_sign(*, now: datetime, deadline_s: float = DEADLINE_S) -> bool:
    """Posts to HEARTBEAT_URL where all is well; whether the sign was given. Without the setting there is none.

    Takes at most `deadline_s`, one thread of those that send: an address that hangs holds up nothing else.
    """
    if not settings.HEARTBEAT_URL:
        return False
    found = faults(now=now)
    if found:
        logger.warning("no sign of life is given: %s", "; ".join(found))
        return False
    try:
        answer = post(
            settings.HEARTBEAT_URL,
            body=b"",
            headers={"user-agent": f"LatencyDashboard/{settings.VERSION}"},
            allowed_networks=_EVERYWHERE,
            deadline_s=deadline_s,
        )
    except (DeliveryError, ForbiddenAddress, InvalidURL) as error:
        logger.warning("the sign of life did not arrive: %s", error)
        return False
    if answer.status >= 300:
        logger.warning("the sign of life was answered with %s", answer.status)
        return False
    return True
