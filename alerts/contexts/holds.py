"""What the pages of silences and maintenance windows show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from django.core.paginator import Page, Paginator

from alerts import maintenance
from alerts.maintenance import Occurrence
from alerts.matchers import described
from alerts.models import MaintenanceWindow, Silence
from alerts.silences import trouble_with
from budgets.models import Team

PAGE_SIZE: Final = 25

# Silences


@dataclass(frozen=True)
class SilenceLine:
    silence: Silence
    state: str

    @property
    def trouble(self) -> str:
        """Why it cannot be read, and so holds nothing back."""
        return trouble_with(self.silence)

    @property
    def about(self) -> str:
        return "" if self.trouble else described(self.silence.matchers)


@dataclass(frozen=True)
class SilenceList:
    current: list[SilenceLine]
    coming: list[SilenceLine]
    past: list[SilenceLine]
    page: Page[Silence]
    """Of those that are over."""


def silence_list(team: Team, *, page: str | None, now: datetime) -> SilenceList:
    """The team's silences: in force, coming, and over, of which a page."""
    not_over = list(Silence.objects.not_over(now).filter(team=team).order_by("ends_at", "pk"))
    over = Silence.objects.filter(team=team).exclude(pk__in=[one.pk for one in not_over])
    shown = Paginator(over.order_by("-ends_at", "-pk"), PAGE_SIZE).get_page(page)
    return SilenceList(
        current=[SilenceLine(one, "firing") for one in not_over if one.starts_at <= now],
        coming=[SilenceLine(one, "pending") for one in not_over if one.starts_at > now],
        past=[SilenceLine(one, "resolved") for one in shown],
        page=shown,
    )


# Maintenance windows


@dataclass(frozen=True)
class LocalOccurrence:
    """An occurrence in UTC and by the clock of its zone."""

    starts_at: datetime
    ends_at: datetime
    local: str
    is_open: bool


@dataclass(frozen=True)
class WindowLine:
    window: MaintenanceWindow
    about: str
    next: list[LocalOccurrence]
    trouble: str
    """Why it cannot be read, and so counts as closed."""
    is_unbroken: bool
    """Whether it stays open. None is saved like that any more."""


def window_lines(team: Team, now: datetime) -> list[WindowLine]:
    """The team's windows by name, each with what comes next."""
    return [
        WindowLine(
            window=one,
            about="" if trouble else described(one.matchers) or "every incident",
            next=coming,
            trouble=trouble,
            # Whether it stays open for days is asked of those alone that come again before they close.
            is_unbroken=any(after.starts_at <= before.ends_at for before, after in pairwise(coming))
            and maintenance.stays_open_from(one, now=now) is not None,
        )
        for one in MaintenanceWindow.objects.filter(team=team).order_by("name")
        for trouble, coming in [(maintenance.trouble_with(one), next_of(one, now))]
    ]


def next_of(window: MaintenanceWindow, now: datetime) -> list[LocalOccurrence]:
    """The next three times that a window is open, the present one among them."""
    return [_local(one, window.time_zone, now) for one in maintenance.next_occurrences(window, now=now)]


def _local(one: Occurrence, time_zone: str, now: datetime) -> LocalOccurrence:
    zone = ZoneInfo(time_zone)
    starts, ends = one.starts_at.astimezone(zone), one.ends_at.astimezone(zone)
    is_same_day = starts.date() == ends.date()
    end = f"{ends:%H:%M}" if is_same_day else f"{ends:%a} {ends.day} {ends:%b, %H:%M}"
    text = f"{starts:%a} {starts.day} {starts:%b %Y, %H:%M}–{end} {ends:%Z}"
    return LocalOccurrence(one.starts_at, one.ends_at, text, one.starts_at <= now)
