"""Whether anybody heard of an incident, and why not: what somebody who was not paged reads first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from django.urls import reverse

from alerts import telling
from alerts.contexts.tellings import Telling
from alerts.evidence import reason_words
from alerts.models import Channel, Incident, IncidentEvent, Notification, Severity
from alerts.recipients import PAGES_ONLY, SWITCHED_OFF
from alerts.silences import Hold, is_window
from budgets import formats

State = Notification.State

# A message is sent within seconds; one that nobody has taken up for so long waits for a worker that is not there.
OVERDUE: Final = timedelta(minutes=1)
# More than a tired person reads; the log below has them all.
MAX_REASONS: Final = 5
MAX_NAMES: Final = 4
MAX_NAME_CHARACTERS: Final = 60
_GAP: Final = "nobody is on call"
# Why an incident whose rule looks severe is no page.
_WHY_A_TICKET: Final = frozenset({"burning_few_bad", "outage_few_bad"})


@dataclass(frozen=True)
class Because:
    """One thing that kept somebody from hearing. `at` stands behind the text; `url` leads to where it is mended."""

    text: str
    at: datetime | None = None
    url: str = ""
    leads_to: str = ""


@dataclass(frozen=True)
class Outcome:
    """`told`: at least one channel took the message. `waiting`: it is being sent. `held`: something holds it
    back. `nobody`: it reached nobody."""

    state: Literal["told", "waiting", "held", "nobody"]
    said: str
    reasons: Sequence[Because] = ()

    @property
    def mark(self) -> str:
        return {"told": "✓", "waiting": "–", "held": "‖", "nobody": "✕"}[self.state]


def outcome(
    incident: Incident,
    events: Sequence[IncidentEvent],
    past: Sequence[Telling],
    *,
    hold: Hold | None,
    now: datetime,
) -> Outcome:
    """Answers from what was written down, `events` and `past` of the incident in their order; and from `hold`, what
    holds its messages back now, also where it was told before that began."""
    told = [one for one in past if one.is_opening]
    held = told[-1] if told and told[-1].held_by else None
    channels = list(_by_channel(past))
    heard = [one for one in channels if one.has_heard]
    holds = [_in_force(incident, hold)] if hold else [*_held(incident, held, now)] if held else []
    troubles = [because for one in channels for because in one.reasons(incident, now)]
    reasons = [*holds, *troubles]
    if heard:
        return Outcome(
            "told",
            f"Told: {_listed([one.channel.name for one in heard])}.",
            _cut([*reasons, *_gaps(incident, told), *_pages_only(incident, events, told)]),
        )
    if held and not channels:
        return Outcome("held", f"Nobody {_was(incident)} told.", _cut([*reasons, *_gaps(incident, told)]))
    if not channels:
        if incident.merged_into_id and not told:
            into = reverse("incident", args=[incident.merged_into_id])
            text = "It is part of another incident, which tells."
            return Outcome(
                "nobody", "Nobody was told of this one.", [Because(text, url=into, leads_to="Incident")]
            )
        return Outcome(
            "nobody", f"Nobody {_was(incident)} told.", _cut([*holds, *_no_recipient(incident, events, told)])
        )
    if troubles:
        yet = " yet" if any(one.is_under_way for one in channels) else ""
        return Outcome("nobody", f"Nobody was reached{yet}.", _cut([*reasons, *_gaps(incident, told)]))
    names = _listed([one.channel.name for one in channels])
    return Outcome("waiting", f"Being sent: {names}.", _cut([*holds, *_gaps(incident, told)]))


# Channels


@dataclass(frozen=True)
class _Heard:
    """What became of the messages to one channel, in their order."""

    channel: Channel
    messages: Sequence[Notification]

    @property
    def has_heard(self) -> bool:
        return any(one.state == State.DELIVERED for one in self.messages)

    @property
    def is_under_way(self) -> bool:
        return any(one.state == State.PENDING for one in self.messages)

    def reasons(self, incident: Incident, now: datetime) -> Iterator[Because]:
        """What is the matter with the first message that did not arrive: those behind it wait for it."""
        missing = [one for one in self.messages if one.state in (State.PENDING, State.UNDELIVERABLE)]
        if not missing:
            return
        first, name = missing[0], _short(self.channel.name)
        url = reverse("team-channel", args=[incident.feature.team.slug, self.channel.pk])
        tries = f"{first.attempts_made} {'try' if first.attempts_made == 1 else 'tries'}"
        last = max(first.attempts.all(), key=lambda one: one.number, default=None)
        error = _error(last.error if last else "")
        if first.state == State.UNDELIVERABLE:
            why = first.reason.replace("_", " ")
            after = f" after {tries}" if first.attempts_made else ""
            yield Because(f"{name}: given up{after}, {why}{error}", url=url, leads_to="Channel")
        elif first.held_by:
            text = f"{name}: {first.held_by} holds it back. It is looked at again"
            yield Because(text, at=first.next_attempt_at, url=url, leads_to="Channel")
        elif first.attempts_made and (last is None or last.outcome != "sending"):
            comes = " Next try:" if first.next_attempt_at else ""
            text = f"{name}: {tries} failed{error or '.'}{comes}"
            yield Because(text, at=first.next_attempt_at, url=url, leads_to="Channel")
        elif not first.attempts_made and now - first.created_at > OVERDUE:
            text = f"{name}: no worker has taken it up. It waits since"
            yield Because(text, at=first.created_at, url=url, leads_to="Channel")


def _error(text: str) -> str:
    """ ": The receiver answered 503."; empty where nothing is known."""
    line = " ".join(text.split())
    if not line:
        return "."
    line = line if len(line) <= 200 else f"{line[:199]}…"
    return f": {line}" if line[-1] in ".!?…" else f": {line}."


def _by_channel(past: Iterable[Telling]) -> Iterator[_Heard]:
    found: dict[int, list[Notification]] = {}
    for telling_ in past:
        for one in telling_.reached:
            found.setdefault(one.notification.channel_id, []).append(one.notification)
    for messages in found.values():
        yield _Heard(messages[0].channel, messages)


# What kept it from channels


def _in_force(incident: Incident, hold: Hold) -> Because:
    return _by_what_holds(incident, hold.text, "holds its messages back", until=hold.until)


def _held(incident: Incident, held: Telling, now: datetime) -> Iterator[Because]:
    """What held back the latest opening, and does not any more."""
    if held.held_by == telling.FLAPPING:
        yield Because("It comes and goes, and is told once an hour at most. Held back since", at=held.at)
        return
    was_over_before = incident.resolved_at and held.held_until and incident.resolved_at <= held.held_until
    did = "held its messages back"
    if was_over_before:
        did += ", and it was over before"
    is_ended_early = not was_over_before and held.held_until is not None and held.held_until > now
    if is_ended_early:
        did += ", and was ended before its time"
    yield _by_what_holds(incident, held.held_by, did, until=None if is_ended_early else held.held_until)


def _by_what_holds(incident: Incident, text: str, did: str, *, until: datetime | None) -> Because:
    said = f"{text[:1].upper()}{text[1:]} {did}"
    return Because(
        f"{said}, until" if until else f"{said}.",
        at=until,
        url=reverse(
            "team-maintenance" if is_window(text) else "team-silences", args=[incident.feature.team.slug]
        ),
        leads_to="Maintenance" if is_window(text) else "Silences",
    )


def _gaps(incident: Incident, told: Sequence[Telling]) -> Iterator[Because]:
    """Whom a policy's step names and did not reach, the latest first."""
    seen: set[tuple[str, str]] = set()
    for one in reversed(told):
        for left_out in one.left_out:
            about = (left_out.name, left_out.because)
            if left_out.because in (SWITCHED_OFF, PAGES_ONLY) or about in seen:
                continue
            seen.add(about)
            place, _, why = left_out.because.rpartition(": ")
            is_gap = why.startswith(_GAP)
            if is_gap:
                # By now somebody may be.
                why = f"nobody was on call{why.removeprefix(_GAP)}"
            yield Because(
                f"{_short(left_out.name)}: {why}{f' ({place})' if place else ''}, at",
                at=one.at,
                url=reverse(
                    "team-schedules" if is_gap else "team-policies", args=[incident.feature.team.slug]
                ),
                leads_to="On call" if is_gap else "Escalation",
            )


