"""For which requests the work at hand is done: an id that follows a POST through log lines, tables and tasks.

A request has one; a roll-up, an evaluation or a delivery has those of the requests that led to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token

# What a caller may choose: it stands in log lines and in headers, so nothing that could end one.
_SANE = re.compile(r"[A-Za-z0-9._~:+/=@-]{1,64}", re.ASCII)
# A roll-up may stand for thousands of requests, and a line is read by people.
MOST = 20

_current: ContextVar[tuple[str, ...]] = ContextVar("request_ids", default=())


def chosen_or_new(wanted: str | None) -> str:
    """The id that the caller chose where it is sane (at most 64 plain characters), else a new one."""
    if wanted is not None and _SANE.fullmatch(wanted):
        return wanted
    return os.urandom(16).hex()


def current() -> tuple[str, ...]:
    """The ids of the requests that this work is done for, at most MOST of them."""
    return _current.get()


def of_this_request() -> str:
    """The id of the request that is being answered; "" in a worker or a command."""
    ids = _current.get()
    return ids[0] if len(ids) == 1 else ""


def enter(ids: tuple[str, ...]) -> Token[tuple[str, ...]]:
    """From here on the work is done for these; give what this returns to `leave`."""
    return _current.set(ids)


def leave(token: Token[tuple[str, ...]]) -> None:
    _current.reset(token)


@contextmanager
def done_for(ids: Iterable[str]) -> Iterator[None]:
    """What is logged, stored and sent within the block is done for these requests, the first MOST of them."""
    # In order and once each: one request may have made several batches, and some come from commands.
    token = enter(tuple(dict.fromkeys(one for one in ids if one))[:MOST])
    try:
        yield
    finally:
        leave(token)
