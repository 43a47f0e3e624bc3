"""The parameters of each kind of alert rule: between which bounds each makes sense, and what says so where it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .error_budget_rules import REMAINING_PERCENTS
from .latency_rules import DEFAULT_GROWTH_RATIO, MIN_MEASURED
from .series_rules import (
    DEFAULT_SILENT_MINUTES,
    DEFAULT_TIMEOUT_RATIO,
    DEFAULT_UNALLOCATED_RATIO,
    MIN_TIMEOUTS,
)

Problems = dict[str, list[str]]

_MAX_DURATION_MS: Final = 7 * 86_400_000
_MINUTES_OF_A_DAY: Final = 1440


DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "burn_rate": {},
    "component_overrun": {},
    "timeouts": {"share_ratio": DEFAULT_TIMEOUT_RATIO, "min_timeouts": MIN_TIMEOUTS},
    "error_budget": {"remaining_percents": list(REMAINING_PERCENTS)},
    "threshold": {"percentile": "p95", "window": "5m", "min_measured": MIN_MEASURED},
    "trend": {"growth_ratio": DEFAULT_GROWTH_RATIO, "min_measured": MIN_MEASURED},
    "forecast": {},
    "no_data": {"silent_minutes": DEFAULT_SILENT_MINUTES},
    "unallocated_component": {"share_ratio": DEFAULT_UNALLOCATED_RATIO},
}
"""The parameters of each kind, as they are where a rule does not say. A threshold's threshold_ms has no default."""


def is_number(value: Any, *types: type) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class _Number:
    """`low` and `high` are included unless the bounds are open; `never` says what lies beyond `high`."""

    low: float
    high: float
    is_whole: bool = False
    is_open: bool = False
    never: str = ""

    def problem(self, value: Any) -> str:
        types = (int,) if self.is_whole else (int, float)
        is_sound = is_number(value, *types)
        if is_sound and (self.low < value < self.high if self.is_open else self.low <= value <= self.high):
            return ""
        between = (
            f"between {self.low:g} and {self.high:g}"
            if self.is_open
            else f"from {self.low:g} to {self.high:g}"
        )
        said = f"must be a {'whole ' if self.is_whole else ''}number {between}, got {value!r:.100}."
        return f"{said} {self.never}" if self.never and is_sound and value >= self.high else said


@dataclass(frozen=True, slots=True)
class _Choice:
    choices: tuple[str, ...]

    def problem(self, value: Any) -> str:
        is_one = isinstance(value, str) and value in self.choices
        return "" if is_one else f"must be one of {', '.join(self.choices)}, got {value!r:.100}."


@dataclass(frozen=True, slots=True)
class _Percents:
    def problem(self, value: Any) -> str:
        is_sound = (
            isinstance(value, list)
            and 1 <= len(value) <= 10
            and all(is_number(one, int) and 0 <= one <= 99 for one in value)
            and len(set(value)) == len(value)
        )
        return (
            "" if is_sound else f"must be 1 to 10 different whole numbers from 0 to 99, got {value!r:.100}."
        )


PERCENTILES: Final = ("p50", "p95", "p99")
THRESHOLD_WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d")

_NEVER: Final = "Beyond that it could never fire."
_PARAMETERS: Final[Mapping[str, Mapping[str, _Number | _Choice | _Percents]]] = {
    "burn_rate": {},
    "component_overrun": {},
    "timeouts": {
        "share_ratio": _Number(0, 1, is_open=True, never=_NEVER),
        "min_timeouts": _Number(1, 1_000_000, is_whole=True),
    },
    "error_budget": {"remaining_percents": _Percents()},
    "threshold": {
        "percentile": _Choice(PERCENTILES),
        # A longer duration is rejected when it is measured.
        "threshold_ms": _Number(0, _MAX_DURATION_MS, is_open=True, never=_NEVER),
        "window": _Choice(THRESHOLD_WINDOWS),
        "min_measured": _Number(1, 1_000_000, is_whole=True),
    },
    "trend": {
        "growth_ratio": _Number(1, 100, is_open=True),
        "min_measured": _Number(1, 1_000_000, is_whole=True),
    },
    "forecast": {},
    "no_data": {"silent_minutes": _Number(2, _MINUTES_OF_A_DAY, is_whole=True, never=_NEVER)},
    "unallocated_component": {"share_ratio": _Number(0, 1, is_open=True, never=_NEVER)},
}


def read_parameters(kind: str, given: Any, problems: Problems) -> dict[str, Any]:
    """What differs from the kind's defaults."""
    if not isinstance(given, dict):
        problems["parameters"] = [f"parameters must be an object, got {given!r:.100}."]
        return {}
    known = _PARAMETERS[kind]
    for name, value in given.items():
        field = f"parameters.{str(name)[:100]}"
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            problems[field] = [f"{kind} has no such parameter; {has}."]
        elif said := known[name].problem(value):
            problems[field] = [f"{name} {said}"]
    for name in known.keys() - DEFAULTS[kind].keys() - given.keys():
        problems[f"parameters.{name}"] = [f"{kind} needs {name}."]
    return {name: value for name, value in given.items() if DEFAULTS[kind].get(name) != value}
