"""What came of a try to deliver: an answer, or why there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

DEADLINE_S = 10.0
EXCERPT_BYTES = 4096


class DeliveryError(Exception):
    """A try that did not deliver: what happened, and whether another one could.

    `permanent` says that no later try can succeed. `retry_after_s` is what the receiver asked for,
    `status` its HTTP status where it answered, `excerpt` the beginning of its answer.
    """

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        retry_after_s: float | None = None,
        status: int | None = None,
        excerpt: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.permanent = permanent
        self.retry_after_s = retry_after_s
        self.status = status
        self.excerpt = excerpt


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver answered, whatever the status: a channel decides which ones mean delivered.

    `status` is 0 where a library keeps it to itself.
    `headers` holds KEPT_HEADERS, in lower case; `excerpt` the beginning of the body as text that can be
    stored and shown; `duration_ms` the time of the whole try.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    excerpt: str = ""
    duration_ms: float = 0.0

    def retry_after_s(self, now: datetime) -> float | None:
        """The seconds that Retry-After asks for, given in seconds or as a date; None where it says nothing.

        >>> Answer(429, {"retry-after": "Sat, 21 Nov 2026 20:01:30 GMT"}).retry_after_s(
        ...     datetime(2026, 11, 21, 20, 0, 0, tzinfo=UTC))
        90.0
        """
        text = self.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdigit():
            return float(text)
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


def readable(text: str) -> str:
    """The text with � for control characters: PostgreSQL stores no U+0000, and a terminal obeys the others."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", "�", text)
