"""Rules against what was measured: decides every condition and moves the incidents accordingly."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from budgets.models import Sweep

from . import locks
from .conditions import look, remember
from .settlement import Settled, settle

# Features settled in one transaction: an outage of everything must neither hold thousands of rows nor keep
# the first message waiting for the last incident.
FEATURES_PER_TRANSACTION = 50

# Rules that read hours or days are decided by one sweep a minute and stand meanwhile.
SLOW_KINDS_EVERY = timedelta(minutes=1)
_SLOW_SWEEP = "evaluate_slow"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What an evaluation did: features looked at, conditions decided, states written, incidents' ids."""

    features: int = 0
    conditions: int = 0
    states_written: int = 0
    opened: tuple[int, ...] = ()
    raised: tuple[int, ...] = ()
    resolved: tuple[int, ...] = ()


def sweep(*, now: datetime) -> Evaluated | None:
    """Evaluates every feature; None where another sweep is at it."""
    with locks.try_hold(locks.EVALUATION_SWEEP) as is_ours:
        if not is_ours:
            return None
        last = Sweep.objects.filter(name=_SLOW_SWEEP, finished_at__gt=now - SLOW_KINDS_EVERY)
        with_slow = not last.exists()
        done = evaluate(feature_ids=None, now=now, with_slow=with_slow)
        if with_slow:
            # By when it began: a sweep that takes its time must not make the next one later.
            Sweep.objects.update_or_create(name=_SLOW_SWEEP, defaults={"finished_at": now})
        return done


def evaluate(*, feature_ids: Collection[int] | None, now: datetime, with_slow: bool = True) -> Evaluated:
    """Decides every condition of these features (None: of all) and moves their incidents.

    Without the slow kinds (sights.SLOW_KINDS), what they decided last stands.

    1. Looks at all of them in a constant number of statements, and makes the default rules that are missing.
    2. Takes those on which anything is going on, which are few, a few dozen at a time, and locks them, so
       that the evaluation of a feature is serial.
    3. Decides these again, for another evaluation may have come first, and in the same transaction writes
       what changed: states, incidents, events and messages.
    """
    seen = look(feature_ids, now, with_slow=with_slow)
    busy = {watch.feature.pk for watch in seen if watch.is_busy}
    states_written, moved = 0, Settled()
    for chunk in _batched(sorted(busy), FEATURES_PER_TRANSACTION):
        with transaction.atomic():
            locks.lock_features(chunk)
            watches = look(chunk, now, with_slow=with_slow)
            states_written += remember(watches)
            settled = settle(watches, now=now)
        moved.opened += settled.opened
        moved.raised += settled.raised
        moved.resolved += settled.resolved
    return Evaluated(
        features=len({watch.feature.pk for watch in seen}),
        conditions=sum(len(watch.conditions) for watch in seen),
        states_written=states_written,
        opened=tuple(moved.opened),
        raised=tuple(moved.raised),
        resolved=tuple(moved.resolved),
    )


def _batched(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (values[start : start + size] for start in range(0, len(values), size))
