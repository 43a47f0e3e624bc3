"""The form of an alert rule, by its kind: what it watches, how bad, for how long, and the kind's own parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.conf import settings

from alerts.models import AlertRule, Severity
from alerts.rule_documents import MAX_NAME_CHARACTERS, MAX_SECONDS
from alerts.rule_names import every, usual_severity
from alerts.rule_parameters import DEFAULTS, PERCENTILES, THRESHOLD_WINDOWS, read_parameters
from alerts.sights import parameters_of
from budgets.contexts.parts import milestone_name
from budgets.errors import Refusal
from budgets.formats import window_words
from budgets.models import Component, Feature, Milestone
from budgets.team_forms import RefusableForm

Kind = AlertRule.Kind

_MILESTONES = frozenset(
    {Kind.BURN_RATE, Kind.ERROR_BUDGET, Kind.FORECAST, Kind.THRESHOLD, Kind.TREND, Kind.NO_DATA}
)
_COMPONENTS = frozenset({Kind.COMPONENT_OVERRUN, Kind.TIMEOUTS, Kind.THRESHOLD, Kind.TREND, Kind.NO_DATA})
_EVERY = frozenset({Kind.COMPONENT_OVERRUN, Kind.TIMEOUTS, Kind.NO_DATA, Kind.UNALLOCATED_COMPONENT})

QUESTIONS: Final[Mapping[str, str]] = {
    Kind.BURN_RATE: "Is the error budget spent too fast?",
    Kind.COMPONENT_OVERRUN: "Does a component take longer than its allocation?",
    Kind.TIMEOUTS: "Does a component time out too often?",
    Kind.ERROR_BUDGET: "How much of the error budget is left?",
    Kind.THRESHOLD: "Is a percentile over a limit?",
    Kind.TREND: "Is it slower than the day before?",
    Kind.FORECAST: "Will the error budget be gone within 48 hours?",
    Kind.NO_DATA: "Has something stopped reporting?",
    Kind.UNALLOCATED_COMPONENT: "Does a component without an allocation take much of the time?",
}
"""What a rule of each kind asks."""


def _attributes(**more: Any) -> dict[str, Any]:
    return {"class": "input", "autocomplete": "off", **more}


def _number(label: str, hint: str, *, expected: str, is_whole: bool = True, **bounds: Any) -> forms.Field:
    """A number of which the verb says whether it is sound; the form, only that it is one."""
    make: type[forms.Field] = forms.IntegerField if is_whole else forms.DecimalField
    more: dict[str, Any] = {} if is_whole else {"max_digits": 15, "decimal_places": 6}
    mode = "numeric" if is_whole else "decimal"
    return make(
        label=label,
        help_text=hint,
        required=False,
        widget=forms.TextInput(attrs=_attributes(inputmode=mode)),
        error_messages=dict.fromkeys(
            ("invalid", "max_digits", "max_decimal_places", "max_whole_digits", "min_value", "max_value"),
            f"Expected {expected}.",
        ),
        **more,
        **bounds,
    )


def _choice(label: str, hint: str, choices: list[tuple[str, str]]) -> forms.Field:
    return forms.ChoiceField(
        label=label, help_text=hint, choices=choices, widget=forms.Select(attrs=_attributes())
    )


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter as a person gives it: in percent where a rule keeps a ratio."""

    field: Callable[[], forms.Field]
    read: Callable[[Any], Any] = lambda value: value
    show: Callable[[Any], Any] = lambda value: value


