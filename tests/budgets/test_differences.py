"""What differs between two documents is said field by field, in words."""

from __future__ import annotations

from typing import Any

from budgets.differences import Difference, differences, value_words
from tests.factories import feature_document

FIRST_TOKEN = feature_document()["latency_budgets"][0]
COMPLETE = {"milestone": "complete", "budget_ms": 8000, "objective": 0.95, "window_days": 28}


def told(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(d.label, plain(d.before), plain(d.after)) for d in differences(before, after)]


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_equal_documents_have_none() -> None:
    turned = {**FIRST_TOKEN, "allocations": dict(reversed(FIRST_TOKEN["allocations"].items()))}
    assert differences(feature_document(), feature_document(latency_budgets=[turned])) == []


def test_each_field_is_named_with_its_unit() -> None:
    changed = {
        **FIRST_TOKEN,
        "budget_ms": 2500.5,
        "objective": 0.995,
        "window_days": 7,
        "note": "Faster model",
        "allocations": {"model": 1000, "retrieval": 400, "tools": 800},
    }
    after = feature_document(name="Help desk", kind="inline_help", archived=True, latency_budgets=[changed])
    assert told(feature_document(), after) == [
        ("Name", "Support chat", "Help desk"),
        ("Kind", "Interactive chat", "Inline help"),
        ("Archived", "none", "yes"),
        ("First token: latency budget", "3000 ms", "2500.5 ms"),
        ("First token: objective", "99 %", "99.5 %"),
        ("First token: window", "28 days", "7 days"),
        ("First token: reason", "none", "Faster model"),
        ("First token: model", "1500 ms", "1000 ms"),
        ("First token: overhead", "300 ms", "none"),
    ]


def test_a_milestone_that_is_new_or_gone_is_one_line() -> None:
    before, after = feature_document(), feature_document(latency_budgets=[COMPLETE])
    assert told(before, after) == [
        (
            "First token",
            "3000 ms, 99 % over 28 days; model 1500 ms, retrieval 400 ms, tools 800 ms, overhead 300 ms",
            "none",
        ),
        ("Complete", "none", "8000 ms, 95 % over 28 days"),
    ]


def test_components_that_come_go_and_change_places_are_told_apart() -> None:
    before = feature_document(latency_budgets=[], components=["model", "tools", "cache"])
    after = feature_document(latency_budgets=[], components=["tools", "model", "guardrails"])
    assert differences(before, after) == [
        Difference("components.cache", "Component cache", "declared", "none"),
        Difference("components.guardrails", "Component guardrails", "none", "declared"),
        Difference("components", "Order of components", "model, tools, cache", "tools, model, guardrails"),
    ]


def test_a_feature_that_is_new_differs_in_all_it_says() -> None:
    assert [d.label for d in differences(None, feature_document(latency_budgets=[]))] == [
        "Name",
        "Kind",
        *(f"Component {name}" for name in feature_document()["components"]),
    ]


def test_the_words_of_a_path_are_those_of_the_difference() -> None:
    after = feature_document(name="Help desk", latency_budgets=[COMPLETE])
    for one in differences(feature_document(), after):
        assert value_words(after, one.path) == one.after
