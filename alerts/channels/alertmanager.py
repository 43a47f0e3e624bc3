"""Prometheus Alertmanager, by its API v2: an alert for each incident, which lives as long as it is sent again.

An Alertmanager keeps no alerts over a restart and forgets each at its endsAt, so `alerts.living_alerts` sends those of
open incidents anew every RENEW_EVERY, each time with an end that lies ALIVE_FOR ahead. That is how Prometheus
does it.

Sources: Alertmanager's OpenAPI document (postAlerts: labels, annotations, startsAt, endsAt, generatorURL) and
"Sending alerts"; Prometheus' rules/manager.go for the end of an alert that is not resolved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from alerts.addresses import Network
from alerts.channels.fields import Field
from alerts.channels.message import Message
from alerts.channels.services import Post, Service, Verdict, cut, host_of, judge, send_post
from alerts.outbound import DEADLINE_S, Answer
from alerts.wording import letter
from budgets.features import instant

RENEW_EVERY: Final = timedelta(minutes=1)
# So many renewals may be lost, one after the other, before an alert is taken for resolved.
ALIVE_FOR: Final = 4 * RENEW_EVERY

FIELDS = (
    Field(
        name="url",
        label="URL",
        expected="the address of an Alertmanager, such as https://alertmanager.example.com",
        hint="Without /api/v2/alerts. One inside your network has to be allowed by OUTBOUND_ALLOWED_CIDRS.",
        example="https://alertmanager.example.com",
        max_characters=2000,
    ),
    Field(
        name="authorization",
        label="Authorization (optional)",
        expected="what the header holds, such as Bearer … or Basic …",
        hint="Where a proxy in front of it asks for one: Bearer and a token, or Basic and user:password in base64.",
        pattern=r"(Basic|Bearer) [A-Za-z0-9._~+/=:-]+",
        max_characters=2000,
        is_required=False,
        is_secret=True,
    ),
)


def post_of(config: Mapping[str, Any], message: Message, now: datetime) -> Post:
    """The alert, ended by a resolution. A ticket that became a page ends the ticket's alert: labels make an alert."""
    alerts = [alert_of(message, now=now)]
    was_told_before = message.thread_id != message.message_id
    if message.happening == "opened" and was_told_before and message.incident["severity"] == "page":
        ticket = alert_of(message, now=now, ends_at=now)
        alerts.append({**ticket, "labels": {**ticket["labels"], "severity": "ticket"}})
    return post_of_alerts(config, alerts)


def post_of_alerts(config: Mapping[str, Any], alerts: Sequence[Mapping[str, Any]]) -> Post:
    headers = {"authorization": config["authorization"]} if "authorization" in config else {}
    return Post(f"{config['url'].rstrip('/')}/api/v2/alerts", alerts, headers)


def send_alerts(
    config: Mapping[str, Any],
    alerts: Sequence[Mapping[str, Any]],
    *,
    now: datetime,
    allowed_networks: Sequence[Network],
    deadline_s: float = DEADLINE_S,
) -> Answer:
    """The Alertmanager's answer to several alerts at once; raises DeliveryError."""
    made = post_of_alerts(config, alerts)
    return send_post(made, judge=verdict, now=now, allowed_networks=allowed_networks, deadline_s=deadline_s)


def alert_of(message: Message, *, now: datetime, ends_at: datetime | None = None) -> dict[str, Any]:
    """The alert as it is after the message. Its labels stay the same through an incident but for severity."""
    incident = message.incident
    content = letter(incident, message.story)
    if ends_at is None:
        # By this clock, like the end of one that lives: an end before the start is refused.
        ends_at = now if message.happening == "resolved" else now + ALIVE_FOR
    labels = {
        "alertname": "LatencyBudgetIncident",
        "feature": incident["feature"],
        "environment": incident["environment"],
        "milestone": incident["milestone"],
        "component": incident["component"],
        "severity": str(incident["severity"]),
        "incident": message.key,
    }
    annotations = {
        "summary": cut(content.subject, 500),
        "description": cut("\n".join([content.lead, *content.sentences]), 8000),
        "runbook_url": incident["runbook_url"],
    }
    starts_at = min(datetime.fromisoformat(incident["opened_at"]), ends_at)
    return {
        "labels": {name: text for name, text in labels.items() if text},
        "annotations": {name: text for name, text in annotations.items() if text},
        "startsAt": instant(starts_at),
        "endsAt": instant(ends_at),
        "generatorURL": incident["url"],
    }


def verdict(answer: Answer) -> Verdict | None:
    if answer.status == 400:
        return Verdict(f"The Alertmanager refuses the alert: {answer.excerpt[:300]}", True)
    return judge(answer)


KIND = Service(
    label="Prometheus Alertmanager",
    fields=FIELDS,
    post_of=post_of,
    describe=lambda config: f"Alertmanager at {host_of(config['url'])}",
    judge=verdict,
)
