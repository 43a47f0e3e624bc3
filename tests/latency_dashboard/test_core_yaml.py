"""YAML without its surprises, read with the line of each value, and written so that it reads back the same."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from latency_dashboard.declarations.core_yaml import (
    MAX_BYTES,
    MAX_DOCUMENTS,
    MAX_VALUES,
    Unreadable,
    read,
    write,
)


def value_of(text: str) -> Any:
    (document,) = read(text.encode())
    return document.value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("2026-11-21", "2026-11-21"),
        ("2026-11-21T20:00:00Z", "2026-11-21T20:00:00Z"),
        ("1:30", "1:30"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("-3", -3),
        ("0.99", 0.99),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("0b11", "0b11"),
        ("=", "="),
        ("'010'", "010"),
        ('"true"', "true"),
        ("v1.2.3", "v1.2.3"),
    ],
)
def test_a_plain_word_is_what_it_looks_like(written: str, value: Any) -> None:
    found = value_of(f"key: {written}")["key"]
    assert (found, type(found)) == (value, type(value))


def test_every_value_has_its_line() -> None:
    text = "# first\n---\na: 1\nb:\n  - c: 2\n    d: >\n      folded\n      text\n  - e\n"
    (document,) = read(text.encode())
    assert document.line == 3
    assert document.lines == {
        (): 3,
        ("a",): 3,
        ("b",): 4,
        ("b", 0): 5,
        ("b", 0, "c"): 5,
        ("b", 0, "d"): 6,
        ("b", 1): 9,
    }


def test_documents_are_counted_also_where_one_is_empty() -> None:
    assert [(one.number, one.value) for one in read(b"---\n---\na: 1\n---\nb: 2\n...\n")] == [
        (2, {"a": 1}),
        (3, {"b": 2}),
    ]


def test_a_byte_order_mark_and_windows_line_ends_are_taken() -> None:
    assert value_of("\ufeffa: 1\r\nb: 2\r\n") == {"a": 1, "b": 2}


def test_an_alias_stands_for_what_it_names() -> None:
    assert value_of("a: &one {ms: 3}\nb: *one") == {"a": {"ms": 3}, "b": {"ms": 3}}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3", 3, "'a' stands twice"),
        ("a:\n\tb: 1", 2, "\\t"),
        ("a: [1", 1, "expected"),
        ("a: b: c", 1, "mapping values are not allowed"),
        ("a: !!python/object/apply:os.system ['true']", 1, "tag:yaml.org,2002:python/object/apply:os.system"),
        ("a: 1\nb: !secret x", 2, "tag !secret"),
        ("a: !!timestamp 2026-11-21", 1, "timestamp"),
        ("a: !!int x", 1, "'x' is no value of its tag"),
        ("a: 1e400", 1, "no value of its tag"),
        ("a: " + "9" * 5000, 1, "no value of its tag"),
        ("a: *nowhere", 1, "undefined alias"),
        ("a: &a [*a]", 1, "within what it is an alias of"),
        ("? [1, 2]\n: 3", 1, "A key must be a text"),
        ("8: x", 1, "A key must be a text"),
        ("a: 1\nb: x\x00y", 2, "U+0000"),
        ("a: 1\nb: x\x07y", 2, "U+0007"),
        ("- " * 1500 + "a", None, "nests too deeply"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_line(text: str, line: int | None, said: str) -> None:
    with pytest.raises(Unreadable) as caught:
        list(read(text.encode()))
    assert said in caught.value.message
    assert caught.value.line == line


def test_what_is_not_utf_8_is_refused_with_its_line() -> None:
    with pytest.raises(Unreadable, match="not UTF-8") as caught:
        list(read(b"a: 1\nb: \xff"))
    assert caught.value.line == 2


def test_an_alias_counts_as_often_as_it_is_used() -> None:
    """The "billion laughs": a few lines that stand for more than memory holds."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(Unreadable, match=f"at most {MAX_VALUES} values"):
        list(read("\n".join(lines).encode()))


def test_a_file_is_bounded() -> None:
    with pytest.raises(Unreadable, match="at most 4 MiB"):
        list(read(b" " * (MAX_BYTES + 1)))
    with pytest.raises(Unreadable, match=f"at most {MAX_DOCUMENTS} documents"):
        list(read(b"--- 1\n" * (MAX_DOCUMENTS + 1)))


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    [
        "no",
        "010",
        "1e3",
        "1:30",
        "2026-11-21",
        "~",
        "=",
        "<<",
        "a: b",
        "- a",
        "a\nb\n",
        " a",
        "#",
        "${A}",
        "0o7",
        "\x85",
        "a\u2028b\nc",
    ]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(_TEXTS, _VALUES, max_size=4))
def test_what_is_written_reads_back_the_same(value: Any) -> None:
    text = write([value, value])
    assert [one.value for one in read(text.encode())] == [value, value]


@given(_TEXTS)
def test_another_reader_of_yaml_reads_the_same_texts(text: str) -> None:
    """Texts that YAML 1.1 takes for booleans, dates or base 60 are quoted."""
    assert yaml.safe_load(write([{"key": text}])) == {"key": text}
