"""Forms of escalation policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms

from alerts.inputs import Rows, RowsField, number_input
from alerts.matcher_forms import NamedForm
from alerts.models import EscalationPolicy
from alerts.policies import MAX_STEPS, known_recipients, policy_document
from budgets.models import Team


class _StepRows(Rows):
    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[dict[str, Any]]:
        found = []
        for number in range(MAX_STEPS + 10):
            notify = [one.partition(":") for one in data.getlist(f"step_{number}_notify") if one]
            if notify:
                wait = data.get(f"step_{number}_wait", "").strip()
                found.append(
                    {
                        "notify": [{"kind": kind, "name": name} for kind, _, name in notify],
                        "wait_minutes": int(wait) if wait.isascii() and wait.isdigit() else wait,
                    }
                )
        return found


@dataclass(frozen=True)
class StepRow:
    """A step of the form; each of `selects` is the choices by kind: (kind, [(value, label, is_chosen)])."""

    number: int
    selects: list[list[tuple[str, list[tuple[str, str, bool]]]]]
    wait_minutes: Any


class PolicyForm(NamedForm):
    """An escalation policy."""

    wording = (
        *NamedForm.wording,
        (r"^steps must be a list of", "The number of steps that tell somebody must be"),
        (r"^steps\[(\d+)\]\.notify must be a list of", "The number of those whom step {0} tells must be"),
        (r"^steps\[(\d+)\]\.notify\[(\d+)\]", "Step {0}, place {1}"),
        (r"^steps\[(\d+)\]\.wait_minutes", "The wait of step {0}, in minutes,"),
        (r"^steps\[(\d+)\]", "Step {0}"),
    )

    steps = RowsField(_StepRows())
    repetitions = forms.IntegerField(
        label="Begins anew, times",
        initial=0,
        widget=number_input(min=0, max=9),
        help_text="How often the steps begin again after the last.",
    )
    reminder_minutes = forms.IntegerField(
        label="Reminder every, in minutes (optional)",
        required=False,
        initial=60,
        widget=number_input(min=5),
        help_text="To who acknowledged. Left empty: never.",
    )
    unacknowledge_minutes = forms.IntegerField(
        label="Open again after, in minutes (optional)",
        required=False,
        widget=number_input(min=5),
        help_text="Without a word from who acknowledged. Left empty: never.",
    )
    is_enabled = forms.BooleanField(label="Enabled", required=False, initial=True)

    def __init__(self, *args: Any, team: Team, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._known = known_recipients(team)

    @property
    def step_rows(self) -> list[StepRow]:
        found = [*(self["steps"].value() or []), *[{"notify": [], "wait_minutes": 5}] * 2]
        return [
            StepRow(
                number,
                [self._select(one) for one in [*step["notify"], *[None] * max(1, 3 - len(step["notify"]))]],
                step["wait_minutes"],
            )
            for number, step in enumerate(found)
        ]

    def _select(self, chosen: Mapping[str, str] | None) -> list[tuple[str, list[tuple[str, str, bool]]]]:
        groups = []
        for kind, names in self._known.items():
            here = chosen["name"] if chosen and chosen["kind"] == kind else None
            choices = [(f"{kind}:{name}", name, name == here) for name in names]
            if here is not None and here not in names:
                choices.append((f"{kind}:{here}", f"{here} (gone)", True))
            groups.append((f"{kind.capitalize()}s" if kind != "person" else "People", choices))
        return groups

    def document(self, policy: EscalationPolicy | None) -> dict[str, Any]:
        """What `save_policy` takes. The position stays as it is."""
        given = dict(self.cleaned_data)
        given.pop("name", None)
        given["enabled"] = given.pop("is_enabled")
        return {**given, "position": policy.position if policy else None}

    @staticmethod
    def initial_of(policy: EscalationPolicy) -> dict[str, Any]:
        return {**policy_document(policy), "is_enabled": policy.is_enabled}
