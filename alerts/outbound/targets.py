"""The URL that a customer chose, taken apart once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import quote, urlsplit

from .answers import DeliveryError

MAX_URL_CHARACTERS = 2000


class InvalidURL(DeliveryError):
    """The text is no URL that can be posted to. Permanent: the same text stays wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart once, so that what is checked and what is connected to cannot differ."""

    scheme: str
    host: str  # ASCII, without brackets
    port: int
    path_and_query: str

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @classmethod
    def of(cls, url: str) -> Target:
        """Raises InvalidURL, saying what is wrong in a sentence that a form can show."""
        if len(url) > MAX_URL_CHARACTERS:
            raise InvalidURL(f"The URL has {len(url)} characters; {MAX_URL_CHARACTERS} are possible.")
        # urlsplit drops tabs and line ends without a word, and browsers read \ as /.
        if re.search(r"[\s\\\x00-\x20\x7f]", url):
            raise InvalidURL("The URL must have no spaces, control characters or backslashes.")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise InvalidURL(f"This is no URL: {error}.") from error
        if parts.scheme not in DEFAULT_PORTS:
            raise InvalidURL(
                f"The URL must start with https:// or http://, got {parts.scheme or 'no scheme'!r}."
            )
        if "@" in parts.netloc:
            raise InvalidURL("The URL must not carry a user name or password.")
        if port == 0:
            raise InvalidURL("The port must be between 1 and 65535.")
        host = _ipv6_literal(host) if ":" in host else _ascii_name(host)
        try:
            path_and_query = quote(parts.path or "/", safe=_SAFE_IN_PATH)
            if parts.query:
                path_and_query += "?" + quote(parts.query, safe=_SAFE_IN_PATH + "?")
        except UnicodeError as error:  # half a character, which JSON can spell: "\ud800"
            raise InvalidURL("The URL holds a character that is none.") from error
        return cls(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], path_and_query)


DEFAULT_PORTS = {"http": 80, "https": 443}
_SAFE_IN_PATH = "/%:@!$&'()*+,;=~-._"
_NAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)


def _ipv6_literal(host: str) -> str:
    try:
        address = IPv6Address(host)
    except ValueError as error:
        raise InvalidURL(f"{host!r} is no IPv6 address.") from error
    if address.scope_id is not None:
        raise InvalidURL(f"{host!r} names a network interface, which means nothing to another machine.")
    return str(address)


def _ascii_name(host: str) -> str:
    """The name as the DNS knows it: a full stop at the end is dropped, which no certificate has."""
    try:
        name = host.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError as error:
        raise InvalidURL(f"{host!r} is no host name.") from error
    if not _NAME.fullmatch(name):
        raise InvalidURL(f"{host!r} is no host name." if host else "The URL names no host.")
    return name
