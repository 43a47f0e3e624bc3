"""YAML by its core schema, read with the line of every value, and written so that it reads back the same.

What surprises people in YAML is not there: `no` and `on` are texts, `2026-11-21` is a text, `010` is ten and `1:30` no number,
a key stands once, no tag makes objects. Anchors and aliases are taken, as long as what they stand for is bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 4 * 1024 * 1024
MAX_DOCUMENTS = 10_000
MAX_VALUES = 200_000
"""Of a file, each alias counted as often as it is used."""

_NULL, _BOOL, _INT, _FLOAT, _STR = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str")
)
_SEQUENCE, _MAPPING = "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"
_PLAIN = {
    _NULL: (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    _BOOL: (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    _INT: (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    _FLOAT: (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+0123456789.")),
}

_STYLE: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 110}

Path = tuple[str | int, ...]


class Unreadable(Exception):
    """A file that is no YAML we take; `line` counts from 1."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True)
class Document:
    """One document of a file: `number` and `line` count from 1, `lines` has the line of every value within."""

    number: int
    line: int
    value: Any
    lines: Mapping[Path, int] = field(repr=False)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would take for something else than a text, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Items of a list are indented below their key."""
        super().increase_indent(flow, False)


for _tag, (_pattern, _first) in _PLAIN.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Unicode's other ends of lines: every style but the quoted one folds them into a space.
    is_quoted = any(end in text for end in "\x85\u2028\u2029")
    return dumper.represent_scalar(_STR, text, style='"' if is_quoted else "|" if "\n" in text else None)


_Dumper.add_representer(str, _write_text)


def read(data: bytes) -> Iterator[Document]:
    """Every document of a file that is not empty. Raises Unreadable."""
    if len(data) > MAX_BYTES:
        raise Unreadable(f"A file has at most {MAX_BYTES // 1024**2} MiB, got {len(data) / 1024**2:.1f} MiB.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable("The file is not UTF-8.", line) from error
    try:
        loader = _Loader(text)
        budget = _Budget()
        number = 0
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # check_node said that there is one
            number += 1
            if number > MAX_DOCUMENTS:
                raise Unreadable(f"A file has at most {MAX_DOCUMENTS} documents.", _line(node))
            lines: dict[Path, int] = {}
            value = _build(node, (), lines, budget, ())
            if value is not None:
                yield Document(number, _line(node), value, lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise Unreadable(f"It is not YAML: {said}.", mark.line + 1 if mark else None) from error
    except yaml.reader.ReaderError as error:
        position = min(int(error.position), len(text) - 1)
        raise Unreadable(
            f"It is not YAML: the character U+{ord(text[position]):04X} may only stand in a quoted text as an escape.",
            text.count("\n", 0, position) + 1,
        ) from error
    except RecursionError as error:
        raise Unreadable("It nests too deeply.") from error


def write(documents: list[Any]) -> str:
    """The documents as YAML that `read` gives back."""
    return str(yaml.dump_all(documents, Dumper=_Dumper, explicit_start=True, **_STYLE))


def write_one(value: Any) -> str:
    """A value as YAML, for people to read."""
    return str(yaml.dump(value, Dumper=_Dumper, **_STYLE))


class _Budget:
    """How many values a file may still hold."""

    def __init__(self) -> None:
        self.left = MAX_VALUES

    def spend(self, node: yaml.Node) -> None:
        self.left -= 1
        if self.left < 0:
            raise Unreadable(
                f"A file holds at most {MAX_VALUES} values, aliases counted as often as used.", _line(node)
            )


def _build(
    node: yaml.Node, path: Path, lines: dict[Path, int], budget: _Budget, within: tuple[int, ...]
) -> Any:
    budget.spend(node)
    if id(node) in within:
        raise Unreadable("An alias stands within what it is an alias of.", _line(node))
    lines[path] = _line(node)
    within = (*within, id(node))
    if isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE:
        return [_build(one, (*path, n), lines, budget, within) for n, one in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode) and node.tag == _MAPPING:
        built: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = _build_scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise Unreadable("A key must be a text; quote it.", _line(key_node))
            if key in built:
                raise Unreadable(f"The key {key!r} stands twice.", _line(key_node))
            built[key] = _build(value_node, (*path, key), lines, budget, within)
            # Where the key stands is where somebody looks for it.
            lines[(*path, key)] = _line(key_node)
        return built
    if isinstance(node, yaml.ScalarNode):
        return _build_scalar(node)
    raise Unreadable(f"The tag {node.tag} is not taken.", _line(node))


def _build_scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    try:
        match node.tag:
            case tag if tag == _STR:
                return text
            case tag if tag == _NULL:
                return None
            case tag if tag == _BOOL:
                return text.lower() == "true"
            case tag if tag == _INT:
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            case tag if tag == _FLOAT:
                return _finite(float(text))
    except ValueError as error:
        raise Unreadable(f"{text!r:.50} is no value of its tag.", _line(node)) from error
    raise Unreadable(f"The tag {node.tag} is not taken.", _line(node))


def _finite(value: float) -> float:
    if math.isinf(value):
        raise ValueError("too large")
    return value


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
