"""Who is on call when, computed by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.rotas import Because, Hours, Override, Rota, Stretch, stretch_at, stretches
from alerts.wall_clocks import instant_of

ADA, BOB, CYD = 1, 2, 3
HOUR = timedelta(hours=1)
WORKDAYS = frozenset(range(5))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def make_rota(**overrides: Any) -> Rota:
    """Ada and Bob by turns, weekly, from Monday 5 January 2026, handing over at 09:00 in Berlin."""
    values: dict[str, Any] = {
        "time_zone": "Europe/Berlin",
        "starts_on": date(2026, 1, 5),
        "hands_over_at": time(9),
        "turn_days": 7,
        "places": (ADA, BOB),
    }
    return Rota(**{**values, **overrides})


def who(rota: Rota, text: str) -> int | None:
    return stretch_at(rota, at(text)).person


def told(found: list[Stretch]) -> list[tuple[str, str, int | None, str]]:
    return [
        (f"{one.starts_at:%m-%d %H:%M}", f"{one.ends_at:%m-%d %H:%M}", one.person, str(one.because))
        for one in found
    ]


def test_turns_follow_each_other_from_hand_over_to_hand_over() -> None:
    rota = make_rota()
    assert stretch_at(rota, at("2026-01-05T08:00")) == Stretch(
        at("2026-01-05T08:00"), at("2026-01-12T08:00"), ADA, Because.TURN, 0
    )
    assert who(rota, "2026-01-12T07:59:59") == ADA
    assert who(rota, "2026-01-12T08:00") == BOB
    assert who(rota, "2026-01-19T08:00") == ADA


def test_nobody_is_on_call_until_the_first_hand_over_or_an_override_before_it() -> None:
    far = make_rota(starts_on=date(2027, 1, 4))
    assert stretch_at(far, at("2026-01-05T08:00")).ends_at == at("2027-01-04T08:00")
    override = Override(BOB, at("2026-02-20T08:00"), at("2026-02-21T08:00"), 1)
    sooner = make_rota(starts_on=date(2027, 1, 4), overrides=(override,))
    assert stretch_at(sooner, at("2026-01-05T08:00")).ends_at == at("2026-02-20T08:00")
    assert stretch_at(sooner, at("2026-02-21T08:00")).ends_at == at("2027-01-04T08:00")


@pytest.mark.parametrize(
    ("zone", "turn_days", "starts_on", "hands_over_at", "hand_overs"),
    [
        # 29 March 2026, 02:00 becomes 03:00: the week from 23 to 30 March has 167 hours.
        ("Europe/Berlin", 7, date(2026, 3, 23), time(9), ["03-23 08:00", "03-30 07:00", "04-06 07:00"]),
        # 25 October, 03:00 becomes 02:00: the week has 169 hours.
        ("Europe/Berlin", 7, date(2026, 10, 19), time(9), ["10-19 07:00", "10-26 08:00", "11-02 08:00"]),
        # 8 March, 02:00 becomes 03:00.
        ("America/New_York", 1, date(2026, 3, 7), time(17), ["03-07 22:00", "03-08 21:00", "03-09 21:00"]),
        # 1 November, 02:00 becomes 01:00.
        ("America/New_York", 1, date(2026, 10, 31), time(17), ["10-31 21:00", "11-01 22:00", "11-02 22:00"]),
        # 4 October, 02:00 becomes 02:30, +10:30 becomes +11.
        ("Australia/Lord_Howe", 1, date(2026, 10, 3), time(9), ["10-02 22:30", "10-03 22:00", "10-04 22:00"]),
        # 5 April, 02:00 becomes 01:30.
        ("Australia/Lord_Howe", 1, date(2026, 4, 4), time(9), ["04-03 22:00", "04-04 22:30", "04-05 22:30"]),
        # A hand-over at a time that is skipped comes when it would have been; one that comes twice is the first.
        ("Europe/Berlin", 1, date(2026, 3, 28), time(2, 30), ["03-28 01:30", "03-29 01:30", "03-30 00:30"]),
        ("Europe/Berlin", 1, date(2026, 10, 24), time(2, 30), ["10-24 00:30", "10-25 00:30", "10-26 01:30"]),
        (
            "Australia/Lord_Howe",
            1,
            date(2026, 10, 3),
            time(2, 15),
            ["10-02 15:45", "10-03 15:45", "10-04 15:15"],
        ),
    ],
)
def test_hand_overs_stay_at_their_time_of_day_when_clocks_change(
    zone: str, turn_days: int, starts_on: date, hands_over_at: time, hand_overs: list[str]
) -> None:
    rota = make_rota(time_zone=zone, turn_days=turn_days, starts_on=starts_on, hands_over_at=hands_over_at)
    begins = instant_of(starts_on, hands_over_at, zone)
    found = stretches(rota, begins, begins + timedelta(days=2 * turn_days + 0.5))
    assert [f"{one.starts_at:%m-%d %H:%M}" for one in found] == hand_overs
    assert [one.person for one in found] == [ADA, BOB, ADA]


def test_nobody_is_on_call_before_the_first_hand_over() -> None:
    found = stretches(make_rota(), at("2026-01-04T00:00"), at("2026-01-06T00:00"))
    assert told(found) == [
        ("01-04 00:00", "01-05 08:00", None, "before_start"),
        ("01-05 08:00", "01-06 00:00", ADA, "turn"),
    ]


def test_a_place_without_a_person_is_a_gap_and_keeps_its_turn() -> None:
    rota = make_rota(places=(ADA, None, BOB))
    found = stretches(rota, at("2026-01-12T07:00"), at("2026-01-19T09:00"))
    assert told(found) == [
        ("01-12 07:00", "01-12 08:00", ADA, "turn"),
        ("01-12 08:00", "01-19 08:00", None, "empty_turn"),
        ("01-19 08:00", "01-19 09:00", BOB, "turn"),
    ]


def test_a_schedule_without_people_is_one_gap() -> None:
    found = stretches(make_rota(places=()), at("2026-02-01T00:00"), at("2026-03-01T00:00"))
    assert told(found) == [("02-01 00:00", "03-01 00:00", None, "no_people")]


def test_who_left_the_team_leaves_a_gap_by_turn_and_by_override() -> None:
    rota = make_rota(
        absent={ADA: Because.LEFT_TEAM},
        overrides=(Override(ADA, at("2026-01-13T00:00"), at("2026-01-14T00:00"), 1),),
    )
    assert stretch_at(rota, at("2026-01-06T00:00")).because == Because.LEFT_TEAM
    assert stretch_at(rota, at("2026-01-13T12:00")).because == Because.LEFT_TEAM
    assert who(rota, "2026-01-12T12:00") == BOB


def test_outside_the_hours_nobody_is_on_call() -> None:
    """Work days from 09:00 to 17:00: Friday's evening and the weekend are gaps."""
    rota = make_rota(hours=(Hours(WORKDAYS, time(9), time(17)),))
    found = stretches(rota, at("2026-01-09T00:00"), at("2026-01-13T00:00"))
    assert told(found) == [
        ("01-09 00:00", "01-09 08:00", None, "outside_hours"),
        ("01-09 08:00", "01-09 16:00", ADA, "turn"),
        ("01-09 16:00", "01-12 08:00", None, "outside_hours"),
        ("01-12 08:00", "01-12 16:00", BOB, "turn"),
        ("01-12 16:00", "01-13 00:00", None, "outside_hours"),
    ]


