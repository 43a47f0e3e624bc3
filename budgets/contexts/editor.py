"""The budget editor: the form as it was typed, its sums, what was observed beside it, and what saving would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from budgets import formats
from budgets.conflicts import SavedChange, changes_since
from budgets.differences import Difference, differences, value_words
from budgets.documents import read_document
from budgets.drafts import WINDOWS, Checked, Draft, DraftComponent, DraftMilestone, Sum
from budgets.errors import Refusal
from budgets.estimates import Observed, Share, observe
from budgets.features import (
    PlannedVersion,
    declared_document,
    describe,
    digest_of,
    plan_versions,
    with_documents,
)
from budgets.histogram import AtLeast
from budgets.models import Feature, Milestone, Team
from budgets.tiles import Percentiles, Totals

from .parts import FEW, milestone_name, plural

OBSERVED_DAYS: Final = 28
PARTS: Final = 6
"""How many colours the parts of a bar have, before the first comes again."""
_TOO_MANY: Final = 50


@dataclass(frozen=True)
class ObservedLine:
    """Percentiles over the last days, in one unit, and from how many measurements."""

    percentiles_ms: Percentiles
    count: int
    unit: str

    @property
    def is_few(self) -> bool:
        return self.count < FEW

    @property
    def p99_ms(self) -> float | None:
        p99 = self.percentiles_ms.p99
        return p99.ms if isinstance(p99, AtLeast) else p99


@dataclass(frozen=True)
class Segment:
    """A part of a bar; `x` and `width` in percent of its whole width. `part` is its colour, "block" or "free"."""

    label: str
    x: float
    width: float
    part: str


@dataclass(frozen=True)
class Bar:
    """A latency budget and what it holds. `limit` is where the budget ends, left of the edge when more is in it."""

    segments: list[Segment]
    limit: float
    label: str


@dataclass(frozen=True)
class ComponentRow:
    """`key` tells the ids of its fields from those of other rows: the position, "new" for the row to copy."""

    key: str
    position: int
    typed: DraftComponent
    part: int
    share: str
    observed: ObservedLine | None
    hint: str
    errors: Mapping[str, Sequence[str]]
    """By "name", "under", "allocated"."""


@dataclass(frozen=True)
class MilestoneFields:
    typed: DraftMilestone
    observed: ObservedLine | None
    sum: Sum | None
    bar: Bar | None
    errors: Mapping[str, Sequence[str]]
    """By "budget", "objective", "window", "note", "sum"."""

    @property
    def budget_ms(self) -> Decimal | None:
        """What is typed; None where it cannot be read."""
        return self.sum.budget_ms if self.sum else None


@dataclass(frozen=True)
class Undeclared:
    """A component that sends measurements and is not in the form."""

    name: str
    observed: ObservedLine


@dataclass(frozen=True)
class ComponentShare:
    """The share of a component's calls over its allocation; None where it was not measured."""

    name: str
    allocated_ms: Decimal
    over: Share | None
    is_too_much: bool
    """More than the objective lets miss."""


