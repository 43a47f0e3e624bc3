"""What PostgreSQL says when it cannot do its work just now, whatever was asked of it."""

from __future__ import annotations

import psycopg
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError

RETRY_AFTER_S = "5"

# No error of the driver's operational class, though they pass: 25006 is a standby, or a server that was made
# read-only; XX000 is what a failure has that PostgreSQL has no code for, such as a disk quota or the largest size
# of a file.
_PASSING = ("25006", "XX000")


def is_outage(error: BaseException | None) -> bool:
    """Whether the same request may well succeed later: no connection, too many of them, a shutdown, a full disk,
    a read-only server."""
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    if isinstance(cause, psycopg.Error) and cause.sqlstate in _PASSING:
        return True
    return isinstance(
        error, (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError)
    )
