"""How the components share in an incident, as its page shows it: the one to blame, by how much, and how that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from alerts.models import Incident
from budgets import formats

# A component with a smaller part than this in what slow requests take longer is noise beside the others.
LEAST_RATIO: Final = 0.01
MAX_NAMES: Final = 6
_ALL: Final = 0.995

# Why the requests themselves do not answer, by `alerts.causes.Why`.
_WHY_BY_ALLOCATIONS: Final = {
    "few_traces": ": too few requests, slow ones or others, carry a trace id to compare them",
    "unmeasured": ": most of the time that slow requests take longer is in no component that is measured",
    "many_incidents": ": as many incidents began at once, the requests were not read",
}


@dataclass(frozen=True)
class Column:
    """A column of figures; all of it is in one unit, which stands in its head."""

    name: str
    unit: str

    @property
    def label(self) -> str:
        return f"{self.name}, {self.unit}"


@dataclass(frozen=True)
class Row:
    """A component; a figure for each column, "–" where it is not known."""

    name: str
    is_cause: bool
    cells: Sequence[tuple[Column, str]]
    share_percent: int | None = None
    """Of the bar that shows its share."""


@dataclass(frozen=True)
class CauseTable:
    """`cause` is the name of the component to blame, empty where none is; `lead` goes on from it."""

    cause: str
    lead: str
    but_for: str
    known_by: str
    how: str
    rows: Sequence[Row]
    others: str

    @property
    def columns(self) -> Sequence[Column]:
        return [column for column, _ in self.rows[0].cells] if self.rows else []


def cause_words(cause: Mapping[str, Any]) -> str:
    """ "tools: p99 2.10 s against its allocation of 800 ms, 1.30 s over"."""
    return f"{formats.name(cause['component'])}: {_against(cause)}"


def cause_in_short(incident: Incident) -> str:
    """The component to blame with its figures and by what it is known; empty where none is."""
    if not incident.cause:
        return ""
    found = incident.attribution
    if not found:
        return cause_words(incident.cause)
    share = _of_cause(incident)
    if found["by"] == "requests" and share and share["excess_ms"] is not None:
        of_all = f" ({_of_it(share['share_ratio'])})" if share["share_ratio"] else ""
        longer = formats.duration(share["excess_ms"])
        return (
            f"{formats.name(share['component'])}, {longer} longer in slow requests{of_all}, "
            "known from the requests themselves"
        )
    return f"{cause_words(incident.cause)}, known from the allocations"


def _of_it(share_ratio: float) -> str:
    """A component's part of what slow requests took longer. It may be over all of it, where others took less: that is
    a figure for the table, and none for a sentence."""
    return "all of it" if share_ratio >= _ALL else f"{formats.percent(share_ratio)} of it"


def cause_table(incident: Incident) -> CauseTable | None:
    """None where nothing is known of the components."""
    found = incident.attribution
    if not found or not found["components"]:
        return None
    return _by_requests(incident, found) if found["by"] == "requests" else _by_allocations(incident, found)


def _by_requests(incident: Incident, found: Mapping[str, Any]) -> CauseTable:
    blamed = _of_cause(incident)
    shown = [one for one in found["components"] if one is blamed or _counts(one)]
    left = [one for one in found["components"] if one not in shown]
    unit = formats.column_unit(
        one[name] for one in shown for name in ("excess_ms", "observed_ms", "allocated_ms")
    )
    columns = [
        Column("Longer by", unit),
        Column("Share", "%"),
        Column("In time without", "%"),
        Column("p99", unit),
        Column("Allocated", unit),
    ]
    figures = [
        formats.column([_in(unit, one["excess_ms"]) for one in shown], signed=True),
        formats.column([_percent(one["share_ratio"]) for one in shown], near=[100.0] * len(shown)),
        formats.column([_percent(one["but_for_ratio"]) for one in shown], near=[100.0] * len(shown)),
        *_p99_and_allocation(shown, unit),
    ]
    lead = "Most of what slow requests take longer is in no component that is measured."
    but_for = ""
    if blamed:
        of_all = f": {_of_it(blamed['share_ratio'])}" if blamed["share_ratio"] else ""
        lead = f"takes {formats.duration(blamed['excess_ms'])} longer in requests over the latency budget{of_all}."
        if blamed["but_for_ratio"]:
            kept = (
                "Without it"
                if blamed["allocated_ms"] is None
                else f"Had it kept to its {formats.limit(blamed['allocated_ms'])}"
            )
            but_for = f"{kept}, {formats.percent(blamed['but_for_ratio'])} of them would have been in time."
    sample = ", a sample," if found.get("is_sampled") else ""
    return CauseTable(
        cause=_name(blamed) if blamed else "",
        lead=lead,
        but_for=but_for,
        known_by="by requests",
        how=(
            f"Known from the requests themselves: {formats.count(found['over'])} over the latency budget and "
            f"{formats.count(found['within'])} within it{sample} that carry a trace id."
        ),
        rows=_rows(shown, blamed, columns, figures),
        others=_others(left, "contributed nothing measurable"),
    )


def _by_allocations(incident: Incident, found: Mapping[str, Any]) -> CauseTable:
    blamed = _of_cause(incident)
    measured = [one for one in found["components"] if one["observed_ms"] is not None]
    within = [one for one in measured if one is not blamed and _is_within(one)]
    shown = [one for one in measured if one not in within]
    unmeasured = [one for one in found["components"] if one not in measured]
    unit = formats.column_unit(one[name] for one in shown for name in ("observed_ms", "allocated_ms"))
    columns = [Column("p99", unit), Column("Allocated", unit), Column("Over by", unit)]
    over = [
        None if one["allocated_ms"] is None else _in(unit, one["observed_ms"] - one["allocated_ms"])
        for one in shown
    ]
    figures = [*_p99_and_allocation(shown, unit), formats.column(over, signed=True)]
    others = [_others(within, "within their allocation" if len(within) > 1 else "within its allocation")]
    others += [_others(unmeasured, "without a measurement in that time")]
    why = _WHY_BY_ALLOCATIONS.get(found.get("why", ""), "")
    return CauseTable(
        cause=_name(blamed) if blamed else "",
        lead=f"{_against(incident.cause)}."
        if blamed and incident.cause
        else "No component is over its allocation.",
        but_for="",
        known_by="by allocations",
        how=f"Known from the components' p99 against their allocations{why}.",
        rows=_rows(shown, blamed, columns, figures),
        others=" ".join(filter(None, others)),
    )


def _of_cause(incident: Incident) -> Mapping[str, Any] | None:
    """What the attribution says of the component to blame."""
    if not incident.cause or not incident.attribution:
        return None
    components = incident.attribution["components"]
    return next((one for one in components if one["component"] == incident.cause["component"]), None)


def _counts(share: Mapping[str, Any]) -> bool:
    """Whether a component has a part in it that is worth a look."""
    ratio = share["share_ratio"]
    is_longer = share["excess_ms"] > 0 and (ratio is None or ratio >= LEAST_RATIO)
    return is_longer or (share["but_for_ratio"] or 0) >= LEAST_RATIO


def _is_within(share: Mapping[str, Any]) -> bool:
    return share["allocated_ms"] is not None and share["observed_ms"] <= share["allocated_ms"]


def _p99_and_allocation(shown: Sequence[Mapping[str, Any]], unit: str) -> list[list[str]]:
    allocated = [_in(unit, one["allocated_ms"]) for one in shown]
    observed = formats.column([_in(unit, one["observed_ms"]) for one in shown], near=allocated)
    return [observed, [formats.NONE if one is None else formats.exact(one) for one in allocated]]


def _rows(
    shown: Sequence[Mapping[str, Any]],
    blamed: Mapping[str, Any] | None,
    columns: Sequence[Column],
    figures: Sequence[Sequence[str]],
) -> list[Row]:
    # A column of which nothing is known says nothing.
    known = [n for n, cells in enumerate(figures) if any(cell != formats.NONE for cell in cells)]
    return [
        Row(
            name=_name(one),
            is_cause=one is blamed,
            cells=[(columns[n], figures[n][place]) for n in known],
            share_percent=_bar(one.get("share_ratio")),
        )
        for place, one in enumerate(shown)
    ]


def _bar(ratio: float | None) -> int | None:
    return None if ratio is None else round(100 * min(1.0, max(0.0, ratio)))


def _others(left: Sequence[Mapping[str, Any]], did: str) -> str:
    """ "2 others contributed nothing measurable: model, retrieval."; empty for none."""
    names = [_name(one) for one in left if one["component"]]
    if not names:
        return ""
    named = ", ".join(names[:MAX_NAMES])
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{len(names)} {'other' if len(names) == 1 else 'others'} {did}: {named}{more}."


def _name(share: Mapping[str, Any]) -> str:
    return formats.name(share["component"]) if share["component"] else "in no measured component"


def _against(cause: Mapping[str, Any]) -> str:
    observed_ms = float(cause["observed_ms"])
    if cause["allocated_ms"] is None:
        return f"p99 {formats.duration(observed_ms)}, with no allocation"
    allocated_ms = float(cause["allocated_ms"])
    observed = formats.duration(observed_ms, near=allocated_ms)
    if observed_ms <= allocated_ms:
        return f"p99 {observed} within its allocation of {formats.limit(allocated_ms)}"
    over = formats.duration(observed_ms - allocated_ms)
    return f"p99 {observed} against its allocation of {formats.limit(allocated_ms)}, {over} over"


def _in(unit: str, ms: float | None) -> float | None:
    return None if ms is None else ms / formats.UNIT_MS[unit]


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else 100 * ratio
