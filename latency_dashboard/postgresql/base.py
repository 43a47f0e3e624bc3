"""The backend's connection, where Django looks for it."""

from __future__ import annotations

import select

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that is taken for usable as long as nothing has come in on it since the last answer.

    CONN_HEALTH_CHECKS asks before the first statement of each request. A server that ends a connection, restarts
    or dies says so or is known to the kernel to be gone; either makes the socket readable. PostgreSQL itself is
    asked where that is so (it may have told of a changed setting only), and after an error.
    """

    def is_usable(self) -> bool:
        if self.connection is None or self.connection.closed:
            return False
        return (not self.errors_occurred and _is_quiet(self.connection.fileno())) or super().is_usable()


def _is_quiet(file: int) -> bool:
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return not poll.poll(0)
