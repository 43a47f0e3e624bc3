"""The outbox: what each channel is to be told, written with the decision and sent by a worker.

A message is sent at least once. Its row holds what is sent, so that a retry says the same under the same
message id. Within one incident a channel hears things in their order: a message waits while an earlier one
of the same incident to the same channel is pending. What became of the opening message decides about the
rest: once it has been delivered the others follow, and where it was given up they are given up too, so that
nobody hears of an end without having heard of a beginning.

What a channel has to hear is every beginning, every end and who has it. An update, a repetition or a reminder that
still waits, behind a newer message of its incident, is superseded by the next sweep: the newer one says what is known
since. So a channel that was away for hours is not told how things stood meanwhile.

What waits when a silence or a maintenance window begins waits until that is over, without counting as a try. An opening
whose incident is over by then is given up, and with it all that followed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Max, Q, Window
from django.db.models.functions import RowNumber

from budgets import doorbell, formats, request_ids
from budgets.zones import zone_of

from .addresses import parse_networks
from .backoff import next_attempt_at
from .channels import KINDS, Message, MessageType, masked
from .documents import incident_document
from .models import Channel, DeliveryAttempt, Incident, Notification
from .outbound import DEADLINE_S, DeliveryError
from .silences import Holds, teams_that_hold
from .summaries import announcement, story
from .wording import Step, Story

logger = logging.getLogger(__name__)

Event = Notification.Event
State = Notification.State

# A worker that has not recorded a result by then is gone: a try takes at most alerts.outbound.DEADLINE_S.
LEASE = timedelta(seconds=30)
# So many threads a channel that hangs may hold; the others are for everybody else.
MAX_IN_FLIGHT_PER_CHANNEL = 2
# And so many, half of a worker's, all channels together that have failed messages on their way: however many hang at
# once, what can be delivered is.
MAX_IN_FLIGHT_OF_FAILING = 8


# What a channel must have been told of before anything else of an incident; a step of a policy tells of an
# opening too.
OPENINGS = frozenset({Event.OPENED, Event.REOPENED, Event.UNACKNOWLEDGED})
# What a silence or a maintenance window holds back. Who has it, and that it is over, is told all the same.
HELD_BACK = OPENINGS | {Event.UPDATED, Event.REPEATED, Event.REMINDER}
# A message that is held back is looked at so often: somebody may end the silence early.
LOOK_AGAIN = timedelta(minutes=1)


# Writing

# As Notification.because keeps it: a step's place and a schedule may both have long names.
MAX_BECAUSE_CHARACTERS = 300


def write(
    *,
    incident: Incident,
    event: Event,
    recipients: Sequence[tuple[Channel, str]],
    now: datetime,
    note: str = "",
    words: str = "",
    is_first: bool = False,
) -> list[Notification]:
    """Writes what these channels are to be told, each with the reason why it is, in the caller's transaction.

    The message says what is known at this moment, however late it is delivered. `note` is what a person wrote
    beside their step; `words` say what happened where the step does not; `is_first` that nothing was written for the incident before. Who is told, and whether, is
    decided by alerts.telling; the caller holds the incident's lock.
    """
    if not recipients:
        return []
    document = {**incident_document(incident), "summary": announcement(incident, event)}
    step = story(incident, event, note=note, now=now)
    if words:
        document["summary"] = f"{words}. {incident.summary}"
        step = replace(step, step_words=words)
    told = step.document()
    last: dict[int, int] = {}
    if not is_first:
        same = Notification.objects.filter(incident=incident, event=event, severity=incident.severity)
        last = dict(same.order_by().values_list("channel_id").annotate(Max("occurrence")))
    written = Notification.objects.bulk_create(
        Notification(
            incident=incident,
            channel=channel,
            event=event,
            severity=incident.severity,
            occurrence=last.get(channel.pk, -1) + 1,
            because=because[:MAX_BECAUSE_CHARACTERS],
            # By these a message can be followed back to the requests that led to it.
            data={"incident": document, "story": told, "request_ids": request_ids.current()},
            created_at=now,
            next_attempt_at=now,
        )
        for channel, because in recipients
    )
    for notification in written:
        transaction.on_commit(partial(doorbell.send, "alerts.tasks.deliver", notification.pk), robust=True)
    return written


def part(notifications: Sequence[Notification], *, to: Channel, not_before: datetime) -> None:
    """Has these messages sent to a channel that was deleted, which keeps its secrets until the last of them is over."""
    for notification in notifications:
        notification.channel = to
        notification.data["is_parting"] = True
        notification.next_attempt_at = not_before
    Notification.objects.bulk_update(notifications, ["channel", "data", "next_attempt_at"])


def supersede(*, now: datetime) -> int:
    """Takes back every message that a newer one makes pointless; how many.

    One that a worker is sending stays until it has failed, or was cut off.
    """
    with transaction.atomic():
        outdated = Notification.objects.outdated(now)
        # Locked, since a worker may be claiming one; what somebody has claimed by then is left alone.
        taken = list(outdated.select_for_update(skip_locked=True, of=("self",)).values_list("pk", flat=True))
        if taken:
            attempts = DeliveryAttempt.objects.filter(notification__in=taken)
            attempts.filter(outcome=DeliveryAttempt.Outcome.SENDING).update(
                outcome=DeliveryAttempt.Outcome.INTERRUPTED
            )
            Notification.objects.filter(pk__in=taken).update(
                state=State.SUPERSEDED, finished_at=now, next_attempt_at=None, leased_until=None
            )
    return len(taken)


def give_up_waiting(*, channel: Channel, now: datetime) -> int:
    """Gives up what waits for a channel that was deleted or switched off, in the caller's transaction; how many.

    So others are told with the next sweep, and not when the next try would have been. The caller holds the channel's
    lock. What a worker is sending ends by itself, and is not tried again.
    """
    in_nobodys_hands = Q(leased_until=None) | Q(leased_until__lte=now)
    waiting = Notification.objects.filter(in_nobodys_hands, channel=channel, state=State.PENDING)
    taken = list(waiting.select_for_update(of=("self",)).order_by("pk").values_list("pk", flat=True))
    DeliveryAttempt.objects.filter(notification__in=taken, outcome=DeliveryAttempt.Outcome.SENDING).update(
        outcome=DeliveryAttempt.Outcome.INTERRUPTED
    )
    return Notification.objects.filter(pk__in=taken).update(
        state=State.UNDELIVERABLE,
        reason=_why_unused(channel),
        finished_at=now,
        next_attempt_at=None,
        leased_until=None,
    )


def _why_unused(channel: Channel) -> str:
    """The reason by which messages to a channel are given up; "" where it is in use."""
    if channel.deleted_at is not None:
        return "channel_deleted"
    return "" if channel.is_enabled else "channel_disabled"


# Holding back


def hold_back(*, now: datetime) -> None:
    """Postpones every message that is due and that a silence or a maintenance window holds back."""
    if not (teams := teams_that_hold(now)):
        return
    with transaction.atomic():
        waiting = Notification.objects.claimable(now).filter(
            event__in=HELD_BACK, leased_until=None, incident__feature__team__in=teams
        )
        _without_held(list(waiting.select_for_update(skip_locked=True, of=("self",))), now)


def _without_held(notifications: Sequence[Notification], now: datetime) -> list[Notification]:
    """Postpones what something holds back, gives up the openings of what is over by then, and gives back the rest.

    A message whose lease ran out may have arrived: it goes on, or a program would wait for its end for ever.
    """
    concerned = [n for n in notifications if n.event in HELD_BACK and n.leased_until is None]
    teams = teams_that_hold(now) if concerned else set()
    if not teams and not any("held_by" in one.data for one in concerned):
        return list(notifications)
    found = Incident.objects.filter(pk__in={one.incident_id for one in concerned})
    by_id: dict[int | None, Incident] = {one.pk: one for one in found.select_related("feature", "component")}
    holds = Holds(teams, now=now)
    postponed, kept = set(), []
    for notification in concerned:
        incident = by_id[notification.incident_id]
        hold, was_held = holds.on(incident), "held_by" in notification.data
        if not hold and not was_held:
            continue
        if notification.event in OPENINGS and incident.state == Incident.State.RESOLVED:
            _give_up(notification, "held_back_until_it_was_over", now)
            postponed.add(notification.pk)
            continue
        if hold:
            notification.next_attempt_at = min(hold.until, now + LOOK_AGAIN)
            notification.data["held_by"] = hold.text
            # What is tried for a day after it was due is due from here.
            notification.data["held_until"] = notification.next_attempt_at.isoformat()
            postponed.add(notification.pk)
        else:
            del notification.data["held_by"]
        kept.append(notification)
    Notification.objects.bulk_update(kept, ["next_attempt_at", "data"])
    return [one for one in notifications if one.pk not in postponed]


# Claiming


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that this worker alone may send until its lease is over."""

    notification_id: int
    channel_id: int
    kind: str
    config: dict[str, Any]
    message: Message
    attempt: int
    due_since: datetime
    is_parting: bool
    request_ids: tuple[str, ...]


