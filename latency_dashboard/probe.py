"""Whether a process of ours is well: the health checks of containers.

    python -I latency_dashboard/probe.py web
    python -I latency_dashboard/probe.py heartbeat

`web` asks the web process on PORT for /healthz; `heartbeat` looks how old HEARTBEAT_FILE is, whose time a worker or
beat renews every few seconds (latency_dashboard/heartbeat.py). The exit code is 0 or 1 and the reason is printed.
Run as a script with the standard library alone, it takes some 40 ms; Django and Celery would take seconds each time.
"""

from __future__ import annotations

import http.client
import os
import sys
import time
from urllib.parse import urlsplit

# Six beats: a worker that is merely busy misses one or two.
STALE_AFTER_S = 30.0
TIMEOUT_S = 4.0


def web() -> str:
    """What is wrong with the web process; "" where nothing is."""
    port = int(os.environ.get("PORT") or 8000)
    # By the name that it answers to, whatever ALLOWED_HOSTS is.
    host = urlsplit(os.environ.get("PUBLIC_URL") or f"http://127.0.0.1:{port}").netloc
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz", headers={"Host": host})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"port {port} does not answer: {error or type(error).__name__}"
    finally:
        connection.close()
    return "" if status == 200 else f"/healthz answers {status}"


def heartbeat() -> str:
    """What is wrong with the worker or beat; "" where nothing is."""
    path = os.environ.get("HEARTBEAT_FILE")
    if not path:
        return "HEARTBEAT_FILE is not set"
    try:
        age_s = time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        return "no heartbeat yet"
    return "" if age_s < STALE_AFTER_S else f"the last heartbeat was {age_s:.0f} s ago"


def main(arguments: list[str]) -> int:
    checks = {"web": web, "heartbeat": heartbeat}
    if len(arguments) != 1 or arguments[0] not in checks:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    wrong = checks[arguments[0]]()
    sys.stdout.write(f"{wrong or 'ok'}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