def _plain(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _percent(ratio: float, above: float = 0) -> str:
    return f"{((Decimal(str(ratio)) - Decimal(str(above))) * 100).normalize():f}"


def _read_percents(text: str) -> list[int | str]:
    parts = [one.strip().removesuffix("%").strip() for one in text.replace(";", ",").split(",")]
    return [int(one) if one.isascii() and one.isdigit() and len(one) < 9 else one for one in parts if one]


_SHARE_BOUNDS: Final = {"min_value": Decimal("0.0001"), "max_value": Decimal("99.9999")}


def _share(label: str, hint: str) -> _Parameter:
    return _Parameter(
        lambda: _number(
            label, hint, expected="more than 0 and less than 100, such as 1", is_whole=False, **_SHARE_BOUNDS
        ),
        lambda value: float(value / 100),
        _percent,
    )


_MIN_MEASURED = _Parameter(
    lambda: _number(
        "Measurements at least",
        "Of fewer, a percentile says little, and nothing fires.",
        expected="a whole number, such as 20",
    )
)
_PARAMETERS: Final[Mapping[tuple[str, str], _Parameter]] = {
    (Kind.TIMEOUTS, "share_ratio"): _share(
        "Share of timeouts (%)", "It fires when more than this time out over five minutes."
    ),
    (Kind.TIMEOUTS, "min_timeouts"): _Parameter(
        lambda: _number(
            "Timeouts at least",
            "Fewer in five minutes never fire, whatever their share.",
            expected="a whole number, such as 3",
        )
    ),
    (Kind.ERROR_BUDGET, "remaining_percents"): _Parameter(
        lambda: forms.CharField(
            label="Left of the error budget (%)",
            help_text="Thresholds between commas: it fires once for each. At 0 it is exhausted, which is a page.",
            max_length=200,
            required=False,
            widget=forms.TextInput(attrs=_attributes()),
        ),
        _read_percents,
        lambda value: ", ".join(map(str, value)),
    ),
    (Kind.THRESHOLD, "percentile"): _Parameter(
        lambda: _choice("Percentile", "", [(one, one) for one in PERCENTILES])
    ),
    (Kind.THRESHOLD, "threshold_ms"): _Parameter(
        lambda: _number(
            "Limit (ms)",
            "It fires when the percentile is above this, or falls among timeouts.",
            expected="a number of milliseconds, such as 500",
            is_whole=False,
        ),
        _plain,
    ),
    (Kind.THRESHOLD, "window"): _Parameter(
        lambda: _choice(
            "Over the last",
            "The percentile is that of this window.",
            [(one, window_words(one)) for one in THRESHOLD_WINDOWS],
        )
    ),
    (Kind.THRESHOLD, "min_measured"): _MIN_MEASURED,
    (Kind.TREND, "growth_ratio"): _Parameter(
        lambda: _number(
            "Slower by (%)",
            "How much above the same hours of the day before, over the day and the last six hours.",
            expected="a number above 0, such as 20",
            is_whole=False,
            min_value=Decimal("0.0001"),
        ),
        lambda value: float(1 + value / 100),
        lambda ratio: _percent(ratio, above=1),
    ),
    (Kind.TREND, "min_measured"): _MIN_MEASURED,
    (Kind.NO_DATA, "silent_minutes"): _Parameter(
        lambda: _number(
            "Silent for (min)",
            "What had reported for an hour without such a pause. It gives up after a day.",
            expected="a whole number of minutes, such as 15",
        )
    ),
    (Kind.UNALLOCATED_COMPONENT, "share_ratio"): _share(
        "Share of the time (%)", "Of the requests' time to the later milestone, over an hour."
    ),
}


class RuleForm(RefusableForm):
    """A rule of one kind. What a default rule keeps, its name and what it watches, is not asked for."""

    name = forms.CharField(
        label="Name",
        max_length=MAX_NAME_CHARACTERS,
        help_text="How incidents and the API call it, e.g. slow first token. It stays as it is.",
        widget=forms.TextInput(attrs=_attributes(spellcheck="false")),
        error_messages={"required": "A rule needs a name."},
    )
    target = forms.ChoiceField(label="Watches", required=False, widget=forms.Select(attrs=_attributes()))
    environment = forms.CharField(
        label="Environment",
        max_length=200,
        initial="production",
        widget=forms.TextInput(attrs=_attributes(spellcheck="false", list="environments")),
        error_messages={"required": "Expected the name of an environment, such as production."},
    )
    severity = forms.ChoiceField(label="Severity", required=False, widget=forms.Select(attrs=_attributes()))
    for_seconds = _number(
        "Holds for (s)",
        "How long it must hold before it fires. 0: at once.",
        expected=f"a whole number of seconds from 0 to {MAX_SECONDS}",
    )
    keep_firing_seconds = _number(
        "Over for (s)",
        "",
        expected=f"a whole number of seconds from 0 to {MAX_SECONDS}, or nothing",
    )

    def __init__(
        self,
        data: Any = None,
        *,
        feature: Feature,
        kind: str,
        rule: AlertRule | None = None,
        initial: Mapping[str, Any] | None = None,
        is_named: bool = True,
    ) -> None:
        """`is_named` is whether the name may not be left empty yet."""
        super().__init__(data, initial=_initial_of(rule, kind) | dict(initial or {}))
        self.kind, self.rule = kind, rule
        self.parameters = [name for (of_kind, name) in _PARAMETERS if of_kind == kind]
        for name in self.parameters:
            self.fields[name] = _PARAMETERS[kind, name].field()
        self.fields["name"].required = is_named
        choices = _targets(feature, kind, rule)
        self.fields["target"].choices = choices  # type: ignore[attr-defined]
        self.fields["severity"].help_text = f"By its kind it opens {usual_severity(kind)}."
        self.fields["severity"].choices = [  # type: ignore[attr-defined]
            ("", "By its kind"),
            (Severity.TICKET, "Always a ticket"),
            (Severity.PAGE, "Always a page"),
        ]
        self.fields[
            "keep_firing_seconds"
        ].help_text = (
            f"How long it must be over before it clears. Left empty: {settings.ALERT_KEEP_FIRING_SECONDS} s."
        )
        if rule is not None:
            del self.fields["name"]
        if kind == Kind.UNALLOCATED_COMPONENT or (rule is not None and rule.is_default):
            del self.fields["target"]
        if rule is not None and rule.is_default:
            del self.fields["environment"]
        wanted = ["name", "target", *self.parameters, "severity", "for_seconds", "keep_firing_seconds"]
        self.order_fields([*wanted, "environment"])

    def clean_remaining_percents(self) -> str:
        """In the words of the form: the API names a list, of which somebody who types here knows nothing."""
        typed: str = self.cleaned_data["remaining_percents"]
        problems: dict[str, list[str]] = {}
        if typed:
            read_parameters(self.kind, {"remaining_percents": _read_percents(typed)}, problems)
        if problems:
            raise forms.ValidationError(
                f"Expected 1 to 10 different whole numbers from 0 to 99, such as 50, 25, 0; got {typed!r:.100}."
            )
        return typed

    def document(self, *, is_enabled: bool) -> dict[str, Any]:
        """What `save_rule` takes."""
        given = self.cleaned_data
        milestone, component = self._target()
        return {
            "kind": self.kind,
            "environment": given.get("environment") or (self.rule.environment if self.rule else ""),
            "milestone": milestone,
            "component": component,
            "severity": given["severity"] or None,
            "enabled": is_enabled,
            "for_seconds": given["for_seconds"] or 0,
            "keep_firing_seconds": given["keep_firing_seconds"],
            "parameters": {
                name: _PARAMETERS[self.kind, name].read(given[name])
                for name in self.parameters
                if given[name] not in (None, "")
            },
        }

    def add_refusal(self, refusal: Refusal) -> None:
        """At the fields as the form has them: a parameter by its name, a milestone or component as what it watches."""
        fields: dict[str, list[str]] = {}
        for name, sentences in refusal.fields.items():
            shown = name.removeprefix("parameters.")
            fields.setdefault("target" if shown in ("milestone", "component") else shown, []).extend(
                self._in_words(shown, sentence) for sentence in sentences
            )
        super().add_refusal(Refusal(refusal.code, refusal.message, status=refusal.status, fields=fields))

    def _in_words(self, name: str, sentence: str) -> str:
        """At the field stands what it is called; how the API calls it says nothing there."""
        if sentence == f"{self.kind} needs {name}.":
            return "Fill this in: without it the rule cannot decide."
        return sentence.replace(f"{name} must be", "Expected", 1)

    def _target(self) -> tuple[str | None, str | None]:
        if self.rule is not None and self.rule.is_default:
            return self.rule.milestone, self.rule.component
        part, _, name = self.cleaned_data.get("target", "").partition(":")
        return (name if part == "milestone" else None), (name if part == "component" else None)


def _initial_of(rule: AlertRule | None, kind: str) -> dict[str, Any]:
    parameters = parameters_of(rule) if rule else DEFAULTS[kind]
    found = {name: _PARAMETERS[kind, name].show(value) for name, value in parameters.items()}
    if rule is None:
        return {**found, "for_seconds": 0}
    target = f"milestone:{rule.milestone}" if rule.milestone else ""
    return {
        **found,
        "target": f"component:{rule.component}" if rule.component else target,
        "environment": rule.environment,
        "severity": rule.severity or "",
        "for_seconds": rule.for_seconds,
        "keep_firing_seconds": rule.keep_firing_seconds,
    }


def _targets(feature: Feature, kind: str, rule: AlertRule | None) -> list[tuple[str, Any]]:
    """What a rule of this kind can watch of the feature."""
    found: list[tuple[str, Any]] = []
    if kind in _EVERY:
        found.append(("", every(kind).capitalize()))
    if kind in _MILESTONES:
        milestones = [(f"milestone:{one}", milestone_name(one)) for one in Milestone.values]
        found += [("Milestones", milestones)] if kind in _COMPONENTS else milestones
    if kind in _COMPONENTS:
        names = list(
            Component.objects.filter(feature=feature).order_by("name").values_list("name", flat=True)
        )
        if rule is not None and rule.component and rule.component not in names:
            names.append(rule.component)
        if names:
            found.append(("Components", [(f"component:{name}", name) for name in names]))
    return found
