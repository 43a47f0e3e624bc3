"""What changed between two documents: the paths alone, each with its value before and after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

# By what an entry of a list is known, where there is no better name than its place.
_NAMES: Final = ("milestone", "component", "name", "slug", "email")
_LONG: Final = 80
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Change:
    """A value at a path such as "latency_budgets › first_token › budget_ms"; None where there was or is none."""

    path: str
    before: str | None
    after: str | None

    @property
    def is_long(self) -> bool:
        return max(len(self.before or ""), len(self.after or "")) > _LONG


def changes(before: Any, after: Any) -> list[Change]:
    """The paths at which two JSON documents differ.

    >>> changes({"a": 1, "b": {"c": [1, 2]}}, {"a": 1, "b": {"c": [2]}, "d": True})
    [Change(path='b › c', before='1, 2', after='2'), Change(path='d', before=None, after='yes')]
    >>> old = [{"milestone": "complete", "budget_ms": 8000}]
    >>> changes({"latency_budgets": old}, {"latency_budgets": [old[0] | {"budget_ms": 6000}]})
    [Change(path='latency_budgets › complete › budget_ms', before='8000', after='6000')]
    >>> changes({"role": "viewer"}, None)
    [Change(path='role', before='viewer', after=None)]
    """
    return list(_changes((), _ABSENT if before is None else before, _ABSENT if after is None else after))


def _changes(path: tuple[str, ...], before: Any, after: Any) -> Iterator[Change]:
    parts_before, parts_after = _parts(before), _parts(after)
    if parts_before is not None and parts_after is not None:
        names = [*parts_before, *(name for name in parts_after if name not in parts_before)]
        for name in names:
            yield from _changes(
                (*path, name), parts_before.get(name, _ABSENT), parts_after.get(name, _ABSENT)
            )
        return
    # To Python, 1 is true and 0 is false; to a reader of the log they are not.
    if before != after or type(before) is not type(after):
        yield Change(" › ".join(path), _text(before), _text(after))


def _parts(value: Any) -> dict[str, Any] | None:
    """What a value consists of, by name; None where it is best read as a whole."""
    if value is _ABSENT or value is None or value == []:
        return {}
    if isinstance(value, dict):
        return {str(name): part for name, part in value.items()}
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        names = [_name(one, place) for place, one in enumerate(value, 1)]
        if len(set(names)) == len(names):
            return dict(zip(names, value, strict=True))
    return None


def _name(entry: dict[str, Any], place: int) -> str:
    return next((str(entry[name]) for name in _NAMES if isinstance(entry.get(name), str)), str(place))


def _text(value: Any) -> str | None:
    if value is _ABSENT or value is None or value in ("", [], {}):
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and not any(isinstance(one, dict | list) for one in value):
        return ", ".join(_text(one) or "none" for one in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