def test_hours_over_midnight_belong_to_the_day_on_which_they_begin() -> None:
    """Fridays from 22:00 to 06:00: Saturday's early hours too, Friday's not."""
    rota = make_rota(hours=(Hours(frozenset({4}), time(22), time(6)),))
    found = stretches(rota, at("2026-01-08T23:00"), at("2026-01-10T23:00"))
    assert told(found) == [
        ("01-08 23:00", "01-09 21:00", None, "outside_hours"),
        ("01-09 21:00", "01-10 05:00", ADA, "turn"),
        ("01-10 05:00", "01-10 23:00", None, "outside_hours"),
    ]


def test_hours_that_touch_are_one_stretch() -> None:
    rota = make_rota(hours=(Hours(WORKDAYS, time(9), time(17)), Hours(WORKDAYS, time(17), None)))
    found = stretches(rota, at("2026-01-06T08:00"), at("2026-01-07T00:00"))
    assert told(found) == [
        ("01-06 08:00", "01-06 23:00", ADA, "turn"),
        ("01-06 23:00", "01-07 00:00", None, "outside_hours"),
    ]


@pytest.mark.parametrize(
    ("day", "opens_at", "closes_at", "begins", "ends"),
    [
        # 02:30 does not exist on 29 March: 03:30 by the new time.
        (date(2026, 3, 29), time(2, 30), time(6), "03-29 01:30", "03-29 04:00"),
        # 02:30 comes twice on 25 October: both ends mean the first, so that hours which touch leave no gap.
        (date(2026, 10, 25), time(0), time(2, 30), "10-24 22:00", "10-25 00:30"),
        (date(2026, 10, 25), time(2, 30), time(6), "10-25 00:30", "10-25 05:00"),
    ],
)
def test_hours_keep_to_the_clock_when_it_changes(
    day: date, opens_at: time, closes_at: time, begins: str, ends: str
) -> None:
    rota = make_rota(places=(ADA,), hours=(Hours(frozenset({6}), opens_at, closes_at),))
    midnight = instant_of(day, time(0), "Europe/Berlin")
    found = [one for one in stretches(rota, midnight - HOUR, midnight + 26 * HOUR) if one.person]
    assert told(found) == [(begins, ends, ADA, "turn")]


