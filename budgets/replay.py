"""Recorded request times, read from files that others publish, as requests for the ingest endpoint.

Two formats are recognised by their content:

- *llmperf*: a JSON list, one object a request, with ``ttft_s`` and ``end_to_end_latency_s`` (seconds) and
  ``error_code`` (null where it went well). They become the milestones ``first_token`` and ``complete``.
- *delag*: a CSV, one row a request, with ``Latency`` from end to end, one column for each remote call (all
  in ms) and optionally ``anomaly``, which is 0 where nothing was injected. Latency becomes the milestone
  ``complete``, each call a component. The calls are nested: together they are longer than the request.

Neither holds instants, so the caller says when the requests took place. Pure: no Django, no network.
"""

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LLMPERF, DELAG = "llmperf", "delag"
FORMATS = (
    "a JSON list of objects with ttft_s and end_to_end_latency_s (llmperf) "
    "or a CSV with the column Latency (delag)"
)


class UnreadableError(Exception):
    """A file that cannot be replayed; the message names the file and, where they apply, row and field."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request of a file, without its place in time."""

    milestones: Mapping[str, float]
    components: Mapping[str, float]
    status: str = "ok"
    labels: Mapping[str, str] | None = None

    @property
    def total_ms(self) -> float:
        return max([*self.milestones.values(), *self.components.values()])

    @property
    def measurements(self) -> int:
        return len(self.milestones) + len(self.components)


@dataclass(frozen=True, slots=True)
class Recording:
    """A file: its requests in order, and what to call them where nobody says otherwise."""

    path: Path
    format: str
    digest: str  # of the content: with the row and the start it makes a trace id that is the same each time
    requests: Sequence[Recorded]

    @property
    def feature(self) -> str:
        """A slug: the format and, for delag, the folder, which is the system that was measured."""
        return LLMPERF if self.format == LLMPERF else _slug(f"{DELAG}-{self.path.resolve().parent.name}")

    @property
    def release(self) -> str:
        """The file's name without its ending: runs of one system are told apart as releases are."""
        return self.path.stem

    @property
    def components(self) -> list[str]:
        """In the order of the file."""
        return list(dict.fromkeys(name for request in self.requests for name in request.components))


