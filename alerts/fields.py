"""The fields of a document that somebody wrote: read one by one, all that is wrong with them said at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from budgets.errors import Refusal
from budgets.instants import read_instant
from budgets.storable import is_storable
from budgets.zones import is_zone

from . import matchers

MAX_NAME_CHARACTERS = 200
TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?")
MISSING: Any = object()


class Fields:
    """Reads a document. A field that is wrong gives a harmless value and is remembered; `refuse` tells of all.

    Raises Refusal("invalid_document") at once where it is no object or has fields that nobody knows.
    """

    def __init__(
        self, document: Any, *, known: Collection[str], read_only: Collection[str] = (), code: str
    ) -> None:
        if not isinstance(document, dict):
            raise Refusal.of(
                "invalid_document", {"document": [f"Expected an object with {', '.join(known)}."]}
            )
        unknown = sorted(map(str, document.keys() - {*known, *read_only}))
        if unknown:
            raise Refusal.of(
                "invalid_document",
                {
                    name[:100]: [f"There is no such field: known are {', '.join(known)}."]
                    for name in unknown[:20]
                },
            )
        self._document = document
        self._code = code
        self.wrong: dict[str, list[str]] = {}

    def add(self, name: str, *sentences: str) -> None:
        if sentences:
            self.wrong.setdefault(name, []).extend(sentences)

    def refuse(self) -> None:
        """Raises Refusal with everything that was wrong, if anything was."""
        if self.wrong:
            raise Refusal.of(self._code, self.wrong)

    def raw(self, name: str, default: Any = MISSING) -> Any:
        """The value as it came. Without a default it must be there."""
        value = self._document.get(name, default)
        if value is MISSING:
            self.add(name, f"{name} is missing.")
            return None
        return value

    def text(self, name: str, *, most: int, default: str | None = None, least: int = 0) -> str:
        value = self.raw(name, MISSING if default is None else default)
        if value is None and name in self.wrong:
            return ""
        if not isinstance(value, str) or not least <= len(value.strip()) <= most or not is_storable(value):
            self.add(name, f"{name} must be a text of {least} to {most} characters without U+0000.")
            return ""
        return value.strip()

    def whole_number(self, name: str, *, least: int, most: int, default: Any = MISSING) -> int:
        value = self.raw(name, default)
        if value is None and name in self.wrong:
            return least
        if not _is_whole(value) or not least <= value <= most:
            self.add(name, f"{name} must be a whole number from {least} to {most}, got {value!r:.100}.")
            return least
        return int(value)

    def optional_number(self, name: str, *, least: int, most: int, default: int | None) -> int | None:
        value = self.raw(name, default)
        if value is None:
            return None
        if not _is_whole(value) or not least <= value <= most:
            said = f"{name} must be null or a whole number from {least} to {most}, got {value!r:.100}."
            self.add(name, said)
            return None
        return int(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.raw(name, default)
        if not isinstance(value, bool):
            self.add(name, f"{name} must be true or false, got {value!r:.100}.")
            return default
        return value

    def day(self, name: str) -> date:
        value = self.raw(name)
        try:
            if not isinstance(value, str) or len(value) != 10:
                raise ValueError(value)
            day = date.fromisoformat(value)
            if not 1970 <= day.year <= 2999:
                raise ValueError(value)
        except ValueError:
            if name not in self.wrong:
                self.add(name, f"{name} must be a day such as 2026-11-21, got {value!r:.100}.")
            return date(1970, 1, 1)
        return day

    def time_of_day(self, name: str) -> time:
        value = self.raw(name)
        found = read_time(value)
        if found is None:
            if name not in self.wrong:
                self.add(name, f"{name} must be a time of day such as 09:00, got {value!r:.100}.")
            return time()
        return found

    def instant(self, name: str, *, default: datetime | None = None) -> datetime:
        """RFC 3339 with a zone, or Unix seconds."""
        value = self.raw(name, MISSING if default is None else None)
        if value is None and default is not None:
            return default
        try:
            return _instant(value)
        except (ValueError, OverflowError, OSError):
            if name not in self.wrong:
                self.add(
                    name,
                    f"{name} must be RFC 3339 with a zone (2026-11-21T20:00:00Z) or Unix seconds, got {value!r:.100}.",
                )
            return datetime(1970, 1, 1, tzinfo=UTC)

    def time_zone(self, name: str) -> str:
        value = self.raw(name)
        if name in self.wrong:
            return "UTC"
        if not isinstance(value, str) or not is_zone(value):
            said = f"{name} must be the IANA name of a time zone such as Europe/Berlin, got {value!r:.100}."
            self.add(name, said)
            return "UTC"
        return value

    def matchers(self, name: str = "matchers", *, may_be_empty: bool) -> list[dict[str, str]]:
        value = self.raw(name, [] if may_be_empty else MISSING)
        if name in self.wrong:
            return []
        self.add(
            name,
            *(
                f"{name}{one}" if one.startswith("[") else one
                for one in matchers.problems(value, may_be_empty=may_be_empty)
            ),
        )
        return [] if name in self.wrong else value


def _instant(value: Any) -> datetime:
    """As UTC, and far from the ends of the calendar: something is added to it and taken from it."""
    at = read_instant(value)
    if not 1970 <= at.year < 9999:
        raise ValueError(value)
    return at.astimezone(UTC)


def read_time(value: Any) -> time | None:
    """HH:MM or HH:MM:SS; None where it is neither."""
    return time.fromisoformat(value) if isinstance(value, str) and TIME.fullmatch(value) else None


def name_of(name: str, what: str, wrong: dict[str, list[str]], *, is_known: bool = False) -> str:
    """A name that stands beside a document, in a path: so without a slash, but for what has one already."""
    if (
        not 1 <= len(name.strip()) <= MAX_NAME_CHARACTERS
        or not is_storable(name)
        or ("/" in name and not is_known)
    ):
        wrong["name"] = [
            f"A {what}'s name has 1 to {MAX_NAME_CHARACTERS} characters, none of them a slash or U+0000."
        ]
        return ""
    return name.strip()


def listed(names: Sequence[str]) -> str:
    """Names for people: `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
