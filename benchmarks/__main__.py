"""`python -m benchmarks [NAME …]`: runs the benchmarks, prints what they gave and keeps it as JSON."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from latency_dashboard import programs

from . import (
    alerting,
    delay,
    drawing,
    evaluation,
    growth,
    hour,
    ingest,
    pages,
    percentiles,
    rollup,
    status,
    storage,
)
from .bench import Bench
from .report import Section, missed
from .scale import SCALES
from .stack import fresh_data_dir, plain_environment

BENCHMARKS = {
    "ingest": ingest,
    "rollup": rollup,
    "status": status,
    "evaluation": evaluation,
    "alerting": alerting,
    "percentiles": percentiles,
    "storage": storage,
    "pages": pages,
    "drawing": drawing,
    "delay": delay,
    "hour": hour,
    "growth": growth,
}
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """The command. An aim that is missed is said and is no failure: machines differ."""
    options = _options()
    started_at, began = datetime.now(tz=UTC), time.monotonic()
    load = os.getloadavg()[0]
    # So that the servers end in order, and their folders with them; SIGINT also where a shell ignored it for us.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    sections: dict[str, Section] = {}

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", file=sys.stderr, flush=True)

    with fresh_data_dir() as data_dir:
        _set_up_django(data_dir)
        with closing(Bench(SCALES[options.scale], data_dir, say)) as bench:
            for name in options.names:
                sections[name] = BENCHMARKS[name].run(bench)
                print("", *sections[name].lines(), sep="\n", flush=True)
    seconds = time.monotonic() - began
    document = {
        "started_at": started_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "seconds": round(seconds, 1),
        "scale": options.scale,
        "machine": {**_machine(), "load_before": round(load, 2)},
        "benchmarks": {name: section.document() for name, section in sections.items()},
    }
    path = _keep(document, options.results, started_at)
    _conclude(sections, seconds, path)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; default: the scale's"
    )
    parser.add_argument(
        "--scale", choices=SCALES, default=os.environ.get("SCALE", "small"), help="default: SCALE, or small"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for the JSON")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"expected some of {', '.join(BENCHMARKS)}, got {', '.join(unknown)}")
    if options.scale not in SCALES:
        parser.error(f"SCALE is {options.scale}, expected one of {', '.join(SCALES)}")
    scale = SCALES[options.scale]
    options.names = options.names or list(scale.benchmarks)
    folder = tempfile.gettempdir()
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < scale.free_disk_gb:
        parser.error(
            f"Scale {options.scale} needs {scale.free_disk_gb:g} GB free in {folder}, there are {free_gb:.1f} GB. "
            "TMPDIR names another folder. Nothing was started."
        )
    # The order is theirs: one that needs all of the product ends the servers that the others share.
    options.names = [name for name in BENCHMARKS if name in options.names]
    return options


def _set_up_django(data_dir: Path) -> None:
    """Loads the product into this process with its default settings, over the data folder."""
    environment = plain_environment(
        DATA_DIR=str(data_dir), DJANGO_SETTINGS_MODULE="latency_dashboard.settings", LOG_LEVEL="WARNING"
    )
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
    import django

    django.setup()


def _machine() -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "postgresql": programs.postgres_version(programs.find_postgres() / "postgres"),
    }


def _keep(document: Mapping[str, Any], folder: Path, started_at: datetime) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{started_at:%Y-%m-%dT%H-%M-%S}Z.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    return path


def _conclude(sections: Mapping[str, Section], seconds: float, path: Path) -> None:
    print()
    sentences = missed(sections)
    if sentences:
        print(f"{len(sentences)} aim{'s were' if len(sentences) > 1 else ' was'} MISSED:")
        print(*(f"  {sentence}" for sentence in sentences), sep="\n")
    else:
        print("Every aim was reached.")
    print(f"{seconds:.0f} s on {os.cpu_count()} processors. Kept in {path}")


if __name__ == "__main__":
    sys.exit(main())
