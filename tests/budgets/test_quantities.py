"""What people type for milliseconds and percentages is taken as meant, or explained."""

from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.quantities import Unreadable, read_ms, read_objective, typed_ms, typed_objective
from tests.budgets.typed_numbers import MILLISECONDS, UNREADABLE_MILLISECONDS


@pytest.mark.parametrize(("typed", "ms"), MILLISECONDS.items())
def test_milliseconds_are_read_with_units_groups_and_either_decimal_sign(typed: str, ms: str) -> None:
    assert read_ms(typed) == Decimal(ms)


@pytest.mark.parametrize(("typed", "said"), UNREADABLE_MILLISECONDS.items())
def test_what_is_no_duration_is_told_what_would_be(typed: str, said: str) -> None:
    with pytest.raises(Unreadable) as error:
        read_ms(typed)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("typed", "ratio"),
    [("99", "0.99"), ("99.9 %", "0.999"), ("99,95%", "0.9995"), ("99.9999", "0.999999"), ("0.5 %", "0.005")],
)
def test_objectives_are_read_in_percent(typed: str, ratio: str) -> None:
    assert read_objective(typed) == Decimal(ratio)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("0.99", "99 for 99 %"),
        ("100", "All of them is no objective"),
        ("-1", "more than 0 %"),
        ("0", "more than 0 %"),
        ("99.99999", "at most four"),
        ("most", "no percentage"),
        ("", "Write a percentage"),
    ],
)
def test_what_is_no_objective_is_told_what_would_be(typed: str, said: str) -> None:
    with pytest.raises(Unreadable) as error:
        read_objective(typed)
    assert said in str(error.value)


@given(st.decimals("0.001", 604_800_000, places=3))
def test_what_is_written_into_a_form_is_read_as_the_same_milliseconds(ms: Decimal) -> None:
    assert read_ms(typed_ms(ms)) == ms


@given(st.decimals("0.000001", "0.999999", places=6))
def test_what_is_written_into_a_form_is_read_as_the_same_objective(ratio: Decimal) -> None:
    assert read_objective(typed_objective(ratio)) == ratio


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (read_ms, read_objective):
        with contextlib.suppress(Unreadable):
            assert read(text) > 0
