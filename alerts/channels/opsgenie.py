"""Opsgenie, by its Alert API: an alert for each incident, under an alias of ours.

Source: Opsgenie's "Alert API" and "Alert Fields": message 130 characters, alias 512, description 15 000, entity 512,
source 100, tags 20 of 50, details 8000, note 25 000; every request is answered 202 and worked through later.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from alerts.channels.fields import Field
from alerts.channels.message import Message
from alerts.channels.services import Post, Service, Verdict, api_url, cut, document_in, host_of, judge
from alerts.outbound import Answer
from alerts.wording import Letter, letter

US = "https://api.opsgenie.com"
EU = "https://api.eu.opsgenie.com"
HOSTS = {"us": US, "eu": EU}
SOURCE: Final = "Latency Dashboard"

FIELDS = (
    Field(
        name="api_key",
        label="API key",
        expected="the key of an API integration, such as 0a1b2c3d-…",
        hint="In Opsgenie: Teams → your team → Integrations → Add integration → API, with the right to create and update.",
        pattern=r"[A-Za-z0-9-]{20,100}",
        is_secret=True,
    ),
    Field(
        name="region",
        label="Service region",
        expected="us or eu",
        choices=(("us", "United States"), ("eu", "Europe")),
        is_required=False,
    ),
    api_url("Opsgenie", US),
)


def post_of(config: Mapping[str, Any], message: Message, now: datetime) -> Post:
    """An opening, and what came back or is still open, creates; the alias makes it one alert.

    Opsgenie counts a second creation and changes nothing, so what has become known goes into a note.
    """
    base = f"{config.get('api_url', HOSTS[config['region']]).rstrip('/')}/v2/alerts"
    headers = {"authorization": f"GenieKey {config['api_key']}"}
    content = letter(message.incident, message.story)
    action = {
        "acknowledged": "acknowledge",
        "unacknowledged": "unacknowledge",
        "resolved": "close",
        "updated": "notes",
        "reminder": "notes",
    }.get(message.happening)
    if action is None:
        return Post(base, _alert(message, content), headers)
    said = _told(content, 25_000)
    return Post(
        f"{base}/{message.key}/{action}?identifierType=alias", {"source": SOURCE, "note": said}, headers
    )


def _alert(message: Message, content: Letter) -> dict[str, Any]:
    incident = message.incident
    details = {
        "feature": incident["feature"],
        "environment": incident["environment"],
        "milestone": incident["milestone"],
        "component": incident["component"],
        "rule": incident["rule"],
        "url": incident["url"],
        "runbook_url": incident["runbook_url"],
    }
    return {
        "message": cut(content.subject, 130),
        "alias": message.key,
        # Opsgenie shows HTML of descriptions.
        "description": _told(content, 15_000).replace("<", "‹").replace(">", "›"),
        # 8000 characters in all. An address that is cut leads nowhere.
        "details": {
            name: cut(str(value), 2000 if name.endswith("url") else 500)
            for name, value in details.items()
            if value is not None
        },
        "entity": cut(incident["feature"], 512),
        "source": SOURCE,
        "tags": ["latency-dashboard", str(incident["severity"])],
        "priority": "P1" if incident["severity"] == "page" else "P3",
    }


def _told(content: Letter, most: int) -> str:
    """At most so many characters; what is said gives way to the links."""
    links = "".join(f"\n{text}: {address}" for text, address in content.links)
    return cut("\n".join([content.lead, *content.sentences]), most - len(links)) + links


def verdict(answer: Answer) -> Verdict | None:
    said = document_in(answer).get("message")
    if answer.status in (400, 422) and isinstance(said, str):
        return Verdict(f"Opsgenie refuses the request: {said[:300]}", True)
    return judge(answer)


def describe(config: Mapping[str, Any]) -> str:
    if "api_url" in config:
        return f"Opsgenie by {host_of(config['api_url'])}"
    return "Opsgenie" if config["region"] == "us" else "Opsgenie, Europe"


KIND = Service(label="Opsgenie", fields=FIELDS, post_of=post_of, describe=describe, judge=verdict)
