"""The document of a scenario, as YAML gives it: read, and refused where it is wrong.

Series are in promtool's notation (alerts.series_notation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from budgets.burn_rates import OBJECTIVE_WINDOW_DAYS, Severity

from .error_budget_rules import HORIZON_HOURS, ErrorBudgetRule, ForecastRule
from .latency_rules import TREND_PAIRS, TREND_PERCENTILE, ThresholdRule, TrendRule
from .minutes import Minutes, TimeTaken
from .percentiles import StatedPercentiles
from .rule_parameters import DEFAULTS, PERCENTILES, Problems, read_parameters
from .rules import DEFAULT_KEEP_FIRING_FOR, ComponentOverrunRule, Rule, Status, milestone_rules
from .scenarios import NONE, Expectation, Path, Scenario
from .series_notation import MAX_COUNT, MAX_MINUTES, expand_with_gaps, read_duration
from .series_rules import NoDataRule, TimeoutsRule, UnallocatedComponentRule

DEFAULT_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
INCIDENT_STATES: Final = ("open", "resolved", NONE)
COUNTS: Final = ("good", "bad", "over", "timeouts", "errors")
STATED: Final = tuple(f"{name}_ms" for name in PERCENTILES)
TIMES: Final = ("component_ms", "milestone_ms")
SERIES: Final = (*COUNTS, *STATED, *TIMES)
STATED_MEASURED: Final = 100
"""What each minute that states a percentile counts as measured where counts are not given."""

MILESTONES: Final = ("first_token", "complete")


class Unsound(Exception):
    """A document that is no scenario; `path` leads to what is wrong."""

    def __init__(self, message: str, path: Path = ()) -> None:
        super().__init__(message)
        self.message = message
        self.path = path


@dataclass(frozen=True, slots=True)
class Budget:
    """What a latency budget promises, of a file of declarations."""

    objective: float
    window_days: int
    components: tuple[str, ...]


Declared = Callable[[str, str], Mapping[str, Budget]]
"""(file, feature) -> milestone -> its latency budget. Raises Unsound."""


_GROUP = (
    "feature",
    "declared_in",
    "milestone",
    "component",
    "objective",
    "window_days",
    "rules",
    "tests",
)
_TEST = ("name", "starts_at", "input_series", "alert_rule_test")
_EXPECTED = ("eval_time", "exp_states", "exp_severity", "exp_incident")
_RULE = ("kind", "severity", "for_seconds", "keep_firing_seconds", "parameters")


def read_scenarios(value: Any, declared: Declared) -> list[Scenario]:
    """The tests of one document. Raises Unsound."""
    group = _mapping(value, (), _GROUP)
    rules = _rules(group, declared)
    tests = _list(group.get("tests"), ("tests",))
    return [_scenario(test, ("tests", n), rules) for n, test in enumerate(tests)]


def _rules(group: Mapping[str, Any], declared: Declared) -> dict[str, Rule]:
    """What watches the target, by the keys of its conditions."""
    milestone, component = group.get("milestone"), group.get("component")
    if (milestone is None) == (component is None):
        raise Unsound("A document is about a milestone or about a component: name one of them.")
    if milestone is not None and milestone not in MILESTONES:
        raise Unsound(f"Expected one of {', '.join(MILESTONES)}, got {milestone!r:.50}.", ("milestone",))
    if component is not None and not (isinstance(component, str) and component):
        raise Unsound(f"Expected a component's name, got {component!r:.50}.", ("component",))
    wanted = group.get("rules")
    if wanted is None:
        wanted = [{"kind": "burn_rate" if component is None else "component_overrun"}]
    promise: tuple[float, int] | None = None
    rules: dict[str, Rule] = {}
    for n, value in enumerate(_list(wanted, ("rules",))):
        path: Path = ("rules", n)
        rule = _mapping(value, path, _RULE)
        kind, timing = rule.get("kind"), _timing(rule, path)
        kinds = _OF_MILESTONES if component is None else _OF_COMPONENTS
        if kind not in kinds:
            target = "milestone" if component is None else "component"
            raise Unsound(
                f"Of a {target} a rule of a kind of {', '.join(kinds)} can be tested, got {kind!r:.50}.",
                (*path, "kind"),
            )
        parameters = _parameters(kind, rule.get("parameters") or {}, path)
        if kind in _OF_PROMISES and promise is None:
            promise = _promise(group, declared)
        made = _judges(kind, str(milestone or component), promise, parameters, timing)
        # With several rules the kind tells them apart, as it does on an incident's page.
        rules |= {f"{kind} {key}": judge for key, judge in made.items()} if len(wanted) > 1 else made
    if not rules:
        raise Unsound("There is no rule to test.", ("rules",))
    return rules


_OF_MILESTONES: Final = ("burn_rate", "error_budget", "forecast", "threshold", "trend", "no_data")
_OF_COMPONENTS: Final = (
    "component_overrun",
    "timeouts",
    "threshold",
    "trend",
    "no_data",
    "unallocated_component",
)
_OF_PROMISES: Final = frozenset({"burn_rate", "error_budget", "forecast", "component_overrun"})


def _parameters(kind: str, given: Any, path: Path) -> dict[str, Any]:
    """All parameters of the kind, by default where nothing is said."""
    problems: Problems = {}
    found = read_parameters(kind, given, problems)
    for field, messages in problems.items():
        raise Unsound(messages[0], (*path, *field.split(".", 1)))
    return {**DEFAULTS[kind], **found}


def _judges(
    kind: str,
    target: str,
    promise: tuple[float, int] | None,
    parameters: Mapping[str, Any],
    timing: Mapping[str, Any],
) -> dict[str, Rule]:
    """What a rule of the kind watches, by the keys of its conditions, as alerts.sights has them."""
    objective, window_days = promise or (0.0, 0)
    match kind:
        case "burn_rate":
            return dict(milestone_rules(objective, window_days, **timing))
        case "error_budget":
            budget = {"objective": objective, "window_days": window_days, **timing}
            percents = sorted(parameters["remaining_percents"])
            return {str(one): ErrorBudgetRule(remaining_percent=one, **budget) for one in percents}
        case "forecast":
            forecast = ForecastRule(objective=objective, window_days=window_days, **timing)
            return {f"{HORIZON_HOURS}h": forecast}
        case "threshold":
            return {parameters["percentile"]: ThresholdRule(**parameters, **timing)}
        case "trend":
            return {f"{TREND_PAIRS}h": TrendRule(**parameters, **timing)}
        case "component_overrun":
            return {target: ComponentOverrunRule(objective=objective, **timing)}
        case "timeouts":
            return {target: TimeoutsRule(**parameters, **timing)}
        case "unallocated_component":
            return {target: UnallocatedComponentRule(**parameters, **timing)}
    key = f"milestone:{target}" if target in MILESTONES else target
    return {key: NoDataRule(**parameters, **timing)}


def _promise(group: Mapping[str, Any], declared: Declared) -> tuple[float, int]:
    """The objective and its window in days: given here, or by the latency budget of a file."""
    if "declared_in" in group:
        for field in ("objective", "window_days"):
            if field in group:
                raise Unsound(f"{field} is that of the declaration: leave it out.", (field,))
        file, feature = group["declared_in"], group.get("feature")
        if not isinstance(file, str) or not isinstance(feature, str):
            raise Unsound("declared_in is a file of declarations, feature one in it.", ("declared_in",))
        try:
            budgets = declared(file, feature)
        except Unsound as error:
            raise Unsound(error.message, ("declared_in",)) from error
        found = [
            budget
            for milestone, budget in budgets.items()
            if milestone == group.get("milestone") or group.get("component") in budget.components
        ]
        if not found:
            target = group.get("milestone") or group.get("component")
            raise Unsound(f"{feature} has no latency budget for {target} in {file}.", ("declared_in",))
        given: tuple[Any, Any] = found[0].objective, found[0].window_days
    else:
        given = group.get("objective"), group.get("window_days", 28)
    objective, window_days = _number_in(given[0], ("objective",), 0, 1), given[1]
    if window_days not in OBJECTIVE_WINDOW_DAYS or isinstance(window_days, bool):
        days = ", ".join(map(str, OBJECTIVE_WINDOW_DAYS))
        raise Unsound(f"window_days is one of {days}, got {window_days!r:.50}.", ("window_days",))
    return objective, window_days


def _timing(rule: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What every rule has."""
    severity = rule.get("severity")
    if severity is not None and severity not in set(Severity):
        raise Unsound(f"severity is page or ticket, got {severity!r:.50}.", (*path, "severity"))
    keep = rule.get("keep_firing_seconds")
    return {
        "for_": timedelta(seconds=_count_of(rule.get("for_seconds", 0), (*path, "for_seconds"))),
        "keep_firing_for": DEFAULT_KEEP_FIRING_FOR
        if keep is None
        else timedelta(seconds=_count_of(keep, (*path, "keep_firing_seconds"))),
        "severity": None if severity is None else Severity(severity),
    }


