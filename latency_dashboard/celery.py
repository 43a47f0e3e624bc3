"""The Celery application and, on one screen, everything that runs by the clock."""

import os
from contextvars import Token
from typing import Any

import kombu
from celery import Celery, signals
from celery.app.amqp import AMQP
from celery.concurrency.asynpool import AsynPool
from django.db import close_old_connections
from kombu.transport.redis import Channel

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "latency_dashboard.settings")

from budgets import request_ids
from latency_dashboard import heartbeat

# Between two tries of a worker, or of beat, to reach a broker that is away.
LONGEST_WAIT_S = 5


class Connection(kombu.Connection):
    """A connection to the broker that is tried for again every few seconds, however long the broker was away.

    kombu's own waits grow to half a minute, and that is for how long everything would stand still afterwards.
    """

    def ensure_connection(self, *args: Any, **options: Any) -> kombu.Connection:  # type: ignore[override]
        waits = {"interval_start": 1, "interval_step": 1, "interval_max": LONGEST_WAIT_S}
        return super().ensure_connection(*args, **waits | options)


class Amqp(AMQP):
    Connection = Connection


app = Celery("latency_dashboard", amqp=Amqp)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["budgets", "alerts"])

# Tasks that were received and not begun are given up with their connection: sweeps find the work. kombu 5.7 would
# put them back over the connection that it has just lost, and that ends the worker.
Channel.do_restore = False

_Pool: Any = AsynPool
_track = _Pool._track_child_process


def _track_living(self: AsynPool, process: Any, hub: Any) -> None:
    """A process of the pool that has ended and was not replaced yet has nothing left to wait for. A worker that finds
    its broker again just then would end of it (celery 5.7: "file descriptor is None")."""
    if getattr(process, "_sentinel_poll", process) is not None:
        _track(self, process, hub)


_Pool._track_child_process = _track_living

app.conf.task_routes = {
    "budgets.tasks.roll_up": {"queue": "rollup"},
    "alerts.tasks.evaluate": {"queue": "evaluate"},
    "alerts.tasks.follow_up": {"queue": "evaluate"},
    "alerts.tasks.deliver": {"queue": "deliver"},
    "alerts.tasks.deliver_due": {"queue": "deliver"},
    "alerts.tasks.give_sign_of_life": {"queue": "deliver"},
    "alerts.tasks.renew_living_alerts": {"queue": "deliver"},
    "alerts.tasks.renew_living_alerts_of": {"queue": "deliver"},
    "alerts.tasks.send_reports": {"queue": "deliver"},
    "budgets.tasks.send_account_mails": {"queue": "deliver"},
}


def _every(seconds: float, task: str) -> dict[str, object]:
    """A sweep: it expires before its next tick, so that a stopped worker finds no heap of them."""
    return {"task": task, "schedule": seconds, "options": {"expires": seconds}}


assert app.steps is not None
app.steps["consumer"].add(heartbeat.Heartbeat)

# Each is short and idempotent and finds its work in PostgreSQL: a lost tick or a second beat changes nothing.
app.conf.beat_schedule = {
    "finish what was discarded": _every(60, "budgets.tasks.discard"),
    "roll up pending batches that no hint announced": _every(2, "budgets.tasks.roll_up"),
    "evaluate every rule": _every(10, "alerts.tasks.evaluate"),
    "follow up incidents: escalate, update, repeat, remind": _every(5, "alerts.tasks.follow_up"),
    "tell whoever watches this installation that it works": _every(30, "alerts.tasks.give_sign_of_life"),
    "deliver notifications that are due": _every(5, "alerts.tasks.deliver_due"),
    "send alerts again that would be forgotten": _every(15, "alerts.tasks.renew_living_alerts"),
    "mail links for new passwords that were asked for": _every(20, "budgets.tasks.send_account_mails"),
    "mail the reports whose time has come": _every(60, "alerts.tasks.send_reports"),
    "judge anew what a first latency budget covers": _every(10, "budgets.tasks.rejudge"),
    "derive closed hours and days": _every(15, "budgets.tasks.compact"),
    "make partitions ahead and drop expired ones": _every(600, "budgets.tasks.maintain"),
}


@signals.setup_logging.connect
def _keep_logging(**kwargs: object) -> None:
    """Django has set logging up already, by settings. That somebody answers keeps Celery from doing so anew."""


@signals.task_prerun.connect
def _note_requests(task: Any, **kwargs: object) -> None:
    """What a task logs and sends says for which requests: those that whoever sent it worked for."""
    ids = (task.request.headers or {}).get("request_ids") or ()
    task.request.request_ids_token = request_ids.enter(tuple(ids))


@signals.task_postrun.connect
def _forget_requests(task: Any, **kwargs: object) -> None:
    token: Token[tuple[str, ...]] | None = getattr(task.request, "request_ids_token", None)
    if token is not None:
        request_ids.leave(token)


@signals.task_prerun.connect
def _drop_dead_connections(**kwargs: object) -> None:
    """As Django does before each request. A task that opens no transaction would go on with a dead connection
    after PostgreSQL was restarted, and so would the next one in the same process or thread."""
    close_old_connections()
