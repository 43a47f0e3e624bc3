"""Whether anybody is told of an incident's step, who, and why: every such decision passes through here.

Each leaves an event with the incident ("told"), also where it was to tell nobody: who was told and because of
what, who was left out, what held it back. "Why did nobody get paged?" is answered by these events.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Coalesce

from budgets.models import User

from .directory import Directory
from .escalation import FLAPPING_EVERY, Policy, Standing, next_step
from .models import Channel, FollowUp, Incident, Notification, Severity
from .notifications import OPENINGS, write
from .recipients import FOR_PROGRAMS, HOLDS_ALERTS, Recipients, freeze, of_step, personal_channels, whole_team
from .silences import Hold
from .told import note_held, note_told

Event = Notification.Event

FLAPPING = "it comes and goes: one message an hour"
# The steps of a policy that reach nobody are passed over at once, to the end of the last round.
NOBODY = "the policy reached nobody"
# Every message of the opening was given up.
UNREACHED = "nobody else could be reached"

# Of an alert that is ended so that the next one rings.
ANEW = "Opened anew, as nobody has it any more"
_LIVE = (Notification.State.PENDING, Notification.State.DELIVERED)
_OFTEN = frozenset({Event.UPDATED, Event.REPEATED, Event.REMINDER})


def tell(
    *,
    incident: Incident,
    event: Event,
    now: datetime,
    note: str = "",
    is_new: bool = False,
    directory: Directory | None = None,
) -> list[Notification]:
    """Tells of a step that the incident has just taken, in the caller's transaction; the messages that were written.

    An opening (also of a ticket that became a page, of an incident that came back, of one that nobody has any
    more) goes to the first step of the escalation policy, or to the whole team where no policy fits; unless a
    silence, a maintenance window or flapping holds it back. What follows goes where an opening went, and an
    end is told to everybody who heard of the beginning, silence or not; where another incident took this one over,
    to the programs among them alone. The caller holds the incident's lock, and says so of an incident that was made
    just now. Who tells of many at once gives a directory for all of them.
    """
    follow_up = FollowUp(incident=incident) if is_new else follow_up_of(incident)
    directory = directory or Directory(now=now)
    if event in OPENINGS:
        if event != Event.UNACKNOWLEDGED:
            # Also of one that came back: it may be a page by now, which is for others.
            follow_up.policy = freeze(incident, directory)
        follow_up.heard_at = None
        follow_up.began_at = now
        follow_up.step = follow_up.round = 0
        follow_up.news_at = None
        # Whatever holds it is noted with each of its beginnings.
        follow_up.held_by = ""
        written = _begin(incident, follow_up, event, now, note, directory)
    elif event == Event.REPEATED and not _was_told(incident, follow_up):
        # Whoever was to hear of it could not be told then.
        follow_up.step = follow_up.round = 0
        written = _begin(incident, follow_up, _opening(incident), now, note, directory)
    elif event == Event.RESOLVED and _may_come_back(incident) and _is_too_soon(incident, follow_up, now):
        _let_go(follow_up)
        follow_up.news_at = now
        note_held(incident, event, now, held_by=FLAPPING)
        written = []
    else:
        written = _follow(incident, follow_up, event, now, note)
    _save(incident, follow_up, now, directory)
    return written


def follow_up_of(incident: Incident) -> FollowUp:
    """Made here for an incident that has none yet."""
    return FollowUp.objects.get_or_create(incident=incident)[0]


def note_news(*, incident: Incident, now: datetime) -> None:
    """Notes that something is known which nobody was told; it is told with the next update."""
    follow_up = follow_up_of(incident)
    if follow_up.news_at is None:
        follow_up.news_at = now
        _save(incident, follow_up, now, Directory(now=now))


def note_word(*, incident: Incident, now: datetime) -> None:
    """Notes that whoever has the incident said something."""
    follow_up = follow_up_of(incident)
    follow_up.heard_at = now
    _save(incident, follow_up, now, Directory(now=now))


def release(*, incident: Incident, now: datetime) -> list[Notification]:
    """Tells what was held back, now that nothing holds it any more; where something does, notes what.

    Where that was neither an opening nor a step of the policy, those who know hear that it is still open.
    """
    follow_up = follow_up_of(incident)
    directory = Directory(now=now)
    is_step_due = follow_up.next_step_at is not None and follow_up.next_step_at <= now
    if directory.hold_on(incident) or is_step_due or not _was_told(incident, follow_up):
        written = _open(incident, follow_up, _opening(incident), now, "", directory)
    else:
        _let_go(follow_up)
        written = _follow(incident, follow_up, Event.REPEATED, now, "")
    _save(incident, follow_up, now, directory)
    return written


def announce(*, incident: Incident, now: datetime) -> list[Notification]:
    """Tells of an opening that could be told to nobody, from the policy's first step, where somebody can be told by
    now: a channel was added or switched on, a shift begins. Leaves no event where that is not so."""
    follow_up = follow_up_of(incident)
    directory = Directory(now=now)
    written: list[Notification] = []
    if _reaches_anybody(incident, follow_up, directory):
        follow_up.step = follow_up.round = 0
        written = _open(incident, follow_up, _opening(incident), now, "", directory)
    _save(incident, follow_up, now, directory)
    return written


def hold(*, incident: Incident, now: datetime) -> None:
    """Notes that a silence or a maintenance window holds back what is to be told of an incident that was told
    before it began."""
    follow_up = follow_up_of(incident)
    directory = Directory(now=now)
    found = directory.hold_on(incident)
    if found is not None:
        _hold(incident, follow_up, Event.REPEATED, found.text, found.until, now)
    _save(incident, follow_up, now, directory)


def reroute(*, incident: Incident, now: datetime) -> list[Notification]:
    """Tells others of an opening whose messages were all given up: whom the next step of the policy names, or those
    of the team who have not been tried."""
    follow_up = follow_up_of(incident)
    directory = Directory(now=now)
    if follow_up.next_step_at is not None:
        written = _take_step(incident, follow_up, _opening(incident), now, "", directory)
    else:
        recipients, everybody = Recipients(), whole_team(incident, directory)
        given_up = _openings(incident).filter(state=Notification.State.UNDELIVERABLE)
        tried = set(given_up.values_list("channel_id", flat=True))
        for pk, (channel, because) in everybody.told.items():
            if pk in tried:
                recipients.leave_out(channel.name, "its message was given up")
            else:
                recipients.add(channel, f"{UNREACHED}; {because}")
        recipients.left_out += everybody.left_out
        written = _send(incident, follow_up, _opening(incident), recipients, now, "")
    # Also where that was nobody: it is tried again when the incident is told of again.
    follow_up.told_at = now
    _save(incident, follow_up, now, directory)
    return written


def is_unheard(incident: Incident) -> bool:
    """Whether every message of the opening was given up since anybody was last told."""
    return unheard().filter(pk=incident.pk).exists()


def unheard() -> QuerySet[FollowUp]:
    """The incidents of which every message since they last began was given up, and nobody was told anything after."""
    openings = Notification.objects.filter(
        incident=OuterRef("incident"),
        event__in=OPENINGS,
        created_at__gte=Coalesce(OuterRef("began_at"), OuterRef("incident__opened_at")),
    )
    given_up = openings.filter(state=Notification.State.UNDELIVERABLE, finished_at__gt=OuterRef("told_at"))
    return FollowUp.objects.filter(
        ~Exists(openings.filter(state__in=_LIVE)),
        Exists(given_up),
        incident__state=Incident.State.OPEN,
        told_at__isnull=False,
    )


def _openings(incident: Incident) -> QuerySet[Notification]:
    return Notification.objects.filter(incident=incident, event__in=OPENINGS)


def _opening(incident: Incident) -> Event:
    return Event.REOPENED if incident.reopenings else Event.OPENED


def _reaches_anybody(incident: Incident, follow_up: FollowUp, directory: Directory) -> bool:
    policy = _policy(follow_up)
    steps = range(len(policy.steps)) if policy else ()
    return bool(whole_team(incident, directory)) or any(
        of_step(incident, policy, step, directory) for step in steps if policy
    )


def tell_end(*, incident: Incident, now: datetime) -> list[Notification]:
    """Tells of an end that was held back while the incident came and went."""
    follow_up = follow_up_of(incident)
    written = _follow(incident, follow_up, Event.RESOLVED, now, "")
    _save(incident, follow_up, now, Directory(now=now))
    return written


def escalate(*, incident: Incident, now: datetime) -> list[Notification]:
    """Tells whom the next step of the incident's policy names."""
    follow_up = follow_up_of(incident)
    directory = Directory(now=now)
    written = _take_step(incident, follow_up, Event.OPENED, now, "", directory)
    _save(incident, follow_up, now, directory)
    return written


