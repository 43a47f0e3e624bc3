"""A feature's document while somebody edits it: text as it was typed, and what is wrong with it, field by field.

A draft loses nothing: what cannot be read stays as it is and is explained. Only what `check` makes of it is
a document, and only `declare_feature` saves one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final, Protocol

from . import formats
from .documents import as_number, read_document
from .errors import Refusal
from .models import Milestone
from .quantities import Unreadable, read_ms, read_objective, typed_ms, typed_objective

WINDOWS: Final = ("7", "28", "30")


class Typed(Protocol):
    """What a browser sends: Django's QueryDict, or anything that answers like it."""

    def get(self, key: str, default: str) -> str: ...

    def getlist(self, key: str) -> list[str]: ...


@dataclass(frozen=True)
class DraftComponent:
    """A row of the components. `was` is the name under which it is declared; "" for a new one.

    `under` is the milestone that its allocation counts under; without an allocation it says nothing.
    """

    name: str = ""
    was: str = ""
    under: str = ""
    allocated: str = ""

    @property
    def is_blank(self) -> bool:
        return not (self.name.strip() or self.allocated.strip() or self.was)

    @property
    def is_renamed(self) -> bool:
        return bool(self.was) and self.name.strip() != self.was.strip()


@dataclass(frozen=True)
class DraftMilestone:
    """What is typed about one milestone; it counts while `is_on`."""

    milestone: str
    is_on: bool = False
    budget: str = ""
    objective: str = ""
    window: str = "28"
    note: str = ""

    @property
    def label(self) -> str:
        return str(Milestone(self.milestone).label)


@dataclass(frozen=True)
class Sum:
    """What a milestone's latency budget holds, in ms: `block_ms` of first_token, then the allocations."""

    milestone: str
    budget_ms: Decimal
    block_ms: Decimal
    parts: tuple[tuple[int, str, Decimal], ...]
    """Position of the component's row, name, allocation."""

    @property
    def allocated_ms(self) -> Decimal:
        return sum((ms for _, _, ms in self.parts), Decimal(0))

    @property
    def unallocated_ms(self) -> Decimal:
        """Below zero where more is allocated than there is."""
        return self.budget_ms - self.block_ms - self.allocated_ms

    @property
    def is_over(self) -> bool:
        return self.unallocated_ms < 0

    @property
    def words(self) -> str:
        ms = formats.exact(abs(self.unallocated_ms))
        return f"{ms}{formats.NBSP}ms over" if self.is_over else f"unallocated {ms}{formats.NBSP}ms"


