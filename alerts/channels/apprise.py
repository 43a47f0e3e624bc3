"""Services that the library apprise knows, by one of its URLs.

The library makes its own requests, past alerts.outbound: nobody here sees which address it connects to. So only
schemes are taken whose host stands in the library's source and not in the URL (FIXED_HOSTS, each looked up there); what
a URL holds ends up in a path, a header or a body. An installation narrows them further by APPRISE_SCHEMES. Redirects are
not followed, certificates are verified, and a try takes no longer than any other, whatever the URL asks for.

The library's modules are imported one by one: loading all of them takes half a second and 40 MB.
"""

from __future__ import annotations

import importlib
import logging
import queue
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from django.conf import settings

from alerts.addresses import Network
from alerts.channels.base import InvalidConfig
from alerts.channels.fields import LEAST_TOKEN_CHARACTERS, Field, read
from alerts.channels.message import Message, Tone
from alerts.channels.services import cut
from alerts.outbound import DEADLINE_S, Answer, DeliveryError, Resolver, getaddrinfo
from alerts.wording import letter

MAX_LEFT_S = 1.0  # of the deadline, which the thread's own timeouts keep to


class Plugin(NamedTuple):
    module: str
    name: str
    label: str


FIXED_HOSTS: Final[dict[str, Plugin]] = {
    "clicksend": Plugin("clicksend", "NotifyClickSend", "ClickSend"),
    "dingtalk": Plugin("dingtalk", "NotifyDingTalk", "DingTalk"),
    "feishu": Plugin("feishu", "NotifyFeishu", "Feishu"),
    "flock": Plugin("flock", "NotifyFlock", "Flock"),
    "gchat": Plugin("google_chat", "NotifyGoogleChat", "Google Chat"),
    "ifttt": Plugin("ifttt", "NotifyIFTTT", "IFTTT"),
    "ilert": Plugin("ilert", "NotifyILert", "ilert"),
    "incidentio": Plugin("incidentio", "NotifyIncidentIO", "incident.io"),
    "join": Plugin("join", "NotifyJoin", "Join"),
    "lark": Plugin("lark", "NotifyLark", "Lark"),
    "line": Plugin("line", "NotifyLine", "LINE"),
    "msgbird": Plugin("messagebird", "NotifyMessageBird", "MessageBird"),
    "pagertree": Plugin("pagertree", "NotifyPagerTree", "PagerTree"),
    "pbul": Plugin("pushbullet", "NotifyPushBullet", "Pushbullet"),
    "plivo": Plugin("plivo", "NotifyPlivo", "Plivo"),
    "pover": Plugin("pushover", "NotifyPushover", "Pushover"),
    "prowl": Plugin("prowl", "NotifyProwl", "Prowl"),
    "psafers": Plugin("pushsafer", "NotifyPushSafer", "Pushsafer"),
    "signl4": Plugin("signl4", "NotifySIGNL4", "SIGNL4"),
    "splunk": Plugin("splunk", "NotifySplunk", "Splunk On-Call"),
    "spush": Plugin("simplepush", "NotifySimplePush", "SimplePush"),
    "threema": Plugin("threema", "NotifyThreema", "Threema"),
    "twilio": Plugin("twilio", "NotifyTwilio", "Twilio"),
    "vonage": Plugin("vonage", "NotifyVonage", "Vonage"),
    "wecombot": Plugin("wecombot", "NotifyWeComBot", "WeCom"),
    "wxteams": Plugin("webexteams", "NotifyWebexTeams", "Webex"),
}
"""Scheme → the library's plugin. What is added here must have its host in its own source."""

TYPES: Final[dict[Tone, str]] = {
    "page": "failure",
    "ticket": "warning",
    "taken": "info",
    "over": "success",
    "silent": "info",
}

FIELDS = (
    Field(
        name="url",
        label="Apprise URL",
        expected="an Apprise URL, such as pover://user@token",
        hint="For Pushover, Google Chat, Webex, Twilio and others; the how-to page lists them. It holds the "
        "service's secrets, so it is not shown again.",
        example="pover://user@token",
        pattern=r"[a-z0-9]+://\S+",
        max_characters=2000,
        is_secret=True,
    ),
)


def allowed_schemes() -> list[str]:
    """Those of APPRISE_SCHEMES that there are; unset, all."""
    named = settings.APPRISE_SCHEMES
    return sorted(FIXED_HOSTS if named is None else FIXED_HOSTS.keys() & set(named))


