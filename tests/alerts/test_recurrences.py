"""On which days a rule comes, compared with what dateutil makes of it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from time import process_time

import pytest
from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alerts.recurrences import InvalidRecurrence, days_of, read_recurrence

FIRST = date(2026, 1, 1)
WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]


def days(rule: str, starts_on: date = FIRST, *, first: date = FIRST, last: date) -> list[date]:
    return list(days_of(read_recurrence(rule), starts_on, first=first, last=last))


def numbers(most: int) -> st.SearchStrategy[str]:
    signed = st.integers(1, most).flatmap(lambda n: st.sampled_from([str(n), str(-n)]))
    return st.lists(signed, min_size=1, max_size=3).map(",".join)


@st.composite
def rules(draw: st.DrawFn) -> str:
    frequency = draw(st.sampled_from(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]))
    parts = {"FREQ": frequency, "INTERVAL": str(draw(st.integers(1, 5)))}
    ends = draw(st.sampled_from(["", "COUNT", "UNTIL"]))
    if ends == "COUNT":
        parts["COUNT"] = str(draw(st.integers(1, 40)))
    elif ends == "UNTIL":
        parts["UNTIL"] = draw(st.dates(date(2026, 1, 1), date(2029, 1, 1))).strftime("%Y%m%d")
    if draw(st.booleans()):
        # dateutil takes counted and plain weekdays in one rule for conditions that both must hold.
        counted = frequency in ("MONTHLY", "YEARLY") and draw(st.booleans())
        most = 53 if frequency == "YEARLY" else 5
        which = st.integers(1, most).flatmap(lambda n: st.sampled_from([f"{n}", f"-{n}"]))
        day = (
            st.tuples(which, st.sampled_from(WEEKDAYS)).map("".join) if counted else st.sampled_from(WEEKDAYS)
        )
        parts["BYDAY"] = ",".join(draw(st.lists(day, min_size=1, max_size=3, unique=True)))
    if frequency != "WEEKLY" and draw(st.booleans()):
        parts["BYMONTHDAY"] = draw(numbers(31))
    if draw(st.booleans()):
        parts["BYMONTH"] = ",".join(map(str, draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))))
    if parts.keys() & {"BYDAY", "BYMONTHDAY", "BYMONTH"} and draw(st.booleans()):
        parts["BYSETPOS"] = draw(numbers(4))
    if draw(st.booleans()):
        parts["WKST"] = draw(st.sampled_from(WEEKDAYS))
    return ";".join(f"{name}={value}" for name, value in parts.items())


@given(
    rule=rules(),
    starts_on=st.dates(date(2026, 1, 1), date(2028, 12, 31)),
    offset=st.integers(-30, 1500),
    length=st.integers(0, 500),
)
def test_a_rule_comes_on_the_days_that_dateutil_finds(
    rule: str, starts_on: date, offset: int, length: int
) -> None:
    first = starts_on + timedelta(days=offset)
    last = first + timedelta(days=length)
    # One that fits no day is searched for by dateutil until the year 9999, which takes it seconds.
    endless = ";".join(part for part in rule.split(";") if part[:5] not in ("COUNT", "UNTIL"))
    assume(days(endless, starts_on, first=last, last=last + timedelta(days=12 * 366)))
    until = "" if "UNTIL" in rule or "COUNT" in rule else f";UNTIL={last:%Y%m%d}"
    oracle = rrulestr(rule + until, dtstart=datetime.combine(starts_on, time.min))
    expected = []
    for found in oracle:
        if found.date() > last:
            break
        if found.date() >= first:
            expected.append(found.date())
    assert days(rule, starts_on, first=first, last=last) == expected


@settings(max_examples=40)
@given(rule=rules(), count=st.integers(1, 1000), offset=st.integers(15_000, 25_000))
def test_a_rule_that_counts_from_long_ago_comes_on_the_days_that_dateutil_finds(
    rule: str, count: int, offset: int
) -> None:
    """Longer than what is looked at in one go."""
    starts_on = date(1970, 1, 1)
    first = starts_on + timedelta(days=offset)
    last = first + timedelta(days=400)
    parts = [part for part in rule.split(";") if part[:5] not in ("COUNT", "UNTIL")]
    uncounted = rrulestr(
        ";".join([*parts, f"UNTIL={last:%Y%m%d}"]), dtstart=datetime.combine(starts_on, time.min)
    )
    expected = [one.date() for one in list(uncounted)[:count] if one.date() >= first]
    assert days(";".join([*parts, f"COUNT={count}"]), starts_on, first=first, last=last) == expected


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=DAILY;COUNT=1000;BYMONTH=2;BYMONTHDAY=29",
        "FREQ=DAILY;COUNT=1000;BYMONTHDAY=31;BYDAY=MO",
        "FREQ=WEEKLY;COUNT=1000;INTERVAL=4;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYSETPOS=7",
        "FREQ=MONTHLY;COUNT=1000;BYDAY=5MO,-5TU,5WE;BYSETPOS=3",
        "FREQ=YEARLY;COUNT=1000;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYSETPOS=366",
    ],
)
def test_what_a_rule_counted_for_decades_is_found_at_once_and_remembered(rule: str) -> None:
    """Thirty different starts, so that nothing is remembered of them: this took 2 to 12 s."""
    starts = [date(1970, 1, 1) + timedelta(days=n) for n in range(30)]
    for most_seconds in (0.5, 0.1):
        began = process_time()
        for starts_on in starts:
            days(rule, starts_on, first=date(2026, 11, 10), last=date(2026, 11, 23))
        assert process_time() - began < most_seconds


def test_the_last_sunday_of_each_month() -> None:
    assert days("FREQ=MONTHLY;BYDAY=-1SU", last=date(2026, 4, 30)) == [
        date(2026, 1, 25),
        date(2026, 2, 22),
        date(2026, 3, 29),
        date(2026, 4, 26),
    ]


def test_every_other_week_counts_from_the_week_of_the_start() -> None:
    """The start is a Thursday, so the Tuesday of that week is over."""
    found = days("FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,TH", last=date(2026, 1, 31))
    assert found == [
        date(2026, 1, 1),
        date(2026, 1, 13),
        date(2026, 1, 15),
        date(2026, 1, 27),
        date(2026, 1, 29),
    ]


def test_without_a_recurrence_it_comes_once() -> None:
    assert list(days_of(None, FIRST, first=FIRST, last=date(2030, 1, 1))) == [FIRST]
    assert not list(days_of(None, FIRST, first=date(2026, 1, 2), last=date(2030, 1, 1)))


def test_a_rule_that_fits_no_day_is_found_out_at_once() -> None:
    began = process_time()
    assert not days("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", last=date(2036, 1, 1))
    assert not days("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", last=date(2036, 1, 1))
    assert process_time() - began < 0.5


def test_days_far_from_the_start_are_found_at_once() -> None:
    began = process_time()
    day = date(2825, 7, 1)
    assert days("FREQ=DAILY", first=day, last=day) == [day]
    assert process_time() - began < 0.1


def test_nothing_comes_after_the_end_of_the_calendar() -> None:
    assert days("FREQ=YEARLY;INTERVAL=1000", last=date.max)[-1] == date(9026, 1, 1)


def test_until_may_be_an_instant() -> None:
    rule = read_recurrence("RRULE:FREQ=DAILY;UNTIL=20260301T020000Z")
    assert rule.until == datetime(2026, 3, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("", "Expected parts such as"),
        ("WEEKLY", "Expected parts such as"),
        ("INTERVAL=2", "FREQ must be one of DAILY, WEEKLY, MONTHLY, YEARLY"),
        ("FREQ=SECONDLY", "FREQ must be one of"),
        ("FREQ=MINUTELY", "FREQ must be one of"),
        ("FREQ=HOURLY", "FREQ must be one of"),
        ("FREQ=DAILY;BYHOUR=2", "the time of day stands beside the rule"),
        ("FREQ=YEARLY;BYEASTER=0", "'BYEASTER' is not taken"),
        ("FREQ=DAILY;FREQ=DAILY", "FREQ stands twice"),
        ("FREQ=DAILY;COUNT=1;UNTIL=20270101", "exclude each other"),
        ("FREQ=DAILY;COUNT=1001", "COUNT must be 1 to 1000"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL must be 1 to 1000"),
        ("FREQ=DAILY;UNTIL=2027-01-01", "UNTIL must be"),
        ("FREQ=DAILY;UNTIL=20270101T000000", "UNTIL must be"),
        ("FREQ=WEEKLY;BYDAY=1MO", "counts its weekdays"),
        ("FREQ=WEEKLY;BYMONTHDAY=1", "does not go with FREQ=WEEKLY"),
        ("FREQ=MONTHLY;BYDAY=6MO", "BYDAY must be 1 to 5"),
        ("FREQ=MONTHLY;BYDAY=XX", "A day is one of"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "BYMONTHDAY must be 1 to 31"),
        ("FREQ=MONTHLY;BYMONTHDAY=١", "BYMONTHDAY must be 1 to 31"),
        ("FREQ=MONTHLY;BYSETPOS=1", "BYSETPOS needs another BY part"),
        ("FREQ=DAILY;" + "X" * 500, "at most 500 characters"),
    ],
)
def test_a_rule_that_is_not_taken_says_why(rule: str, said: str) -> None:
    with pytest.raises(InvalidRecurrence, match=said):
        read_recurrence(rule)