@dataclass(frozen=True)
class Checked:
    """What a draft says: its document as far as it can be read, its sums, and what is wrong by form field."""

    document: dict[str, Any]
    sums: dict[str, Sum]
    errors: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """The form of a feature. `digest` is that of the declared document that it was made from, "" for none."""

    digest: str = ""
    slug: str = ""
    team: str = ""
    name: str = ""
    kind: str = "other"
    description: str = ""
    runbook_url: str = ""
    is_archived: bool = False
    components: tuple[DraftComponent, ...] = ()
    milestones: tuple[DraftMilestone, ...] = ()

    # -- where it comes from ------------------------------------------------------------------------

    @classmethod
    def of_document(cls, document: Mapping[str, Any], *, slug: str = "", digest: str = "") -> Draft:
        """The draft that says the same as a declared document."""
        budgets = {one["milestone"]: one for one in document["latency_budgets"]}
        allocated = {
            name: (milestone, typed_ms(ms))
            for milestone, one in budgets.items()
            for name, ms in one.get("allocations", {}).items()
        }
        nowhere = (next(iter(budgets), str(Milestone.COMPLETE)), "")
        return cls(
            digest=digest,
            slug=slug,
            team=document["team"],
            name=document["name"],
            kind=document["kind"],
            description=document["description"],
            runbook_url=document["runbook_url"] or "",
            is_archived=document["archived"],
            components=tuple(
                DraftComponent(name, name if digest else "", *allocated.get(name, nowhere))
                for name in document["components"]
            ),
            milestones=tuple(_milestone(name, budgets.get(name)) for name in Milestone.values),
        )

    @classmethod
    def of_form(cls, typed: Typed, *, slug: str = "", team: str = "", is_archived: bool = False) -> Draft:
        """The draft that a form carries; `slug` and `team` are those of a feature that is there already."""
        columns = [typed.getlist(f"component_{name}") for name in ("name", "was", "under", "allocated")]
        rows = [
            DraftComponent(_line(name), str(was), _line(under), _line(allocated))
            for name, was, under, allocated in zip(*columns, strict=False)
        ]
        return cls(
            digest=_line(typed.get("digest", "")),
            slug=slug or _line(typed.get("slug", "")),
            team=team or _line(typed.get("team", "")),
            name=_line(typed.get("name", "")),
            kind=_line(typed.get("kind", "")) or "other",
            description=_text(typed.get("description", "")),
            runbook_url=_line(typed.get("runbook_url", "")),
            is_archived=is_archived,
            components=tuple(rows),
            milestones=tuple(
                DraftMilestone(
                    milestone=name,
                    is_on=bool(typed.get(f"{name}-on", "")),
                    budget=_line(typed.get(f"{name}-budget", "")),
                    objective=_line(typed.get(f"{name}-objective", "")),
                    window=_line(typed.get(f"{name}-window", "")) or "28",
                    note=_text(typed.get(f"{name}-note", "")),
                )
                for name in Milestone.values
            ),
        )

    # -- what a button does to it -------------------------------------------------------------------

    def with_component(self, name: str = "") -> Draft:
        """One row more, under the first milestone that is on."""
        under = next((m.milestone for m in self.milestones if m.is_on), str(Milestone.COMPLETE))
        return replace(self, components=(*self.components, DraftComponent(name=name, under=under)))

    def without_component(self, position: int) -> Draft:
        return replace(self, components=self.components[:position] + self.components[position + 1 :])

    def moved(self, position: int, by: int) -> Draft:
        """The row at a position, one up (-1) or down (+1); at the edge it stays."""
        rows, to = list(self.components), position + by
        if 0 <= position < len(rows) and 0 <= to < len(rows):
            rows[position], rows[to] = rows[to], rows[position]
        return replace(self, components=tuple(rows))

    def taking(self, path: str, theirs: Mapping[str, Any]) -> Draft:
        """This draft with what another document says at the path of a Difference; all else stays as typed."""
        other = Draft.of_document(theirs, slug=self.slug, digest=self.digest)
        head, _, rest = path.partition(".")
        if head in ("name", "kind", "description", "runbook_url"):
            return replace(self, **{head: getattr(other, head)})
        if head == "components":
            return self._taking_component(rest, other)
        if head not in Milestone.values:
            return self
        mine, its = self._milestone(head), other._milestone(head)
        inputs = {"budget_ms": "budget", "objective": "objective", "window_days": "window", "note": "note"}
        if not rest:
            taken = self._with_milestone(its if its.is_on else replace(mine, is_on=False))
            for row in other.components:
                if row.under == head and row.allocated:
                    taken = taken._taking_share(row.name, head, other)
            return taken
        if rest in inputs:
            return self._with_milestone(replace(mine, **{inputs[rest]: getattr(its, inputs[rest])}))
        return self._taking_share(rest.removeprefix("allocations."), head, other)

    def _taking_component(self, name: str, other: Draft) -> Draft:
        theirs = {row.name: row for row in other.components}
        if not name:  # their order; what they do not have comes last
            order = {row.name: position for position, row in enumerate(other.components)}
            return replace(
                self,
                components=tuple(sorted(self.components, key=lambda row: order.get(row.name, len(order)))),
            )
        rows = [row for row in self.components if row.name != name]
        if name not in theirs:
            return replace(self, components=tuple(rows))
        if len(rows) < len(self.components):
            return self
        return replace(self, components=(*rows, theirs[name]))

    def _taking_share(self, name: str, milestone: str, other: Draft) -> Draft:
        its = next((row for row in other.components if row.name == name), None)
        has_share = its is not None and its.under == milestone and its.allocated
        rows = list(self.components)
        for position, row in enumerate(rows):
            if row.name != name:
                continue
            if its is not None and has_share:
                rows[position] = replace(row, under=milestone, allocated=its.allocated)
            elif row.under == milestone:
                rows[position] = replace(row, allocated="")
        if its is not None and has_share and all(row.name != name for row in rows):
            rows.append(its)
        return replace(self, components=tuple(rows))

    def _milestone(self, name: str) -> DraftMilestone:
        return next((m for m in self.milestones if m.milestone == name), DraftMilestone(name))

    def _with_milestone(self, changed: DraftMilestone) -> Draft:
        return replace(
            self,
            milestones=tuple(changed if m.milestone == changed.milestone else m for m in self.milestones),
        )

    # -- what it says -------------------------------------------------------------------------------

    def check(self) -> Checked:
        """The document of this draft, and everything that is wrong with it.

        What cannot be read is left out of the document, so that the rest can be judged all the same.
        """
        reading = _Reading()
        budgets = {
            m.milestone: budget for m in self.milestones if m.is_on and (budget := reading.milestone(m))
        }
        names = reading.components(self.components, self._milestone)
        for milestone, position, name, ms in reading.allocations:
            if milestone in budgets:
                budgets[milestone]["allocations"][name] = as_number(ms)
                reading.rows[milestone, name] = position
        document = {
            "name": self.name,
            "team": self.team,
            "kind": self.kind,
            "description": self.description,
            "archived": self.is_archived,
            "components": names,
            "latency_budgets": list(budgets.values()),
            "runbook_url": self.runbook_url or None,
        }
        sums = _sums(budgets, reading.rows)
        try:
            read_document(self.slug, document)
        except Refusal as refusal:
            for path, messages in refusal.fields.items():
                for name, message in _at_fields(path, messages, list(budgets), sums, reading.rows):
                    reading.add(name, message)
        return Checked(document, sums, reading.errors)


