"""A real Prometheus scrapes the product and comes to the same verdicts."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from django.utils import timezone

from alerts.evaluation import evaluate
from alerts.models import RuleState
from tests.children import eventually
from tests.factories import make_feature, make_traffic
from tests.latency_dashboard.web import web_server

TOKEN = "metrics-token-0123456789"
INTERVAL_S = 1
PROMETHEUS = shutil.which("prometheus")

pytestmark = [
    pytest.mark.processes,
    pytest.mark.peer,
    pytest.mark.skipif(
        PROMETHEUS is None, reason="there is no Prometheus; Debian's package is called prometheus"
    ),
]

RULES = """
groups:
  - name: objectives
    interval: 1s
    rules:
      - alert: ByCounters
        expr: |
          increase(latency_dashboard_bad_requests_total[5m])
          / (increase(latency_dashboard_good_requests_total[5m]) + increase(latency_dashboard_bad_requests_total[5m]))
          > 13.44 * 0.01
      - alert: ByBurnRates
        expr: |
          latency_dashboard_burn_rate{window="5m"} > 13.44
          and ignoring (window) latency_dashboard_burn_rate{window="1h"} > 13.44
"""


@contextlib.contextmanager
def prometheus(folder: Path, target: int) -> Iterator[int]:
    """Scrapes the product at this port and evaluates RULES every second; gives its own port, on loopback alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "rules.yml").write_text(RULES)
    config = {
        "global": {"scrape_interval": f"{INTERVAL_S}s", "scrape_timeout": f"{INTERVAL_S}s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {
                "job_name": "latency-dashboard",
                "authorization": {"credentials": TOKEN},
                "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    assert PROMETHEUS is not None
    arguments = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]
    with subprocess.Popen([PROMETHEUS, *arguments], cwd=folder) as process:
        try:
            yield port
        finally:
            process.terminate()


def asked(port: int, path: str) -> list[dict[str, object]]:
    try:
        with urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=5) as answer:
            return json.load(answer)["data"].get("result") or []
    except OSError:
        return []


def values(port: int, query: str) -> dict[str, float]:
    """By the feature's name."""
    return {
        one["metric"]["feature"]: float(one["value"][1]) for one in asked(port, f"query?query={quote(query)}")
    }


def firing(port: int, alert: str) -> set[str]:
    return set(values(port, f'ALERTS{{alertname="{alert}", alertstate="firing"}}'))


def test_a_real_prometheus_comes_to_the_same_verdicts(transactional_db: None, tmp_path: Path) -> None:
    """Two features burn, one faster and one slower than the factor of the first tier; one is well."""
    now = timezone.now()
    bad_of_100 = {"fast": 30, "slow": 8, "well": 0}
    features = {name: make_feature(slug=name) for name in bad_of_100}

    def traffic(count: int) -> None:
        at = timezone.now()
        for name, bad in bad_of_100.items():
            make_traffic(
                features[name],
                at=at,
                count=count,
                over=count * bad // 100,
                milestone="first_token",
                now=at + timedelta(minutes=1),
            )

    with (
        web_server(METRICS_TOKEN=TOKEN, METRICS_CACHE_SECONDS="0", ALLOWED_HOSTS="127.0.0.1") as target,
        prometheus(tmp_path, target) as port,
    ):
        traffic(100)
        assert eventually(
            lambda: values(port, "latency_dashboard_good_requests_total").get("fast") == 70, seconds=30
        )
        traffic(100)
        assert eventually(
            lambda: values(port, "latency_dashboard_good_requests_total").get("fast") == 140, seconds=30
        )
        evaluate(feature_ids=None, now=now + timedelta(seconds=30))
        ours = set(
            RuleState.objects.filter(rule__kind="burn_rate", key="1h/5m", status="firing").values_list(
                "rule__feature__slug", flat=True
            )
        )
        assert ours == {"fast"}
        assert eventually(lambda: firing(port, "ByCounters") == ours, seconds=30)
        assert eventually(lambda: firing(port, "ByBurnRates") == ours, seconds=30)
        assert values(port, 'latency_dashboard_burn_rate{window="5m"}') == {
            "fast": pytest.approx(30),
            "slow": pytest.approx(8),
            "well": 0,
        }
        assert values(port, "latency_dashboard_error_budget_remaining_ratio")["slow"] == pytest.approx(-7)
        assert asked(port, f"query?query={quote('up == 1')}")