def read(path: Path) -> Recording:
    """The recording in a file. Raises UnreadableError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror or error}.") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{path}: byte {error.start} is not UTF-8; expected {FORMATS}.") from error
    is_json = text.lstrip()[:1] in ("[", "{")
    requests = list(_llmperf(path, text) if is_json else _delag(path, text))
    if not requests:
        raise UnreadableError(f"{path}: holds no request.")
    digest = hashlib.sha256(content).hexdigest()
    return Recording(path, LLMPERF if is_json else DELAG, digest, requests)


def last_end_s(recordings: Sequence[Recording], rate: float) -> float:
    """Seconds from the first start until all requests have ended, when ``rate`` of them start a second."""
    return max(offset + request.total_ms / 1000 for offset, _, _, request in _laid_out(recordings, rate))


def requests(
    recordings: Sequence[Recording],
    *,
    start: float,
    rate: float,
    feature: str | None = None,
    environment: str = "production",
) -> Iterator[dict[str, Any]]:
    """The requests of files one after the other, as items of the ingest endpoint's ``requests``.

    The first starts at ``start`` (Unix seconds), then ``rate`` a second at even distances.
    """
    for offset, recording, row, request in _laid_out(recordings, rate):
        trace = hashlib.sha256(f"{recording.digest} {row} {start:.6f}".encode()).hexdigest()[:32]
        item: dict[str, Any] = {
            "feature": feature or recording.feature,
            "trace_id": trace,
            "started_at": round(start + offset, 6),
            "status": request.status,
            "environment": environment,
            "release": recording.release,
            "milestones": dict(request.milestones),
            "components": [
                {"component": name, "duration_ms": duration} for name, duration in request.components.items()
            ],
        }
        if request.labels:
            item["labels"] = dict(request.labels)
        yield item


def declaration(recordings: Sequence[Recording], *, feature: str) -> dict[str, Any]:
    """The body of a PUT that declares the feature of these files, with latency budgets to start from.

    A first token after 3 s and the whole after 8 s where models stream; else the 95th percentile of the
    files, rounded up. Nested calls are declared and left without an allocation, since they add up to more
    than the total.
    """
    if all(recording.format == LLMPERF for recording in recordings):
        kind = "interactive_chat"
        budgets = [("first_token", 3000.0, 0.99), ("complete", 8000.0, 0.95)]
        note = "The usual start for a chat, declared by replay. Decide your own."
    else:
        kind = "other"
        totals = sorted(
            request.milestones["complete"]
            for recording in recordings
            for request in recording.requests
            if "complete" in request.milestones
        )
        p95 = totals[math.ceil(0.95 * len(totals)) - 1]
        budgets = [("complete", _rounded_up(p95), 0.95)]
        note = f"The 95th percentile of the replayed files, {p95:g} ms, rounded up. Decide your own."
    names = dict.fromkeys(name for recording in recordings for name in recording.components)
    return {
        "name": feature.replace("-", " ").capitalize(),
        "kind": kind,
        "description": "Replayed from " + ", ".join(recording.path.name for recording in recordings) + ".",
        "components": list(names),
        "latency_budgets": [
            {
                "milestone": milestone,
                "budget_ms": budget_ms,
                "objective": objective,
                "window_days": 28,
                "note": note,
            }
            for milestone, budget_ms, objective in budgets
        ],
    }


def _laid_out(
    recordings: Sequence[Recording], rate: float
) -> Iterator[tuple[float, Recording, int, Recorded]]:
    position = 0
    for recording in recordings:
        for row, request in enumerate(recording.requests, start=1):
            yield position / rate, recording, row, request
            position += 1


def _llmperf(path: Path, text: str) -> Iterator[Recorded]:
    try:
        rows = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UnreadableError(f"{path}: is not valid JSON ({error}); expected {FORMATS}.") from error
    if not isinstance(rows, list) or (
        rows and not (isinstance(rows[0], dict) and {"ttft_s", "end_to_end_latency_s"} <= rows[0].keys())
    ):
        raise UnreadableError(f"{path}: is JSON, but not a list of llmperf's requests; expected {FORMATS}.")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UnreadableError(f"{path}, row {number}: expected an object, got {row!r:.40}.")
        first_token_ms = 1000 * _number(path, number, row, "ttft_s")
        complete_ms = 1000 * _number(path, number, row, "end_to_end_latency_s")
        # A first token of 0 is one that did not come: it is left out, never filled with the total.
        milestones = {"first_token": first_token_ms} if first_token_ms else {}
        code = row.get("error_code")
        if code is None:
            yield Recorded(milestones | {"complete": complete_ms}, {})
        else:
            # What has no total either failed on the way to its first token.
            ended = {"complete": complete_ms} if complete_ms else {"first_token": first_token_ms}
            yield Recorded(milestones | ended, {}, "error", {"error_code": str(code)})


def _delag(path: Path, text: str) -> Iterator[Recorded]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(rows, [])
        if "Latency" not in header:
            raise UnreadableError(f"{path}: the format is not known; expected {FORMATS}.")
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise UnreadableError(f"{path}: the column {repeated[0]!r} stands there more than once.")
        calls = [name for name in header if name not in ("Latency", "anomaly")]
        for number, cells in enumerate(rows, start=1):
            if not cells:
                continue
            if len(cells) != len(header):
                raise UnreadableError(
                    f"{path}, row {number} (line {rows.line_num}): "
                    f"expected {len(header)} fields, got {len(cells)}."
                )
            row = dict(zip(header, cells, strict=True))
            yield Recorded(
                {"complete": _number(path, number, row, "Latency")},
                # An empty cell is a call that did not take place.
                {name: _number(path, number, row, name) for name in calls if row[name]},
                labels={"anomaly": row["anomaly"]} if row.get("anomaly", "0") not in ("0", "") else None,
            )
    except csv.Error as error:
        raise UnreadableError(f"{path}, line {rows.line_num}: {error}; expected {FORMATS}.") from error


def _number(path: Path, row: int, fields: Mapping[str, Any], field: str) -> float:
    value = fields.get(field)
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise UnreadableError(f"{path}, row {row}, field {field}: expected a number ≥ 0, got {value!r:.40}.")
    return number


def _rounded_up(value: float) -> float:
    """Up to two significant digits: 512.3 gives 520.

    >>> _rounded_up(512.3), _rounded_up(180.0), _rounded_up(0)
    (520, 180, 1)
    """
    if value <= 0:
        return 1
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    rounded = math.ceil(value / step) * step
    return int(rounded) if rounded == int(rounded) else round(rounded, 3)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
