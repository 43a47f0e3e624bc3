"""The document that declares a feature: what may stand in it, and what each mistake is called."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.documents import as_number, in_ms, read_document
from budgets.errors import Refusal
from tests.budgets.bodies import json_values
from tests.factories import feature_document


def budget(milestone: str = "first_token", **overrides: Any) -> dict[str, Any]:
    """A latency budget; a field that is overridden by ... is left out."""
    fields = {"milestone": milestone, "budget_ms": 3000, "objective": 0.99, "window_days": 28, **overrides}
    return {name: value for name, value in fields.items() if value is not ...}


def document(*latency_budgets: dict[str, Any], **overrides: Any) -> dict[str, Any]:
    fields = feature_document(latency_budgets=list(latency_budgets), **overrides)
    return {name: value for name, value in fields.items() if value is not ...}


def refusal(body: Any, slug: str = "chat") -> Refusal:
    with pytest.raises(Refusal) as refused:
        read_document(slug, body)
    assert refused.value.status == 400
    assert refused.value.message.endswith("Nothing was saved.")
    return refused.value


# -- what may stand in it ---------------------------------------------------------------------------


def test_what_is_left_out_has_its_default() -> None:
    read = read_document("chat", {"name": "Chat", "components": [], "latency_budgets": []})
    assert (read.team, read.kind, read.description, read.runbook_url, read.archived) == (
        "",
        "other",
        "",
        None,
        False,
    )


@pytest.mark.parametrize(
    "accepted",
    [
        document(),
        document(budget()),
        document(budget("complete")),
        document(budget("first_token"), budget("complete", budget_ms=8000)),
        document(budget("complete", budget_ms=8000), budget("first_token")),
        document(budget("first_token"), budget("complete", budget_ms=3000)),
        document(budget(budget_ms=0.001)),
        document(budget(budget_ms=604_800_000)),
        document(budget(objective=0.000001)),
        document(budget(objective=0.999999)),
        *(document(budget(window_days=days)) for days in (7, 28, 30)),
        document(budget(allocations={"model": 3000})),
        document(budget(allocations={"model": 1499.999, "tools": 1500.001})),
        document(
            budget("first_token", allocations={"model": 3000}),
            budget("complete", budget_ms=8000, allocations={"tools": 5000}),
        ),
        document(budget(note="why")),
        document(components=[]),
        document(components=[f"part-{n}" for n in range(50)]),
        document(components=["x" * 200, "検索", "a b", "😀"]),
        document(name="x" * 200),
        *(
            document(kind=kind)
            for kind in (
                "interactive_chat",
                "inline_help",
                "background_generation",
                "autonomous_workflow",
                "other",
            )
        ),
        document(runbook_url="https://wiki.example/runbook?a=b#c"),
        document(runbook_url=None),
        document(runbook_url=""),
        document(archived=True),
        document(feature="chat", versions=[{"x": 1}], state="ok", states={}),
    ],
    ids=lambda one: str(one)[-70:],
)
def test_a_sound_document_is_read(accepted: dict[str, Any]) -> None:
    read_document("chat", accepted)


@pytest.mark.parametrize("slug", ["a", "Support_Chat-2", "0", "x" * 200])
def test_a_slug_has_letters_digits_hyphens_and_underscores(slug: str) -> None:
    read_document(slug, document())


# -- mistakes ---------------------------------------------------------------------------------------

MISTAKES = [
    (document(name=""), "invalid_name", "name"),
    (document(name="   "), "invalid_name", "name"),
    (document(name="x" * 201), "invalid_name", "name"),
    (document(name="a\0b"), "invalid_text", "name"),
    (document(description="\0"), "invalid_text", "description"),
    (document(budget(note="\0")), "invalid_text", "latency_budgets[0].note"),
    (document(kind="chat"), "invalid_kind", "kind"),
    (document(runbook_url="javascript:alert(1)"), "invalid_runbook_url", "runbook_url"),
    (document(runbook_url="wiki"), "invalid_runbook_url", "runbook_url"),
    (document(runbook_url="https://"), "invalid_runbook_url", "runbook_url"),
    (document(runbook_url="https://["), "invalid_runbook_url", "runbook_url"),
    (document(runbook_url="https://a b"), "invalid_runbook_url", "runbook_url"),
    (document(runbook_url="https://a\nb"), "invalid_runbook_url", "runbook_url"),
    (document(runbook_url="https://a/" + "x" * 2000), "invalid_runbook_url", "runbook_url"),
    (document(components=["model", "model"]), "duplicate_component", "components"),
    (document(components=["model", ""]), "invalid_component", "components"),
    (document(components=["model", "x" * 201]), "invalid_component", "components"),
    (document(components=["model", "a\0"]), "invalid_component", "components"),
    (document(components=[f"part-{n}" for n in range(51)]), "too_many_components", "components"),
    (document(budget("last_token")), "invalid_milestone", "latency_budgets[0].milestone"),
    (document(budget(budget_ms=0)), "invalid_budget", "latency_budgets[0].budget_ms"),
    (document(budget(budget_ms=-1)), "invalid_budget", "latency_budgets[0].budget_ms"),
    (document(budget(budget_ms=604_800_000.001)), "invalid_budget", "latency_budgets[0].budget_ms"),
    (document(budget(budget_ms=1e300)), "invalid_budget", "latency_budgets[0].budget_ms"),
    (document(budget(budget_ms=0.0001)), "invalid_budget", "latency_budgets[0].budget_ms"),
    *(
        (document(budget(objective=objective)), "invalid_objective", "latency_budgets[0].objective")
        for objective in (0, 1, -0.5, 1.5, 99, 99.9, 0.9999999, 1e-7, 1e300)
    ),
    *(
        (document(budget(window_days=days)), "invalid_window", "latency_budgets[0].window_days")
        for days in (0, 1, 14, 29, -7, 10**30)
    ),
    (
        document(budget(allocations={"cache": 1})),
        "unknown_component",
        "latency_budgets[0].allocations.cache",
    ),
    *(
        (
            document(budget(allocations={"model": ms})),
            "invalid_allocation",
            "latency_budgets[0].allocations.model",
        )
        for ms in (0, -1, 1.0001, 604_800_001)
    ),
    (document(budget(), budget()), "duplicate_milestone", "latency_budgets[1].milestone"),
    (
        document(
            budget(allocations={"model": 1}), budget("complete", budget_ms=8000, allocations={"model": 1})
        ),
        "component_allocated_twice",
        "latency_budgets[1].allocations.model",
    ),
    (
        document(budget("first_token", budget_ms=9000), budget("complete", budget_ms=8000)),
        "first_token_exceeds_complete",
        "latency_budgets[0].budget_ms",
    ),
    (document(budget(allocations={"model": 3000.001})), "allocation_exceeds_budget", "allocations"),
    (
        document(budget(), budget("complete", budget_ms=8000, allocations={"tools": 5000.5})),
        "allocation_exceeds_budget",
        "allocations",
    ),
    (document(name=...), "invalid_document", "document"),
    (document(components=...), "invalid_document", "document"),
    ({"name": "Chat", "components": []}, "invalid_document", "document"),
    (document(budget(milestone=...)), "invalid_document", "latency_budgets[0]"),
    (document(budget(budget_ms=...)), "invalid_document", "latency_budgets[0]"),
    (document(budget(objective=...)), "invalid_document", "latency_budgets[0]"),
    (document(budget(window_days=...)), "invalid_document", "latency_budgets[0]"),
    (document(name=7), "invalid_document", "name"),
    (document(name=None), "invalid_document", "name"),
    (document(archived="yes"), "invalid_document", "archived"),
    (document(archived=1), "invalid_document", "archived"),
    (document(components="model"), "invalid_document", "components"),
    (document(components=[1]), "invalid_document", "components[0]"),
    (document(budget(budget_ms="3000")), "invalid_document", "latency_budgets[0].budget_ms"),
    (document(budget(budget_ms=True)), "invalid_document", "latency_budgets[0].budget_ms"),
    (document(budget(budget_ms=None)), "invalid_document", "latency_budgets[0].budget_ms"),
    (document(budget(budget_ms=10**400)), "invalid_document", "latency_budgets[0].budget_ms"),
    (document(budget(window_days=28.5)), "invalid_document", "latency_budgets[0].window_days"),
    (document(budget(window_days=True)), "invalid_document", "latency_budgets[0].window_days"),
    (document(budget(allocations=[])), "invalid_document", "latency_budgets[0].allocations"),
    (
        document(budget(allocations={"model": None})),
        "invalid_document",
        "latency_budgets[0].allocations[...]",
    ),
    (document(budget(percentile=99)), "invalid_document", "latency_budgets[0]"),
    (document(colour="red"), "invalid_document", "document"),
    ([], "invalid_document", "document"),
    (None, "invalid_document", "document"),
    ("chat", "invalid_document", "document"),
    (7, "invalid_document", "document"),
]


@pytest.mark.parametrize(("body", "code", "field"), MISTAKES, ids=lambda one: str(one)[-60:])
def test_a_mistake_has_its_code_and_names_its_field(body: Any, code: str, field: str) -> None:
    refused = refusal(body)
    assert (refused.code, list(refused.fields)) == (code, [field])
    assert all(messages for messages in refused.fields.values())


@pytest.mark.parametrize("slug", ["", "a b", "é", "x" * 201, "a/b", "a\n", "a\0", "a.b"])
def test_a_slug_that_cannot_be_is_refused(slug: str) -> None:
    assert refusal(document(), slug).code == "invalid_slug"


def test_the_message_tells_by_how_much_allocations_exceed_the_latency_budget() -> None:
    refused = refusal(
        document(budget(allocations={"model": 1500, "retrieval": 400, "tools": 800, "overhead": 500}))
    )
    said = "Allocations add up to 3200 ms, 200 ms over the latency budget of 3000 ms."
    assert refused.message == f"{said} Nothing was saved."
    assert refused.fields == {"allocations": [said]}


def test_the_budget_of_first_token_is_the_first_block_of_completes() -> None:
    refused = refusal(document(budget(), budget("complete", budget_ms=8000, allocations={"tools": 6000})))
    assert "6000 ms and first_token's 3000 ms make 9000 ms, 1000 ms over" in refused.message


def test_allocations_are_added_up_as_decimals() -> None:
    tenths = {f"part-{n}": 0.1 for n in range(10)}
    read_document("chat", document(budget(budget_ms=1, allocations=tenths), components=list(tenths)))


def test_one_answer_tells_every_mistake() -> None:
    refused = refusal(document(budget(objective=2, window_days=3), name="", components=["a", "a"]))
    assert refused.code == "invalid_name"
    assert set(refused.fields) == {
        "name",
        "components",
        "latency_budgets[0].objective",
        "latency_budgets[0].window_days",
    }


def test_a_slug_that_is_a_page_of_its_own_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        read_document("new", document())
    assert (refused.value.code, list(refused.value.fields)) == ("invalid_slug", ["feature"])


def test_a_hundred_thousand_components_are_refused_without_comparing_each_with_each() -> None:
    components = [f"c{n}" for n in range(100_000)]
    refused = refusal(document(budget(allocations=dict.fromkeys(components, 1)), components=components))
    assert refused.code == "too_many_components"


@given(json_values)
def test_any_document_is_read_or_refused(body: Any) -> None:
    with pytest.raises(Refusal):
        read_document("chat", body)


@given(
    st.dictionaries(
        st.sampled_from([*document(), "team", "description", "runbook_url", "archived"]),
        json_values,
        min_size=1,
    ),
    st.dictionaries(st.sampled_from([*budget(), "allocations", "note"]), json_values),
)
def test_any_change_to_a_document_leaves_it_sound_or_is_refused(
    changes: dict[str, Any], budget_changes: dict[str, Any]
) -> None:
    body = document(budget(**budget_changes)) | changes
    with contextlib.suppress(Refusal):
        read_document("chat", body)


@given(st.decimals(0, 604_800_000, places=3))
def test_milliseconds_are_kept_as_they_were_written(ms: Decimal) -> None:
    assert in_ms(float(ms)) == ms


@pytest.mark.parametrize(
    ("value", "number"), [(Decimal("3000.000"), 3000), (Decimal("0.5"), 0.5), (8000.0, 8000), (None, None)]
)
def test_whole_numbers_have_no_fraction_in_json(value: Decimal | float | None, number: object) -> None:
    assert repr(as_number(value)) == repr(number)