@dataclass(frozen=True)
class Estimate:
    """What the last days would have been under the numbers of the form."""

    name: str
    days: int
    good: Share
    objective: Decimal
    count: int
    judged_ratio: float | None
    components: list[ComponentShare]
    """The worst first; those that were not measured last."""

    @property
    def allowed_ratio(self) -> Decimal:
        return 1 - self.objective

    @property
    def is_kept(self) -> bool:
        return Decimal(repr(self.good.ratio)) >= self.objective

    @property
    def state(self) -> str:
        return "ok" if self.is_kept else "breached"

    @property
    def word(self) -> str:
        return "Would be kept" if self.is_kept else "Would be broken"

    @property
    def is_few(self) -> bool:
        return self.count < FEW


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, and the id of the field where it is."""

    target: str
    label: str
    message: str


@dataclass(frozen=True)
class Preview:
    """What saving would do."""

    estimates: list[Estimate]
    differences: list[Difference]
    planned: list[str]
    save_label: str
    problems: list[Problem]
    since: str = ""
    is_new: bool = False
    has_observations: bool = False
    is_stale: bool = False
    """Somebody else has saved the feature since the form was opened."""

    @property
    def has_shares(self) -> bool:
        return any(one.components for one in self.estimates)

    @property
    def has_estimated_shares(self) -> bool:
        return any(
            part.over is not None and part.over.is_estimated
            for one in self.estimates
            for part in one.components
        )


@dataclass(frozen=True)
class ConflictField:
    """A field that somebody else changed: as it was, as it is now, and as it was typed here."""

    path: str
    label: str
    before: str
    theirs: str
    mine: str
    is_mine_changed: bool


@dataclass(frozen=True)
class Conflict:
    """What others saved since the form was opened."""

    changes: list[SavedChange]
    fields: list[ConflictField]
    has_base: bool
    seen: str
    """The digest of what is saved now: what a choice made on this page stands against."""


@dataclass(frozen=True)
class EditorPage:
    feature: Feature | None
    draft: Draft
    teams: Sequence[Team]
    kinds: Sequence[tuple[str, str]]
    windows: Sequence[str]
    milestones: list[MilestoneFields]
    rows: list[ComponentRow]
    undeclared: list[Undeclared]
    preview: Preview
    errors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    conflict: Conflict | None = None
    environment: str = "production"
    is_full: bool = False
    is_replayed: bool = False
    """Whether the alert rules are replayed at once; the page's script asks for it by itself."""

    @property
    def title(self) -> str:
        what = f"Edit {self.feature.name}" if self.feature else "Create a feature"
        return f"{what} – Latency Dashboard"

    @property
    def blank_row(self) -> ComponentRow:
        """What the page's script copies for a component that is added."""
        [*_, added] = self.draft.with_component().components
        return ComponentRow("new", 0, added, 0, "", None, "", {})


def current_document(feature: Feature) -> dict[str, Any]:
    """The declared document as it is stored now."""
    return declared_document(describe(with_documents(Feature.objects.filter(pk=feature.pk)).get()))


def editor_page(
    draft: Draft,
    *,
    feature: Feature | None,
    teams: Sequence[Team] = (),
    environment: str,
    now: datetime,
    is_untouched: bool = False,
    shows_errors: bool = False,
    refused: Mapping[str, Sequence[str]] | None = None,
    conflict: Conflict | None = None,
    is_replayed: bool = False,
) -> EditorPage:
    """The form for a draft; `refused` is what only saving found out, by field.

    What nobody has typed into yet is not told what is wrong with it.
    """
    checked = draft.check()
    days = {OBSERVED_DAYS} | {int(m.window) for m in draft.milestones if m.window in WINDOWS}
    observed = (
        observe(feature, environment=environment, days=days, now=now) if feature is not None else Observed()
    )
    errors = {name: [*messages] for name, messages in checked.errors.items()} if shows_errors else {}
    for name, messages in (refused or {}).items():
        errors[name] = [*messages]
    rows = [
        _component_row(position, row, checked, observed, errors)
        for position, row in enumerate(draft.components)
    ]
    named = {name for row in draft.components for name in (row.name.strip(), row.was) if name}
    return EditorPage(
        feature=feature,
        draft=draft,
        teams=teams,
        kinds=Feature.Kind.choices,
        windows=WINDOWS,
        milestones=[_milestone_fields(m, checked, observed, errors) for m in draft.milestones],
        rows=rows,
        undeclared=[
            Undeclared(name, line)
            for name in sorted(observed.components() - named)
            if (line := _observed_line(observed.totals(f"component:{name}", OBSERVED_DAYS))) is not None
        ],
        preview=_preview(draft, checked, observed, feature, now, is_untouched=is_untouched),
        errors=errors,
        problems=_problems(draft, errors),
        conflict=conflict,
        environment=environment,
        is_full=len(draft.components) >= _TOO_MANY,
        is_replayed=is_replayed,
    )


def conflict_of(feature: Feature, draft: Draft, theirs: Mapping[str, Any]) -> Conflict:
    """What others changed since the draft's form was opened, beside what was typed in it."""
    since = changes_since(feature, draft.digest)
    mine = draft.check().document
    base = since.base
    fields = []
    for one in differences(base or mine, theirs):
        typed, saved = value_words(mine, one.path), value_words(theirs, one.path)
        if typed != saved:
            is_mine_changed = base is None or typed != value_words(base, one.path)
            before = one.before if base is not None else "?"
            fields.append(ConflictField(one.path, one.label, before, saved, typed, is_mine_changed))
    return Conflict(since.changes, fields, base is not None, digest_of(theirs))


