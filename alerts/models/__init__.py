"""Rules and their state, incidents, channels and the outbox of notifications."""

from .channels import Channel, DeliveryAttempt, Notification
from .incidents import Incident, IncidentEvent, Severity
from .rules import AlertRule, RuleState

__all__ = [
    "AlertRule",
    "Channel",
    "DeliveryAttempt",
    "Incident",
    "IncidentEvent",
    "Notification",
    "RuleState",
    "Severity",
]