def sum_error(one: Sum) -> str:
    """What is wrong with a sum that is over, and what would be right."""
    label = str(Milestone(one.milestone).label)
    parts = f"The allocations add up to {_ms(one.allocated_ms)}"
    if one.block_ms:
        parts += f" and first token's block is {_ms(one.block_ms)}"
    return (
        f"{parts}: {_ms(-one.unallocated_ms)} over {label.lower()}'s latency budget of {_ms(one.budget_ms)}. "
        f"Take {_ms(-one.unallocated_ms)} from the components, or raise the latency budget."
    )


class _Reading:
    """Collects what the fields of a draft say, and what is wrong with them."""

    def __init__(self) -> None:
        self.errors: dict[str, list[str]] = {}
        self.allocations: list[tuple[str, int, str, Decimal]] = []
        self.rows: dict[tuple[str, str], int] = {}

    def add(self, name: str, message: str) -> None:
        if message not in self.errors.setdefault(name, []):
            self.errors[name].append(message)

    def milestone(self, typed: DraftMilestone) -> dict[str, Any] | None:
        """A latency budget of a document; None where one of its numbers cannot be read."""
        at = typed.milestone
        budget_ms = self._quantity(read_ms, typed.budget, f"{at}-budget")
        objective = self._quantity(read_objective, typed.objective, f"{at}-objective")
        if typed.window not in WINDOWS:
            self.add(f"{at}-window", "Choose 7, 28 or 30 days.")
        elif budget_ms is not None and objective is not None:
            return {
                "milestone": at,
                "budget_ms": as_number(budget_ms),
                "objective": float(objective),
                "window_days": int(typed.window),
                "allocations": {},
                "note": typed.note,
            }
        return None

    def components(self, rows: Sequence[DraftComponent], milestone: Any) -> list[str]:
        """The names in their order; allocations are kept beside them."""
        names: list[str] = []
        for position, row in enumerate(rows):
            if row.is_blank:
                continue
            # Spaces around a name that is declared are its own: nobody sees them, nobody meant to change them.
            name = row.name.strip() if row.is_renamed or not row.was else row.was
            at = f"component-{position}"
            if not name.strip():
                again = f" Or remove the row, which archives {row.was}." if row.was else ""
                self.add(f"{at}-name", f"Give the component a name.{again}")
            elif name in names:
                self.add(f"{at}-name", f"{name} stands in another row already. Each component stands once.")
            elif len(name) > 200 or "\0" in name:
                self.add(f"{at}-name", f"A name has at most 200 characters, this one has {len(name)}.")
            else:
                names.append(name)
                self._allocation(row, name, position, milestone)
        return names

    def _allocation(self, row: DraftComponent, name: str, position: int, milestone: Any) -> None:
        if not row.allocated.strip():
            return
        at = f"component-{position}"
        ms = self._quantity(read_ms, row.allocated, f"{at}-allocated")
        if row.under not in Milestone.values:
            self.add(f"{at}-under", "Choose the milestone that this allocation counts under.")
        elif not milestone(row.under).is_on:
            label = milestone(row.under).label
            self.add(
                f"{at}-under",
                f"{label} has no latency budget here. Switch it on, choose the other milestone, or clear the ms.",
            )
        elif ms is not None:
            self.allocations.append((row.under, position, name, ms))

    def _quantity(self, read: Any, text: str, name: str) -> Decimal | None:
        try:
            value: Decimal = read(text)
        except Unreadable as error:
            self.add(name, str(error))
            return None
        return value


