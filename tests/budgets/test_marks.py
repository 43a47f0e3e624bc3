"""What happened meanwhile is marked on every chart over time, legibly however much it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest
import time_machine
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from budgets import charts
from budgets.annotations import add_annotation
from budgets.charts import Marker
from budgets.charts.frame import FONT_PX, LABEL_GAP_PX, Size
from budgets.charts.marks import WIDEST_PX, WIDTHS, Marks, draw_marks
from budgets.models import Feature
from tests.budgets.test_charts import START, make_series
from tests.factories import NOW, make_feature, make_team, make_traffic
from tests.people import make_person

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
END = START + HOUR
HOSTILE = '<img src=x onerror="alert(1)">{{ 7*7 }} & co \N{RIGHT-TO-LEFT OVERRIDE}\N{GRINNING FACE}'
SIZES: tuple[Size, ...] = ("large", "small")


def marked(*minutes: float, text: str = "v{}", **more: Any) -> list[Marker]:
    return [
        Marker(START + one * MINUTE, text.format(n), what="Release", **more) for n, one in enumerate(minutes)
    ]


def draw(markers: Sequence[Marker], size: Size = "large") -> Marks:
    return draw_marks(markers, start=START, end=END, size=size)


def variants(marks: Marks, size: Size) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Pixels of the plot, and the labels that are drawn on it."""
    yield WIDEST_PX[size], marks.annotations
    px_of = dict(WIDTHS)
    for below_px, _, labels in marks.narrower:
        yield px_of[below_px], labels


