"""Webhooks as Standard Webhooks 1.0 describes them: signed, with an id that is the same on every retry."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from secrets import token_bytes
from typing import Any
from urllib.parse import urlsplit

from standardwebhooks import Webhook

from alerts.addresses import Network
from alerts.channels.base import USER_AGENT, InvalidConfig, require_success
from alerts.channels.fields import secret_parts
from alerts.channels.message import Message, body
from alerts.outbound import (
    DEADLINE_S,
    Answer,
    ForbiddenAddress,
    InvalidURL,
    Resolver,
    check_url,
    getaddrinfo,
    post,
)

SECRET_PREFIX = "whsec_"  # noqa: S105 (the prefix of all secrets)
SECRET_BYTES = range(24, 65)  # 192 to 512 bits, the specification's bounds

secret_fields = ("secret",)
# The secret signs and is never sent.
address_fields = ()


def new_secret() -> str:
    """A fresh signing secret: whsec_ and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(token_bytes(32)).decode("ascii")


def validate(
    config: Mapping[str, Any], *, allowed_networks: Sequence[Network], resolve: Resolver = getaddrinfo
) -> dict[str, Any]:
    """{"url", "secret"} as they are stored; raises InvalidConfig.

    The URL's name is looked up, which takes up to 3 s where a resolver hangs.
    """
    fields: dict[str, list[str]] = {
        name: ["A webhook has url and secret, and no other field."]
        for name in config.keys() - {"url", "secret"}
    }
    url, secret = config.get("url"), config.get("secret")
    if isinstance(url, str):
        url = url.strip()
        try:
            check_url(url, allowed_networks=allowed_networks, resolve=resolve)
        except (InvalidURL, ForbiddenAddress) as error:
            fields["url"] = [error.message]
    else:
        fields["url"] = [
            "The URL that is posted to is missing: a text such as https://hooks.example.com/latency."
        ]
    if not isinstance(secret, str) or not _is_secret(secret.strip()):
        sizes = f"{SECRET_BYTES[0]} to {SECRET_BYTES[-1]}"
        fields["secret"] = [f"The secret must be {SECRET_PREFIX} and then {sizes} bytes in base64."]
    if fields:
        raise InvalidConfig(fields)
    return {"url": url, "secret": str(secret).strip()}


def send(
    config: Mapping[str, Any],
    message: Message,
    *,
    now: datetime,
    allowed_networks: Sequence[Network],
    deadline_s: float = DEADLINE_S,
    resolve: Resolver = getaddrinfo,
) -> Answer:
    """The receiver's 2xx answer to the signed message; raises DeliveryError.

    webhook-id is the message's, so that a receiver can drop a copy; webhook-timestamp is `now`, the
    instant of this try, since receivers refuse a signature that is older than a few minutes.
    """
    content = body(message)
    signed_at = now.astimezone(UTC)  # the library takes any other zone's wall clock for UTC
    signature = Webhook(config["secret"]).sign(message.message_id, signed_at, content.decode())
    answer = post(
        config["url"],
        body=content,
        headers={
            "webhook-id": message.message_id,
            "webhook-timestamp": str(int(signed_at.timestamp())),
            "webhook-signature": signature,
            "content-type": "application/json",
            "user-agent": USER_AGENT,
        },
        allowed_networks=allowed_networks,
        deadline_s=deadline_s,
        resolve=resolve,
    )
    return require_success(answer, now=now)


def secrets(config: Mapping[str, Any]) -> list[str]:
    """The signing secret, and the path, which often carries a token.

    >>> secrets({"url": "https://hooks.example.com/T0/token", "secret": "whsec_…"})
    ['whsec_…', '/T0/token', 'T0/token']
    """
    return [one for one in (config.get("secret", ""), *secret_parts(config["url"])) if one]


def without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    """Scheme, host and port.

    >>> without_secrets({"url": "https://hooks.example.com:8443/T0/token", "secret": "whsec_…"})
    {'url': 'https://hooks.example.com:8443/'}
    """
    parts = urlsplit(config["url"])
    return {"url": f"{parts.scheme}://{parts.netloc}/"}


def describe(config: Mapping[str, Any]) -> str:
    """Host and port only: a path often carries a token.

    >>> describe({"url": "https://hooks.example.com/T0/secret-path", "secret": "whsec_…"})
    'Webhook to hooks.example.com'
    """
    return f"Webhook to {urlsplit(config['url']).netloc}"


def _is_secret(text: str) -> bool:
    """Padding may be missing, as the specification's libraries have it."""
    encoded = text.removeprefix(SECRET_PREFIX)
    if encoded == text:
        return False
    try:
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(decoded) in SECRET_BYTES
