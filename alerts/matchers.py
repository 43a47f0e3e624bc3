"""Which incidents something is about: conditions on what is known of an incident, all of which must fit.

A condition is {"name", "operator", "value"}: `=` and `!=` compare whole texts, `~` and `!~` patterns, in which `*` stands
for any text and `|` between alternatives. There is no more to a pattern, so none takes long, whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

NAMES: Final = ("feature", "milestone", "component", "environment", "severity")
OPERATORS: Final = ("=", "!=", "~", "!~")
MAX_MATCHERS: Final = 20
MAX_VALUE_CHARACTERS: Final = 500

# What these can be at all; "" is none: an incident has a milestone or a component.
_VALUES: Final = {"milestone": ("first_token", "complete", ""), "severity": ("ticket", "page")}


def fits(matchers: Sequence[Mapping[str, Any]], facts: Mapping[str, str]) -> bool:
    """Whether every condition holds of the facts; a fact that is missing is "". No condition fits everything.

    >>> fits([{"name": "feature", "operator": "~", "value": "support-*|inline-help"}], {"feature": "support-chat"})
    True
    >>> fits([{"name": "component", "operator": "!=", "value": ""}], {"feature": "support-chat"})
    False
    """
    return all(_holds(one, facts.get(one["name"], "")) for one in matchers)


def _holds(matcher: Mapping[str, Any], fact: str) -> bool:
    operator, value = str(matcher["operator"]), str(matcher["value"])
    is_alike = fact == value if operator in ("=", "!=") else matches(value, fact)
    return is_alike is not operator.startswith("!")


def matches(pattern: str, text: str) -> bool:
    """Whether one of the pattern's alternatives is the whole text, `*` being any text, also none."""
    return any(_matches_one(alternative.strip(), text) for alternative in pattern.split("|"))


def _matches_one(pattern: str, text: str) -> bool:
    if "*" not in pattern:
        return pattern == text
    first, *between, last = pattern.split("*")
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    # Each part at the first place where it stands: nothing is gained by a later one.
    at, end = len(first), len(text) - len(last)
    for part in between:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def problems(value: Any, *, may_be_empty: bool) -> list[str]:
    """What is wrong with matchers that somebody wrote: a sentence each; none where they are sound."""
    if not isinstance(value, list):
        return ['Expected a list of {"name", "operator", "value"}.']
    if not value and not may_be_empty:
        return ["At least one is needed: what fits everything would hold back every message of the team."]
    if len(value) > MAX_MATCHERS:
        return [f"At most {MAX_MATCHERS}, got {len(value)}."]
    found = [sentence for number, one in enumerate(value) for sentence in _problems_of(one, f"[{number}]")]
    if not found and not may_be_empty and all(_excludes_nothing(one) for one in value):
        return [f"{described(value)} fits everything, and would hold back every message of the team."]
    return found


def _excludes_nothing(matcher: Mapping[str, Any]) -> bool:
    """Whether the condition holds of every incident that there can be, as far as its text alone tells."""
    name, operator, value = matcher["name"], matcher["operator"], matcher["value"]
    if name in _VALUES:
        return all(_holds(matcher, one) for one in _VALUES[name])
    alternatives = [one.strip() for one in value.split("|")]
    if operator == "~":
        return any(one and not one.strip("*") for one in alternatives)
    # Every incident has a feature and an environment.
    return name != "component" and operator in ("!=", "!~") and not any(alternatives)


def _problems_of(matcher: Any, where: str) -> list[str]:
    if not isinstance(matcher, dict) or matcher.keys() != {"name", "operator", "value"}:
        return [f'{where} is not {{"name", "operator", "value"}}.']
    name, operator, value = matcher["name"], matcher["operator"], matcher["value"]
    found = []
    if name not in NAMES:
        found.append(f"{where}.name must be one of {', '.join(NAMES)}, got {name!r:.100}.")
    if operator not in OPERATORS:
        found.append(f"{where}.operator must be one of {', '.join(OPERATORS)}, got {operator!r:.100}.")
    if not isinstance(value, str) or len(value) > MAX_VALUE_CHARACTERS or "\0" in value:
        found.append(
            f"{where}.value must be a text of at most {MAX_VALUE_CHARACTERS} characters without U+0000."
        )
    elif not found and operator in ("=", "!=") and value not in _VALUES.get(name, (value,)):
        possible = " or ".join(one for one in _VALUES[name] if one)
        found.append(f"{where}.value: {name} is {possible}, got {value!r:.100}.")
    return found


def described(matchers: Sequence[Mapping[str, Any]]) -> str:
    """The conditions for people and logs, e.g. `feature = support-chat, severity != page`. What a hand wrote and nobody can
    read is shown as it stands.

    >>> described([{"name": "component", "operator": "=", "value": ""}])
    'component = ""'
    """
    if problems(matchers, may_be_empty=True):
        return f"{matchers!r:.200}"
    return ", ".join(" ".join((one["name"], one["operator"], one["value"] or '""')) for one in matchers)