@dataclass(frozen=True)
class AppriseKind:
    """The kind of channel, with the functions of alerts.channels.base.ChannelKind."""

    fields: tuple[Field, ...] = FIELDS
    label: str = "Apprise"
    secret_fields: tuple[str, ...] = ("url",)
    # The whole URL is one secret.
    address_fields: tuple[str, ...] = ()

    def validate(
        self,
        config: Mapping[str, Any],
        *,
        allowed_networks: Sequence[Network],
        resolve: Resolver = getaddrinfo,
    ) -> dict[str, Any]:
        found = read(self.label, self.fields, config, allowed_networks=allowed_networks, resolve=resolve)
        try:
            plugin_of(found["url"])
        except ValueError as error:
            raise InvalidConfig({"url": [str(error)]}) from error
        return dict(found)

    def send(
        self,
        config: Mapping[str, Any],
        message: Message,
        *,
        now: datetime,
        allowed_networks: Sequence[Network],
        deadline_s: float = DEADLINE_S,
    ) -> Answer:
        """That the library delivered it, with what it said; raises DeliveryError. It knows no status codes."""
        started = time.perf_counter()
        try:
            plugin = plugin_of(config["url"], timeout_s=max(1.0, deadline_s - MAX_LEFT_S))
        except ValueError as error:
            raise DeliveryError(str(error)) from error
        content = letter(message.incident, message.story)
        links = [f"{text}: {address}" for text, address in content.links]
        is_delivered, said = _notify(
            plugin,
            deadline_s,
            title=cut(content.subject, 250),
            body="\n".join([*content.sentences, *links]),
            notify_type=TYPES[message.tone],
        )
        if not is_delivered:
            status = re.search(r"error=(\d{3})\b", said)
            raise DeliveryError(
                f"{_plugin(config['url']).label} did not take it.",
                status=int(status[1]) if status else None,
                excerpt=said,
            )
        return Answer(0, excerpt=said or "Delivered.", duration_ms=(time.perf_counter() - started) * 1000)

    def secrets(self, config: Mapping[str, Any]) -> list[str]:
        """The URL, and what stands in it, as it is written and as it is meant."""
        url = config["url"]
        parts = re.split(r"[/@:?&=,]+", url.partition("://")[2])
        texts = [url, *parts, *map(unquote, parts)]
        return [text for text in dict.fromkeys(texts) if len(text) >= LEAST_TOKEN_CHARACTERS]

    def without_secrets(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {"url": f"{urlsplit(config['url']).scheme}://"}

    def describe(self, config: Mapping[str, Any]) -> str:
        plugin = FIXED_HOSTS.get(urlsplit(config["url"]).scheme)
        return f"{plugin.label if plugin else 'A service'} by Apprise"


def _plugin(url: str) -> Plugin:
    """Raises ValueError with a sentence that repeats nothing but the scheme."""
    scheme = url.partition("://")[0]
    if scheme not in allowed_schemes():
        raise ValueError(
            f"{scheme[:50]!r} is none of the schemes that are allowed here: {', '.join(allowed_schemes()) or 'none'}."
        )
    return FIXED_HOSTS[scheme]


def plugin_of(url: str, *, timeout_s: float = DEADLINE_S) -> Any:
    """The library's object for a URL, bound to our limits. Raises ValueError where there is none."""
    found = _plugin(url)
    # The library's own lines go where they are asked for, below, and into no log: they may hold secrets, and so
    # does what is requested, which urllib3 tells at DEBUG.
    logging.getLogger("apprise").propagate = False
    logging.getLogger("urllib3").setLevel(logging.INFO)
    from apprise.asset import AppriseAsset

    kind = getattr(importlib.import_module(f"apprise.plugins.{found.module}"), found.name)
    asset = AppriseAsset(storage_mode="memory")
    asset.http_redirects = False
    with _lines():
        try:
            results = kind.parse_url(url)
            made = kind(**{**results, "asset": asset}) if results else None
        except Exception as error:  # of a plugin, about a text that it did not expect
            raise ValueError(_no_url(found)) from error
    if made is None:
        raise ValueError(_no_url(found))
    made.socket_connect_timeout = made.socket_read_timeout = timeout_s
    made.verify_certificate, made.redirects, made.retry = True, False, 0
    return made


def _no_url(found: Plugin) -> str:
    return f"This is no Apprise URL for {found.label}: a part is missing or malformed. See appriseit.com/services."


def _notify(plugin: Any, deadline_s: float, **message: str) -> tuple[bool, str]:
    """Whether it was delivered, and what the library said. Raises DeliveryError after the deadline.

    It blocks, and may make several requests; so it runs in a thread that is left behind when the time is over.
    """
    outcomes: queue.SimpleQueue[tuple[bool, str]] = queue.SimpleQueue()

    def notify() -> None:
        with _lines() as lines:
            try:
                is_delivered = bool(plugin.notify(**message, body_format="text"))
            except Exception as error:
                is_delivered = False
                lines.append(f"{type(error).__name__}: {error}")
        outcomes.put((is_delivered, "\n".join(lines)[:4000]))

    threading.Thread(target=notify, name="apprise", daemon=True).start()
    try:
        return outcomes.get(timeout=deadline_s)
    except queue.Empty:
        raise DeliveryError(f"There was no answer within {deadline_s:g} s.") from None


class _Lines(logging.Handler):
    """What the library says in one thread; others send at the same time."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(record.getMessage())


@contextmanager
def _lines() -> Iterator[list[str]]:
    handler, logger = _Lines(), logging.getLogger("apprise")
    if logger.getEffectiveLevel() > logging.INFO or logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)


KIND = AppriseKind()
