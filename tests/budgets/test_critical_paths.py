"""Critical paths against a worked example, against the words of the rule, and by their laws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.critical_paths import (
    NO_PARENT,
    Span,
    critical_path,
    own_stretches,
    own_times,
    slots,
    slots_of_one,
    without_cycles,
)

ROOT = Span("root", 0, 1000)


def by_the_rule(root: Span, children: Sequence[Span]) -> dict[str, float]:
    """The rule word by word: from the end backwards, one child after the other, by recursion."""
    found: dict[str, float] = {}

    def walk(span: Span, low: float, high: float) -> None:
        below = [child for child in children if child.parent == span.id]
        t, own = high, 0.0
        while below:
            active = [child for child in below if child.start < t and child.end > low]
            if not active:
                break
            # Of two that began together the longer one: their order does not decide.
            child = min(active, key=lambda one: (-min(one.end, t), one.start, -one.end, children.index(one)))
            until, since = min(child.end, t), max(child.start, low)
            own += t - until
            walk(child, since, until)
            below.remove(child)
            t = since
        found[span.name] = found.get(span.name, 0.0) + own + t - low

    walk(root, root.start, root.end)
    return found


def test_the_worked_example():
    children = [
        Span("auth", 0, 50),
        Span("retrieval", 60, 360, id="r"),
        Span("embed", 60, 140, parent="r"),
        Span("vector", 150, 350, parent="r"),
        Span("rerank", 200, 420),
        Span("model", 430, 960),
    ]
    assert critical_path(ROOT, children) == {
        "root": 60,
        "auth": 50,
        "embed": 80,
        "retrieval": 10,
        "vector": 50,
        "rerank": 220,
        "model": 530,
    }


def test_without_children_all_of_it_is_its_own():
    assert critical_path(ROOT, []) == {"root": 1000}


def test_of_parallel_work_the_one_that_ended_last_counts_and_what_it_hid_does_not():
    children = [Span("short", 0, 300), Span("long", 0, 900)]
    assert critical_path(ROOT, children) == {"root": 100, "short": 0, "long": 900}


def test_work_after_the_end_is_not_waited_for():
    children = [Span("log", 900, 5000), Span("later", 1000, 2000), Span("model", 100, 1200)]
    assert critical_path(ROOT, children) == {"root": 100, "log": 0, "later": 0, "model": 900}


def test_work_before_the_start_is_cut_off():
    assert critical_path(ROOT, [Span("queue", -400, 250), Span("before", -500, -100)]) == {
        "root": 750,
        "queue": 250,
        "before": 0,
    }


def test_a_child_that_outlives_its_parent_counts_within_it():
    children = [Span("tools", 100, 600, id="t"), Span("search", 200, 900, parent="t")]
    assert critical_path(ROOT, children) == {"root": 500, "tools": 100, "search": 400}


@pytest.mark.parametrize("parent", ["missing", None, "self"])
def test_a_span_without_a_parent_that_leads_to_the_root_is_a_child_of_the_root(parent):
    assert critical_path(ROOT, [Span("tools", 100, 600, id="self", parent=parent)]) == {
        "root": 500,
        "tools": 500,
    }


def test_spans_that_are_each_others_parents_are_children_of_the_root():
    children = [
        Span("a", 0, 400, id="a", parent="b"),
        Span("b", 400, 700, id="b", parent="a"),
        Span("c", 700, 800, id="c", parent="b"),
    ]
    assert critical_path(ROOT, children) == {"root": 200, "a": 400, "b": 300, "c": 100}


def test_several_calls_of_one_component_add_up():
    calls = [Span("tools", 0, 100), Span("tools", 50, 300), Span("tools", 500, 600)]
    assert critical_path(ROOT, calls) == {"root": 600, "tools": 400}


@st.composite
def requests(draw: st.DrawFn) -> tuple[Span, list[Span]]:
    """A root and children anywhere around it, of which each may be below any that was drawn before."""
    instants = st.integers(min_value=-200, max_value=1200)
    root = Span("root", 0, draw(st.integers(min_value=0, max_value=1000)), id="root")
    children: list[Span] = []
    for number in range(draw(st.integers(min_value=0, max_value=12))):
        start, end = sorted((draw(instants), draw(instants)))
        parent = draw(st.sampled_from(["root", *(child.id for child in children)]))
        children.append(Span(f"span {number}", start, end, id=str(number), parent=parent))
    return root, children


@given(requests())
def test_the_parts_add_up_to_the_duration_and_none_is_negative(request_):
    root, children = request_
    parts = critical_path(root, children)
    assert sum(parts.values()) == root.end
    assert all(part >= 0 for part in parts.values())
    assert set(parts) == {"root", *(child.name for child in children)}


@given(requests())
def test_the_parts_are_those_of_the_rule_word_by_word(request_):
    root, children = request_
    expected = by_the_rule(root, children)
    assert critical_path(root, children) == dict.fromkeys(critical_path(root, children), 0) | expected


@given(requests(), st.randoms(use_true_random=False))
def test_the_order_in_which_spans_came_changes_nothing(request_, random):
    root, children = request_
    # Of two with the same start and end either may have the time: they are told apart by their order alone.
    distinct = list({(child.start, child.end): child for child in children}.values())
    parts = critical_path(root, distinct)
    random.shuffle(distinct)
    assert critical_path(root, distinct) == parts


@given(st.lists(requests(), min_size=1, max_size=6))
def test_many_requests_at_once_are_each_as_alone(several):
    parent, start, end, expected = [], [], [], []
    for root, children in several:
        offset = len(parent)
        position = {"root": offset} | {child.id: offset + 1 + n for n, child in enumerate(children)}
        parent += [NO_PARENT, *(position[child.parent] for child in children)]
        start += [root.start, *(child.start for child in children)]
        end += [root.end, *(child.end for child in children)]
        expected += list(critical_path(root, children).values())
    own = own_times(without_cycles(np.array(parent)), np.array(start), np.array(end))
    assert own.tolist() == expected


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(-5, 25), st.integers(0, 15)), min_size=1, max_size=12)
)
def test_one_request_span_by_span_is_what_many_are_at_once(calls: list[tuple[int, int, int]]) -> None:
    parent = without_cycles(np.array([NO_PARENT, *(above % (len(calls) + 1) for above, _, _ in calls)]))
    start = np.array([0, *(start for _, start, _ in calls)])
    end = np.array([20, *(start + length for _, start, length in calls)])
    one, many = slots_of_one(parent, start, end), slots(parent, start, end)
    assert one.own.tolist() == many.own.tolist()
    assert one.is_on_path.tolist() == many.is_on_path.tolist()
    on_path = many.is_on_path
    assert one.low[on_path].tolist() == many.low[on_path].tolist()
    assert one.high[on_path].tolist() == many.high[on_path].tolist()
    # The stretches are what each has, and cover the root without a gap.
    stretches = own_stretches(parent, one)
    assert [sum(until - since for since, until in several) for several in stretches] == one.own.tolist()
    covered = sorted(stretch for several in stretches for stretch in several)
    assert [since for since, _ in covered] + [20] == [0] + [until for _, until in covered]
