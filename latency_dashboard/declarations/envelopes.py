"""What stands around a spec in a file: of which kind it is, whose, and under what name.

apiVersion: v1
kind: Feature
team: assistants
name: support-chat
spec:
  …
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from budgets.declarations import DeclaredKind
from budgets.keys import TEAM_SLUG

from . import core_yaml
from .core_yaml import Document, Path
from .kinds import KINDS

API_VERSION = "v1"
_FIELDS = ("apiVersion", "kind", "team", "name", "spec")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a document, and where it stands."""

    source: str
    message: str
    document: int | None = None
    line: int | None = None
    subject: str = ""
    field: str = ""

    def __str__(self) -> str:
        where = [self.source if self.line is None else f"{self.source}:{self.line}"]
        where += [f"document {self.document}"] if self.document is not None else []
        where += [one for one in (self.subject, self.field) if one]
        return f"{', '.join(where)}: {self.message}"


class NotApplied(Exception):
    """Nothing was changed; `problems` says why."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True)
class Declaration:
    """A document whose envelope is sound; its spec is read by its kind."""

    source: str
    document: Document
    kind: DeclaredKind
    team: str
    name: str
    spec: Any

    @property
    def subject(self) -> str:
        return f"{self.kind.name} {self.name}"

    def problem_of(self, field: str, message: str) -> Problem:
        """A problem of the envelope's own field."""
        return replace(_problem(self.source, self.document, field, message), subject=self.subject)

    def problem(self, message: str, field: str = "") -> Problem:
        return Problem(
            source=self.source,
            message=message,
            document=self.document.number,
            line=self._line_of(field),
            subject=self.subject,
            field=f"spec.{field}" if field else "",
        )

    def _line_of(self, field: str) -> int:
        """The line of a field as a refusal names it, e.g. latency_budgets[0].allocations.model; else the spec's."""
        lines = {
            _as_text(path[1:]): line for path, line in self.document.lines.items() if path[:1] == ("spec",)
        }
        known = [
            name
            for name in lines
            if name
            and (field == name or field.startswith((f"{name}.", f"{name}[")) or name.endswith(f".{field}"))
        ]
        # A field that is named in part, such as allocations, may stand in several places: the first will do.
        best = max(
            known, key=lambda name: (len(name) if field.startswith(name) else 0, -lines[name]), default=""
        )
        return lines.get(best, self.document.line)


def read_declarations(source: str, data: bytes) -> tuple[list[Declaration], list[Problem]]:
    """The documents of a file whose envelopes are sound, and what is wrong with the others."""
    declarations: list[Declaration] = []
    problems: list[Problem] = []
    try:
        for document in core_yaml.read(data):
            found = _read_envelope(source, document)
            if isinstance(found, Declaration):
                declarations.append(found)
            else:
                problems += found
    except core_yaml.Unreadable as error:
        problems.append(Problem(source, error.message, line=error.line))
    return declarations, problems


def _read_envelope(source: str, document: Document) -> Declaration | list[Problem]:
    value = document.value
    if not isinstance(value, dict):
        return [_problem(source, document, "", f"A document has the fields {', '.join(_FIELDS)}.")]
    problems = [
        _problem(source, document, field, f"There is no such field; a document has {', '.join(_FIELDS)}.")
        for field in value
        if field not in _FIELDS
    ]
    problems += [
        _problem(source, document, field, f"{field} is missing.") for field in _FIELDS if field not in value
    ]
    if problems:
        return problems
    version, kind, team, name = (value[field] for field in _FIELDS[:-1])
    if version != API_VERSION:
        problems.append(
            _problem(source, document, "apiVersion", f"Expected {API_VERSION}, got {version!r:.50}.")
        )
    if not isinstance(kind, str) or kind not in KINDS:
        problems.append(
            _problem(source, document, "kind", f"Expected one of {', '.join(KINDS)}, got {kind!r:.50}.")
        )
    if not isinstance(team, str) or not TEAM_SLUG.fullmatch(team):
        message = f"A team is named by letters, digits, hyphens and underscores, got {team!r:.50}."
        problems.append(_problem(source, document, "team", message))
    if not isinstance(name, str):
        problems.append(_problem(source, document, "name", f"Expected a text, got {name!r:.50}; quote it."))
    if problems:
        return problems
    return Declaration(source, document, KINDS[kind], team, name, value["spec"])


def _problem(source: str, document: Document, field: str, message: str) -> Problem:
    line = document.lines.get((field,), document.line)
    return Problem(source, message, document=document.number, line=line, field=field)


def envelope(kind: DeclaredKind, team: str, name: str, spec: Any) -> dict[str, Any]:
    """A document as an export writes it."""
    return dict(zip(_FIELDS, (API_VERSION, kind.name, team, name, spec), strict=True))


def _as_text(path: Path) -> str:
    """A path as refusals name fields: latency_budgets[0].budget_ms."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def repeated(declarations: Iterable[Declaration]) -> list[Problem]:
    """A problem for each document about what an earlier one is about."""
    seen: dict[tuple[str, str, str], Declaration] = {}
    problems = []
    for one in declarations:
        first = seen.setdefault((one.kind.name, one.team, one.name), one)
        if first is not one:
            where = f"{first.source}:{first.document.line}, document {first.document.number}"
            problems.append(one.problem(f"It is declared already in {where}."))
    return problems
