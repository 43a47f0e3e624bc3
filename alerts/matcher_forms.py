"""Forms of what has matchers: a row of inputs for each fact of an incident."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from django import forms

from alerts import matchers
from alerts.inputs import LabelledForm, Rows, RowsField, text_input
from budgets.models import Team
from budgets.zones import zone_names

OPERATORS: Final = [("=", "is"), ("!=", "is not"), ("~", "is like"), ("!~", "is not like")]
# A fact that an incident may lack: what "is" and "is not" say of the empty text.
_ABSENT: Final = [("none", "is none"), ("any", "is any")]


class _MatcherRows(Rows):
    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[dict[str, str]]:
        if not hasattr(data, "getlist"):
            return list(data.get(name, []))
        found = []
        for fact, operator, value in zip(
            data.getlist("matcher_name"),
            data.getlist("matcher_operator"),
            data.getlist("matcher_value"),
            strict=False,
        ):
            if operator in ("none", "any"):
                found.append({"name": fact, "operator": "=" if operator == "none" else "!=", "value": ""})
            elif value.strip():
                found.append({"name": fact, "operator": operator, "value": value.strip()})
        return found


@dataclass(frozen=True)
class MatcherRow:
    """A row of the form: one fact, how it is compared, with what."""

    name: str
    label: str
    operator: str
    value: str
    operators: Sequence[tuple[str, str]]


def matcher_rows(found: Sequence[Mapping[str, str]]) -> list[MatcherRow]:
    """A row for each matcher, and an empty one for each fact that has none."""
    rows = []
    for name in matchers.NAMES:
        operators = [*OPERATORS, *_ABSENT] if name in ("milestone", "component") else OPERATORS
        of_name = [one for one in found if one.get("name") == name] or [
            {"operator": "=", "value": "", "is_new": "yes"}
        ]
        for one in of_name:
            operator = one["operator"]
            if not one["value"] and "is_new" not in one:
                operator = "none" if operator == "=" else "any"
            rows.append(MatcherRow(name, name.capitalize(), operator, one["value"], operators))
    return rows


class MatchersForm(LabelledForm):
    """What has matchers."""

    wording: ClassVar[Sequence[tuple[str, str]]] = (
        (r"^matchers\[(\d+)\]\.value", "The value of condition {0}"),
        (r"^matchers\[(\d+)\](?:\.\w+)?", "Condition {0}"),
    )

    matchers = RowsField(_MatcherRows())

    @property
    def matcher_rows(self) -> list[MatcherRow]:
        return matcher_rows(self["matchers"].value() or [])


class NamedForm(MatchersForm):
    """What has matchers and a name; the name of what is there already stays."""

    name = forms.CharField(
        label="Name",
        max_length=200,
        help_text="How people, files and the API call it. It stays as it is.",
        widget=text_input(),
        error_messages={"required": "It needs a name."},
    )

    def __init__(self, *args: Any, is_new: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not is_new:
            del self.fields["name"]


def suggestions(team: Team) -> dict[str, list[str]]:
    """What a team's incidents are about, for the lists behind the inputs of matchers."""
    features = list(team.features.filter(archived_at=None).order_by("slug").values_list("slug", flat=True))
    components = team.features.order_by("components__name").values_list("components__name", flat=True)
    return {
        "feature": features,
        "milestone": ["first_token", "complete"],
        "component": [one for one in dict.fromkeys(components) if one][:200],
        "environment": ["production", "staging"],
        "severity": ["page", "ticket"],
        "zones": zone_names(),
    }
