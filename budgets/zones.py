"""Time zones by their names in the IANA database. Pure."""

from __future__ import annotations

from datetime import UTC, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones


@cache
def _names() -> frozenset[str]:
    # What reads the machine's own setting means another zone elsewhere.
    return frozenset(available_timezones() - {"localtime", "Factory"})


def is_zone(name: str) -> bool:
    """Whether it is the IANA name of a time zone, e.g. Europe/Berlin."""
    return name in _names()


def zone_names() -> list[str]:
    """Every name, those of places first, in order."""
    return sorted(_names(), key=lambda name: ("/" not in name or name.startswith("Etc/"), name))


def zone_of(name: str) -> tzinfo:
    """The zone of that name; UTC where there is none."""
    return ZoneInfo(name) if name != "UTC" and is_zone(name) else UTC