def _milestone(name: str, budget: Mapping[str, Any] | None) -> DraftMilestone:
    if budget is None:
        return DraftMilestone(name)
    return DraftMilestone(
        milestone=name,
        is_on=True,
        budget=typed_ms(budget["budget_ms"]),
        objective=typed_objective(budget["objective"]),
        window=str(budget["window_days"]),
        note=budget.get("note", ""),
    )


def _sums(budgets: Mapping[str, Any], rows: Mapping[tuple[str, str], int]) -> dict[str, Sum]:
    def exact(number: float) -> Decimal:
        return Decimal(str(number))

    first = budgets.get(Milestone.FIRST_TOKEN)
    return {
        milestone: Sum(
            milestone=milestone,
            budget_ms=exact(budget["budget_ms"]),
            block_ms=exact(first["budget_ms"]) if first and milestone == Milestone.COMPLETE else Decimal(0),
            parts=tuple(
                (rows[milestone, name], name, exact(ms)) for name, ms in budget["allocations"].items()
            ),
        )
        for milestone, budget in budgets.items()
    }


def _at_fields(
    path: str,
    messages: Sequence[str],
    milestones: Sequence[str],
    sums: Mapping[str, Sum],
    rows: Mapping[tuple[str, str], int],
) -> list[tuple[str, str]]:
    """The fields of the form that a field of a refused document stands for, with what is to be said there."""
    if path == "allocations":
        over = [one for one in sums.values() if one.is_over and one.parts]
        return [(f"{one.milestone}-sum", sum_error(one)) for one in over]
    if path.startswith("latency_budgets["):
        number, _, rest = path.removeprefix("latency_budgets[").partition("].")
        milestone = milestones[int(number)]
        if rest == "budget_ms" and len(sums) == 2:
            first, complete = (sums[name].budget_ms for name in Milestone.values)
            if first > complete:
                message = (
                    f"First token's {_ms(first)} is more than complete's {_ms(complete)}, of which it is the first "
                    "part. Lower it, or raise complete."
                )
                return [(f"{milestone}-budget", message)]
        component = rest.removeprefix("allocations.")
        if (milestone, component) in rows:
            return [(f"component-{rows[milestone, component]}-allocated", said) for said in messages]
        names = {"budget_ms": "budget", "objective": "objective", "window_days": "window", "note": "note"}
        return [(f"{milestone}-{names.get(rest, 'budget')}", said) for said in messages]
    own = {
        "name": "Give it a name of 1 to 200 characters.",
        "feature": "A slug has 1 to 200 letters, digits, hyphens or underscores.",
        "runbook_url": "Write an address that begins with https://, with at most 2000 characters and no spaces.",
        "kind": "Choose one of these kinds.",
    }
    fields = {"feature": "slug", "components": "components"}
    known = path in own or path in ("components", "team", "description")
    if path == "feature" and any(
        "taken" in said or "reserved" in said or "unique" in said for said in messages
    ):
        return [("slug", said) for said in messages]
    if path in own and not any("U+0000" in said for said in messages):
        return [(fields.get(path, path), own[path])]
    return [(fields.get(path, path) if known else "form", said) for said in messages]


def field_errors(refusal: Refusal) -> dict[str, list[str]]:
    """What `declare_feature` refused beyond what a draft can know, by form field."""
    found: dict[str, list[str]] = {}
    for path, messages in (refusal.fields or {"form": [refusal.message]}).items():
        for name, message in (
            _at_fields(path, messages, (), {}, {}) if path != "form" else [("form", messages[0])]
        ):
            found.setdefault(name, []).append(message)
    return found


def _ms(ms: Decimal) -> str:
    return f"{formats.exact(ms)}{formats.NBSP}ms"


def _line(text: Any) -> str:
    """Browsers send text; a line break within a line is none that somebody could see."""
    return " ".join(str(text).splitlines()).strip()


def _text(text: Any) -> str:
    """Browsers send line ends as CR LF. Nothing else is changed, or a reason that nobody touched would be new."""
    return str(text).replace("\r\n", "\n")
