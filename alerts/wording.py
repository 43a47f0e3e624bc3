"""How an incident is put to people: a subject, and sentences in the order in which somebody asks.

What, how bad against the limit, since when, how long the error budget lasts, the cause, the links. Programs
read the document of the incident; a channel that people read puts the same facts into its own form. Names
come from services and are hostile until they have passed `formats.name`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final, Literal

from budgets import formats
from budgets.histogram import AtLeast

from .clauses import plain, window_words

Step = Literal[
    "opened", "reopened", "updated", "repeated", "unacknowledged", "acknowledged", "reminder", "resolved"
]
# What tells of an incident that somebody must look at, in full; the others tell of somebody or of an end.
CALLS: Final = frozenset({"opened", "reopened", "updated", "repeated", "unacknowledged"})

MAX_SUBJECT_CHARACTERS: Final = 250
# An incident that ended in silence did not recover, and no mark may look as if it had.
SILENT: Final = "no_data_timeout"
# Nor did one that another took over.
MERGED: Final = "merged"
UNRECOVERED: Final = frozenset({SILENT, MERGED})

_ENDS: Final = {SILENT: "Silent", MERGED: "Merged"}
_MARKS: Final = {**dict.fromkeys(CALLS, "✕"), "acknowledged": "▲", "reminder": "▲", "resolved": "✓"}


@dataclass(frozen=True, slots=True)
class Figures:
    """The numbers that a rule fired at. `window` is what `burn_rate`, or `bad` of `judged`, was counted over.

    `limit_ms` is the latency budget of a milestone or the allocation of a component. `is_p99_at_least`: the
    p99 falls among timeouts, which took at least so long. `exhausted_in_s`: how long the error budget lasts
    at this burn rate. `clause` is what a rule found that looks at other numbers than these. What is not known is
    None, and a clause empty.
    """

    p99_ms: float | None = None
    is_p99_at_least: bool = False
    limit_ms: float | None = None
    window: str = ""
    burn_rate: float | None = None
    bad: int | None = None
    judged: int | None = None
    remaining_ratio: float | None = None
    exhausted_in_s: float | None = None
    clause: str = ""

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Figures:
        """Of what `document` gave. A field of another version of the product is left aside."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in document.items() if name in known})

    def document(self) -> dict[str, Any]:
        """As JSON keeps it: only what is known."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", False)}


@dataclass(frozen=True, slots=True)
class Story:
    """What people are told of a step beside the incident's document, which is for programs.

    `step_words` says how it came about ("Acknowledged by kim@example.com"), `reason` is the name of a
    resolution, `note` what the person wrote. `tested_by` is set for the test of a channel: nothing of it is true.
    """

    step: Step
    feature_name: str
    step_words: str = ""
    reason: str = ""
    note: str = ""
    lasted_s: float | None = None
    figures: Figures = field(default_factory=Figures)
    cause: str = ""
    """A sentence, where more is known of it than the incident's document has."""
    tested_by: str = ""

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Story:
        known = {each.name for each in fields(cls)}
        values = {name: value for name, value in document.items() if name in known}
        return cls(**{**values, "figures": Figures.read(values.get("figures", {}))})

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "figures": self.figures.document()}


@dataclass(frozen=True, slots=True)
class Letter:
    """Plain text: `subject` is one line, `lead` a sentence, `sentences` what follows in the order it is read."""

    subject: str
    lead: str
    sentences: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    """Text and address."""


