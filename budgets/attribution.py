"""Which component makes requests too slow: excess times and what would have been without them. Pure.

The excess of a component is E[time in it | over the limit] − E[time in it | within], where the time in it is its
part of the critical path. The parts of a request add up to its duration, so the excesses add up to
E[duration | over] − E[duration | within], and the share of one is an honest percentage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Requests:
    """Requests of a milestone as columns, of a row each.

    `limit_ms` is the latency budget that each was judged by. `part_ms` has a column for each of `components` and
    may leave some of a row's duration to none of them.
    """

    duration_ms: np.ndarray
    limit_ms: np.ndarray
    is_timeout: np.ndarray
    components: Sequence[str]
    part_ms: np.ndarray

    @property
    def is_over(self) -> np.ndarray:
        """Over the limit, strictly; a timeout is, whenever it came."""
        return self.is_timeout | (self.duration_ms > self.limit_ms)


@dataclass(frozen=True, slots=True)
class Share:
    """How much of the requests' excess one component has.

    `component` is None for the time in which no component that was measured was at work. `but_for_ratio`: of the
    requests over the limit, the share that had been within it if this component had kept to its allocation, and
    without one had taken no time; None for the time in no component.
    """

    component: str | None
    excess_ms: float
    share_ratio: float | None
    but_for_ratio: float | None


@dataclass(frozen=True, slots=True)
class Excess:
    """`excess_ms` is how much longer requests over the limit took than the others; shares by size, largest first."""

    over: int
    within: int
    excess_ms: float
    shares: tuple[Share, ...]


def attribute(requests: Requests, allocations: Mapping[str, float]) -> Excess | None:
    """What the components contribute to the excess; None where there are not both sorts of requests.

    `allocations` in ms, by the component's name.
    """
    is_over = requests.is_over
    over, within = int(is_over.sum()), int((~is_over).sum())
    if not over or not within:
        return None
    parts = np.column_stack([requests.part_ms, requests.duration_ms - requests.part_ms.sum(axis=1)])
    excess_ms = parts[is_over].mean(axis=0) - parts[~is_over].mean(axis=0)
    total_ms = float(excess_ms.sum())
    allocated_ms = np.array([allocations.get(name, 0.0) for name in requests.components])
    too_much_ms = np.maximum(requests.part_ms[is_over] - allocated_ms, 0.0)
    # A timeout may have come before the limit: it is the doing of what was over its allocation, and of nothing else.
    saves = (too_much_ms > 0) & (
        requests.duration_ms[is_over, None] - too_much_ms <= requests.limit_ms[is_over, None]
    )
    but_for = [*saves.mean(axis=0).tolist(), None]
    shares = [
        # Timeouts that came soon may have taken less time than the rest: there is nothing to have a share in.
        Share(component, float(excess), float(excess) / total_ms if total_ms > 0 else None, ratio)
        for component, excess, ratio in zip([*requests.components, None], excess_ms, but_for, strict=True)
    ]
    shares.sort(key=lambda share: (-share.excess_ms, share.component is None, share.component or ""))
    return Excess(over=over, within=within, excess_ms=total_ms, shares=tuple(shares))
