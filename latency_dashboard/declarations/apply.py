"""Makes everything what documents say, all of it or nothing, and tells what that changed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from budgets.errors import Refusal
from budgets.models import Team
from budgets.teams import create_team

from . import core_yaml, references
from .core_yaml import Path
from .envelopes import Declaration, NotApplied, Problem, repeated
from .kinds import KINDS

# As the decoder says it of an object, which it names where it is not the whole.
_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]+)`")


@dataclass(frozen=True)
class Outcome:
    """What became of a document. `diff` is unified, without secrets, and empty where nothing changed."""

    declaration: Declaration
    is_created: bool
    diff: str
    remark: str

    @property
    def is_changed(self) -> bool:
        return self.is_created or bool(self.diff)


@dataclass(frozen=True)
class Applied:
    outcomes: list[Outcome]
    new_teams: list[str]

    @property
    def is_changed(self) -> bool:
        return bool(self.new_teams) or any(outcome.is_changed for outcome in self.outcomes)


def apply(
    declarations: Sequence[Declaration],
    *,
    environment: Mapping[str, str],
    is_dry_run: bool,
    actor: str,
    now: datetime,
) -> Applied:
    """Saves every declaration in one transaction, through the verbs that pages and API use.

    They are saved in the order of their kinds, so that what one refers to is there, wherever it stands in the files. A dry run
    does the same and rolls it back. Teams are made where they are new. Raises NotApplied with all that is wrong
    with any of them, and then nothing was changed.
    """
    problems = repeated(declarations)
    outcomes: list[Outcome] = []
    teams: dict[str, Team] = {}
    new_teams: list[str] = []
    with transaction.atomic():
        for declaration in sorted(declarations, key=_rank):
            try:
                with transaction.atomic():
                    team = teams.get(declaration.team) or Team.objects.filter(slug=declaration.team).first()
                    if team is None:
                        team = _new_team(declaration, actor, now)
                        new_teams.append(team.slug)
                    teams[team.slug] = team
                    outcomes.append(_save(declaration, team, environment, actor, now))
            except NotApplied as error:
                problems += error.problems
        if problems:
            raise NotApplied(sorted(problems, key=_position))
        transaction.set_rollback(is_dry_run)
    places = {id(declaration): place for place, declaration in enumerate(declarations)}
    outcomes.sort(key=lambda outcome: places[id(outcome.declaration)])
    return Applied(outcomes, new_teams)


def _rank(declaration: Declaration) -> int:
    return list(KINDS).index(declaration.kind.name)


def _position(problem: Problem) -> tuple[str, int]:
    return problem.source, problem.line or 0


def _new_team(declaration: Declaration, actor: str, now: datetime) -> Team:
    slug = declaration.team
    try:
        return create_team(name=slug.replace("-", " ").capitalize(), slug=slug, actor=actor, now=now)
    except Refusal as refusal:
        messages = [message for messages in refusal.fields.values() for message in messages]
        raise NotApplied([declaration.problem_of("team", message) for message in messages]) from refusal


def _save(
    declaration: Declaration, team: Team, environment: Mapping[str, str], actor: str, now: datetime
) -> Outcome:
    kind, name = declaration.kind, declaration.name
    spec = declaration.spec
    written: dict[Path, str] = {}
    if kind.has_references:
        try:
            spec, written = references.resolve(spec, environment)
        except references.Unresolved as error:
            raise NotApplied(
                [declaration.problem(message, _field(path)) for path, message in error.fields.items()]
            ) from error
    before = None if "\0" in name else kind.spec_of(team, name)
    try:
        remark = kind.save(team=team, name=name, spec=spec, actor=actor, now=now)
    except Refusal as refusal:
        raise NotApplied(_problems(declaration, refusal, spec, written)) from refusal
    after = kind.spec_of(team, name)
    assert after is not None, f"{declaration.subject} was saved and is not there"
    diff = _diff(before and kind.shown(before), kind.shown(after), f"{team.slug}/{name}")
    return Outcome(declaration, before is None, diff, remark)


def _problems(
    declaration: Declaration, refusal: Refusal, spec: Any, written: Mapping[Path, str]
) -> list[Problem]:
    """A problem for each field that was refused, in the words of the file where it refers to the environment."""

    def said(message: str) -> str:
        for path, text in written.items():
            message = message.replace(str(_at(spec, path)), text)
        return message

    problems = []
    for field, messages in (
        refusal.fields or {"": [refusal.message.removesuffix(" Nothing was saved.")]}
    ).items():
        for message in messages:
            if field == declaration.kind.name_field:
                problems.append(declaration.problem_of("name", said(message)))
                continue
            unknown = _UNKNOWN_FIELD.search(message)
            parts = ("" if field == "document" else field, unknown[1] if unknown else "")
            problems.append(declaration.problem(said(message), ".".join(filter(None, parts))))
    return problems


def _diff(before: dict[str, Any] | None, after: dict[str, Any], name: str) -> str:
    """Unified, line by line of the YAML; empty where nothing differs."""
    lines_before = [] if before is None else core_yaml.write_one(before).splitlines(keepends=True)
    lines_after = core_yaml.write_one(after).splitlines(keepends=True)
    return "".join(
        difflib.unified_diff(
            lines_before,
            lines_after,
            "/dev/null" if before is None else f"{name} (stored)",
            f"{name} (declared)",
        )
    )


def _field(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _at(spec: Any, path: Path) -> Any:
    for part in path:
        spec = spec[part]
    return spec
