"""What decides who hears of a team's incidents, each read once however many incidents begin at the same moment."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from .models import Channel, EscalationPolicy, Incident
from .schedules import Shift, on_call
from .silences import Hold, Holds


class Directory:
    """The teams' channels, escalation policies, holds and who is on call, as of one moment.

    What was read once is not read again, so it belongs to one transaction.
    """

    def __init__(self, *, now: datetime) -> None:
        self.now = now
        self._channels: dict[int, dict[int, Channel]] = {}
        self._in_use: dict[int, set[int]] = {}
        self._policies: dict[int, list[EscalationPolicy]] = {}
        self._holds: dict[int, Holds] = {}
        self._shifts: dict[int, Shift | None] = {}

    def channels(self, team_id: int) -> dict[int, Channel]:
        """By id, in its order: those that were not deleted, people's own among them."""
        if team_id not in self._channels:
            found = Channel.objects.kept().filter(team_id=team_id).order_by("id")
            self._channels[team_id] = {one.pk: one for one in found}
        return self._channels[team_id]

    def is_in_use(self, channel: Channel) -> bool:
        """Whether messages are sent to it: see ChannelQuerySet.in_use."""
        if channel.team_id not in self._in_use:
            found = Channel.objects.kept().in_use().filter(team_id=channel.team_id)
            self._in_use[channel.team_id] = set(found.values_list("pk", flat=True))
        return channel.pk in self._in_use[channel.team_id]

    def policies(self, team_id: int) -> list[EscalationPolicy]:
        """Those that are enabled, in the order in which they are tried."""
        if team_id not in self._policies:
            found = EscalationPolicy.objects.filter(team_id=team_id, is_enabled=True)
            self._policies[team_id] = list(found.order_by("position", "name"))
        return self._policies[team_id]

    def hold_on(self, incident: Incident) -> Hold | None:
        """The silence or maintenance window that holds back what is to be told of it."""
        team_id = incident.feature.team_id
        if team_id not in self._holds:
            self._holds[team_id] = Holds([team_id], now=self.now)
        return self._holds[team_id].on(incident)

    def shifts(self, schedule_ids: Collection[int]) -> dict[int, Shift]:
        """Schedule's id → who is on call by it; a schedule that is not there is left out."""
        unknown = [one for one in schedule_ids if one not in self._shifts]
        if unknown:
            found = on_call(unknown, at=self.now)
            self._shifts |= {one: found.get(one) for one in unknown}
        known = {one: self._shifts[one] for one in schedule_ids}
        return {one: shift for one, shift in known.items() if shift is not None}
