"""Live traffic of the demo features, over HTTP, until somebody stops it."""

import logging
import signal
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.utils import timezone

from budgets.client import ApiClient, RefusedError, UnreachableError
from budgets.demo.key import demo_key
from budgets.demo.live import LiveTraffic

logger = logging.getLogger(__name__)

EVERY_S = 1.0
# What the server missed while it was away is sent in pieces of this length.
LONGEST_PIECE = timedelta(minutes=1)
TIMEOUT_S = 10.0


class Command(BaseCommand):
    help = (
        "Posts the demo features' live traffic to the running web server every second. a deploy makes support-chat's tools "
        "overrun their allocation from minute 2 to minute 6. Runs until it is stopped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--url",
            default=f"http://127.0.0.1:{settings.PORT}",
            help="address of the web server (default: %(default)s)",
        )

    def handle(self, *, url: str, **options: Any) -> None:
        signal.signal(signal.SIGTERM, _stop)
        started_at = timezone.now()
        _, plain = demo_key(data_dir=Path(settings.DATA_DIR), now=started_at)
        connection.close()  # from here on the database is the web server's business
        sender = Sender(ApiClient(url, plain, timeout_s=TIMEOUT_S), LiveTraffic(started_at), started_at)
        try:
            while True:
                time.sleep(sender.send_until(timezone.now()))
        except KeyboardInterrupt:
            self.stdout.write("Stopped.")


class Sender:
    """Sends each second once, in order, also when the web server was away meanwhile."""

    def __init__(self, client: ApiClient, traffic: LiveTraffic, started_at: datetime) -> None:
        self.client, self.traffic = client, traffic
        self.sent_until = started_at
        # The piece under way: it is repeated as it is, since the server may have stored it unheard.
        self._piece: tuple[datetime, bytes] | None = None
        self._is_away = False

    def send_until(self, now: datetime) -> float:
        """Sends what has ended since the last time and says after how many seconds to come back."""
        try:
            while self.sent_until < now:
                self._send_piece(now)
        except UnreachableError as error:
            if not self._is_away:
                logger.info("%s; what happens meanwhile is sent later", error)
            self._is_away = True
            return EVERY_S
        except RefusedError as refused:
            if refused.is_busy or refused.status == 409:
                return max(EVERY_S, refused.retry_after_s or 0)
            raise CommandError(f"The server refused the demo's traffic: {refused}") from refused
        self._is_away = False
        return EVERY_S

    def _send_piece(self, now: datetime) -> None:
        if self._piece is None:
            until = min(now, self.sent_until + LONGEST_PIECE)
            requests = self.traffic.requests(self.sent_until, until)
            if not requests and not self.traffic.deploys(self.sent_until, until):
                self.sent_until = until
                return
            self._piece = until, msgspec.json.encode({"requests": requests})
        until, body = self._piece
        for deploy in self.traffic.deploys(self.sent_until, until):
            self.client.post_annotation(deploy)
        try:
            answer = self.client.post_measurements(
                body, idempotency_key=f"demo traffic from {self.sent_until.isoformat()}"
            )
        except RefusedError as refused:
            if refused.status != 400:
                raise
            answer = refused.document
        rejected = answer.get("rejected")
        if rejected:
            logger.warning("%s of the demo's requests were rejected, e.g. %s", len(rejected), rejected[0])
        self.sent_until, self._piece = until, None


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(0)