def standing_of(
    incident: Incident, follow_up: FollowUp, hold: Hold | None, *, is_unheard: bool = False
) -> Standing:
    """What the clock looks at."""
    return Standing(
        state=str(incident.state),
        is_flapping=incident.is_flapping,
        policy=_policy(follow_up),
        next_step_at=follow_up.next_step_at,
        told_at=follow_up.told_at,
        news_at=follow_up.news_at,
        held_until=hold.until if hold else None,
        was_held=follow_up.held_since is not None,
        heard_at=follow_up.heard_at,
        is_unheard=is_unheard,
    )


# Openings


def _begin(
    incident: Incident,
    follow_up: FollowUp,
    event: Event,
    now: datetime,
    note: str,
    directory: Directory,
) -> list[Notification]:
    written = _open(incident, follow_up, event, now, note, directory)
    if not written and follow_up.held_since is None:
        # There was nobody: it is announced when there is somebody.
        follow_up.told_at = None
    return written


def _open(
    incident: Incident,
    follow_up: FollowUp,
    event: Event,
    now: datetime,
    note: str,
    directory: Directory,
) -> list[Notification]:
    found = directory.hold_on(incident)
    held_by = found.text if found else FLAPPING if _is_too_soon(incident, follow_up, now) else ""
    # That a ticket became a page is another thing than that it came back once more.
    if held_by == FLAPPING and _is_worse(incident):
        held_by = ""
    if not held_by:
        _let_go(follow_up)
        if not _was_told(incident, follow_up):
            # What came while it was held back is told with the opening itself.
            follow_up.news_at = None
        return _take_step(incident, follow_up, event, now, note, directory)
    _hold(incident, follow_up, event, held_by, found.until if found else None, now)
    return []


