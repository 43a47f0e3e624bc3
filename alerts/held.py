"""Messages that are held back, when what holds them is gone before its time."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Q

from .models import FollowUp


def look_again(team_id: int, *, now: datetime) -> None:
    """Has every message of the team that is held back looked at at once, because what held it may be gone.

    Called in the transaction of the change, last.
    """
    # Whoever writes one just now looks again within a minute. To wait for them, in another order than theirs, could be
    # to wait for each other.
    held = FollowUp.objects.filter(incident__feature__team_id=team_id, held_since__isnull=False)
    due = held.filter(Q(next_at__isnull=True) | Q(next_at__gt=now)).select_for_update(
        of=("self",), skip_locked=True
    )
    ids = list(due.order_by("pk").values_list("pk", flat=True))
    FollowUp.objects.filter(pk__in=ids).update(next_at=now)
