"""Rules against what was measured: decides every condition and moves the incidents accordingly."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from celery.exceptions import SoftTimeLimitExceeded
from django.db import InterfaceError, OperationalError, transaction

from budgets.models import Feature, Sweep

from . import locks
from .causes_due import CausesDue
from .conditions import Watch, look, remember
from .settlement import Settled, settle

logger = logging.getLogger(__name__)

# Features settled in one transaction: an outage of everything must neither hold thousands of rows nor keep
# the first message waiting for the last incident.
FEATURES_PER_TRANSACTION = 50

# Rules that read hours or days are decided by one sweep a minute and stand meanwhile.
SLOW_KINDS_EVERY = timedelta(minutes=1)
_SLOW_SWEEP = "evaluate_slow"

# No single feature is to blame for these: the next sweep tries all again.
_OF_NO_FEATURE = (SoftTimeLimitExceeded, OperationalError, InterfaceError)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What an evaluation did: features looked at, conditions decided, states written, incidents' ids, and the
    features that could not be decided."""

    features: int = 0
    conditions: int = 0
    states_written: int = 0
    opened: tuple[int, ...] = ()
    raised: tuple[int, ...] = ()
    resolved: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()


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
    4. Where that fails, takes each feature by itself: one that cannot be decided keeps no other from being told.
    """
    seen: list[Watch] = []
    try:
        seen = look(feature_ids, now, with_slow=with_slow)
        busy = {watch.feature.pk for watch in seen if watch.is_busy}
    except _OF_NO_FEATURE:
        raise
    except Exception:
        logger.exception("what goes on is not known; every feature is taken")
        found = Feature.objects.all() if feature_ids is None else Feature.objects.filter(pk__in=feature_ids)
        busy = set(found.values_list("pk", flat=True))
    causes_due = CausesDue(feature_ids, now=now)
    states_written, moved = 0, Settled()
    failed: list[int] = []
    for moved_ids, written, settled in _moves(sorted(busy), causes_due, now, with_slow):
        if settled is None:
            failed += moved_ids
            continue
        states_written += written
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
        failed=tuple(failed),
    )


def _moves(
    busy: Sequence[int], causes_due: CausesDue, now: datetime, with_slow: bool
) -> Iterator[tuple[Sequence[int], int, Settled | None]]:
    """The features that were moved together, the states written, and what became of their incidents; None for one
    that could not be decided."""
    for chunk in _batched(busy, FEATURES_PER_TRANSACTION):
        try:
            yield chunk, *_move(chunk, causes_due, now, with_slow)
            continue
        except SoftTimeLimitExceeded:
            raise
        except Exception:  # also a deadlock, which one by one they do not come to
            if len(chunk) > 1:
                logger.exception("features %s to %s are evaluated one by one", chunk[0], chunk[-1])
        for feature_id in chunk:
            try:
                yield [feature_id], *_move([feature_id], causes_due, now, with_slow)
            except _OF_NO_FEATURE:
                raise
            except Exception:
                logger.exception("feature %s could not be evaluated", feature_id)
                yield [feature_id], 0, None


def _move(
    feature_ids: Sequence[int], causes_due: CausesDue, now: datetime, with_slow: bool
) -> tuple[int, Settled]:
    with transaction.atomic():
        locks.lock_features(feature_ids)
        watches = look(feature_ids, now, with_slow=with_slow)
        return remember(watches), settle(watches, causes_due=causes_due, now=now)


def _batched(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (values[start : start + size] for start in range(0, len(values), size))
