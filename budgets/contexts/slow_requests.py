"""Which requests were slowest, and what slow ones have in common, as the pages of features and incidents show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.conf import settings
from django.urls import reverse

from budgets import formats
from budgets.commonalities import MIN_SLOW, Commonality
from budgets.models import Feature, Status
from budgets.slow_requests import Comparison, SlowestRequests, SlowRequest

from .frame import with_query
from .parts import milestone_name, plural

ROWS_SHOWN: Final = 8
# A label may have 4096 bytes: within a sentence its beginning is enough, and the table has all of it.
_LONGEST_IN_A_SENTENCE: Final = 60
_STATUS_WORDS: Final = {str(Status.ERROR.value): "ended in an error", str(Status.TIMEOUT.value): "timed out"}


@dataclass(frozen=True)
class CommonRow:
    """A value; `name` and `value` of a label stand apart, the others are said in `text`."""

    name: str
    value: str
    text: str
    slow: str
    slow_width: str
    slow_count: str
    others: str
    others_width: str
    lift: str
    is_few: bool


@dataclass(frozen=True)
class CommonPart:
    """`lead` is the sentence that stands first; `notes` say of what and how it is known."""

    lead: str
    rows: Sequence[CommonRow]
    left_out: int
    notes: Sequence[str]
    slow_word: str
    wants_labels: bool
    as_of: datetime


@dataclass(frozen=True)
class SlowestRow:
    trace_id: str
    url: str
    duration: str
    limit: str
    state: str
    state_word: str
    ended_at: datetime
    release: str
    waited_for: str
    waited_share: str


@dataclass(frozen=True)
class SlowestPart:
    rows: Sequence[SlowestRow]
    notes: Sequence[str]
    limit_word: str
    has_waits: bool
    as_of: datetime


# -- what they have in common -----------------------------------------------------------------------


def common_part(found: Comparison, *, target: str, asked_from: datetime, now: datetime) -> CommonPart:
    """`asked_from` is where the range begins that was asked for, which may lie before what is kept."""
    slow_word, one_word = _words_of(target)
    noun = one_word.partition(" of ")[0]
    rows = [_common_row(one, noun) for one in found.found[:ROWS_SHOWN]]
    return CommonPart(
        lead=common_sentence(found, target=target),
        rows=rows,
        left_out=len(found.found) - len(rows),
        notes=_notes_on(found, one_word, asked_from),
        slow_word=slow_word,
        wants_labels=bool(found.slow >= MIN_SLOW and found.others and not found.with_labels),
        as_of=now,
    )


def common_sentence(found: Comparison, *, target: str) -> str:
    """ "62 % of slow requests have tool=search_v2; 8 % of the others do."."""
    slow_word, one_word = _words_of(target)
    limit_word = "latency budget" if target.startswith("milestone:") else "allocation"
    if not found.slow and not found.others:
        return f"No {one_word} was judged in this range."
    if not found.slow:
        return f"No {one_word} was over its {limit_word} in this range."
    if found.slow < MIN_SLOW and found.others:
        verb = "was" if found.slow == 1 else "were"
        return (
            f"Only {found.slow} {plural_of(one_word, found.slow)} {verb} over the {limit_word} in this range: too few "
            "to compare."
        )
    if not found.others:
        return f"Every {one_word} was over its {limit_word}: there are no others to compare with."
    if not found.found:
        return f"Nothing stands out: no label, release or component status is clearly more frequent among {slow_word}."
    return sentence_of(found.found[0], slow_word)


def sentence_of(one: Commonality, slow_word: str) -> str:
    slow, others = _share(one.slow_ratio), _share(one.others_ratio)
    name, value = _short(one.value.name), _short(one.value.value)
    if one.value.kind == "release":
        return f"{slow} of {slow_word} came from release {value or 'without a name'}; {others} of the others did."
    if one.value.kind == "status":
        return f"In {slow} of {slow_word} {name} {_STATUS_WORDS[one.value.value]}; in {others} of the others."
    return f"{slow} of {slow_word} have {name}={value}; {others} of the others do."


def _share(ratio: float) -> str:
    """In whole percent, as a sentence is read; what is not nothing never reads 0 %, and what is not all never 100 %."""
    whole = f"{100 * ratio:.0f}"
    return formats.percent(ratio) if whole in ("0", "100") else f"{whole}{formats.NBSP}%"


def plural_of(word: str, number: int) -> str:
    """ "request" or "requests"; "call of tools" or "calls of tools"."""
    noun, of, rest = word.partition(" of ")
    return f"{plural(noun, number)}{of}{rest}"


def _words_of(target: str) -> tuple[str, str]:
    """What slow ones are called, and one that may be slow or not."""
    kind, _, name = target.partition(":")
    if kind == "milestone":
        return "slow requests", "request"
    return f"slow calls of {formats.name(name)}", f"call of {formats.name(name)}"


def _short(text: str) -> str:
    named = formats.name(text)
    return named if len(named) <= _LONGEST_IN_A_SENTENCE else f"{named[:_LONGEST_IN_A_SENTENCE]}…"


def _common_row(one: Commonality, noun: str) -> CommonRow:
    value = one.value
    is_label = value.kind == "label"
    text = f"release {value.value or 'without a name'}"
    if value.kind == "status":
        text = f"{formats.name(value.name)} {_STATUS_WORDS[value.value]}"
    return CommonRow(
        name=value.name if is_label else "",
        value=value.value if is_label else "",
        text="" if is_label else text,
        slow=formats.percent(one.slow_ratio),
        slow_width=f"{100 * one.slow_ratio:.2f}%",
        slow_count=f"{formats.count(value.slow)} {plural(noun, value.slow)}",
        others=formats.percent(one.others_ratio),
        others_width=f"{100 * one.others_ratio:.2f}%",
        lift=f"{formats.significant(one.lift)}×" if one.lift is not None else "only there",
        is_few=one.is_few,
    )


def _notes_on(found: Comparison, one_word: str, asked_from: datetime) -> list[str]:
    notes = []
    if found.slow or found.others:
        others = f"{formats.count(found.others)} {plural('other', found.others)}"
        compared = f"{formats.count(found.slow)} slow {plural_of(one_word, found.slow)} beside {others}"
        if found.is_sampled:
            compared += f", a sample of {formats.count(found.total)}"
        how = (
            " A value is named where its shares differ by more than chance, of "
            f"{formats.count(found.compared)} that were compared."
        )
        notes.append(
            f"{compared}; errors are left out.{how if found.slow >= MIN_SLOW and found.others else ''}"
        )
    return [*notes, *_retention_note(found.start, asked_from)]


def _retention_note(start: datetime, asked_from: datetime) -> list[str]:
    if start <= asked_from:
        return []
    days = settings.RAW_RETENTION_DAYS
    return [
        f"Single requests are kept for {days} {plural('day', days)}: only those since {formats.instant(start)} are in it."
    ]


# -- the slowest ------------------------------------------------------------------------------------


def slowest_part(
    feature: Feature, found: SlowestRequests, *, target: str, asked_from: datetime, now: datetime
) -> SlowestPart:
    kind, _, name = target.partition(":")
    milestone = name if kind == "milestone" else None
    return SlowestPart(
        rows=[_slowest_row(feature, one, milestone) for one in found.requests],
        notes=_retention_note(found.start, asked_from),
        limit_word=f"{milestone_name(name)}, latency budget" if milestone else "Allocation",
        has_waits=any(one.waited_for for one in found.requests),
        as_of=now,
    )


def _slowest_row(feature: Feature, one: SlowRequest, milestone: str | None) -> SlowestRow:
    is_over = one.limit_ms is not None and (one.status == Status.TIMEOUT or one.duration_ms > one.limit_ms)
    word = "Timed out" if one.status == Status.TIMEOUT else "Over" if is_over else "In time"
    url = ""
    if one.trace_id:
        # A trace may hold several requests, such as the turns of a conversation: this one is meant.
        ended = f"{one.ended_at:%Y-%m-%dT%H:%M:%S.%fZ}"
        url = with_query(
            reverse("trace", args=[feature.slug, one.trace_id]), milestone=milestone, ended=ended
        )
    return SlowestRow(
        trace_id=one.trace_id,
        url=url,
        duration=formats.duration(one.duration_ms, near=one.limit_ms),
        limit=formats.limit(one.limit_ms),
        state="no_data" if one.limit_ms is None else "breached" if is_over else "ok",
        state_word="Not judged" if one.limit_ms is None else word,
        ended_at=one.ended_at,
        release=one.release,
        waited_for=one.waited_for or "",
        waited_share=formats.percent(one.waited_ratio),
    )