def letter(incident: Mapping[str, Any], story: Story) -> Letter:
    """The message about one step of an incident, given as the document that programs get."""
    figures, subject = story.figures, _about(incident, story)
    mark = "–" if story.reason in UNRECOVERED else _MARKS[story.step]
    measured = _measured(figures, is_component=bool(incident["component"]))
    if story.step in CALLS:
        before = f"{_name(story.step_words)}: " if story.step_words else ""
        lead = f"{mark} {before}{subject}{': ' if measured else ''}{measured}"
        title = lead
        sentences = [
            how_bad(figures),
            f"Since {_instant(incident['opened_at'])}.",
            outlook(figures),
            story.cause or _cause(incident),
            f"It is a {incident['severity']}, by the rule {_name(incident['rule']).replace('_', ' ')}.",
        ]
    else:
        lead = f"{mark} {_name(story.step_words)}: {subject}"
        title = f"{mark} {_ENDS.get(story.reason, story.step.capitalize())}: {subject}"
        lasted = ""
        if story.lasted_s is not None:
            duration = plain(formats.lasting(story.lasted_s))
            lasted = f" and lasted {duration}" if story.step == "resolved" else f", {duration} before"
        sentences = [
            f"Note: {_name(story.note)}" if story.note else "",
            f"It opened on {_instant(incident['opened_at'])}{lasted}.",
            f"When it opened: {measured}." if measured else "",
            story.cause or _cause(incident),
        ]
    if story.tested_by:
        title, lead = f"Test: {title}", f"Test: {lead}"
        sentences.insert(
            0,
            f"A test of this channel by {_name(story.tested_by)}. Nothing is wrong: the figures are made up.",
        )
    links = [("See this channel" if story.tested_by else "Open the incident", incident["url"])]
    if incident["runbook_url"]:
        links.append(("Runbook", incident["runbook_url"]))
    return Letter(
        subject=_cut(title), lead=f"{lead}.", sentences=tuple(filter(None, sentences)), links=tuple(links)
    )


# Clauses, without a full stop, and sentences


def p99_of_limit(figures: Figures) -> str:
    """ "p99 4.20 s of 3 s"; nothing where either is not known."""
    if figures.p99_ms is None or figures.limit_ms is None:
        return ""
    p99 = AtLeast(figures.p99_ms) if figures.is_p99_at_least else figures.p99_ms
    return plain(f"p99 {formats.duration(p99, near=figures.limit_ms)} of {formats.limit(figures.limit_ms)}")


def count_of(figures: Figures, word: str) -> str:
    """ "41 of 63 over in 5 min"; nothing where it was not counted."""
    if figures.bad is None or figures.judged is None:
        return ""
    return f"{formats.count(figures.bad)} of {formats.count(figures.judged)} {word} in {window_words(figures.window)}"


def burning(figures: Figures) -> str:
    """ "burning 15.2× over 1 h"; nothing for a rule that looks at no burn rate."""
    if figures.burn_rate is None or not figures.window:
        return ""
    return f"burning {formats.burn_rate(figures.burn_rate)} over {window_words(figures.window)}"


def how_bad(figures: Figures) -> str:
    """ "Burning 15.2× over 1 h, where 1× would just last."."""
    clause = burning(figures)
    return f"{clause.capitalize()}, where 1× spends exactly the error budget." if clause else ""


def outlook(figures: Figures) -> str:
    """How much of the error budget is left, and how long it lasts: "11 % of the error budget left, gone in 5 h."."""
    left = figures.remaining_ratio
    if left is None:
        return ""
    if left <= 0:
        return plain(f"The error budget is exhausted, {formats.percent(-left)} over.")
    gone = "" if figures.exhausted_in_s is None else f", gone in {_roughly(figures.exhausted_in_s)}"
    return plain(f"{formats.percent(left)} of the error budget left{gone}.")