def _pages_only(
    incident: Incident, events: Sequence[IncidentEvent], told: Sequence[Telling]
) -> Iterator[Because]:
    """Why channels that take pages alone were not told of a ticket."""
    if incident.severity != Severity.TICKET or not told:
        return
    names = [one.name for one in told[-1].left_out if one.because == PAGES_ONLY]
    if names:
        are = "takes" if len(names) == 1 else "take"
        yield Because(
            f"{_listed(names)} {are} only pages, and this is a ticket{_why_a_ticket(incident, events)}.",
            url=reverse("team-channels", args=[incident.feature.team.slug]),
            leads_to="Channels",
        )


def _why_a_ticket(incident: Incident, events: Sequence[IncidentEvent]) -> str:
    found = [one.details["decided_by"] for one in events if one.details.get("decided_by")]
    if not found:
        return f" by the rule {formats.name(incident.rule.replace('_', ' '))}"
    reason = found[-1]["reason"]
    rule = formats.name(found[-1]["condition"].replace("_", " "))
    if reason in _WHY_A_TICKET:
        return f" by the rule {rule}: {reason_words(reason)}"
    return f" by the rule {rule}"


def _no_recipient(
    incident: Incident, events: Sequence[IncidentEvent], told: Sequence[Telling]
) -> list[Because]:
    """Why there was nobody to tell."""
    slug = incident.feature.team.slug
    channels = reverse("team-channels", args=[slug])
    found = [*_gaps(incident, told), *_pages_only(incident, events, told)]
    off = [one.name for one in told[-1].left_out if one.because == SWITCHED_OFF] if told else []
    if off:
        are = "is" if len(off) == 1 else "are"
        found.append(Because(f"{_listed(off)} {are} switched off.", url=channels, leads_to="Channels"))
    return found or [Because("The team had no channel.", url=channels, leads_to="Channels")]


# Words


def _was(incident: Incident) -> str:
    return "was" if incident.resolved_at else "has been"


def _listed(names: Sequence[str]) -> str:
    unique = [_short(name) for name in dict.fromkeys(names)]
    if len(unique) <= MAX_NAMES:
        return ", ".join(unique)
    return f"{', '.join(unique[: MAX_NAMES - 1])} and {len(unique) - MAX_NAMES + 1} more"


def _short(name: str) -> str:
    """A name that leaves room for what is said of it."""
    return formats.name(name if len(name) <= MAX_NAME_CHARACTERS else f"{name[: MAX_NAME_CHARACTERS - 1]}…")


def _cut(reasons: Iterable[Because]) -> Sequence[Because]:
    found = list(reasons)
    if len(found) <= MAX_REASONS:
        return found
    more = len(found) - MAX_REASONS + 1
    return [*found[: MAX_REASONS - 1], Because(f"{more} more reasons stand in the log of notifications.")]
