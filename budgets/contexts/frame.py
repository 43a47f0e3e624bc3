"""What a page's address says and the frame offers: environment, time range, how fresh the page is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from django.urls import reverse

from budgets import formats
from budgets.errors import Refusal
from budgets.instants import read_instant, rfc3339
from budgets.models import Feature, Series, User
from budgets.status import WINDOWS

DEFAULT_ENVIRONMENT: Final = "production"
RANGES: Final = tuple(WINDOWS)
LONGEST_DAYS: Final = 400
"""Of a range between two instants: a year and what is compared with it."""
_MINUTE: Final = timedelta(minutes=1)
_AHEAD: Final = timedelta(minutes=1)  # a visitor's clock may be as wrong as a service's
_YEARS: Final = range(1970, 3000)  # near the ends of the calendar no zone and no window can be reckoned with


@dataclass(frozen=True)
class View:
    """What a page's address asks for: of which environment, over which range, as of when.

    The range is `window` up to `as_of`, or from `start` to `end` (whole minutes, the end exclusive); without either it
    is the objective's window. Both are None, or neither.
    """

    environment: str
    as_of: datetime
    now: datetime
    window: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    is_live: bool = True
    """Whether it moves on with the clock: no instant stands in the address."""

    @property
    def length(self) -> str | timedelta | None:
        """The range as `get_feature_status` takes it."""
        return self.window if self.start is None or self.end is None else self.end - self.start

    @property
    def query(self) -> dict[str, str | None]:
        """What links to other pages, and to the parts of this one, carry on."""
        return {
            "environment": self.environment,
            "window": self.window,
            "from": _address_instant(self.start),
            "to": _address_instant(self.end),
            "at": None if self.is_live or self.end is not None else _address_instant(self.as_of),
        }

    def range_words(self, days: int) -> str:
        """The range in words, where `days` is the objective's window: "last 28 days"."""
        if self.start is not None and self.end is not None:
            return formats.between(self.start, self.end)
        window = self.window or f"{days}d"
        if self.is_live:
            return formats.last(window)
        return f"{formats.window_words(window)} up to {formats.instant(self.as_of)}"

    def within_words(self, days: int) -> str:
        """The range within a sentence: "in the last 28 days", "from … to …"."""
        if self.start is not None and self.end is not None:
            return f"between {formats.instant(self.start)} and {formats.instant(self.end)}"
        return f"in the {self.range_words(days)}"


def view_of(asked: Mapping[str, str], now: datetime) -> View:
    """The view that an address asks for: `environment`, and `window` (with or without `at`) or `from` and `to`.

    Instants are RFC 3339 or Unix seconds; without a zone they are in the one that the page is read in. Raises
    Refusal("invalid_range") that says what was expected.
    """
    environment = asked_environment(asked.get("environment"))
    window, at = asked.get("window") or None, asked.get("at") or None
    since, until = asked.get("from") or None, asked.get("to") or None
    if window is not None and window not in RANGES:
        raise _refused("window", f"Expected one of {', '.join(RANGES)}, got {window!r:.60}.")
    if since is None and until is None:
        if at is None:
            return View(environment, now, now, window)
        as_of = _instant("at", at)
        if as_of > now + _AHEAD:
            raise _refused("at", f"Expected an instant that has been, got {formats.instant(as_of)}.")
        return View(environment, min(as_of, now), now, window, is_live=False)
    if since is None or until is None:
        missing = "from" if since is None else "to"
        raise _refused(missing, "A range has both from and to.")
    if window is not None or at is not None:
        raise _refused("window", "A range is either from and to, or window (with or without at).")
    start, end = _floored(_instant("from", since)), _instant("to", until)
    end = _floored(min(end, now) + _MINUTE - timedelta(microseconds=1))
    if start >= end:
        raise _refused(
            "from",
            f"Expected a range that begins before it ends, and before now; got {formats.between(start, end)}.",
        )
    if end - start > timedelta(days=LONGEST_DAYS):
        raise _refused("from", f"Expected a range of at most {LONGEST_DAYS} days, got {(end - start).days}.")
    return View(
        environment,
        as_of=end - timedelta(seconds=1),  # within the last minute of the range
        now=now,
        start=start,
        end=end,
        is_live=False,
    )