def saved_words(planned: Sequence[PlannedVersion]) -> str:
    """What a person is told after saving."""
    if not planned:
        return "Saved. The latency budgets are as they were."
    return f"Saved. {' '.join(f'{words}.' for words in map(_planned_words, planned))}"


# -- rows -------------------------------------------------------------------------------------------


def _observed_line(totals: Totals) -> ObservedLine | None:
    """None where nothing was measured."""
    if not totals.counts.total:
        return None
    p = totals.percentiles_ms
    return ObservedLine(p, totals.counts.total, formats.column_unit((p.p50, p.p95, p.p99)))


def _component_row(
    position: int,
    row: DraftComponent,
    checked: Checked,
    observed: Observed,
    errors: Mapping[str, Sequence[str]],
) -> ComponentRow:
    # What was measured so far was measured under the name that is declared.
    line = _observed_line(observed.totals(f"component:{row.was or row.name.strip()}", OBSERVED_DAYS))
    share, hint = "", ""
    for one in checked.sums.values():
        for at, _, ms in one.parts:
            if at == position:
                share = formats.percent(float(ms / one.budget_ms))
                hint = _p99_hint(line, ms)
    return ComponentRow(
        key=str(position),
        position=position,
        typed=row,
        part=position % PARTS,
        share=share,
        observed=line,
        hint=hint,
        errors=_of(errors, f"component-{position}-"),
    )


def _p99_hint(line: ObservedLine | None, allocated_ms: Decimal) -> str:
    p99 = line.p99_ms if line else None
    return "p99 is over it" if p99 is not None and p99 > float(allocated_ms) else ""


def _milestone_fields(
    typed: DraftMilestone, checked: Checked, observed: Observed, errors: Mapping[str, Sequence[str]]
) -> MilestoneFields:
    total = checked.sums.get(typed.milestone)
    return MilestoneFields(
        typed=typed,
        observed=_observed_line(observed.totals(f"milestone:{typed.milestone}", OBSERVED_DAYS)),
        sum=total,
        bar=_bar(total) if total else None,
        errors=_of(errors, f"{typed.milestone}-"),
    )


def _of(errors: Mapping[str, Sequence[str]], prefix: str) -> dict[str, Sequence[str]]:
    return {
        name.removeprefix(prefix): messages for name, messages in errors.items() if name.startswith(prefix)
    }


def _bar(one: Sum) -> Bar:
    whole = max(one.budget_ms, one.block_ms + one.allocated_ms)
    parts = [("First token", one.block_ms, "block")] if one.block_ms else []
    parts += [(name, ms, str(position % PARTS)) for position, name, ms in one.parts]
    if one.unallocated_ms > 0:
        parts.append(("unallocated", one.unallocated_ms, "free"))
    segments, x = [], Decimal(0)
    for label, ms, part in parts:
        segments.append(Segment(label, float(100 * x / whole), float(100 * ms / whole), part))
        x += ms
    said = ", ".join(f"{label} {formats.exact(ms)} ms" for label, ms, _ in parts)
    label = f"{milestone_name(one.milestone)}, {formats.exact(one.budget_ms)} ms: {said}. {one.words}."
    return Bar(segments, float(100 * one.budget_ms / whole), label)


# -- what saving would do ---------------------------------------------------------------------------


def _preview(
    draft: Draft,
    checked: Checked,
    observed: Observed,
    feature: Feature | None,
    now: datetime,
    *,
    is_untouched: bool,
) -> Preview:
    problems = [] if is_untouched else _problems(draft, checked.errors)
    before = current_document(feature) if feature else None
    planned = _planned(feature, draft.slug, checked, now)
    return Preview(
        estimates=_estimates(checked, observed),
        differences=_readable_differences(before, draft, checked) if before else [],
        planned=[_planned_words(one, is_new=feature is None) for one in planned],
        save_label=_save_label(planned, is_new=feature is None),
        problems=problems,
        since=_since(observed, now),
        is_new=feature is None,
        has_observations=observed.first_day is not None,
        is_stale=before is not None and digest_of(before) != draft.digest,
    )


