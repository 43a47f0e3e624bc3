"""References to variables of the environment: `${WEBHOOK_SECRET}` in a text, and `$${` for what is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .core_yaml import Path

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Unresolved(Exception):
    """References that lead nowhere: field → what is wrong."""

    def __init__(self, fields: dict[Path, str]) -> None:
        super().__init__(str(fields))
        self.fields = fields


def resolve(spec: Any, environment: Mapping[str, str]) -> tuple[Any, dict[Path, str]]:
    """The spec with each reference replaced, and where there was one: path → the text as it stands in the file.

    Raises Unresolved.
    """
    written: dict[Path, str] = {}
    missing: dict[Path, str] = {}
    resolved = _resolve(spec, (), environment, written, missing)
    if missing:
        raise Unresolved(missing)
    return resolved, written


def escape(value: Any) -> Any:
    """A spec in which no text refers to anything: what `resolve` makes the spec of."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {name: escape(one) for name, one in value.items()}
    return [escape(one) for one in value] if isinstance(value, list) else value


def _resolve(
    value: Any, path: Path, environment: Mapping[str, str], written: dict[Path, str], missing: dict[Path, str]
) -> Any:
    if isinstance(value, dict):
        return {
            name: _resolve(one, (*path, name), environment, written, missing) for name, one in value.items()
        }
    if isinstance(value, list):
        return [_resolve(one, (*path, n), environment, written, missing) for n, one in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return "${"
        written[path] = value
        if not _VARIABLE.fullmatch(name):
            missing[path] = f"${{{name}}} names no variable; write $${{ for a text that begins so."
        elif not environment.get(name):
            missing[path] = f"It refers to ${{{name}}}, and the environment has no such variable."
        return environment.get(name, "")

    return _REFERENCE.sub(replace, value)