def _instant(field: str, text: str) -> datetime:
    try:
        # A plus sign that was not escaped arrives as a space.
        value = text.strip().replace(" ", "+")
        if value.replace(".", "", 1).isdigit():
            at = read_instant(float(value)).astimezone(UTC)
        elif formats.is_naive(value):
            at = formats.from_wall_clock(datetime.fromisoformat(value))
        else:
            at = read_instant(value).astimezone(UTC)
        if at.year in _YEARS:
            return at
    except (ValueError, OverflowError, OSError):
        pass  # as what lies too far away
    raise _refused(field, f"Expected an instant such as 2026-11-21T20:00:00Z, got {text!r:.60}.")


def _address_instant(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)


def _floored(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def _refused(field: str, said: str) -> Refusal:
    return Refusal("invalid_range", said, fields={field: [said]})


@dataclass(frozen=True)
class Frame:
    """What the bar under the header offers: environment, time range, how fresh the page is."""

    as_of: datetime
    environment: str = DEFAULT_ENVIRONMENT
    environments: Sequence[str] = ()
    range: str = ""
    ranges: Sequence[str] = ()
    start: datetime | None = None
    end: datetime | None = None
    """Of a range between two instants."""
    has_later: bool = False
    """Whether anything was after it."""
    is_live: bool = True
    is_pinned: bool = False
    """Whether an instant stands in the address, so that the page shows the same tomorrow."""
    every_s: int = 3
    """How often the page is refreshed while somebody is there."""

    @property
    def range_words(self) -> str:
        return formats.last(self.range).capitalize()

    @property
    def moment(self) -> str | None:
        """The page's instant as an address takes it."""
        return _address_instant(self.as_of)

    @property
    def hour_before(self) -> datetime:
        return self.as_of - timedelta(hours=1)

    @property
    def earlier(self) -> tuple[str | None, str | None]:
        """The bounds of the range before, as an address takes them."""
        return self._moved(-1)

    @property
    def later(self) -> tuple[str | None, str | None]:
        return self._moved(1)

    def _moved(self, by: int) -> tuple[str | None, str | None]:
        if self.start is None or self.end is None:
            return None, None
        length = by * (self.end - self.start)
        return _address_instant(self.start + length), _address_instant(self.end + length)


def frame_of(view: View, features: Iterable[Feature], *, every_s: int = 3) -> Frame:
    """The frame around a page of these features. Reads the environments that they were measured in."""
    return Frame(
        as_of=view.as_of,
        environment=view.environment,
        environments=environments_of(features, view.environment),
        range=view.window or "",
        ranges=RANGES,
        start=view.start,
        end=view.end,
        has_later=view.end is not None and view.end < view.now,
        is_live=view.is_live,
        is_pinned=not view.is_live,
        every_s=every_s,
    )


def environments_of(features: Iterable[Feature], chosen: str) -> list[str]:
    """Every environment that the features were measured in, production first, and the one in the URL."""
    found = set(Series.objects.filter(feature__in=features).values_list("environment", flat=True).distinct())
    return sorted(found | {DEFAULT_ENVIRONMENT, chosen}, key=lambda name: (name != DEFAULT_ENVIRONMENT, name))


def asked_environment(value: str | None) -> str:
    """Without U+0000, which no environment's name has and the database takes for a fault."""
    return (value or "").replace("\0", "").strip()[:200] or DEFAULT_ENVIRONMENT


def page_url(name: str, /, *args: object, **query: str | None) -> str:
    """An address with its query, without what is the default."""
    return with_query(reverse(name, args=args), **query)


def with_query(address: str, /, **query: str | None) -> str:
    kept = {key: value for key, value in query.items() if value}
    if kept.get("environment") == DEFAULT_ENVIRONMENT:
        del kept["environment"]
    return f"{address}?{urlencode(kept)}" if kept else address


def visible_features(user: User) -> Sequence[Feature]:
    """The features a person may see and that are still measured, each with its team."""
    return list(Feature.objects.visible_to(user).active().select_related("team").order_by("name"))
