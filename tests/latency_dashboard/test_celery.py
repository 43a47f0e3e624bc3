"""What is mended in Celery."""

from __future__ import annotations

import os
import subprocess
import sys

from billiard.process import Process
from celery.concurrency.asynpool import AsynPool
from kombu.asynchronous import Hub


def test_a_worker_finds_its_broker_again_though_a_process_of_its_pool_has_just_ended() -> None:
    """The pool tracks its processes anew with each connection; one that ended is no longer to be waited for."""
    hub, pool, process = Hub(), AsynPool.__new__(AsynPool), Process()
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        process._sentinel_poll = os.dup(child.stdout.fileno())
        pool._track_child_process(process, hub)
        assert len(hub.readers) == 1
        pool._untrack_child_process(process, hub)
    pool._track_child_process(process, hub)
    assert len(hub.readers) == 0
    hub.close()