def _hold(
    incident: Incident,
    follow_up: FollowUp,
    event: Event,
    held_by: str,
    until: datetime | None,
    now: datetime,
) -> None:
    if follow_up.held_by != held_by:
        note_held(incident, event, now, held_by=held_by, until=until)
    follow_up.held_since = follow_up.held_since or now
    follow_up.held_by = held_by


def _is_worse(incident: Incident) -> bool:
    """Whether it is a page of which only a ticket was told."""
    told = _openings(incident).filter(severity=Severity.PAGE, state__in=_LIVE)
    return incident.severity == Severity.PAGE and not told.exists()


def _take_step(
    incident: Incident,
    follow_up: FollowUp,
    event: Event,
    now: datetime,
    note: str,
    directory: Directory,
) -> list[Notification]:
    """The step at which the policy stands, or the first after it that reaches anybody."""
    policy = _policy(follow_up)
    follow_up.next_step_at = None
    if policy is None:
        return _send(incident, follow_up, event, whole_team(incident, directory), now, note)
    left_out: list[dict[str, Any]] = []
    while True:
        step, round_ = follow_up.step, follow_up.round
        recipients = of_step(incident, policy, step, directory)
        recipients.left_out[:0] = left_out
        following = policy.after(step, round_)
        if recipients or following is None:
            break
        left_out = recipients.left_out
        follow_up.step, follow_up.round = following
    about: dict[str, Any] = {"policy": policy.name, "step": step + 1, "round": round_ + 1}
    if not recipients and not _was_told(incident, follow_up):
        # Better everybody than nobody.
        everybody = whole_team(incident, directory)
        recipients.told = {
            pk: (channel, f"{NOBODY}; {because}") for pk, (channel, because) in everybody.told.items()
        }
        recipients.left_out += everybody.left_out
    if following is not None:
        follow_up.step, follow_up.round = following
        follow_up.next_step_at = now + policy.steps[step].wait
    return _send(incident, follow_up, event, recipients, now, note, about=about)


# What follows


def _follow(
    incident: Incident, follow_up: FollowUp, event: Event, now: datetime, note: str
) -> list[Notification]:
    recipients = Recipients()
    told = Channel.objects.in_use().filter(pk__in=_told_before(incident).values("channel_id"))
    for channel in told.order_by("id"):
        if event in _OFTEN and channel.kind in FOR_PROGRAMS:
            recipients.leave_out(channel.name, "programs are told of openings and ends")
        elif event == Event.RESOLVED and _is_merged(incident) and channel.kind not in HOLDS_ALERTS:
            recipients.leave_out(channel.name, "people are told by the incident that took this one over")
        else:
            recipients.add(channel, "")
    if event == Event.REMINDER:
        recipients = _holder(incident, now) or recipients
    if event in (Event.ACKNOWLEDGED, Event.RESOLVED):
        _let_go(follow_up)
        follow_up.next_step_at = None
        follow_up.heard_at = now
    follow_up.news_at = None
    if event in _OFTEN:
        # Also where it was for nobody: else it would be due again at once.
        follow_up.told_at = now
    return _send(incident, follow_up, event, recipients, now, note)


