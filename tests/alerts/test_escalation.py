"""What is due for an incident by the clock alone, from where it stands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from alerts.escalation import Action, Policy, Standing, next_step

AT = datetime(2026, 11, 21, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

POLICY = Policy.read(
    {
        "name": "Pages",
        "steps": [
            {"notify": [{"kind": "channel", "id": 1, "name": "chat"}], "wait_minutes": 5},
            {"notify": [{"kind": "schedule", "id": 2, "name": "primary"}], "wait_minutes": 10},
        ],
        "repetitions": 1,
        "reminder_minutes": 60,
        "unacknowledge_minutes": 120,
    }
)


def standing(**values) -> Standing:
    return Standing(**{"state": "open", "told_at": AT, **values})


@pytest.mark.parametrize(
    ("action", "after", "where"),
    [
        (Action.NOTHING, 4 * HOUR - MINUTE, standing()),
        (Action.REPEAT, 4 * HOUR, standing()),
        (Action.ANNOUNCE, 30 * HOUR, standing(told_at=None)),
        (Action.ANNOUNCE, HOUR, standing(told_at=None, news_at=AT, is_flapping=True)),
        (Action.NOTHING, HOUR, standing(told_at=None, held_until=AT + 2 * HOUR)),
        (Action.NOTHING, HOUR, standing(told_at=None, state="acknowledged")),
        (Action.ESCALATE, 5 * MINUTE, standing(policy=POLICY, next_step_at=AT + 5 * MINUTE)),
        (Action.NOTHING, 4 * MINUTE, standing(policy=POLICY, next_step_at=AT + 5 * MINUTE)),
        (Action.UPDATE, 5 * MINUTE, standing(news_at=AT + MINUTE)),
        (Action.NOTHING, 4 * MINUTE, standing(news_at=AT + MINUTE)),
        (Action.UPDATE, 30 * MINUTE, standing(news_at=AT + 30 * MINUTE)),
        (Action.NOTHING, 3 * HOUR, standing(state="acknowledged", heard_at=AT)),
        (Action.NOTHING, 59 * MINUTE, standing(state="acknowledged", heard_at=AT, policy=POLICY)),
        (Action.REMIND, HOUR, standing(state="acknowledged", heard_at=AT, policy=POLICY)),
        (Action.UPDATE, 5 * MINUTE, standing(state="acknowledged", heard_at=AT, news_at=AT)),
        (
            Action.UNACKNOWLEDGE,
            2 * HOUR,
            standing(state="acknowledged", heard_at=AT, told_at=AT + HOUR, policy=POLICY),
        ),
        (Action.NOTHING, 5 * HOUR, standing(held_until=AT + 6 * HOUR)),
        (Action.NOTHING, 10 * MINUTE, standing(held_until=AT + HOUR, news_at=AT, next_step_at=AT)),
        (Action.RELEASE, HOUR, standing(was_held=True, told_at=None)),
        (Action.NOTHING, 59 * MINUTE, standing(was_held=True, is_flapping=True)),
        (Action.RELEASE, HOUR, standing(was_held=True, is_flapping=True)),
        (Action.NOTHING, 59 * MINUTE, standing(news_at=AT, is_flapping=True)),
        (Action.NOTHING, 24 * HOUR, standing(state="resolved")),
        (Action.NOTHING, 59 * MINUTE, standing(state="resolved", news_at=AT, is_flapping=True)),
        (Action.END, HOUR, standing(state="resolved", news_at=AT, is_flapping=True)),
        (Action.NOTHING, 24 * HOUR, standing(state="resolved", news_at=AT, told_at=None)),
    ],
)
def test_what_is_due(action: Action, after: timedelta, where: Standing) -> None:
    assert next_step(where, AT + after).action == action


def test_it_says_when_to_look_again() -> None:
    where = standing(policy=POLICY, next_step_at=AT + 5 * MINUTE, news_at=AT + MINUTE)
    assert next_step(where, AT + MINUTE).look_at == AT + 5 * MINUTE
    assert next_step(standing(), AT + MINUTE).look_at == AT + 4 * HOUR
    assert next_step(standing(state="resolved"), AT).look_at is None


def test_while_something_holds_it_back_it_looks_every_minute_and_not_past_the_end() -> None:
    assert next_step(standing(held_until=AT + HOUR), AT).look_at == AT + MINUTE
    assert next_step(standing(held_until=AT + MINUTE / 2), AT).look_at == AT + MINUTE / 2


def test_a_policy_goes_through_its_steps_as_often_as_it_says() -> None:
    places = [(0, 0)]
    while (following := POLICY.after(*places[-1])) is not None:
        places.append(following)
    assert places == [(0, 0), (1, 0), (0, 1), (1, 1)]
