"""What is stored and cannot be read: said in the log once a process, however often it is looked at."""

from __future__ import annotations

from logging import Logger
from typing import Final

from django.db.models import Model

_said: Final[dict[tuple[str, int], str]] = {}


def say_once(log: Logger, found: Model, trouble: str, effect: str) -> str:
    """The trouble as it came, "" where there is none. An error goes to the log where it is new: `{effect}: {trouble}`."""
    which = (found._meta.label, found.pk)
    if not trouble:
        _said.pop(which, None)
    elif _said.get(which) != trouble:
        _said[which] = trouble
        log.error("%s: %s", effect, trouble)
    return trouble
