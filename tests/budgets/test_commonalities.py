"""What slow requests have in common, by hand."""

from __future__ import annotations

import math

import pytest

from budgets.commonalities import Value, commonalities, deviations, difference_at_least, wilson_interval

Z = 1.959964


def label(value: str, slow: int, others: int) -> Value:
    return Value("label", "tool", value, slow, others)


def test_a_value_is_told_by_its_shares_and_their_ratio() -> None:
    [found] = commonalities([label("search_v2", 62, 80)], slow=100, others=1000)
    assert (found.slow_ratio, found.others_ratio) == (0.62, 0.08)
    assert found.lift == pytest.approx(7.75)


def test_what_few_have_does_not_come_before_what_most_have() -> None:
    found = commonalities([label("only_three", 3, 0), label("most", 62, 80)], slow=100, others=10_000)
    assert [one.value.value for one in found] == ["most", "only_three"]
    assert found[0].lift is not None
    assert found[1].lift is None
    found = commonalities([label("only_nine", 9, 0), label("most", 62, 80)], slow=100, others=10_000)
    assert [(one.value.value, one.is_few) for one in found] == [("most", False), ("only_nine", True)]


def test_what_the_others_have_as_often_is_nothing_in_common() -> None:
    assert commonalities([label("search", 50, 500), label("rare", 5, 900)], slow=100, others=1000) == []


def test_a_value_that_none_of_the_others_has_has_no_lift() -> None:
    [found] = commonalities([label("v2", 40, 0)], slow=50, others=1000)
    assert found.lift is None


@pytest.mark.parametrize(("slow", "others"), [(0, 10), (10, 0), (0, 0)])
def test_there_is_nothing_to_compare_without_both_sorts(slow: int, others: int) -> None:
    assert commonalities([label("v2", slow, others)], slow=slow, others=others) == []


def test_the_more_values_are_compared_the_more_one_has_to_stand_out() -> None:
    values = [label("v2", 8, 20)]
    assert commonalities(values, slow=50, others=500)
    assert not commonalities(values, slow=50, others=500, compared=500)


def test_among_a_thousand_values_that_differ_by_chance_alone_none_stands_out() -> None:
    # Of 200 slow and 2000 other requests by 1000 people, one person has four of the slow ones.
    values = [label(f"user-{n}", 0 if n % 5 else 1, 2) for n in range(999)] + [label("user-999", 4, 2)]
    assert commonalities(values, slow=200, others=2000) == []


def test_the_bound_is_newcombes() -> None:
    # Statistics in Medicine 17 (1998), table II, contrasts (a), (c) and (g) by method 10.
    assert difference_at_least(56, 70, 48, 80, z=Z) == pytest.approx(0.0524, abs=5e-5)
    assert difference_at_least(6, 7, 2, 7, z=Z) == pytest.approx(0.0582, abs=5e-5)
    assert difference_at_least(10, 10, 0, 20, z=Z) == pytest.approx(0.6791, abs=5e-5)


def test_wilsons_interval_by_hand() -> None:
    # z = 2 and 5 of 10: the middle is 0.5, the reach 2 / 1.4 × √(0.025 + 0.01).
    reach = 2 / 1.4 * math.sqrt(0.035)
    assert wilson_interval(5, 10, z=2) == pytest.approx((0.5 - reach, 0.5 + reach))
    assert wilson_interval(0, 10, z=2)[0] == 0
    assert wilson_interval(10, 10, z=2)[1] == pytest.approx(1)


def test_an_error_of_five_percent_is_divided_among_the_comparisons() -> None:
    assert deviations(1) == pytest.approx(1.96, abs=1e-3)
    assert deviations(10) == pytest.approx(2.807, abs=1e-3)  # an error of 0.5 %
