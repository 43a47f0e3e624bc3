"""The fields of a channel's config: what they may hold, and what of them nobody is shown again.

One list of fields makes the check of a document, the form, the schema of the API and what an export hides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from alerts.addresses import Network
from alerts.channels.base import InvalidConfig
from alerts.outbound import ForbiddenAddress, InvalidURL, Resolver, check_url

# As forms and the schema have it: without white space, control characters or a backslash.
URL_PATTERN = r"[hH][tT][tT][pP][sS]?://[^\s\\\x00-\x1f\x7f]+"
# A text of a letter or two is no secret and would blot out half of an answer.
LEAST_SECRET_CHARACTERS = 4
# Shorter parts of a URL are words such as a version or a region.
LEAST_TOKEN_CHARACTERS = 8
# What the paths of services have in common is no secret, and would blot out words of their answers.
ROUTE_WORDS = frozenset({"incoming", "messages", "services", "triggers", "webhooks", "workflows"})


@dataclass(frozen=True, slots=True)
class Field:
    """A text of a channel's config.

    `pattern` is a regular expression for the whole of it, in the syntax that Python and JSON Schema share; None for a
    URL, whose address is judged too. `expected` ends the sentence "… must be …". `choices` are value and what a
    person reads; the first is the default. `hint` says where the text is found.
    """

    name: str
    label: str
    expected: str
    hint: str = ""
    example: str = ""
    pattern: str | None = None
    choices: tuple[tuple[str, str], ...] = ()
    max_characters: int = 500
    is_required: bool = True
    is_secret: bool = False
    is_number_allowed: bool = False

    @property
    def is_url(self) -> bool:
        return self.pattern is None and not self.choices


def read(
    label: str,
    fields: Sequence[Field],
    config: Mapping[str, Any],
    *,
    allowed_networks: Sequence[Network],
    resolve: Resolver,
) -> dict[str, str]:
    """The config as it is stored: every text without spaces around it, what is empty left out. Raises InvalidConfig.

    The name of a URL is looked up, which takes up to 3 s where a resolver hangs.
    """
    names = ", ".join(field.name for field in fields)
    wrong = {
        name: [f"{label} has the fields {names}, and no other."]
        for name in config.keys() - {field.name for field in fields}
    }
    found: dict[str, str] = {}
    for field in fields:
        given = config.get(field.name)
        if field.is_number_allowed and isinstance(given, int) and not isinstance(given, bool):
            given = str(given)
        if given is None or (isinstance(given, str) and not given.strip()):
            if field.choices:
                found[field.name] = field.choices[0][0]
            elif field.is_required:
                wrong[field.name] = [f"{field.label} is missing: {field.expected}."]
            continue
        try:
            found[field.name] = _text(field, given, allowed_networks, resolve)
        except ValueError as error:
            wrong[field.name] = [str(error)]
    if wrong:
        raise InvalidConfig(wrong)
    return found


def _text(field: Field, given: Any, allowed_networks: Sequence[Network], resolve: Resolver) -> str:
    """Raises ValueError with a sentence. A secret is not repeated."""
    shown = "" if field.is_secret else f", got {given!r:.100}"
    if not isinstance(given, str):
        raise ValueError(f"{field.name} must be {field.expected}{shown}.")
    text = given.strip()
    if len(text) > field.max_characters and not field.is_url:
        raise ValueError(f"{field.name} has {len(text)} characters; {field.max_characters} are possible.")
    if field.is_url:
        try:
            check_url(text, allowed_networks=allowed_networks, resolve=resolve)
        except (InvalidURL, ForbiddenAddress) as error:
            raise ValueError(error.message) from error
    elif field.choices:
        if text not in dict(field.choices):
            raise ValueError(f"{field.name} must be one of {', '.join(dict(field.choices))}{shown}.")
    elif field.pattern is not None and not re.fullmatch(field.pattern, text):
        raise ValueError(f"{field.name} must be {field.expected}{shown}.")
    return text


def secrets_in(fields: Sequence[Field], config: Mapping[str, Any]) -> list[str]:
    """The texts that must not be seen; of a URL the path and what follows, which carry its token."""
    found: list[str] = []
    for field in fields:
        text = config.get(field.name)
        if text and field.is_secret:
            found += secret_parts(text) if field.is_url else [text]
    return [text for text in dict.fromkeys(found) if len(text) >= LEAST_SECRET_CHARACTERS]


def secret_parts(url: str) -> list[str]:
    """What of a URL is secret, alone and together; by themselves its parts that are long enough for a token.

    >>> secret_parts("https://hooks.example.com/T0/token?key=1")
    ['/T0/token?key=1', 'T0/token?key=1', '/T0/token', 'T0/token', 'key=1']
    >>> secret_parts("https://hooks.example.com/long-token/x?sig=signature")[-2:]
    ['long-token', 'signature']
    """
    parts = urlsplit(url)
    whole = parts.path + (f"?{parts.query}" if parts.query else "")
    together = [whole, whole.lstrip("/"), parts.path, parts.path.strip("/"), parts.query]
    alone = [
        one
        for one in (*parts.path.split("/"), *re.split("[&;=]", parts.query))
        if len(one) >= LEAST_TOKEN_CHARACTERS and one not in ROUTE_WORDS
    ]
    return [text for text in dict.fromkeys([*together, *alone]) if len(text) >= LEAST_SECRET_CHARACTERS]


def without_secrets(fields: Sequence[Field], config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without its secrets; of a secret URL scheme, host and port stay."""
    kept = {}
    for field in fields:
        text = config.get(field.name)
        if text and not field.is_secret:
            kept[field.name] = text
        elif text and field.is_url:
            kept[field.name] = f"{urlsplit(text).scheme}://{urlsplit(text).netloc}/"
    return kept