def due(*, now: datetime, limit: int) -> list[int]:
    """The messages that could be claimed, longest due first: no more of a channel than may be in flight.

    What is superseded by then, or held back, is not among them, and holds up nothing.
    """
    supersede(now=now)
    hold_back(now=now)
    return [pk for pk, _ in _candidates(now)[:limit]]


def _candidates(now: datetime, **only: Any) -> list[tuple[int, int]]:
    place = Window(RowNumber(), partition_by="channel_id", order_by=["next_attempt_at", "id"])
    return list(
        Notification.objects.claimable(now)
        .filter(**only)
        .annotate(place=place)
        .filter(place__lte=MAX_IN_FLIGHT_PER_CHANNEL)
        .order_by("next_attempt_at", "id")
        .values_list("id", "channel_id")
    )


def claim_due(
    *, now: datetime, limit: int, notification_id: int | None = None, channel_id: int | None = None
) -> list[Claimed]:
    """Leases messages that are due to the caller, who sends them with `deliver`; at most `limit`.

    1. Finds candidates, of all channels or of what was asked for.
    2. Locks their channels, so that only one claim at a time counts what a channel has in flight.
    3. Gives up what must not be sent any more, and postpones what a silence or a maintenance window holds back.
    4. Leases the rest and writes the attempt before it is made, so that also one that is cut off is seen.
    """
    asked_for = {"id": notification_id, "channel_id": channel_id}
    with transaction.atomic():
        candidates = _candidates(now, **{key: value for key, value in asked_for.items() if value is not None})
        if not candidates:
            return []
        channel_ids = {channel_id for _, channel_id in candidates}
        # Not FOR UPDATE: that would wait for every insert of a notification, which refers to the channel.
        channels = {
            channel.pk: channel
            for channel in Channel.objects.select_for_update(no_key=True, of=("self",))
            .select_related("team")
            .filter(pk__in=channel_ids)
            .order_by("pk")
        }
        chosen = _within_limits(candidates, channels, now)
        notifications = list(
            Notification.objects.claimable(now)
            .filter(pk__in=chosen)
            .select_for_update(skip_locked=True, of=("self",))
            .order_by("next_attempt_at", "id")
        )
        DeliveryAttempt.objects.filter(
            notification__in=notifications, outcome=DeliveryAttempt.Outcome.SENDING
        ).update(outcome=DeliveryAttempt.Outcome.INTERRUPTED)
        sendable = _without_held(_give_up_unsendable(notifications, channels, now), now)[:limit]
        for notification in sendable:
            notification.attempts_made += 1
            notification.leased_until = now + LEASE
        Notification.objects.bulk_update(sendable, ["attempts_made", "leased_until"])
        DeliveryAttempt.objects.bulk_create(
            DeliveryAttempt(notification=notification, number=notification.attempts_made, started_at=now)
            for notification in sendable
        )
        threads = _threads(sendable)
    return [
        leased(
            notification,
            channels[notification.channel_id],
            thread_id=threads.get((notification.incident_id, notification.channel_id)),
        )
        for notification in sendable
    ]