def _scenario(value: Any, path: Path, rules: Mapping[str, Rule]) -> Scenario:
    test = _mapping(value, path, _TEST)
    name = test.get("name", f"test {path[-1]}")
    if not isinstance(name, str):
        raise Unsound(f"name is a text, got {name!r:.50}; quote it.", (*path, "name"))
    expectations = tuple(
        _expectation(one, (*path, "alert_rule_test", n), rules)
        for n, one in enumerate(_list(test.get("alert_rule_test"), (*path, "alert_rule_test")))
    )
    start = _start(test.get("starts_at"), (*path, "starts_at"))
    series = _series(test.get("input_series"), (*path, "input_series"))
    _check_series(rules, series, (*path, "input_series"))
    last = max(one.after for one in expectations) // timedelta(minutes=1) + 1
    length = max(last, *(len(values) for values in series.values()))
    return Scenario(name, rules, _minutes(start, series, length, (*path, "input_series")), expectations, path)


def _check_series(rules: Mapping[str, Rule], series: Mapping[str, Any], path: Path) -> None:
    """Whether every rule has what it looks at."""
    for rule in rules.values():
        needed: tuple[str, ...] = ()
        match rule:
            case ThresholdRule(percentile=percentile):
                needed = (f"{percentile}_ms",)
            case TrendRule():
                needed = (f"{TREND_PERCENTILE}_ms",)
            case UnallocatedComponentRule():
                needed = TIMES
        for name in needed:
            if name not in series:
                raise Unsound(f"A rule looks at {name}: give this series.", path)


