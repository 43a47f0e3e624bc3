"""What is stored: teams and what they promise, and the measurements that keep or break the promise."""

from .annotations import Annotation
from .audit import AuditEntry
from .features import Allocation, Component, Feature, LatencyBudget, Milestone
from .ingest import Batch, IngestKey, Measurement, Series, Span, Status
from .rejections import RejectedPayload
from .rollups import DayRollup, DirtyDay, DirtyHour, HourRollup, MinuteRollup, Rollup, Sweep
from .teams import AccountMail, Invitation, Membership, Team, User

__all__ = [
    "AccountMail",
    "Allocation",
    "Annotation",
    "AuditEntry",
    "Batch",
    "Component",
    "DayRollup",
    "DirtyDay",
    "DirtyHour",
    "Feature",
    "HourRollup",
    "IngestKey",
    "Invitation",
    "LatencyBudget",
    "Measurement",
    "Membership",
    "Milestone",
    "MinuteRollup",
    "RejectedPayload",
    "Rollup",
    "Series",
    "Span",
    "Status",
    "Sweep",
    "Team",
    "User",
]
