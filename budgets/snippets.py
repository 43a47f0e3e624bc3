"""Commands that work pasted unchanged into a shell: the address, the key and the feature are filled in.

They need curl or Python 3 and nothing else, compute their instants when they run, and read the same in bash, zsh
and sh, on Linux and on macOS.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from .limits import budgets_in_force
from .models import Feature, Milestone

_MAX_DURATION_MS: Final = 600_000_000


@dataclass(frozen=True, slots=True)
class Example:
    """A measurement that a newcomer sends first: well within the latency budget, so that it turns green."""

    feature: str
    milestone: str
    duration_ms: float

    @property
    def duration_text(self) -> str:
        return str(int(self.duration_ms)) if self.duration_ms.is_integer() else repr(self.duration_ms)

    @property
    def began_s_ago(self) -> int:
        """Whole seconds; the measurement ends now, and not ahead of its receipt, which would be rejected."""
        return math.ceil(self.duration_ms / 1000)


def example_of(feature: Feature, now: datetime) -> Example:
    """An example of the first milestone that has a latency budget; of a completion where none has one."""
    in_force = budgets_in_force([feature.pk], now)
    for milestone in Milestone.values:
        if budget := in_force.get((feature.pk, milestone)):
            return Example(feature.slug, milestone, _within(budget.budget_ms))
    return Example(feature.slug, Milestone.COMPLETE, 1000.0)


def curl_first_measurement(example: Example, *, base: str, token: str = "") -> str:
    """Posts the example; `base` is the address of the installation. Without a token it reads $KEY."""
    body = (
        f'{{"measurements": [{{"feature": "{example.feature}", "milestone": "{example.milestone}",\n'
        f"""       "duration_ms": {example.duration_text}, "started_at": '"$(( $(date +%s) - {example.began_s_ago} ))"'}}]}}"""
    )
    return curl(f"-X POST {shlex.quote(f'{base}/api/v1/measurements')}", token=token, body=f"'{body}'")


def curl(request: str, *, token: str = "", body: str = "") -> str:
    """A curl command; `body` is written as the shell shall read it."""
    lines = [f"curl {request}", f'-H "Authorization: Bearer {token or "$KEY"}"']
    if body:
        lines += ['-H "Content-Type: application/json"', f"-d {body}"]
    return " \\\n  ".join(lines)


def python_first_measurement(example: Example, *, base: str, token: str = "") -> str:
    """Posts the example by a function that a service can go on with; it needs the standard library alone."""
    key = shlex.quote(token) if token else '"$KEY"'
    return f"""\
KEY={key} python3 - <<'PYTHON'
import json, os, time, urllib.error, urllib.request

def send(feature, milestone, started_at, duration_ms):
    item = {{"feature": feature, "milestone": milestone, "started_at": started_at, "duration_ms": duration_ms}}
    request = urllib.request.Request(
        "{base}/api/v1/measurements",
        json.dumps({{"measurements": [item]}}).encode(),
        {{"Authorization": "Bearer " + os.environ["KEY"], "Content-Type": "application/json"}},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.read().decode()

print(send("{example.feature}", "{example.milestone}", time.time() - {example.began_s_ago}, {example.duration_text}))
PYTHON"""


def _within(budget_ms: float) -> float:
    """Some 60 % of a latency budget, as a person would write it: 1840 of 3000, 600 of 1000."""
    if budget_ms == 3000:
        return 1840.0
    return float(f"{min(0.6 * budget_ms, _MAX_DURATION_MS):.2g}")