def _holder(incident: Incident, now: datetime) -> Recipients:
    """Whoever acknowledged it, where that is a person of the team."""
    found = Recipients()
    people = User.objects.filter(
        email=incident.acknowledged_by, is_active=True, memberships__team_id=incident.feature.team_id
    )
    for person in people:
        for channel in personal_channels(incident, person, now=now):
            found.add(channel, "acknowledged it")
    return found


def _was_told(incident: Incident, follow_up: FollowUp) -> bool:
    """Whether any channel heard, or is to hear, of how it last began."""
    if follow_up._state.adding:
        return False
    told = _told_before(incident)
    if follow_up.began_at is not None:
        told = told.filter(created_at__gte=follow_up.began_at)
    return told.exists()


def _told_before(incident: Incident) -> QuerySet[Notification]:
    """The openings, on their way or delivered, whose channel was told of no end since."""
    ends = Notification.objects.filter(
        incident=incident, channel=OuterRef("channel"), event=Event.RESOLVED, pk__gt=OuterRef("pk")
    )
    return Notification.objects.filter(
        ~Exists(ends),
        incident=incident,
        event__in=OPENINGS,
        state__in=_LIVE,
    )


# All


def _send(
    incident: Incident,
    follow_up: FollowUp,
    event: Event,
    recipients: Recipients,
    now: datetime,
    note: str,
    about: Mapping[str, Any] | None = None,
) -> list[Notification]:
    if event in OPENINGS and not follow_up._state.adding:
        _end_where_acknowledged(incident, event, recipients, now)
    written = write(
        incident=incident,
        event=event,
        recipients=list(recipients.told.values()),
        now=now,
        note=note,
        is_first=follow_up._state.adding,
    )
    if written:
        follow_up.told_at = now
    if written or event in OPENINGS:
        note_told(incident, event, now, written, left_out=recipients.left_out, **(about or {}))
    return written


def _end_where_acknowledged(incident: Incident, event: Event, recipients: Recipients, now: datetime) -> None:
    """Has the alert ended first in services that stay quiet about one that was acknowledged, whatever comes after.

    They open another under the same key. Source: PagerDuty's "Incidents" ("while an incident is acknowledged, it won't
    generate any additional notifications"); Opsgenie counts a second creation, and takes an acknowledgement back where
    it is told so.
    """
    quiet = {Channel.Kind.PAGERDUTY}
    if event != Event.UNACKNOWLEDGED:
        quiet.add(Channel.Kind.OPSGENIE)
    asked = {pk: channel for pk, (channel, _) in recipients.told.items() if channel.kind in quiet}
    if not asked:
        return
    said = Notification.objects.filter(
        incident=incident,
        channel__in=asked,
        event__in=[*OPENINGS, Event.ACKNOWLEDGED, Event.RESOLVED],
        state__in=_LIVE,
    )
    last = said.order_by("channel_id", "-pk").distinct("channel_id").values_list("channel_id", "event")
    acknowledged = [asked[pk] for pk, what in last if what == Event.ACKNOWLEDGED]
    write(
        incident=incident,
        event=Event.RESOLVED,
        recipients=[(channel, ANEW) for channel in acknowledged],
        now=now,
        words=ANEW,
    )


def _is_too_soon(incident: Incident, follow_up: FollowUp, now: datetime) -> bool:
    if not incident.is_flapping or follow_up.told_at is None:
        return False
    return now < follow_up.told_at + FLAPPING_EVERY


def _is_merged(incident: Incident) -> bool:
    return incident.merged_into_id is not None


def _may_come_back(incident: Incident) -> bool:
    """Whether an end may be followed by the same incident again."""
    return not incident.resolved_by and not _is_merged(incident)


def _let_go(follow_up: FollowUp) -> None:
    follow_up.held_since, follow_up.held_by = None, ""


def _policy(follow_up: FollowUp) -> Policy | None:
    return Policy.read(follow_up.policy) if follow_up.policy else None


def _save(incident: Incident, follow_up: FollowUp, now: datetime, directory: Directory) -> None:
    """With the instant at which to look at it again."""
    # A hold is looked for anew when that instant has come: most incidents are held by nothing.
    is_held = follow_up.held_since and follow_up.held_by != FLAPPING
    hold = directory.hold_on(incident) if is_held else None
    follow_up.next_at = next_step(standing_of(incident, follow_up, hold), now).look_at
    follow_up.save(force_insert=follow_up._state.adding)
