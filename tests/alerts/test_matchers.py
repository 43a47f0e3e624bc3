"""Which incidents matchers fit."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.matchers import MAX_MATCHERS, MAX_VALUE_CHARACTERS, described, fits, matches, problems

FACTS = {
    "feature": "support-chat",
    "milestone": "first_token",
    "component": "",
    "environment": "production",
    "severity": "page",
}


def matcher(name: str, operator: str, value: str) -> dict[str, str]:
    return {"name": name, "operator": operator, "value": value}


@pytest.mark.parametrize(
    ("operator", "value", "is_fitting"),
    [
        ("=", "support-chat", True),
        ("=", "support", False),
        ("=", "support-*", False),
        ("!=", "support-chat", False),
        ("!=", "inline-help", True),
        ("~", "support-*", True),
        ("~", "*-help|*-chat", True),
        ("~", "*-help | support-chat", True),
        ("~", "support", False),
        ("~", "support.chat", False),
        ("!~", "support-*", False),
        ("!~", "inline-*", True),
    ],
)
def test_each_operator_compares_as_it_says(operator: str, value: str, is_fitting: bool) -> None:
    assert fits([matcher("feature", operator, value)], FACTS) is is_fitting


def test_all_matchers_must_fit() -> None:
    both = [matcher("feature", "=", "support-chat"), matcher("severity", "=", "ticket")]
    assert not fits(both, FACTS)
    assert fits(both, FACTS | {"severity": "ticket"})


def test_no_matcher_fits_everything() -> None:
    assert fits([], FACTS)


def test_a_fact_that_is_missing_is_an_empty_text() -> None:
    assert fits([matcher("component", "=", "")], {})
    assert fits([matcher("component", "!=", "tools")], {})
    assert fits([matcher("component", "~", "*")], {})


def test_case_counts() -> None:
    assert not fits([matcher("feature", "=", "Support-Chat")], FACTS)


@given(
    st.text("ab*|", max_size=12),
    st.text("ab", max_size=8),
)
def test_a_pattern_matches_what_the_equal_regular_expression_does(pattern: str, text: str) -> None:
    alternatives = [".*".join(re.escape(part) for part in one.split("*")) for one in pattern.split("|")]
    assert matches(pattern, text) == bool(re.fullmatch("|".join(alternatives), text))


def test_no_pattern_takes_long() -> None:
    began = time.process_time()
    assert not matches("*a" * 249 + "*b", "a" * 200)
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "Expected a list"),
        ([1], "[0] is not"),
        ([{"name": "feature", "operator": "="}], "[0] is not"),
        ([matcher("release", "=", "v1")], "[0].name must be one of feature, milestone"),
        ([{"name": [], "operator": {}, "value": "v1"}], "[0].name must be one of"),
        ([matcher("feature", "=~", "v1")], "[0].operator must be one of"),
        ([matcher("feature", "=", "a" * (MAX_VALUE_CHARACTERS + 1))], "[0].value must be a text"),
        ([matcher("feature", "=", "a\0")], "[0].value must be a text"),
        ([matcher("severity", "=", "critical")], "severity is ticket or page, got 'critical'"),
        ([matcher("milestone", "!=", "last_token")], "milestone is first_token or complete"),
        ([matcher("feature", "=", "a")] * (MAX_MATCHERS + 1), "At most 20, got 21"),
        ([], "At least one is needed"),
        ([matcher("feature", "~", "*")], "feature ~ * fits everything"),
        ([matcher("component", "~", "tools| ** ")], "fits everything"),
        ([matcher("feature", "!=", ""), matcher("environment", "!~", "")], "fits everything"),
        ([matcher("severity", "~", "page|ticket"), matcher("milestone", "~", "*")], "fits everything"),
        ([matcher("severity", "!~", "nothing")], "fits everything"),
    ],
)
def test_what_is_wrong_with_matchers_is_said(value: Any, said: str) -> None:
    assert said in " ".join(problems(value, may_be_empty=False))


def test_sound_matchers_have_no_problems() -> None:
    assert not problems([matcher("severity", "~", "p*"), matcher("milestone", "=", "")], may_be_empty=False)
    assert not problems([], may_be_empty=True)
    assert not problems([matcher("feature", "~", "*")], may_be_empty=True)
    # One that excludes something is enough.
    assert not problems(
        [matcher("feature", "~", "*"), matcher("environment", "!=", "production")], may_be_empty=False
    )
    assert not problems([matcher("component", "!=", "")], may_be_empty=False)


def test_matchers_are_described_one_after_another() -> None:
    found = described([matcher("feature", "=", "support-chat"), matcher("component", "!=", "")])
    assert found == 'feature = support-chat, component != ""'
