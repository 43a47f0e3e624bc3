"""The document that declares a feature: what a PUT or a YAML file says, checked before anything is changed."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import msgspec

from .errors import Refusal
from .models import Feature, Milestone

MAX_BUDGET_MS = Decimal(604_800_000)  # seven days, the longest duration that can be measured
WINDOWS_DAYS = (7, 28, 30)
SLUG = re.compile(r"[A-Za-z0-9_-]{1,200}")
# /features/new/ is the page that makes a feature.
RESERVED_SLUGS = frozenset({"new"})
# What GET adds to the declared document. It may come back in a PUT and says nothing there.
READ_ONLY_FIELDS = frozenset({"feature", "versions", "state", "states", "created_at"})


class LatencyBudgetDocument(msgspec.Struct, forbid_unknown_fields=True):
    milestone: str
    budget_ms: float
    objective: float
    window_days: int
    allocations: dict[str, float] = {}
    note: str = ""


class FeatureDocument(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    components: list[str]
    latency_budgets: list[LatencyBudgetDocument]
    team: str = ""
    kind: str = "other"
    description: str = ""
    runbook_url: str | None = None
    archived: bool = False


class Problems:
    """Collects everything that is wrong, so that one answer tells it all; the first one gives the code."""

    def __init__(self) -> None:
        self.code = ""
        self.fields: dict[str, list[str]] = {}

    def add(self, code: str, field: str, message: str) -> None:
        self.code = self.code or code
        self.fields.setdefault(field, []).append(message)

    def raise_if_any(self) -> None:
        if self.fields:
            raise Refusal.of(self.code, self.fields)


def read_document(slug: str, document: Any) -> FeatureDocument:
    """The document with every value checked.

    Raises Refusal: `invalid_document` for what has the wrong type or shape, else the code of the first
    thing that is wrong, e.g. `allocation_exceeds_budget`, with all of them in `fields`.
    """
    if isinstance(document, dict):
        document = {key: value for key, value in document.items() if key not in READ_ONLY_FIELDS}
    try:
        declared = msgspec.convert(document, FeatureDocument)
    except msgspec.ValidationError as error:
        # From the right: what was sent may stand in the first part, and hold anything.
        what, mark, path = str(error).rpartition(" - at `$")
        if not mark:
            what, path = path, ""
        field = path.rstrip("`").lstrip(".") or "document"
        raise Refusal(
            "invalid_document", f"{field}: {what}. Nothing was saved.", fields={field: [f"{what}."]}
        ) from error
    problems = Problems()
    if not SLUG.fullmatch(slug):
        problems.add(
            "invalid_slug",
            "feature",
            "A feature's slug has 1 to 200 letters, digits, hyphens or underscores.",
        )
    elif slug in RESERVED_SLUGS:
        problems.add("invalid_slug", "feature", f"The slug {slug!r} is reserved; choose another.")
    _check_texts(declared, problems)
    _check_components(declared, problems)
    for position, latency_budget in enumerate(declared.latency_budgets):
        _check_latency_budget(declared, latency_budget, f"latency_budgets[{position}]", problems)
    problems.raise_if_any()
    _check_together(declared, problems)
    problems.raise_if_any()
    return declared


def in_ms(value: float) -> Decimal:
    """A number of milliseconds as it was written, e.g. 1500.5."""
    return Decimal(repr(value))


def as_number(value: Decimal | float | None) -> int | float | None:
    """A decimal for JSON: whole numbers without a fraction."""
    if value is None:
        return None
    return int(value) if value == int(value) else float(value)


def _check_texts(declared: FeatureDocument, problems: Problems) -> None:
    if not 1 <= len(declared.name.strip()) <= 200:
        problems.add("invalid_name", "name", f"name must have 1 to 200 characters, got {len(declared.name)}.")
    if declared.kind not in Feature.Kind.values:
        problems.add(
            "invalid_kind",
            "kind",
            f"kind must be one of {', '.join(Feature.Kind.values)}, got {declared.kind!r}.",
        )
    if declared.runbook_url and not is_web_address(declared.runbook_url):
        problems.add(
            "invalid_runbook_url",
            "runbook_url",
            "runbook_url must be an address that begins with https:// and has at most 2000 characters.",
        )
    texts = [
        ("name", declared.name),
        ("description", declared.description),
        ("runbook_url", declared.runbook_url),
    ]
    texts += [(f"latency_budgets[{n}].note", one.note) for n, one in enumerate(declared.latency_budgets)]
    for field, text in texts:
        if text and "\0" in text:
            problems.add("invalid_text", field, f"{field} must not contain U+0000.")


def is_web_address(text: str) -> bool:
    """Whether a text may stand as a link: http or https, a host, no blanks, at most 2000 characters."""
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("https", "http") and bool(parts.hostname)
    except ValueError:
        return False
    return is_address and len(text) <= 2000 and text.isprintable() and " " not in text


def _check_components(declared: FeatureDocument, problems: Problems) -> None:
    if len(declared.components) > 50:
        problems.add(
            "too_many_components",
            "components",
            f"A feature has at most 50 components, got {len(declared.components)}.",
        )
        # At once: each allocation is looked for in the list, and a body has room for 100 000 of both.
        problems.raise_if_any()
    seen: set[str] = set()
    for name in declared.components:
        if not 1 <= len(name) <= 200 or "\0" in name:
            problems.add(
                "invalid_component",
                "components",
                "A component's name has 1 to 200 characters, none of them U+0000.",
            )
        if name in seen:
            problems.add(
                "duplicate_component", "components", f"Component {name!r} is listed twice; list it once."
            )
        seen.add(name)


def _check_latency_budget(
    declared: FeatureDocument, latency_budget: LatencyBudgetDocument, at: str, problems: Problems
) -> None:
    if latency_budget.milestone not in Milestone.values:
        problems.add(
            "invalid_milestone",
            f"{at}.milestone",
            f"milestone must be one of {', '.join(Milestone.values)}, got {latency_budget.milestone!r}.",
        )
    _check_ms(latency_budget.budget_ms, f"{at}.budget_ms", "invalid_budget", problems)
    objective = Decimal(repr(latency_budget.objective))
    if not 0 < objective < 1:
        problems.add(
            "invalid_objective",
            f"{at}.objective",
            f"objective is a share between 0 and 1, both excluded, such as 0.99; got {as_number(objective)}.",
        )
    elif objective != round(objective, 6):
        problems.add("invalid_objective", f"{at}.objective", "objective has at most 6 decimals.")
    if latency_budget.window_days not in WINDOWS_DAYS:
        problems.add(
            "invalid_window",
            f"{at}.window_days",
            f"window_days must be 7, 28 or 30, got {latency_budget.window_days}.",
        )
    for name, allocated_ms in latency_budget.allocations.items():
        field = f"{at}.allocations.{name}"
        if name not in declared.components:
            problems.add(
                "unknown_component",
                field,
                f"An allocation names component {name!r}, which is not listed under components.",
            )
        _check_ms(allocated_ms, field, "invalid_allocation", problems)


def _check_ms(value: float, field: str, code: str, problems: Problems) -> None:
    exact = in_ms(value)
    if not 0 < exact <= MAX_BUDGET_MS:
        problems.add(
            code, field, f"{field} must be above 0 and at most {MAX_BUDGET_MS} ms, got {as_number(exact)}."
        )
    elif exact != round(exact, 3):
        problems.add(code, field, f"{field} has at most 3 decimals, got {exact}.")


def _check_together(declared: FeatureDocument, problems: Problems) -> None:
    """What holds between milestones: each once, first_token within complete, a component under one of them."""
    by_milestone: dict[str, LatencyBudgetDocument] = {}
    allocated_at: dict[str, str] = {}
    for position, latency_budget in enumerate(declared.latency_budgets):
        at = f"latency_budgets[{position}]"
        if latency_budget.milestone in by_milestone:
            problems.add(
                "duplicate_milestone",
                f"{at}.milestone",
                f"{latency_budget.milestone} stands twice; each milestone stands once.",
            )
        by_milestone[latency_budget.milestone] = latency_budget
        for name in latency_budget.allocations:
            if name in allocated_at:
                problems.add(
                    "component_allocated_twice",
                    f"{at}.allocations.{name}",
                    f"Component {name!r} is allocated under {allocated_at[name]} already; a component counts under one milestone.",
                )
            allocated_at[name] = latency_budget.milestone
    problems.raise_if_any()
    first, complete = by_milestone.get(Milestone.FIRST_TOKEN), by_milestone.get(Milestone.COMPLETE)
    if first and complete and first.budget_ms > complete.budget_ms:
        problems.add(
            "first_token_exceeds_complete",
            f"latency_budgets[{declared.latency_budgets.index(first)}].budget_ms",
            f"first_token's {as_number(first.budget_ms)} ms is over complete's {as_number(complete.budget_ms)} ms, of which it is the first part.",
        )
        return
    for latency_budget in declared.latency_budgets:
        own = sum((in_ms(ms) for ms in latency_budget.allocations.values()), Decimal(0))
        block = in_ms(first.budget_ms) if first and latency_budget is complete else Decimal(0)
        over = own + block - in_ms(latency_budget.budget_ms)
        if own and over > 0:
            parts = f"{as_number(own)} ms" + (
                f" and first_token's {as_number(block)} ms make {as_number(own + block)} ms" if block else ""
            )
            problems.add(
                "allocation_exceeds_budget",
                "allocations",
                f"Allocations add up to {parts}, {as_number(over)} ms over the latency budget of "
                f"{as_number(latency_budget.budget_ms)} ms.",
            )
