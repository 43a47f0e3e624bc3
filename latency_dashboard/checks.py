"""Mistakes in settings and surroundings, told at start instead of found at night.

Errors keep every command from starting; warnings come with `manage.py check --deploy`. What only a database or
Redis can tell is asked with `--database default`, and before each migration. docs/reference/checks.md lists all.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import OperationalError, connections
from django.http.request import validate_host
from redis import Redis
from redis.exceptions import RedisError

from alerts.addresses import parse_networks

OLDEST_POSTGRES = 15
# As many characters as a secret of 32 random bytes has in base 64, less a few.
SHORTEST_SECRET = 40
MOST_CLOCK_SKEW_S = 5.0


class LatencyDashboardConfig(AppConfig):
    name = "latency_dashboard"

    def ready(self) -> None:
        register(check_retention)
        register(check_outbound_networks)
        register(check_apprise_schemes)
        register(check_throttling)
        register(check_public_url)
        register(check_secrets)
        register(check_logs)
        register(check_exposure, Tags.security, deploy=True)
        register(check_redis, deploy=True)
        register(check_postgres, Tags.database)
        register(check_mail, Tags.security, deploy=True)


def check_retention(**kwargs: Any) -> list[CheckMessage]:
    """Hours are derived from minutes, minutes rebuilt from raw: each must live at least as long as its source."""
    kept = ("RAW_RETENTION_DAYS", "MINUTE_RETENTION_DAYS", "HOUR_RETENTION_DAYS")
    days = [getattr(settings, name) for name in kept]
    if days[0] < 1 or days != sorted(days):
        return [
            Error(
                f"{', '.join(kept)} are {', '.join(map(str, days))}.",
                hint="They must be at least 1 and in ascending order: late data changes minutes as long as raw data is kept.",
                id="latency_dashboard.E001",
            )
        ]
    return []


def check_outbound_networks(**kwargs: Any) -> list[CheckMessage]:
    try:
        parse_networks(settings.OUTBOUND_ALLOWED_CIDRS)
    except ValueError as error:
        return [
            Error(
                f"OUTBOUND_ALLOWED_CIDRS cannot be read: {error}",
                hint="Networks such as 10.1.0.0/16, separated by commas.",
                id="latency_dashboard.E002",
            )
        ]
    return []


def check_apprise_schemes(**kwargs: Any) -> list[CheckMessage]:
    """A name that is none would allow nothing, and whoever wrote it would learn that from a form at night."""
    if not settings.APPRISE_SCHEMES:
        return []
    # This module is loaded before there are models, which channels know.
    from alerts.channels.apprise import FIXED_HOSTS

    unknown = [name for name in settings.APPRISE_SCHEMES if name not in FIXED_HOSTS]
    if unknown:
        return [
            Error(
                f"APPRISE_SCHEMES names {', '.join(map(repr, unknown))}, which no channel can have.",
                hint=f"Some of {', '.join(sorted(FIXED_HOSTS))}, in lower case and separated by commas; "
                "unset it to allow all.",
                id="latency_dashboard.E010",
            )
        ]
    return []


def check_throttling(**kwargs: Any) -> list[CheckMessage]:
    wrong = [
        Error(f"{name} is {value}.", hint=f"It must be at least {least}.", id="latency_dashboard.E003")
        for name, value, least in (
            ("TRUSTED_PROXIES", settings.TRUSTED_PROXIES, 0),
            ("LOGIN_FAILURE_LIMIT", settings.AXES_FAILURE_LIMIT, 1),
            ("LOGIN_COOL_OFF_MINUTES", settings.AXES_COOLOFF_TIME.total_seconds() // 60, 1),
        )
        if value < least
    ]
    return list[CheckMessage](wrong)


def check_mail(**kwargs: Any) -> list[CheckMessage]:
    if settings.EMAIL_IS_CONFIGURED:
        return []
    return [
        Warning(
            "EMAIL_URL is not set: invitations, password resets and alerts by e-mail are not sent.",
            hint="Name your mail server, e.g. EMAIL_URL=smtp+tls://user:password@mail.example.org:587, and the "
            "sender in DEFAULT_FROM_EMAIL.",
            id="latency_dashboard.W001",
        )
    ]


def check_public_url(**kwargs: Any) -> list[CheckMessage]:
    """The address that people use must be one, and the server must answer to it."""
    url = urlsplit(settings.PUBLIC_URL)
    if url.scheme not in ("http", "https") or not url.hostname:
        return [
            Error(
                f"PUBLIC_URL is {settings.PUBLIC_URL!r}, which is no address of a web site.",
                hint="Such as https://latency.example.org, without a path.",
                id="latency_dashboard.E004",
            )
        ]
    if not validate_host(url.hostname, settings.ALLOWED_HOSTS):
        return [
            Error(
                f"ALLOWED_HOSTS ({', '.join(settings.ALLOWED_HOSTS) or 'empty'}) lacks {url.hostname}, the host of "
                "PUBLIC_URL: every page there would be answered with 400.",
                hint=f"Add {url.hostname} to ALLOWED_HOSTS, or leave ALLOWED_HOSTS unset.",
                id="latency_dashboard.E005",
            )
        ]
    return []


def check_secrets(**kwargs: Any) -> list[CheckMessage]:
    if settings.SECRET_KEY == settings.KEY_PEPPER:
        return [
            Error(
                "SECRET_KEY and KEY_PEPPER are the same: one could not be changed without the other.",
                hint="Make another of them, e.g. with `openssl rand -base64 48`.",
                id="latency_dashboard.E006",
            )
        ]
    return []


def check_logs(**kwargs: Any) -> list[CheckMessage]:
    if settings.LOG_FORMAT not in ("json", "text"):
        return [
            Error(
                f"LOG_FORMAT is {settings.LOG_FORMAT!r}.",
                hint="It must be json or text, or unset.",
                id="latency_dashboard.E007",
            )
        ]
    return []


def check_exposure(**kwargs: Any) -> list[CheckMessage]:
    """What is fine on one's own machine and is not where others come by."""
    return list(_exposed())