def _minutes(start: datetime, series: Mapping[str, list[int | None]], length: int, path: Path) -> Minutes:
    def values(name: str, default: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        given = series.get(name, [])
        found = np.full(length, default)
        found[: len(given)] = [default if value is None else value for value in given]
        return found

    def counter(name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        return values(name, 0).astype(np.int64)

    good, bad = counter("good"), counter("bad")
    stated = {name.removesuffix("_ms"): values(name, np.nan) for name in STATED if name in series}
    if stated and not {"good", "bad"} & set(series):
        good = np.where(np.any([~np.isnan(one) for one in stated.values()], axis=0), STATED_MEASURED, 0)
    timeouts, errors = counter("timeouts"), counter("errors")
    over = counter("over") if "over" in series else bad - errors
    is_wrong = (bad < timeouts + errors) | (over > bad) | (over < 0)
    if is_wrong.any():
        at = int(np.flatnonzero(is_wrong)[0])
        raise Unsound(f"Over, timeouts and errors are among what is bad; in minute {at} they are more.", path)
    total = good + bad
    measured = total - errors
    return Minutes(
        start,
        judged=total,
        good=good,
        over=over,
        total=total,
        errors=errors,
        timeouts=timeouts,
        percentiles=StatedPercentiles(stated, measured) if stated else None,
        time_taken=TimeTaken(values("component_ms", 0), measured, {"complete": values("milestone_ms", 0)}),
    )


def _series(value: Any, path: Path) -> dict[str, list[int | None]]:
    found: dict[str, list[int | None]] = {}
    for n, one in enumerate(_list(value, path)):
        series = _mapping(one, (*path, n), ("series", "values"))
        name, values = series.get("series"), series.get("values")
        if name not in SERIES or name in found:
            raise Unsound(
                f"Expected each of {', '.join(SERIES)} at most once, got {name!r:.50}.", (*path, n, "series")
            )
        if isinstance(values, int) and not isinstance(values, bool):
            values = str(values)  # a single count is a number in YAML
        if not isinstance(values, str):
            raise Unsound(f"values is a text, got {values!r:.50}.", (*path, n, "values"))
        try:
            found[name] = expand_with_gaps(values)
        except ValueError as error:
            raise Unsound(str(error), (*path, n, "values")) from error
    return found


def _expectation(value: Any, path: Path, rules: Mapping[str, Rule]) -> Expectation:
    one = _mapping(value, path, _EXPECTED)
    try:
        after = read_duration(str(one.get("eval_time", "")))
    except ValueError as error:
        raise Unsound(str(error), (*path, "eval_time")) from error
    if after >= MAX_MINUTES * timedelta(minutes=1):
        raise Unsound(f"A test has at most {MAX_MINUTES} minutes.", (*path, "eval_time"))
    if not set(one) - {"eval_time"}:
        raise Unsound(f"Nothing is expected: name some of {', '.join(_EXPECTED[1:])}.", path)
    states = _mapping(one.get("exp_states") or {}, (*path, "exp_states"), tuple(rules))
    for key, state in states.items():
        if state not in set(Status):
            raise Unsound(
                f"A state is one of {', '.join(Status)}, got {state!r:.50}.", (*path, "exp_states", key)
            )
    severity, incident = one.get("exp_severity"), one.get("exp_incident")
    if severity not in (None, NONE, *Severity):
        raise Unsound(f"exp_severity is page, ticket or none, got {severity!r:.50}.", (*path, "exp_severity"))
    if incident not in (None, *INCIDENT_STATES):
        raise Unsound(
            f"exp_incident is one of {', '.join(INCIDENT_STATES)}, got {incident!r:.50}.",
            (*path, "exp_incident"),
        )
    return Expectation(after, states, severity, incident, path)


def _start(value: Any, path: Path) -> datetime:
    if value is None:
        return DEFAULT_START
    try:
        at = datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) else None
        if at is None or datetime.fromisoformat(value).tzinfo is None or at.second or at.microsecond:
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise Unsound(
            f"starts_at is a whole minute with a zone, such as 2026-11-21T12:00:00Z, got {value!r:.50}.", path
        ) from error
    return at


def _mapping(value: Any, path: Path, fields: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Unsound(f"Expected fields, got {value!r:.50}.", path)
    for field in value:
        if field not in fields:
            known = f"there are {', '.join(fields)}" if fields else "there are none"
            raise Unsound(f"There is no {field!r:.50} here; {known}.", (*path, field))
    return value


def _list(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise Unsound(f"{path[-1]} is a list with at least one item.", path)
    return value


def _number_in(value: Any, path: Path, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
        raise Unsound(
            f"{path[-1]} is a number between {low} and {high}, both excluded, got {value!r:.50}.", path
        )
    return float(value)


def _count_of(value: Any, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise Unsound(f"{path[-1]} is a whole number ≥ 0, got {value!r:.50}.", path)
    return value
