"""Slack, PagerDuty, Opsgenie, Teams, Discord and Telegram, as far as a channel meets them.

One real HTTP server plays all of them. It takes what their documentation says that they take and refuses all else
in their own words: lengths, required fields, formats, markup that does not close.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs
import msgspec
import pytest

from tests.receivers import ReceivedRequest, Reply, WebhookReceiver

ROUTING_KEY = "R0123456789abcdefghijklmnopqrstu"
API_KEY = "0a1b2c3d-4e5f-6a7b-8c9d-0e1f2a3b4c5d"
TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
SLACK_PATH = "/services/T0AB/B0CD/slack-token"
DISCORD_PATH = "/api/webhooks/1234567890/discord-token"
TEAMS_PATH = "/workflows/7f/triggers/manual/paths/invoke"
CHAT_ID = "-1001234567890"

_TEXT = {"type": "string", "minLength": 1}
_URL = {"type": "string", "pattern": r"^https?://[^\s<>|]+$", "maxLength": 3000}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
        "additionalProperties": False,
    }


# Block Kit: "Section", "Context", "Text object"; attachments of messages.
_MRKDWN = _object(
    {"type": {"const": "mrkdwn"}, "text": {**_TEXT, "maxLength": 3000}}, {"verbatim": {"type": "boolean"}}
)
_BLOCK = {
    "oneOf": [
        _object({"type": {"const": "section"}, "text": _MRKDWN}),
        _object(
            {"type": {"const": "context"}, "elements": {"type": "array", "items": _MRKDWN, "maxItems": 10}}
        ),
    ]
}
SLACK = _object(
    {"text": {**_TEXT, "maxLength": 40_000}},
    {
        "attachments": {
            "type": "array",
            "maxItems": 20,
            "items": _object(
                {
                    "blocks": {"type": "array", "items": _BLOCK, "minItems": 1, "maxItems": 50},
                    "color": {"type": "string", "pattern": "^#[0-9a-f]{6}$"},
                }
            ),
        },
        "unfurl_links": {"type": "boolean"},
        "unfurl_media": {"type": "boolean"},
    },
)

# Events API v2, "Send an event".
_EVENT = {
    "routing_key": {"type": "string", "minLength": 32, "maxLength": 32},
    "dedup_key": {**_TEXT, "maxLength": 255},
}
PAGERDUTY = {
    "oneOf": [
        _object({**_EVENT, "event_action": {"enum": ["acknowledge", "resolve"]}}),
        _object(
            {
                **_EVENT,
                "event_action": {"const": "trigger"},
                "payload": _object(
                    {
                        "summary": {**_TEXT, "maxLength": 1024},
                        "source": _TEXT,
                        "severity": {"enum": ["critical", "error", "warning", "info"]},
                    },
                    {
                        "timestamp": {"type": "string", "format": "date-time"},
                        "component": _TEXT,
                        "group": _TEXT,
                        "class": _TEXT,
                        "custom_details": {"type": "object"},
                    },
                ),
            },
            {
                "client": _TEXT,
                "client_url": _URL,
                "links": {"type": "array", "items": _object({"href": _URL, "text": _TEXT})},
            },
        ),
    ]
}

# Alert API, "Create alert", and "Alert fields".
OPSGENIE_CREATE = _object(
    {"message": {**_TEXT, "maxLength": 130}},
    {
        "alias": {"type": "string", "maxLength": 512},
        "description": {"type": "string", "maxLength": 15_000},
        "details": {"type": "object", "additionalProperties": {"type": "string"}},
        "entity": {"type": "string", "maxLength": 512},
        "source": {"type": "string", "maxLength": 100},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 50}, "maxItems": 20},
        "priority": {"enum": ["P1", "P2", "P3", "P4", "P5"]},
    },
)
OPSGENIE_STEP = _object(
    {}, {"source": {"type": "string", "maxLength": 100}, "note": {"type": "string", "maxLength": 25_000}}
)

# Adaptive Cards 1.4: Container, RichTextBlock, TextRun, Action.OpenUrl; the message around it.
_RICH_TEXT = _object(
    {
        "type": {"const": "RichTextBlock"},
        "inlines": {
            "type": "array",
            "minItems": 1,
            "items": _object(
                {"type": {"const": "TextRun"}, "text": _TEXT},
                {
                    "weight": {"enum": ["Default", "Lighter", "Bolder"]},
                    "size": {"enum": ["Default", "Small", "Medium", "Large", "ExtraLarge"]},
                    "isSubtle": {"type": "boolean"},
                },
            ),
        },
    }
)
TEAMS = _object(
    {
        "type": {"const": "message"},
        "attachments": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": _object(
                {
                    "contentType": {"const": "application/vnd.microsoft.card.adaptive"},
                    "content": _object(
                        {
                            "type": {"const": "AdaptiveCard"},
                            "version": {"enum": ["1.2", "1.3", "1.4", "1.5"]},
                            "body": {
                                "type": "array",
                                "minItems": 1,
                                "items": {
                                    "oneOf": [
                                        _RICH_TEXT,
                                        _object(
                                            {
                                                "type": {"const": "Container"},
                                                "items": {"type": "array", "items": _RICH_TEXT},
                                            },
                                            {
                                                "style": {
                                                    "enum": [
                                                        "default",
                                                        "emphasis",
                                                        "good",
                                                        "attention",
                                                        "warning",
                                                        "accent",
                                                    ]
                                                },
                                                "bleed": {"type": "boolean"},
                                            },
                                        ),
                                    ]
                                },
                            },
                        },
                        {
                            "$schema": _URL,
                            "fallbackText": _TEXT,
                            "actions": {
                                "type": "array",
                                "maxItems": 6,
                                "items": _object(
                                    {"type": {"const": "Action.OpenUrl"}, "title": _TEXT, "url": _URL}
                                ),
                            },
                            "msteams": {"type": "object"},
                        },
                    ),
                },
                {"contentUrl": {"type": "null"}},
            ),
        },
    }
)
TEAMS_MAX_BYTES = 28 * 1024

# "Execute Webhook", "Embed object", "Embed limits", "Allowed mentions object".
DISCORD = _object(
    {
        "embeds": {
            "type": "array",
            "minItems": 1,
            "maxItems": 10,
            "items": _object(
                {
                    "title": {**_TEXT, "maxLength": 256},
                    "description": {**_TEXT, "maxLength": 4096},
                },
                {
                    "url": _URL,
                    "color": {"type": "integer", "minimum": 0, "maximum": 0xFFFFFF},
                    "timestamp": {"type": "string", "format": "date-time"},
                    "footer": _object({"text": {**_TEXT, "maxLength": 2048}}),
                },
            ),
        },
        "allowed_mentions": _object({"parse": {"type": "array", "maxItems": 0}}),
    }
)
DISCORD_MAX_CHARACTERS = 6000

# Bot API, sendMessage.
TELEGRAM = _object(
    {"chat_id": {"type": ["string", "integer"]}, "text": _TEXT},
    {
        "parse_mode": {"const": "HTML"},
        "message_thread_id": {"type": "integer"},
        "link_preview_options": _object({"is_disabled": {"type": "boolean"}}),
    },
)
TELEGRAM_MAX_CHARACTERS = 4096


class Services(WebhookReceiver):
    """Answers every POST as the service would whose address it is. What `answer` was given goes first.

    `alerts` are PagerDuty's and Opsgenie's by their key, with how each stands.
    """

    def __init__(self) -> None:
        self.alerts: dict[str, str] = {}
        self._answering = threading.Lock()
        super().__init__()

    def at(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def _record(self, request: ReceivedRequest) -> Reply:
        with self._arrival:
            self._requests.append(request)
            self._arrival.notify_all()
            if self._replies:
                return self._replies.popleft()
        path = urlsplit(request.path).path
        for beginning, answers in self._routes():
            if path.startswith(beginning):
                with self._answering:
                    return answers(request)
        return Reply(404, body=b"nothing here")

    def _routes(self) -> list[tuple[str, Callable[[ReceivedRequest], Reply]]]:
        return [
            ("/services/", self._slack),
            ("/v2/enqueue", self._pagerduty),
            ("/v2/alerts", self._opsgenie),
            ("/workflows/", self._teams),
            ("/api/webhooks/", self._discord),
            ("/bot", self._telegram),
        ]

    def _slack(self, request: ReceivedRequest) -> Reply:
        if request.path != SLACK_PATH:
            return Reply(404, body=b"no_service")
        document = _document(request)
        if document is None:
            return Reply(400, body=b"invalid_payload")
        if _wrong(SLACK, document):
            return Reply(400, body=b"invalid_blocks")
        for text in [document["text"], *_texts(document["attachments"])]:
            # Everything in angle brackets is a link or a mention; our links are the only ones.
            if re.search(r"<(?!https?://[^|>\s]+\|[^<>|]+>)", text) or re.search(r"&(?!(amp|lt|gt);)", text):
                return Reply(400, body=b"invalid_blocks")
        return Reply(200, body=b"ok")

    def _pagerduty(self, request: ReceivedRequest) -> Reply:
        document = _document(request)
        problems = ["it is no JSON"] if document is None else _wrong(PAGERDUTY, document)
        if document is None or problems or document["routing_key"] != ROUTING_KEY:
            told = problems or ["Length of 'routing_key' is incorrect (should be 32 characters)"]
            return _json(
                400, {"status": "invalid event", "message": "Event object is invalid", "errors": told}
            )
        key = document["dedup_key"]
        if document["event_action"] == "trigger" or key in self.alerts:
            self.alerts[key] = {"trigger": "triggered", "acknowledge": "acknowledged", "resolve": "resolved"}[
                document["event_action"]
            ]
        return _json(202, {"status": "success", "message": "Event processed", "dedup_key": key})

    def _opsgenie(self, request: ReceivedRequest) -> Reply:
        took = {"took": 0.003, "requestId": "43a29c5c-3dbf-4fa4-9c26-f4f71023e120"}
        if request.headers["Authorization"] != f"GenieKey {API_KEY}":
            return _json(401, {"message": "Could not authenticate", **took})
        parts = urlsplit(request.path)
        steps = parts.path.removeprefix("/v2/alerts").strip("/").split("/")
        document = _document(request)
        schema = OPSGENIE_CREATE if steps == [""] else OPSGENIE_STEP
        if document is None or (problems := _wrong(schema, document)):
            told = "Request body is not processable." if document is None else "; ".join(problems)
            return _json(422, {"message": told, **took})
        if sum(len(key) + len(value) for key, value in document.get("details", {}).items()) > 8000:
            return _json(422, {"message": "details are too long", **took})
        if steps == [""]:
            self.alerts[document["alias"]] = "open"
        elif len(steps) == 2 and parts.query == "identifierType=alias":
            states = {"close": "closed", "acknowledge": "acked", "unacknowledge": "open", "notes": None}
            if steps[1] not in states:
                return _json(404, {"message": "no such action", **took})
            if steps[0] in self.alerts:
                self.alerts[steps[0]] = states[steps[1]] or self.alerts[steps[0]]
        else:
            return _json(400, {"message": "identifierType is not valid", **took})
        return _json(202, {"result": "Request will be processed", **took})

    def _teams(self, request: ReceivedRequest) -> Reply:
        if not request.path.startswith(TEAMS_PATH):
            return _json(
                404, {"error": {"code": "WorkflowNotFound", "message": "The workflow is not found."}}
            )
        document = _document(request)
        if document is None or _wrong(TEAMS, document):
            return _json(400, {"error": {"code": "TriggerInputSchemaMismatch", "message": "no such card"}})
        if len(request.body) > TEAMS_MAX_BYTES:
            return _json(413, {"error": {"code": "RequestEntityTooLarge", "message": "28 KB"}})
        return Reply(202)

    def _discord(self, request: ReceivedRequest) -> Reply:
        if not request.headers.get("User-Agent"):
            return Reply(403, body=b"error code: 1010")  # of the proxy in front
        if urlsplit(request.path).path != DISCORD_PATH:
            return _json(404, {"message": "Unknown Webhook", "code": 10015})
        document = _document(request)
        if document is None:
            return _json(400, {"message": "The request body contains invalid JSON.", "code": 50109})
        problems = _wrong(DISCORD, document)
        if not problems and len("".join(_texts(document["embeds"]))) > DISCORD_MAX_CHARACTERS:
            problems = ["Embed size exceeds maximum size of 6000"]
        if problems:
            return _json(400, {"message": "Invalid Form Body", "code": 50035, "errors": problems})
        return Reply(204)

    def _telegram(self, request: ReceivedRequest) -> Reply:
        if request.path != f"/bot{TOKEN}/sendMessage":
            return _telegram_error(404, "Not Found")
        document = _document(request)
        if document is None or (problems := _wrong(TELEGRAM, document)):
            return _telegram_error(400, f"Bad Request: {'no JSON' if document is None else problems}")
        if document["chat_id"] != CHAT_ID:
            return _telegram_error(400, "Bad Request: chat not found")
        parser = _TelegramMarkup()
        parser.feed(document["text"])
        parser.close()
        if parser.problem or parser.opened:
            return _telegram_error(400, f"Bad Request: can't parse entities: {parser.problem or 'unclosed'}")
        if len(parser.text.encode("utf-16-le")) // 2 > TELEGRAM_MAX_CHARACTERS:
            return _telegram_error(400, "Bad Request: message is too long")
        return _json(200, {"ok": True, "result": {"message_id": 7, "text": parser.text}})


class _TelegramMarkup(HTMLParser):
    """The tags of "HTML style" that may stand in a text; all else has to be written as an entity."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.problem, self.opened = "", "", list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("b", "i", "u", "s", "a", "code", "pre"):
            self.problem = f"Unsupported start tag {tag!r}"
        self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.opened or self.opened.pop() != tag:
            self.problem = f"Unmatched end tag {tag!r}"

    def handle_data(self, data: str) -> None:
        self.text += data


def _document(request: ReceivedRequest) -> dict[str, Any] | None:
    if request.method != "POST" or request.headers["Content-Type"] != "application/json":
        return None
    found = msgspec.json.decode(request.body)
    return found if isinstance(found, dict) else None


def _wrong(schema: dict[str, Any], document: Any) -> list[str]:
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    problems = [f"{error.message[:300]}" for error in validator.iter_errors(document)]
    for text in _texts(document):
        if re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)", text):
            datetime.fromisoformat(text)
    return problems


def _texts(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict):
        for value in document.values():
            yield from _texts(value)
    elif isinstance(document, list):
        for value in document:
            yield from _texts(value)


def _json(status: int, document: Any) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, msgspec.json.encode(document))


def _telegram_error(status: int, description: str) -> Reply:
    return _json(status, {"ok": False, "error_code": status, "description": description})


@pytest.fixture
def services() -> Iterator[Services]:
    """All services at 127.0.0.1, which has to be allowed to be reached."""
    with Services() as server:
        yield server