def _exposed() -> Iterator[CheckMessage]:
    url = urlsplit(settings.PUBLIC_URL)
    is_https = url.scheme == "https"
    if url.scheme == "http" and not settings.DEBUG and not _is_loopback(url.hostname or ""):
        yield Warning(
            f"PUBLIC_URL is {settings.PUBLIC_URL}: passwords and keys pass the network in the clear.",
            hint="Put a proxy that ends TLS in front, and set PUBLIC_URL to its https:// address.",
            id="latency_dashboard.W002",
        )
    if "*" in settings.ALLOWED_HOSTS:
        yield Warning(
            "ALLOWED_HOSTS has *: links that are made from a request's host can be made to lead elsewhere.",
            hint="Name the hosts, or leave ALLOWED_HOSTS unset.",
            id="latency_dashboard.W003",
        )
    short = [
        name
        for name in ("SECRET_KEY", "KEY_PEPPER", "METRICS_TOKEN")
        if 0 < len(getattr(settings, name)) < (20 if name == "METRICS_TOKEN" else SHORTEST_SECRET)
    ]
    if short:
        yield Warning(
            f"{' and '.join(short)} can be guessed: shorter than a random secret is.",
            hint="Make one with `openssl rand -base64 48`, and see docs/how-to/rotate-keys.md.",
            id="latency_dashboard.W004",
        )
    if is_https and (settings.EMBEDDED_POSTGRES or settings.EMBEDDED_REDIS):
        yield Warning(
            f"{settings.PUBLIC_URL} is served out of embedded servers, which nobody backs up or replicates.",
            hint="Name servers of your own in DATABASE_URL and REDIS_URL.",
            id="latency_dashboard.W005",
        )
    if is_https and settings.SECURE_PROXY_SSL_HEADER is None:
        yield Warning(
            "PUBLIC_URL is https and TRUST_X_FORWARDED_PROTO is not set: behind a proxy that ends TLS every page "
            "redirects to itself for ever.",
            hint="Set TRUST_X_FORWARDED_PROTO=true, with a proxy that sets X-Forwarded-Proto itself.",
            id="latency_dashboard.W006",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_redis(**kwargs: Any) -> list[CheckMessage]:
    """Says nothing where Redis is away or does not tell: that is no mistake in settings."""
    try:
        with Redis.from_url(str(settings.CACHES["default"]["LOCATION"]), **settings.REDIS_OPTIONS) as redis:
            policy = str(redis.config_get("maxmemory-policy").get("maxmemory-policy", ""))
    except (RedisError, OSError):
        return []
    if not policy.startswith("allkeys"):
        return []
    return [
        Warning(
            f"Redis drops queued tasks when its memory is full: its maxmemory-policy is {policy}.",
            hint="Set maxmemory-policy to volatile-lru or noeviction.",
            id="latency_dashboard.W007",
        )
    ]


def check_postgres(*, databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Version, encoding and clock of the server; nothing where it is away, for whoever asks finds out anyway."""
    found: list[CheckMessage] = []
    for alias in databases or ():
        try:
            found += _complaints_about(connections[alias])
        except OperationalError:
            continue
    return found


def _complaints_about(connection: Any) -> Iterator[CheckMessage]:
    yield from _complaints_about_version(connection.pg_version)
    before = time.time()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM clock_timestamp())::float8, current_setting('server_encoding')"
        )
        clock, encoding = cursor.fetchone()
    skew_s = max(before - clock, clock - time.time(), 0.0)
    if encoding != "UTF8":
        yield Error(
            f"The database's encoding is {encoding}, which cannot hold every name and label.",
            hint="Create it anew: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
            id="latency_dashboard.E009",
        )
    if skew_s > MOST_CLOCK_SKEW_S:
        yield Warning(
            f"The clocks of this machine and of PostgreSQL differ by {skew_s:.0f} s. Measurements are judged by the "
            "one and swept by the other.",
            hint="Let both follow NTP.",
            id="latency_dashboard.W008",
        )


def _complaints_about_version(pg_version: int) -> Iterator[CheckMessage]:
    """`pg_version` as libpq gives it, e.g. 150004."""
    version = pg_version // 10_000
    if version < OLDEST_POSTGRES:
        yield Error(
            f"The server is PostgreSQL {version}, and {OLDEST_POSTGRES} is the oldest that this works with.",
            hint="Upgrade it with pg_upgrade, or restore a backup into a newer one.",
            id="latency_dashboard.E008",
        )
