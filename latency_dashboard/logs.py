"""Log lines: JSON objects for machines, plain lines for people; both say for which requests, and no secrets."""

from __future__ import annotations

import json
import logging
import logging.config
import re
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.msgspec import MsgspecFormatter

from budgets import request_ids

# A bearer key, a webhook's secret, whatever follows the name of the header that carries one, and links that let in
# whoever has them: of an invitation, and for a new password.
_SECRETS = re.compile(
    r"(?P<known>\bld_[A-Za-z0-9]{8}_|\bwhsec_|\b(?:Authorization|Cookie)['\"]?[:=]\s*['\"]?(?:Bearer|Basic)?\s*|\bBearer\s+"
    r"|/invitations/\d+\.|/password/reset/[\w-]+/)"
    r"[^\s'\",;\\]+",
    re.IGNORECASE,
)
_SUSPICIOUS = (
    "ld_",
    "whsec_",
    "uthorization",
    "UTHORIZATION",
    "earer",
    "ookie",
    "/invitations/",
    "/password/reset/",
)

# What every record has, and what Django adds: the request itself, and with it headers and a body.
_NO_FIELDS = {*RESERVED_ATTRS, "request", "server_time"}


def configure(config: dict[str, Any]) -> None:
    """Sets logging up, also for warnings: of a stream of JSON every line should be JSON."""
    logging.config.dictConfig(config)
    logging.captureWarnings(True)


def mask(line: str) -> str:
    """The line without the secrets that it may hold by accident, e.g. in the text of an error."""
    if not any(word in line for word in _SUSPICIOUS):
        return line
    return _SECRETS.sub(lambda found: f"{found['known']}***", line)


class NoteRequests(logging.Filter):
    """Puts the ids of the requests that the work is done for on each record: one as `request_id`, more as a list."""

    def filter(self, record: logging.LogRecord) -> bool:
        ids = request_ids.current()
        if len(ids) == 1:
            record.request_id = ids[0]
        elif ids:
            record.request_ids = list(ids)
        return True


class JsonLines(MsgspecFormatter):
    """One JSON object a line: time, level, logger, message, request_id or request_ids, and what else is known."""

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        # The library's own way takes a while to find out what this knows, and every request logs a line.
        known = record.__dict__
        log_data["time"] = datetime.fromtimestamp(record.created, UTC)
        log_data["level"] = record.levelname
        log_data["logger"] = record.name
        log_data["message"] = record.message
        for name in known.keys() - _NO_FIELDS:
            log_data[name] = known[name]
        log_data.update(message_dict)

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        try:
            return super().jsonify_log_record(log_data)
        except (UnicodeEncodeError, OverflowError):  # half a character, or an integer beyond 64 bits
            return json.dumps(log_data, default=repr)

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


class PlainLines(logging.Formatter):
    """One line for a person: time, level, logger, message, and the request at the end."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name is logging's
        line = super().formatMessage(record)
        ids = getattr(record, "request_ids", None) or [getattr(record, "request_id", "")]
        return f"{line} [{' '.join(ids)}]" if ids[0] else line

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))