def test_an_override_holds_before_the_turn_and_outside_the_hours() -> None:
    rota = make_rota(
        hours=(Hours(WORKDAYS, time(9), time(17)),),
        overrides=(Override(CYD, at("2026-01-06T15:00"), at("2026-01-06T20:00"), 1),),
    )
    found = stretches(rota, at("2026-01-06T14:00"), at("2026-01-06T21:00"))
    assert told(found) == [
        ("01-06 14:00", "01-06 15:00", ADA, "turn"),
        ("01-06 15:00", "01-06 20:00", CYD, "override"),
        ("01-06 20:00", "01-06 21:00", None, "outside_hours"),
    ]


def test_of_several_overrides_at_once_the_last_made_holds() -> None:
    rota = make_rota(
        overrides=(
            Override(CYD, at("2026-01-06T00:00"), at("2026-01-08T00:00"), 1),
            Override(None, at("2026-01-07T00:00"), at("2026-01-07T12:00"), 3),
            Override(BOB, at("2026-01-06T12:00"), at("2026-01-07T18:00"), 2),
        )
    )
    found = stretches(rota, at("2026-01-06T00:00"), at("2026-01-09T00:00"))
    assert told(found) == [
        ("01-06 00:00", "01-06 12:00", CYD, "override"),
        ("01-06 12:00", "01-07 00:00", BOB, "override"),
        ("01-07 00:00", "01-07 12:00", None, "overridden_to_nobody"),
        ("01-07 12:00", "01-07 18:00", BOB, "override"),
        ("01-07 18:00", "01-08 00:00", CYD, "override"),
        ("01-08 00:00", "01-09 00:00", ADA, "turn"),
    ]


def test_a_long_override_is_known_from_its_beginning_to_its_end() -> None:
    override = Override(CYD, at("2026-01-06T00:00"), at("2026-05-06T00:00"), 1)
    found = stretch_at(make_rota(turn_days=1, overrides=(override,)), at("2026-03-06T00:00"))
    assert (found.starts_at, found.ends_at, found.person) == (override.starts_at, override.ends_at, CYD)


moments = st.integers(0, 24 * 90).map(lambda n: at("2026-01-01T00:00") + n * HOUR)


@given(
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]),
    turn_days=st.integers(1, 9),
    hands_over_at=st.times(),
    places=st.lists(st.sampled_from([ADA, BOB, None]), max_size=4).map(tuple),
    hours=st.lists(
        st.builds(Hours, st.frozensets(st.integers(0, 6)), st.times(), st.none() | st.times()), max_size=2
    ).map(tuple),
    overrides=st.lists(
        st.builds(
            lambda person, start, length, number: Override(person, start, start + length * HOUR, number),
            st.sampled_from([ADA, CYD, None]),
            moments,
            st.integers(1, 500),
            st.integers(1, 9),
        ),
        max_size=3,
        unique_by=lambda one: one.number,
    ).map(tuple),
    asked=moments,
)
def test_stretches_cover_every_instant_once_and_agree_with_what_holds_at_it(
    asked: datetime, **rota: Any
) -> None:
    rota["time_zone"] = rota.pop("zone")
    one = make_rota(starts_on=date(2026, 1, 20), **rota)
    start, end = at("2026-01-01T00:00"), at("2026-04-05T00:00")
    found = stretches(one, start, end)
    assert found[0].starts_at == start
    assert found[-1].ends_at == end
    assert all(a.ends_at == b.starts_at for a, b in pairwise(found))
    assert all((a.person, a.because, a.turn) != (b.person, b.because, b.turn) for a, b in pairwise(found))
    here = next(each for each in found if each.starts_at <= asked < each.ends_at)
    now = stretch_at(one, asked)
    assert (now.person, now.because, now.turn) == (here.person, here.because, here.turn)
    assert now.starts_at <= asked < now.ends_at