def _within_limits(
    candidates: Sequence[tuple[int, int]], channels: Collection[int], now: datetime
) -> list[int]:
    """The candidates that their channel has a place in flight for.

    What channels that fail have in flight together is counted without a lock: claims at the same moment may exceed it a little.
    """
    is_in_flight = Q(leased_until__gt=now)
    under_way = (
        Notification.objects.filter(state=State.PENDING, attempts_made__gt=0)
        .order_by()
        .values_list("channel_id")
        .annotate(
            sending=Count("id", filter=is_in_flight),
            failed=Count("id", filter=~is_in_flight | Q(attempts_made__gt=1)),
        )
    )
    in_flight: Counter[int] = Counter()
    failing = set()
    for channel_id, sending, failed in under_way:
        in_flight[channel_id] = sending
        if failed:
            failing.add(channel_id)
    of_failing = sum(in_flight[channel_id] for channel_id in failing)
    chosen = []
    for notification_id, channel_id in candidates:
        if channel_id not in channels or in_flight[channel_id] >= MAX_IN_FLIGHT_PER_CHANNEL:
            continue
        if channel_id in failing:
            if of_failing >= MAX_IN_FLIGHT_OF_FAILING:
                continue
            of_failing += 1
        in_flight[channel_id] += 1
        chosen.append(notification_id)
    return chosen


