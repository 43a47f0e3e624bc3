"""Runs scenarios through the alert rules and says where something else came than was expected."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from alerts.scenario_documents import Budget, Unsound, read_scenarios
from alerts.scenarios import Difference, Scenario, differences
from alerts.series_notation import write_duration
from latency_dashboard.declarations import core_yaml
from latency_dashboard.declarations.core_yaml import Document


class Command(BaseCommand):
    help = (
        "Tests alerts: runs the scenarios of YAML files (what was good and bad minute by minute, which states are "
        "expected when) through the rules themselves. Needs no database; leaves with 1 where something differs."
    )
    # It runs where nothing is installed but the code: in a CI job.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="a YAML file; - is standard input")

    def handle(self, *args: Any, **options: Any) -> None:
        failed = tests = checks = 0
        unsound: list[str] = []
        for name in options["files"]:
            source = "standard input" if name == "-" else name
            try:
                found = _read(name, source)
            except CommandError as error:
                unsound.append(str(error))
                continue
            for document, scenario in found:
                tests += 1
                checks += len(scenario.expectations)
                differing = differences(scenario)
                failed += bool(differing)
                self._tell(source, document, scenario, differing)
        if unsound:
            raise CommandError("\n".join(unsound))
        verdict = f"{failed} of {tests} tests FAILED" if failed else f"{tests} tests passed"
        self.stdout.write(f"{verdict}, {checks} evaluations were looked at.")
        if failed:
            sys.exit(1)

    def _tell(self, source: str, document: Document, scenario: Scenario, differing: list[Difference]) -> None:
        line = _line_of(document, scenario.path)
        self.stdout.write(f"{'FAILED' if differing else 'ok'}  {source}:{line}  {scenario.name}")
        told = None
        for one in differing:
            expectation = one.expectation
            if expectation is not told:
                told = expectation
                at = scenario.minutes.start + expectation.after
                self.stdout.write(
                    f"  at {write_duration(expectation.after)} ({at:%Y-%m-%dT%H:%M:%SZ}), "
                    f"line {_line_of(document, expectation.path)}"
                )
            self.stdout.write(f"    - {one.what}: {one.expected}")
            self.stdout.write(f"    + {one.what}: {one.came}")
            self.stdout.write(f"      {one.numbers}")


def _read(name: str, source: str) -> list[tuple[Document, Scenario]]:
    """The scenarios of a file. Raises CommandError with the line of the first mistake."""
    folder = Path() if name == "-" else Path(name).parent
    found: list[tuple[Document, Scenario]] = []
    try:
        for document in core_yaml.read(_content(name)):
            try:
                scenarios = read_scenarios(document.value, lambda file, slug: _declared(folder / file, slug))
            except Unsound as error:
                where = ".".join(map(str, error.path)) or "document"
                line = _line_of(document, error.path)
                raise CommandError(f"{source}:{line}, {where}: {error.message}") from error
            found += [(document, scenario) for scenario in scenarios]
    except core_yaml.Unreadable as error:
        where = source if error.line is None else f"{source}:{error.line}"
        raise CommandError(f"{where}: {error.message}") from error
    except OSError as error:
        raise CommandError(f"{source}: The file cannot be read: {error.strerror}.") from error
    if not found:
        raise CommandError(f"{source}: The file holds no test.")
    return found


def _declared(file: Path, slug: str) -> Mapping[str, Budget]:
    """The latency budgets of a feature in a file of declarations, by their milestones. Raises Unsound."""
    try:
        documents = list(core_yaml.read(_content(str(file))))
    except core_yaml.Unreadable as error:
        raise Unsound(f"{file}: {error.message}") from error
    except OSError as error:
        raise Unsound(f"{file} cannot be read: {error.strerror}.") from error
    for document in documents:
        value = document.value
        if isinstance(value, dict) and (value.get("kind"), value.get("name")) == ("Feature", slug):
            try:
                return {
                    one["milestone"]: Budget(
                        float(one["objective"]), int(one["window_days"]), tuple(one.get("allocations") or ())
                    )
                    for one in value["spec"]["latency_budgets"]
                }
            except (KeyError, TypeError, ValueError) as error:
                raise Unsound(
                    f"{file}:{document.line}: the latency budgets of {slug} need milestone, objective and window_days."
                ) from error
    raise Unsound(f"{file} declares no Feature {slug!r:.50}.")


def _line_of(document: Document, path: tuple[str | int, ...]) -> int:
    """The line of a value, or of what it stands in."""
    while path and path not in document.lines:
        path = path[:-1]
    return document.lines.get(path, document.line)


def _content(name: str) -> bytes:
    """The content of a file; of one without end a little more than is taken."""
    if name == "-":
        return sys.stdin.buffer.read(core_yaml.MAX_BYTES + 1)
    with Path(name).open("rb") as file:
        return file.read(core_yaml.MAX_BYTES + 1)
