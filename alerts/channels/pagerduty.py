"""PagerDuty, by its Events API v2: an alert for each incident, which its steps acknowledge and resolve.

Source: PagerDuty's "Send an event" (Events API v2): a routing key of 32 characters, a dedup_key of at most 255, a
summary of at most 1024, severities critical, error, warning and info; 202 takes the event, 400 says that it is
invalid, 429 that there are too many.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from alerts.channels.fields import Field
from alerts.channels.message import Message
from alerts.channels.services import Post, Service, Verdict, api_url, cut, document_in, host_of, judge
from alerts.outbound import Answer
from alerts.wording import letter
from budgets.features import instant

US = "https://events.pagerduty.com"
EU = "https://events.eu.pagerduty.com"
HOSTS = {"us": US, "eu": EU}

FIELDS = (
    Field(
        name="routing_key",
        label="Integration key",
        expected="the 32 letters and digits of an Events API v2 integration",
        hint="In PagerDuty: Services → the service → Integrations → Add an integration → Events API V2.",
        pattern=r"[A-Za-z0-9]{32}",
        is_secret=True,
    ),
    Field(
        name="region",
        label="Service region",
        expected="us or eu",
        choices=(("us", "United States"), ("eu", "Europe")),
        is_required=False,
    ),
    api_url("PagerDuty", US),
)


def post_of(config: Mapping[str, Any], message: Message, now: datetime) -> Post:
    """What is told again, or comes back, triggers under the same key: PagerDuty adds it to the alert."""
    incident = message.incident
    address = f"{config.get('api_url', HOSTS[config['region']]).rstrip('/')}/v2/enqueue"
    event: dict[str, Any] = {
        "routing_key": config["routing_key"],
        "dedup_key": message.key,
        "event_action": {"acknowledged": "acknowledge", "resolved": "resolve"}.get(
            message.happening, "trigger"
        ),
    }
    if event["event_action"] != "trigger":
        return Post(address, event)
    content = letter(incident, message.story)
    details = {
        "message": "\n".join([content.lead, *content.sentences]),
        "environment": incident["environment"],
        "milestone": incident["milestone"],
        "rule": incident["rule"],
        "burn_rate": incident["burn_rate"],
        "cause": incident["cause"],
    }
    event |= {
        "client": "Latency Dashboard",
        "client_url": incident["url"],
        "links": [{"href": href, "text": text} for text, href in content.links],
        "payload": {
            "summary": cut(content.subject, 1024),
            "source": cut(f"{incident['feature']}/{incident['environment']}", 1024),
            "severity": "critical" if incident["severity"] == "page" else "warning",
            "timestamp": instant(message.timestamp),
            "component": incident["component"] or incident["milestone"],
            "group": incident["feature"],
            "class": incident["rule"],
            "custom_details": {name: value for name, value in details.items() if value is not None},
        },
    }
    return Post(address, event)


def verdict(answer: Answer) -> Verdict | None:
    if answer.status == 400 and document_in(answer).get("status") == "invalid event":
        said = "; ".join(str(one) for one in document_in(answer).get("errors", []))
        return Verdict(f"PagerDuty says that the event is invalid: {said[:300] or 'without a reason'}.", True)
    return judge(answer)


def describe(config: Mapping[str, Any]) -> str:
    if "api_url" in config:
        return f"PagerDuty by {host_of(config['api_url'])}"
    return "PagerDuty" if config["region"] == "us" else "PagerDuty, Europe"


KIND = Service(label="PagerDuty", fields=FIELDS, post_of=post_of, describe=describe, judge=verdict)