def _give_up_unsendable(
    notifications: Sequence[Notification], channels: dict[int, Channel], now: datetime
) -> list[Notification]:
    """Gives up what must not be sent any more, and gives back the rest."""
    followers = [n for n in notifications if n.event not in OPENINGS]
    opened = set(
        Notification.objects.filter(
            incident__in={n.incident_id for n in followers}, event__in=OPENINGS, state=State.DELIVERED
        ).values_list("incident_id", "channel_id")
    )
    owned = [pk for pk, channel in channels.items() if channel.owner_id is not None and channel.is_enabled]
    left = set(owned) - set(Channel.objects.in_use().filter(pk__in=owned).values_list("pk", flat=True))
    rest = []
    for notification in notifications:
        if notification.event == Event.TEST:
            # The request that sent it is gone, and so is the person who waited for its answer.
            _give_up(notification, "test_interrupted", now)
        elif _is_parting(notification):
            rest.append(notification)
        elif why := _why_unused(channels[notification.channel_id]):
            _give_up(notification, why, now)
        elif notification.channel_id in left:
            _give_up(notification, "owner_left", now)
        elif (
            notification.event not in OPENINGS
            and (notification.incident_id, notification.channel_id) not in opened
        ):
            _give_up(notification, "opening_undelivered", now)
        else:
            rest.append(notification)
    return rest


def _threads(notifications: Sequence[Notification]) -> dict[tuple[int | None, int], str]:
    """The id of the first message by incident and channel, which what follows answers to."""
    first = Notification.objects.filter(
        incident__in={one.incident_id for one in notifications},
        channel__in={one.channel_id for one in notifications},
        event__in=OPENINGS,
    ).order_by("incident_id", "channel_id", "id")
    found = first.distinct("incident_id", "channel_id").values_list("incident_id", "channel_id", "message_id")
    return {(incident_id, channel_id): str(message_id) for incident_id, channel_id, message_id in found}


def leased(notification: Notification, channel: Channel, *, thread_id: str | None = None) -> Claimed:
    """A message whose lease the caller holds, ready to be sent."""
    message_id, document = str(notification.message_id), notification.data["incident"]
    return Claimed(
        notification_id=notification.pk,
        channel_id=channel.pk,
        kind=channel.kind,
        config=channel.config,
        message=Message(
            message_id=message_id,
            type=cast(MessageType, notification.event),
            timestamp=notification.created_at,
            incident=document,
            story=_story(notification),
            thread_id=thread_id or message_id,
            channel=channel.name,
            time_zone=channel.team.time_zone,
        ),
        attempt=notification.attempts_made,
        due_since=_due_since(notification),
        is_parting=_is_parting(notification),
        request_ids=tuple(notification.data.get("request_ids", ())),
    )


def _is_parting(notification: Notification) -> bool:
    """Whether it is the last that an address is told, though the channel is gone: see `part`."""
    return bool(notification.data.get("is_parting"))


def _due_since(notification: Notification) -> datetime:
    """When it was written, or when it was held back last."""
    held_until = notification.data.get("held_until")
    return datetime.fromisoformat(held_until) if held_until else notification.created_at


def _story(notification: Notification) -> Story:
    """As it was written; of a message from before there were stories, what its document tells."""
    if "story" in notification.data:
        return Story.read(notification.data["story"])
    step = cast(Step, notification.event.removeprefix("incident."))
    return Story(
        step=step,
        feature_name=notification.data["incident"]["feature"],
        step_words="" if step == "opened" else step.capitalize(),
    )


