"""Rules and their state, incidents, who is told and what holds that back, channels and the outbox, reports by mail."""

from .channels import Channel, DeliveryAttempt, LivingAlert, Notification
from .escalation import EscalationPolicy, FollowUp, Schedule, ScheduleOverride, ScheduleTurn
from .incidents import Incident, IncidentEvent, Severity
from .reports import ReportMail, ReportPeriod, ReportSubscription
from .rules import AlertRule, RuleState
from .silences import MaintenanceWindow, Silence

__all__ = [
    "AlertRule",
    "Channel",
    "DeliveryAttempt",
    "EscalationPolicy",
    "FollowUp",
    "Incident",
    "IncidentEvent",
    "LivingAlert",
    "MaintenanceWindow",
    "Notification",
    "ReportMail",
    "ReportPeriod",
    "ReportSubscription",
    "RuleState",
    "Schedule",
    "ScheduleOverride",
    "ScheduleTurn",
    "Severity",
    "Silence",
]