def _readable_differences(before: Mapping[str, Any], draft: Draft, checked: Checked) -> list[Difference]:
    """Without those of a latency budget that cannot be read: it would seem to be taken away."""
    unread = {one.milestone for one in draft.milestones if one.is_on} - checked.sums.keys()
    return [one for one in differences(before, checked.document) if one.path.partition(".")[0] not in unread]


def _planned(feature: Feature | None, slug: str, checked: Checked, now: datetime) -> list[PlannedVersion]:
    """Nothing while something is wrong, because then nothing would be saved."""
    if checked.errors:
        return []
    try:
        return plan_versions(feature, read_document(slug, checked.document), now)
    except Refusal:
        return []


def _planned_words(one: PlannedVersion, *, is_new: bool = False) -> str:
    name, at = milestone_name(one.milestone), formats.instant(one.effective_from)
    if one.is_first:
        since = "from the first measurement on" if is_new else "always: stored measurements are judged anew"
        return f"{name}: version 1, in force {since}"
    if one.is_retirement:
        return f"{name}: no latency budget from {at} on; it is still measured and shown"
    return f"{name}: version {one.version}, in force from {at}"


def _save_label(planned: Sequence[PlannedVersion], *, is_new: bool) -> str:
    if is_new:
        return "Create feature"
    versions = {one.version for one in planned}
    if not versions:
        return "Save"
    if len(versions) == 1:
        return f"Save as version {versions.pop()}"
    return "Save as " + " and ".join(
        f"version {one.version} of {milestone_name(one.milestone).lower()}" for one in planned
    )


def _estimates(checked: Checked, observed: Observed) -> list[Estimate]:
    found = []
    for budget in checked.document["latency_budgets"]:
        target, days = f"milestone:{budget['milestone']}", budget["window_days"]
        good = observed.good_share(target, days, budget["budget_ms"])
        if good is None:
            continue
        objective = Decimal(repr(budget["objective"]))
        components = [
            _component_share(observed, name, days, ms, objective)
            for _, name, ms in checked.sums[budget["milestone"]].parts
        ]
        counts = observed.totals(target, days).counts
        found.append(
            Estimate(
                name=milestone_name(budget["milestone"]),
                days=days,
                good=good,
                objective=objective,
                count=counts.total,
                judged_ratio=counts.sli_ratio if good.is_estimated else None,
                components=sorted(components, key=lambda one: -one.over.ratio if one.over else 1),
            )
        )
    return found


def _component_share(
    observed: Observed, name: str, days: int, allocated_ms: Decimal, objective: Decimal
) -> ComponentShare:
    over = observed.over_share(f"component:{name}", days, allocated_ms)
    is_too_much = over is not None and Decimal(repr(over.ratio)) > 1 - objective
    return ComponentShare(name, allocated_ms, over, is_too_much)


def _since(observed: Observed, now: datetime) -> str:
    """Since when there is anything, where that is later than what is asked for."""
    first = observed.first_day
    if first is None or (now.date() - first).days >= OBSERVED_DAYS:
        return ""
    days = (now.date() - first).days + 1
    return f"measured for {days} {plural('day', days)} so far"


# -- what is wrong ----------------------------------------------------------------------------------

_LABELS: Final = {
    "name": "Name",
    "slug": "Slug",
    "team": "Team",
    "kind": "Kind",
    "description": "Description",
    "runbook_url": "Runbook",
    "components": "Components",
    "budget": "latency budget",
    "objective": "objective",
    "window": "window",
    "note": "reason",
    "sum": "allocations",
}


def _problems(draft: Draft, errors: Mapping[str, Sequence[str]]) -> list[Problem]:
    """In the order of the form."""
    order = list(_LABELS)

    def place(name: str) -> tuple[int, int]:
        if name in _LABELS:
            return 0, order.index(name)
        if name.startswith("component-"):
            return 2, int(name.split("-")[1])
        return 1, 0

    return [
        Problem(f"id_{name}", _problem_label(draft, name), message)
        for name in sorted(errors, key=place)
        for message in errors[name]
    ]


def _problem_label(draft: Draft, name: str) -> str:
    if name in _LABELS:
        return _LABELS[name]
    head, _, rest = name.partition("-")
    if head in Milestone.values:
        return f"{milestone_name(head)}, {_LABELS.get(rest, rest)}"
    if head == "component":
        position = int(rest.split("-")[0])
        return draft.components[position].name or f"Component {position + 1}"
    return "Form"