def attributed(
    cause: Mapping[str, Any] | None,
    attribution: Mapping[str, Any] | None,
    changes: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The cause as a sentence; nothing where none is known.

    By the requests themselves: "Tools +1.30 s since v412 (02:51 UTC).". By allocations: "tools: p99 2.10 s of 800 ms
    allocated.".
    """
    if not cause:
        return ""
    name, excess_ms = _name(cause["component"]), _excess_ms(cause, attribution)
    if excess_ms is None:
        return f"{name}: {allocated(cause)}."
    return plain(
        f"{name[:1].upper()}{name[1:]} +{formats.duration(excess_ms)}{_since(cause['component'], changes)}."
    )


def how_attributed(
    cause: Mapping[str, Any] | None,
    attribution: Mapping[str, Any] | None,
    changes: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The same at length, and by what it is known."""
    if not cause or not attribution:
        return ""
    name, excess_ms = _name(cause["component"]), _excess_ms(cause, attribution)
    if excess_ms is None:
        return f"Cause, by allocations{_WHY.get(attribution['why'], '')}: {name}, {allocated(cause)}."
    worst = attribution["components"][0]
    but_for = worst["but_for_ratio"]
    kept = "been absent" if worst["allocated_ms"] is None else "kept to its allocation"
    return plain(
        f"Cause, by the requests themselves: {name}, +{formats.duration(excess_ms)} in those over the latency "
        f"budget{_since(cause['component'], changes)}"
        + (
            f"; had it {kept}, {formats.percent(but_for)} of them would have been in time."
            if but_for
            else "."
        )
    )


# Characters of a release or deploy within a message.
MOST_NAMED: Final = 60

_WHY: Final = {
    "few_traces": ", as too few requests carry trace ids",
    "unmeasured": ", as most of the time is in no component that is measured",
    "many_incidents": ", as much began at once",
}


def _excess_ms(cause: Mapping[str, Any], attribution: Mapping[str, Any] | None) -> float | None:
    """How much longer the component takes in requests over the latency budget; None where they were not asked."""
    for one in attribution["components"] if attribution and attribution["by"] == "requests" else ():
        if one["component"] == cause["component"]:
            return float(one["excess_ms"])
    return None


def _since(component: str, changes: Sequence[Mapping[str, Any]]) -> str:
    """ " since v412 (02:51 UTC)": the latest release of the component or of the feature.

    Where none appeared, " since deploy v412 (02:47 UTC)": the latest deploy that somebody marked; nothing without.
    """
    for kind, word in (("release", ""), ("deploy", "deploy ")):
        for change in changes:
            if change["kind"] == kind and component in (change["components"] or [component]):
                at = clock(datetime.fromisoformat(change["at"]))
                return f" since {word}{_name(_short(change['name']))} ({at})"
    return ""


def _short(text: str) -> str:
    """A sentence's worth: somebody wrote it, at whatever length."""
    return text if len(text) <= MOST_NAMED else f"{text[: MOST_NAMED - 1].rstrip()}…"


def allocated(cause: Mapping[str, Any]) -> str:
    """ "p99 2.10 s of 800 ms allocated", of a component that takes longer than that."""
    if cause["allocated_ms"] is None:
        return plain(f"p99 {formats.duration(cause['observed_ms'])}, with no allocation")
    observed = formats.duration(cause["observed_ms"], near=cause["allocated_ms"])
    return plain(f"p99 {observed} of {formats.limit(cause['allocated_ms'])} allocated")


def clock(at: datetime) -> str:
    """The time of day by the reader's clock, with its zone: "02:51 UTC"."""
    return f"{formats.in_zone(at):%H:%M} {formats.zone_word(at)}"


# Parts


def _about(incident: Mapping[str, Any], story: Story) -> str:
    """ "Support chat, first token"; an environment is named unless it is production."""
    target = incident["component"] or str(incident["milestone"]).replace("_", " ")
    environment = incident["environment"]
    where = "" if environment == "production" else f" ({_name(environment)})"
    return f"{_name(story.feature_name)}{where}, {_name(target)}"


def _measured(figures: Figures, *, is_component: bool) -> str:
    if figures.clause:
        return figures.clause
    p99 = p99_of_limit(figures)
    counted = count_of(figures, "over" if is_component else "bad")
    if is_component:
        return ", ".join(filter(None, [p99 and f"{p99} allocated", counted]))
    return ", ".join(filter(None, [counted and f"outage, {counted}", p99]))


def _cause(incident: Mapping[str, Any]) -> str:
    cause = incident["cause"]
    # An incident of a component has said so already.
    if not cause or incident["component"]:
        return ""
    excess_ms = float(cause["observed_ms"]) - float(cause["allocated_ms"] or 0)
    over = (
        f", {formats.duration(excess_ms)} over" if cause["allocated_ms"] is not None and excess_ms > 0 else ""
    )
    return plain(f"Cause: {_name(cause['component'])}, {allocated(cause)}{over}.")


def _roughly(seconds: float) -> str:
    for name, size in (("days", 86_400), ("h", 3_600)):
        if seconds >= 2 * size:
            return f"{round(seconds / size)} {name}"
    return f"{max(1, round(seconds / 60))} min"


def _instant(text: str) -> str:
    return formats.instant(datetime.fromisoformat(text).astimezone(UTC))


def _name(text: str) -> str:
    """One line, in which nothing turns what stands around it."""
    return " ".join(formats.name(text).split())


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SUBJECT_CHARACTERS else f"{text[: MAX_SUBJECT_CHARACTERS - 1]}…"
