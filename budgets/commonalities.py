"""What slow requests have in common: values that are over-represented among them. Pure.

A value (of a label, a release, how a component ended) is compared by the share of slow requests that have it and the
share of the others that do. Values are ranked by how far these are apart at least, and not by their ratio: one that
three slow requests have and nobody else does explains three requests.

The bound is Newcombe's hybrid score interval for the difference of two proportions ("Interval estimation for the
difference between independent proportions", Statistics in Medicine 17, 1998, method 10), made of Wilson's interval
for each. Where many values are compared some stand out by chance: the error of 5 % is divided among them (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

MIN_SLOW: Final = 3
"""A value that fewer slow requests have is no pattern, however rare it is among the others."""
FEW: Final = 10
"""Of fewer slow requests the share is told with a warning."""
ERROR_RATIO: Final = 0.05
_MANY: Final = 200

Kind = Literal["label", "release", "status"]


@dataclass(frozen=True, slots=True)
class Value:
    """A value and how many slow requests, and how many others, have it.

    `name` is the label's, or the component's of a status; empty for a release.
    """

    kind: Kind
    name: str
    value: str
    slow: int
    others: int


@dataclass(frozen=True, slots=True)
class Commonality:
    """A value that slow requests have more often than others. `lift` is the ratio of the shares, None where none of the
    others has it; `apart_ratio` by how much the shares differ at least."""

    value: Value
    slow_ratio: float
    others_ratio: float
    lift: float | None
    apart_ratio: float

    @property
    def is_few(self) -> bool:
        return self.value.slow < FEW


def commonalities(
    values: Iterable[Value], *, slow: int, others: int, compared: int | None = None
) -> list[Commonality]:
    """The values of which the shares differ beyond chance, the clearest first.

    `slow` and `others` are how many requests there are of each; `compared` among how many values these were chosen,
    their number where it is not given.

    >>> found = commonalities([Value("label", "tool", "v2", 62, 80)], slow=100, others=1000)
    >>> [(one.slow_ratio, one.others_ratio, round(one.lift, 2)) for one in found]
    [(0.62, 0.08, 7.75)]
    """
    known = list(values)
    if not slow or not others:
        return []
    compared = max(compared or 0, len(known), 1)
    z = deviations(compared)
    found = []
    for one in known:
        slow_ratio, others_ratio = one.slow / slow, one.others / others
        if one.slow < MIN_SLOW or slow_ratio <= others_ratio:
            continue
        apart = difference_at_least(one.slow, slow, one.others, others, z=z)
        allowed = ERROR_RATIO / (2 * compared)
        if apart > 0 and by_chance(one.slow, one.slow + one.others, slow / (slow + others)) < allowed:
            lift = slow_ratio / others_ratio if one.others else None
            found.append(Commonality(one, slow_ratio, others_ratio, lift, apart))
    return sorted(found, key=lambda one: (-one.apart_ratio, one.value.kind, one.value.name, one.value.value))


def by_chance(count: int, of: int, ratio: float) -> float:
    """How likely at least so many of so few are slow where each is with this probability; 0 where they are many.

    The interval is too narrow far out in the tail: there the binomial distribution itself decides.

    >>> round(by_chance(2, 3, 0.5), 3), round(by_chance(4, 6, 1 / 11), 5)
    (0.5, 0.00088)
    """
    if of > _MANY:
        return 0.0
    return sum(
        math.comb(of, found) * ratio**found * (1 - ratio) ** (of - found) for found in range(count, of + 1)
    )


def deviations(compared: int) -> float:
    """How many standard deviations leave an error of 5 % among so many comparisons, on both sides.

    >>> round(deviations(1), 3), round(deviations(100), 3)
    (1.96, 3.481)
    """
    return NormalDist().inv_cdf(1 - ERROR_RATIO / (2 * compared))


def difference_at_least(one: int, of_one: int, other: int, of_other: int, *, z: float) -> float:
    """The lower bound of one/of_one − other/of_other.

    >>> round(difference_at_least(56, 70, 48, 80, z=1.959964), 4)  # Newcombe 1998, table II (a)
    0.0524
    """
    p, q = one / of_one, other / of_other
    low, _ = wilson_interval(one, of_one, z=z)
    _, high = wilson_interval(other, of_other, z=z)
    return p - q - math.hypot(p - low, high - q)


def wilson_interval(count: int, of: int, *, z: float) -> tuple[float, float]:
    """Between which bounds a proportion lies.

    >>> [round(bound, 4) for bound in wilson_interval(15, 148, z=1.959964)]  # Newcombe 1998, one proportion
    [0.0624, 0.1605]
    """
    ratio, square = count / of, z * z
    middle = (ratio + square / (2 * of)) / (1 + square / of)
    reach = z / (1 + square / of) * math.sqrt(ratio * (1 - ratio) / of + square / (4 * of * of))
    return max(0.0, middle - reach), min(1.0, middle + reach)