# Sending


def deliver(*, claimed: Claimed, now: datetime, deadline_s: float = DEADLINE_S) -> bool:
    """Sends a claimed message outside any transaction and records what came of it: whether it arrived.

    A failure is tried again later, unless it is permanent, a day has passed or it was a test.
    """
    kind = KINDS[claimed.kind]
    started = time.monotonic()
    error: DeliveryError | None = None
    status_code: int | None
    try:
        # Also where a person has it sent from a page, which is by their own clock.
        with formats.reading_in(zone_of(claimed.message.time_zone)):
            answer = kind.send(
                claimed.config,
                claimed.message,
                now=now,
                allowed_networks=parse_networks(settings.OUTBOUND_ALLOWED_CIDRS),
                deadline_s=deadline_s,
            )
        status_code, excerpt = answer.status, answer.excerpt
    except DeliveryError as failure:
        error, status_code, excerpt = failure, failure.status, failure.excerpt
    except Exception as failure:
        # A fault of ours must neither end the worker nor lose the message.
        logger.exception("notification %s could not be sent", claimed.notification_id)
        error = DeliveryError(f"Could not be sent: {type(failure).__name__}.")
        status_code, excerpt = None, ""
    took = timedelta(seconds=time.monotonic() - started)
    # Receivers repeat what they were sent, and everybody in the team may read the log.
    hidden = kind.secrets(claimed.config)
    with transaction.atomic():
        # Channel, message, try: in this order everywhere, so that nobody waits in a circle.
        _record(claimed, error, now + took)
        DeliveryAttempt.objects.filter(
            notification_id=claimed.notification_id, number=claimed.attempt
        ).update(
            outcome=DeliveryAttempt.Outcome.FAILED if error else DeliveryAttempt.Outcome.DELIVERED,
            duration_ms=took / timedelta(milliseconds=1),
            status_code=status_code,
            error=masked(error.message, hidden) if error else "",
            excerpt=masked(excerpt, hidden),
        )
        if claimed.is_parting:
            _forget_secrets(claimed.channel_id)
    return error is None


def _forget_secrets(channel_id: int) -> None:
    """Of a channel that was told its last."""
    channel = Channel.objects.select_for_update(no_key=True).get(pk=channel_id)
    if not channel.notifications.filter(state=State.PENDING).exists():
        channel.config = KINDS[channel.kind].without_secrets(channel.config)
        channel.save(update_fields=["config"])


def _record(claimed: Claimed, error: DeliveryError | None, now: datetime) -> None:
    pending = Notification.objects.filter(pk=claimed.notification_id, state=State.PENDING)
    if error is None:
        # Whoever holds a newer lease, and though it was superseded when this one was over: it has arrived.
        unfinished = Notification.objects.filter(
            pk=claimed.notification_id, state__in=[State.PENDING, State.SUPERSEDED]
        )
        unfinished.update(state=State.DELIVERED, finished_at=now, next_attempt_at=None, leased_until=None)
        return
    # Locked, so that whoever ends it either sees that this one is on its way no more, or has ended it by now.
    channel = Channel.objects.select_for_update(no_key=True).get(pk=claimed.channel_id)
    notification = pending.filter(attempts_made=claimed.attempt).select_for_update().first()
    if notification is None:
        return  # its lease was over and another worker tries, or it was given up
    if notification.event == Event.TEST:
        _give_up(notification, "test_failed", now)
        return
    retry_at = next_attempt_at(
        attempts_made=claimed.attempt,
        first_due_at=claimed.due_since,
        now=now,
        retry_after_s=error.retry_after_s,
    )
    if (why := _why_unused(channel)) and not claimed.is_parting:
        _give_up(notification, why, now)
    elif error.permanent or retry_at is None:
        _give_up(notification, "permanent_error" if error.permanent else "deadline_passed", now)
    else:
        pending.update(next_attempt_at=retry_at, leased_until=None)


def _give_up(notification: Notification, reason: str, now: datetime) -> None:
    logger.warning("notification %s is given up: %s", notification.pk, reason)
    Notification.objects.filter(pk=notification.pk).update(
        state=State.UNDELIVERABLE, reason=reason, finished_at=now, next_attempt_at=None, leased_until=None
    )
