"""What every kind of channel gives the rest of the product, and which answers count as delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from django.conf import settings

from alerts.addresses import Network
from alerts.channels.message import Message
from alerts.outbound import DEADLINE_S, Answer, DeliveryError

# Discord refuses requests without one.
USER_AGENT = f"LatencyDashboard/{settings.VERSION}"
# 410 is a receiver's own word that it is gone for good.
PERMANENT_STATUSES = frozenset({410})


class ChannelKind(Protocol):
    """A module of alerts.channels, or a Service that it makes. `config` is what a channel stores, as `validate`
    returned it."""

    @property
    def secret_fields(self) -> Sequence[str]:
        """Fields of the config that are shown to nobody again. Left out of a change, they stay as they are."""
        ...

    @property
    def address_fields(self) -> Sequence[str]:
        """Fields that decide where the secrets are sent. Where one changes, the secrets are given anew."""
        ...

    def validate(self, config: Mapping[str, Any], *, allowed_networks: Sequence[Network]) -> dict[str, Any]:
        """The cleaned config; raises InvalidConfig with what is wrong, field by field."""
        ...

    def send(
        self,
        config: Mapping[str, Any],
        message: Message,
        *,
        now: datetime,
        allowed_networks: Sequence[Network],
        deadline_s: float = DEADLINE_S,
    ) -> Answer:
        """The answer of a receiver that took the message; raises DeliveryError otherwise.

        Takes at most `deadline_s` and keeps nothing: a caller holds no transaction open
        meanwhile. `now` is the instant of this try.
        """
        ...

    def secrets(self, config: Mapping[str, Any]) -> Sequence[str]:
        """What of the config must not be shown to everybody in the team, also where an answer repeats it."""
        ...

    def without_secrets(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What is kept of a channel that is deleted: enough to describe it."""
        ...

    def describe(self, config: Mapping[str, Any]) -> str:
        """Where it leads, in a few words for a list, and without what would let a reader send to it."""
        ...


class InvalidConfig(ValueError):
    """A channel that cannot be saved; `fields` maps each wrong field to what is wrong with it."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        super().__init__("; ".join(f"{name}: {' '.join(errors)}" for name, errors in fields.items()))
        self.fields = {name: list(errors) for name, errors in fields.items()}


def require_success(
    answer: Answer, *, now: datetime, permanent_statuses: frozenset[int] = PERMANENT_STATUSES
) -> Answer:
    """The answer where its status is 2xx; raises DeliveryError where it is not.

    Every other status but 410 is tried again, also 400, 401, 403 and 404. They mean that receiver and
    channel do not fit each other now: a secret that was exchanged on one side, a route that is not
    deployed yet, a proxy in front that answers in its stead. Somebody mends that within the day, and then
    an alert must arrive that would be lost had the first 404 ended it. The price is some 60 small
    requests a day. Standard Webhooks asks for the same: all but 2xx is retried, 410 ends it.
    """
    if 200 <= answer.status < 300:
        return answer
    permanent = answer.status in permanent_statuses
    then = ", which says that it is gone for good" if permanent else ""
    raise DeliveryError(
        f"The receiver answered {answer.status}{then}.",
        permanent=permanent,
        retry_after_s=None if permanent else answer.retry_after_s(now),
        status=answer.status,
        excerpt=answer.excerpt,
    )
