"""What a person reads of an incident, in the order in which they ask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from alerts.wording import MAX_SUBJECT_CHARACTERS, Figures, Story, letter

FIGURES = Figures(
    p99_ms=4200, limit_ms=3000, window="1h", burn_rate=15.2, remaining_ratio=0.11, exhausted_in_s=18_000
)
STORY = Story("opened", "Support chat", figures=FIGURES)


def incident(**overrides: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "feature": "support-chat",
        "environment": "production",
        "milestone": "first_token",
        "component": None,
        "severity": "page",
        "rule": "burn_rate 1h/5m",
        "summary": "not read",
        "cause": {"component": "tools", "allocated_ms": 800, "observed_ms": 2100},
        "burn_rate": 15.2,
        "runbook_url": "https://wiki.example.com/chat",
        "opened_at": "2026-11-21T02:51:07Z",
        "url": "https://latency.example.com/incidents/7/",
        **overrides,
    }


def test_a_page_says_what_how_bad_since_when_how_long_why_and_where() -> None:
    found = letter(incident(), STORY)
    assert found.subject == "✕ Support chat, first token: p99 4.20 s of 3 s"
    assert found.lead == "✕ Support chat, first token: p99 4.20 s of 3 s."
    assert found.sentences == (
        "Burning 15.2× over 1 h, where 1× spends exactly the error budget.",
        "Since 21 Nov 2026, 02:51 UTC.",
        "11.0 % of the error budget left, gone in 5 h.",
        "Cause: tools, p99 2.10 s of 800 ms allocated, 1.30 s over.",
        "It is a page, by the rule burn rate 1h/5m.",
    )
    assert found.links == (
        ("Open the incident", "https://latency.example.com/incidents/7/"),
        ("Runbook", "https://wiki.example.com/chat"),
    )


def test_what_is_not_known_is_left_out() -> None:
    found = letter(incident(cause=None, runbook_url=None), Story("opened", "Support chat"))
    assert found.subject == "✕ Support chat, first token"
    assert found.sentences == (
        "Since 21 Nov 2026, 02:51 UTC.",
        "It is a page, by the rule burn rate 1h/5m.",
    )
    assert len(found.links) == 1


def test_an_outage_says_how_much_was_bad() -> None:
    figures = replace(FIGURES, window="5m", bad=118, judged=120)
    found = letter(incident(), replace(STORY, figures=figures))
    assert found.subject == "✕ Support chat, first token: outage, 118 of 120 bad in 5 min, p99 4.20 s of 3 s"


def test_a_p99_among_timeouts_is_the_least_that_it_can_be() -> None:
    figures = replace(FIGURES, p99_ms=30_000, is_p99_at_least=True)
    assert "p99 ≥ 30.0 s of 3 s" in letter(incident(), replace(STORY, figures=figures)).subject


def test_a_component_is_compared_with_its_allocation_and_is_its_own_cause() -> None:
    figures = Figures(p99_ms=2100, limit_ms=800, window="5m", bad=41, judged=63)
    found = letter(incident(milestone=None, component="tools"), replace(STORY, figures=figures))
    assert found.subject == "✕ Support chat, tools: p99 2.10 s of 800 ms allocated, 41 of 63 over in 5 min"
    assert not [each for each in found.sentences if "Cause" in each or "error budget" in each]


def test_an_exhausted_error_budget_is_told_as_such() -> None:
    story = replace(STORY, figures=replace(FIGURES, remaining_ratio=-0.25, exhausted_in_s=None))
    assert "The error budget is exhausted, 25.0 % over." in letter(incident(), story).sentences


def test_another_environment_than_production_is_named() -> None:
    assert letter(incident(environment="staging"), STORY).subject.startswith(
        "✕ Support chat (staging), first"
    )


def test_an_acknowledgement_names_who_has_it_and_what_they_wrote() -> None:
    story = replace(
        STORY,
        step="acknowledged",
        step_words="Acknowledged by kim@example.com",
        note="rolling back\nthe tools",
        lasted_s=250,
    )
    found = letter(incident(), story)
    assert found.subject == "▲ Acknowledged: Support chat, first token"
    assert found.lead == "▲ Acknowledged by kim@example.com: Support chat, first token."
    assert found.sentences[:3] == (
        "Note: rolling back the tools",
        "It opened on 21 Nov 2026, 02:51 UTC, 4 min 10 s before.",
        "When it opened: p99 4.20 s of 3 s.",
    )
    assert not [each for each in found.sentences if "gone in" in each]


def test_a_resolution_says_how_it_ended_and_how_long_it_lasted() -> None:
    story = replace(STORY, step="resolved", step_words="Recovered", reason="recovered", lasted_s=1380)
    found = letter(incident(), story)
    assert found.subject == "✓ Resolved: Support chat, first token"
    assert found.lead == "✓ Recovered: Support chat, first token."
    assert found.sentences[0] == "It opened on 21 Nov 2026, 02:51 UTC and lasted 23 min."


def test_silence_is_not_told_as_a_recovery() -> None:
    words = "Silent, not recovered: no more data came"
    found = letter(
        incident(), replace(STORY, step="resolved", step_words=words, reason="no_data_timeout", lasted_s=60)
    )
    assert found.subject == "– Silent: Support chat, first token"
    assert "✓" not in found.lead


def test_a_test_says_in_its_subject_and_first_of_all_that_it_is_one() -> None:
    found = letter(incident(), replace(STORY, tested_by="kim@example.com"))
    assert found.subject.startswith("Test: ✕ ")
    assert found.sentences[0] == (
        "A test of this channel by kim@example.com. Nothing is wrong: the figures are made up."
    )


@pytest.mark.parametrize("name", ["a\r\nBcc: all@example.com", "a\u202eb", "a\0b", "x" * 500])
def test_a_hostile_name_stays_within_its_line(name: str) -> None:
    found = letter(incident(component=name, milestone=None, environment=name), Story("opened", name))
    for text in (found.subject, found.lead, *found.sentences):
        assert all(character.isprintable() for character in text.replace("\u2068", "").replace("\u2069", ""))
    assert len(found.subject) <= MAX_SUBJECT_CHARACTERS


def test_a_story_is_read_as_it_was_written_and_by_another_version() -> None:
    story = replace(STORY, step="resolved", step_words="Recovered", lasted_s=3.5)
    assert Story.read(story.document()) == story
    later = {**story.document(), "mood": "grim", "figures": {**FIGURES.document(), "p50_ms": 3}}
    assert Story.read(later) == story