def boxes(labels: list[dict[str, Any]], plot_px: int) -> list[tuple[float, float, int]]:
    """From, to and level of each label, for letters of the usual width."""
    found = []
    for one in labels:
        hours, minutes, seconds = one["x"].split("T")[1].split(":")
        at = ((int(hours) - 20) * 60 + int(minutes) + float(seconds) / 60) / 60 * plot_px + one["xshift"]
        # The mean of a sans-serif is half of its size.
        width = len(one["text"]) * (FONT_PX - 1) * 0.52
        low = at if one["xanchor"] == "left" else at - width
        found.append((low, low + width, -one["yshift"] // LABEL_GAP_PX))
    return found


def counted(labels: list[dict[str, Any]]) -> int:
    return sum(int(one["text"].split()[0]) if " changes" in one["text"] else 1 for one in labels)


@pytest.mark.parametrize("size", SIZES)
@given(minutes=st.lists(st.floats(0.1, 60), max_size=60), length=st.integers(1, 40))
def test_no_label_lies_on_another_or_outside_and_none_is_forgotten(
    size: Size, minutes: list[float], length: int
) -> None:
    markers = [Marker(START + one * MINUTE, "x" * length) for one in minutes]
    steps = [Marker(START + 12 * MINUTE, "opened", is_step=True)]
    marks = draw([*markers, *steps], size)
    for plot_px, labels in variants(marks, size):
        assert counted(labels) == len(markers) + 1
        placed = boxes(labels, plot_px)
        assert all(low >= 0 and high <= plot_px for low, high, _ in placed)
        for (low, high, level), (other_low, other_high, other_level) in combinations(placed, 2):
            assert level != other_level or high <= other_low or other_high <= low


def test_without_any_nothing_is_drawn() -> None:
    assert draw([]) == Marks()
    chart = charts.percentile_lines(make_series([1000.0]), subject="tools", limit_word="allocation")
    assert chart.layout["shapes"] == chart.layout["meta"]["narrower"] == []
    assert chart.document()["changes"]["rows"] == []
    assert "marked" not in chart.summary


@pytest.mark.parametrize("size", SIZES)
def test_one_is_named_at_every_width(size: Size) -> None:
    marks = draw(marked(30), size)
    for _, labels in variants(marks, size):
        assert [one["text"] for one in labels] == ["v0"]
    assert [one["x0"] for one in marks.shapes] == ["2026-11-21T20:30:00"]
    assert marks.annotations[0]["hovertext"] == "21 Nov 2026, 20:30 UTC · Release: v0"


def test_neighbours_that_have_no_room_are_told_by_their_number() -> None:
    close = draw(marked(30, 30.2, 30.4)).annotations
    assert [one["text"] for one in close] == ["3 changes"]
    assert close[0]["hovertext"].count("<br>") == 2
    apart = draw(marked(10, 30, 50)).annotations
    assert [one["text"] for one in apart] == ["v0", "v1", "v2"]


def test_a_release_and_the_deploy_that_brought_it_have_one_name() -> None:
    release, deploy = Marker(START + HOUR / 2, "v411"), Marker(START + HOUR / 2, "v411: longer prompts")
    assert [label["text"] for label in draw([release, deploy], "small").annotations] == ["v411"]
    other = Marker(START + HOUR / 2, "v41")
    assert [label["text"] for label in draw([release, other], "small").annotations] == ["2 changes"]


def test_the_narrower_the_chart_the_more_stand_together() -> None:
    marks = draw(marked(*range(1, 41), text="release {}"))
    numbers = [len(labels) for _, labels in variants(marks, "large")]
    assert numbers == sorted(numbers, reverse=True)
    assert 1 < numbers[-1] < 8
    lines = [len(marks.shapes), *(len(shapes) for _, shapes, _ in marks.narrower)]
    assert lines == sorted(lines, reverse=True)
    assert lines[-1] <= 2 * numbers[-1], "of those counted together the first and the last"
    assert len(marks.rows) == 40


def test_the_hover_text_of_many_names_the_first_and_says_how_many_more() -> None:
    [label] = draw(marked(*(30 + n / 100 for n in range(12)))).annotations
    assert label["text"] == "12 changes"
    assert "Release: v7" in label["hovertext"]
    assert label["hovertext"].endswith("and 4 more, in the numbers")


def test_lines_that_would_be_one_blot_are_drawn_once() -> None:
    assert len(draw(marked(30, 30.01, 30.02, 45)).shapes) == 2


def test_steps_are_named_by_themselves_among_many() -> None:
    steps = [
        Marker(START + 30 * MINUTE, "opened", is_step=True),
        Marker(START + 30.1 * MINUTE, "acknowledged", is_step=True),
    ]
    for _, labels in variants(draw([*marked(*range(1, 41)), *steps]), "large"):
        assert {"opened", "acknowledged"} <= {one["text"] for one in labels}


def test_what_is_before_or_after_the_range_is_left_out() -> None:
    assert [row[2] for row in draw(marked(0, 1, 60, 61)).rows] == ["v1", "v2"]


def test_hostile_texts_are_letters() -> None:
    chart = charts.percentile_lines(
        make_series([1000.0] * 60),
        subject="tools",
        limit_word="allocation",
        markers=[Marker(START + 30 * MINUTE, HOSTILE, what="Note"), *marked(31)],
    )
    figure = json.dumps(chart.document()["figure"], ensure_ascii=False)
    assert "<img" not in figure
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in figure
    assert "&lt;img src=x" in figure
    assert chart.changes[0] == ["21 Nov 2026, 20:30", "Note", HOSTILE], "the table takes it as text"


def test_a_label_is_short_and_the_hover_text_says_more() -> None:
    [label] = draw([Marker(START + 30 * MINUTE, "x" * 300, what="Note")]).annotations
    assert len(label["text"]) == 24
    assert len(label["hovertext"]) > 80


@pytest.mark.parametrize("name", ["percentiles", "burn-down"])
def test_programs_read_of_each_step_what_happened_within_it(name: str) -> None:
    series = make_series([1000.0] * 3)
    markers = [
        Marker(START + 1.5 * MINUTE, "v412", what="Release"),
        Marker(START + MINUTE, "limits v2", what="Latency budget", detail="version 2 of first token"),
        Marker(START + 9 * MINUTE, "later"),
    ]
    chart = (
        charts.percentile_lines(series, subject="x", limit_word="allocation", markers=markers)
        if name == "percentiles"
        else charts.burn_down(
            series, objective=Decimal("0.9"), window_end=START + 3 * MINUTE, markers=markers
        )
    )
    assert chart.fields[-1] == "changes"
    assert [record[-1] for record in chart.records] == [
        "",
        "Latency budget: version 2 of first token | Release: v412",
        "",
    ]
    assert chart.summary.endswith(" 2 changes are marked.")
    assert len(chart.layout["shapes"]) == 2


# -- the charts of pages ----------------------------------------------------------------------------


@pytest.fixture
def feature(db: None) -> Iterator[Feature]:
    with time_machine.travel(NOW, tick=False):
        team = make_team(slug="assistants")
        made = make_feature(team=team, slug="support-chat", now=NOW - timedelta(days=2))
        for release, minutes in (("v411", 90), ("v412", 40)):
            at = NOW - minutes * MINUTE
            for target in ({"milestone": "first_token"}, {"component": "tools"}):
                make_traffic(made, at=at, count=20, over=0, release=release, now=NOW, **target)
        for text, more in {
            "roll-out 7": {"feature": "support-chat"},
            "Cache cleared": {"kind": "note"},
            "of staging": {"environment": "staging"},
        }.items():
            at = (NOW - 20 * MINUTE).isoformat()
            document = {"kind": "deploy", "text": text, "at": at, **more}
            add_annotation(team=team, document=document, actor="a test", now=NOW)
        yield made


@pytest.mark.parametrize(
    "address",
    [
        "percentiles.json?milestone=first_token&target=milestone:first_token&window=6h",
        "percentiles.json?milestone=first_token&target=component:tools&window=6h",
        "burn-down.json?milestone=first_token",
    ],
)
def test_every_chart_over_time_of_a_feature_marks_releases_deploys_and_notes(
    feature: Feature, client: Client, address: str
) -> None:
    client.force_login(make_person("viewer@example.com", team=feature.team))
    drawn = client.get(f"/features/support-chat/charts/{address}").json()
    assert [row[1:] for row in drawn["changes"]["rows"]] == [
        ["Release", "v412"],
        ["Deploy", "roll-out 7"],
        ["Note", "Cache cleared"],
    ]
    assert drawn["figure"]["layout"]["shapes"]
    hovered = json.dumps([one.get("hovertext") for one in drawn["figure"]["layout"]["annotations"]])
    assert "Deploy: roll-out 7" in hovered
