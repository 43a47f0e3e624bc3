"""Bodies read without a database: what each item becomes, and why each of the others is refused."""

from __future__ import annotations

import contextlib
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgets import items
from budgets.errors import Refusal
from budgets.payloads import Payload, read_payload
from tests.budgets.bodies import broken_items, broken_requests, json_values
from tests.factories import NOW, item, request_item

OLDEST = NOW - timedelta(days=7)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def read(
    measurements: list[Any] | None = None, requests: list[Any] | None = None, *, max_items: int = 10_000
) -> Payload:
    return read_bytes(
        msgspec.json.encode({"measurements": measurements or [], "requests": requests or []}),
        max_items=max_items,
    )


def read_bytes(body: bytes, *, max_items: int = 10_000) -> Payload:
    return read_payload(body, now=NOW, oldest=OLDEST, max_items=max_items)


def codes(payload: Payload) -> list[str]:
    return [payload.rejected[origin].code for origin in sorted(payload.rejected)]


def rows(payload: Payload) -> list[tuple[str, datetime, float, str]]:
    """(component or milestone, ended at, ms, status) of each measurement."""
    return _rows(payload.measurements)


def spans(payload: Payload) -> list[tuple[str, datetime, float, str]]:
    return _rows(payload.spans)


def _rows(columns: Any) -> list[tuple[str, datetime, float, str]]:
    targets = [columns.targets[position] for position in columns.target]
    return [
        (
            target[1] or target[2],
            datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(ended_us)),
            float(ms),
            ("ok", "error", "timeout")[status],
        )
        for target, ended_us, ms, status in zip(
            targets, columns.ended_us, columns.duration_ms, columns.status, strict=True
        )
    ]


# -- measurements -----------------------------------------------------------------------------------


def test_a_measurement_ended_its_duration_after_its_start() -> None:
    payload = read([item("chat", started_at="2026-11-21T20:00:00.125Z", duration_ms=231.5)])
    assert rows(payload) == [("model", datetime(2026, 11, 21, 20, 0, 0, 356_500, UTC), 231.5, "ok")]


@pytest.mark.parametrize(
    "started_at",
    [
        "2026-11-21T20:00:00.125Z",
        "2026-11-21t20:00:00.125z",
        "2026-11-21T21:30:00.125+01:30",
        "2026-11-21T12:00:00.125-08:00",
        1795291200.125,
    ],
)
def test_an_instant_is_the_same_in_every_notation(started_at: str | float) -> None:
    [row] = rows(read([item("chat", started_at=started_at, duration_ms=0)]))
    assert row[1] == datetime(2026, 11, 21, 20, 0, 0, 125_000, UTC)


def test_a_whole_number_of_unix_seconds_is_an_instant() -> None:
    [row] = rows(read([item("chat", started_at=1795291200, duration_ms=0)]))
    assert row[1] == datetime(2026, 11, 21, 20, 0, tzinfo=UTC)


@given(us=st.integers(0, 6 * 86_400_000_000), duration_us=st.integers(0, 86_400_000_000))
def test_no_microsecond_is_lost_between_the_start_and_the_end(us: int, duration_us: int) -> None:
    started = OLDEST + timedelta(microseconds=us)
    [row] = rows(read([item("chat", started_at=started.isoformat(), duration_ms=duration_us / 1000)]))
    assert row[1] == started + timedelta(microseconds=duration_us)


def test_what_is_left_out_has_the_documented_default() -> None:
    payload = read([item("chat")])
    assert payload.measurements.targets == [("chat", "model", None, "production", "")]
    assert payload.measurements.trace_id is None
    assert payload.measurements.labels is None


def test_ids_are_kept_where_they_are_given_and_nowhere_else() -> None:
    payload = read([item("chat"), item("chat", trace_id=TRACE, span_id=SPAN, parent_span_id="f" * 16)])
    traces, spans_, parents = (
        getattr(payload.measurements, name) for name in ("trace_id", "span_id", "parent_span_id")
    )
    assert [present.tolist() for _, present in (traces, spans_, parents)] == [[False, True]] * 3
    assert traces[0][1].tobytes().hex() == TRACE
    assert (int(spans_[0][1]), int(parents[0][1])) == (0x00F067AA0BA902B7, -1)


def test_null_is_the_same_as_left_out_for_ids_and_labels() -> None:
    nothing = dict.fromkeys(("trace_id", "span_id", "parent_span_id", "labels", "milestone"))
    assert codes(read([item("chat"), {**item("chat"), **nothing}])) == []


def test_unknown_fields_are_ignored() -> None:
    assert codes(read([item("chat", colour="red", nested={"a": [1, {"b": None}]})])) == []


REFUSED = [
    ({"feature": ...}, "missing_field"),
    ({"started_at": ...}, "missing_field"),
    ({"duration_ms": ...}, "missing_field"),
    ({"component": ...}, "target_required"),
    ({"component": None}, "target_required"),
    ({"component": "model", "milestone": "complete"}, "target_ambiguous"),
    ({"milestone": "last_token"}, "unknown_milestone"),
    ({"milestone": ""}, "unknown_milestone"),
    ({"milestone": 1}, "invalid_milestone"),
    ({"feature": ""}, "invalid_feature"),
    ({"feature": "x" * 201}, "invalid_feature"),
    ({"feature": 7}, "invalid_feature"),
    ({"feature": None}, "invalid_feature"),
    ({"feature": "a\0b"}, "invalid_text"),
    ({"component": ""}, "invalid_component"),
    ({"component": "x" * 201}, "invalid_component"),
    ({"component": ["model"]}, "invalid_component"),
    ({"component": "a\0b"}, "invalid_text"),
    ({"environment": ""}, "invalid_environment"),
    ({"environment": "x" * 201}, "invalid_environment"),
    ({"environment": None}, "invalid_environment"),
    ({"environment": "\0"}, "invalid_text"),
    ({"release": "x" * 201}, "invalid_release"),
    ({"release": 412}, "invalid_release"),
    ({"release": "v\0"}, "invalid_text"),
    ({"labels": {"a": "b\0"}}, "invalid_text"),
    ({"labels": {"a\0": "b"}}, "invalid_text"),
    ({"labels": []}, "invalid_labels"),
    ({"labels": {"a": None}}, "invalid_labels"),
    ({"labels": {"a": {"b": "c"}}}, "invalid_labels"),
    ({"labels": {"a": "x" * 4096}}, "invalid_labels"),
    ({"duration_ms": -3}, "negative_duration"),
    ({"duration_ms": -1e-9}, "negative_duration"),
    ({"duration_ms": 604_800_000.001, "started_at": 1795291200 - 604_800}, "duration_too_long"),
    ({"duration_ms": 1e300}, "duration_too_long"),
    ({"duration_ms": True}, "invalid_duration_ms"),
    ({"duration_ms": "250"}, "invalid_duration_ms"),
    ({"duration_ms": None}, "invalid_duration_ms"),
    ({"duration_ms": [250]}, "invalid_duration_ms"),
    ({"started_at": True}, "invalid_started_at"),
    ({"started_at": None}, "invalid_started_at"),
    ({"started_at": "yesterday"}, "invalid_started_at"),
    ({"started_at": "2026-11-21"}, "invalid_started_at"),
    ({"started_at": "2026-11-21T20:00:00"}, "invalid_started_at"),
    ({"started_at": "2026-13-21T20:00:00Z"}, "invalid_started_at"),
    ({"started_at": "1795291200"}, "invalid_started_at"),
    ({"started_at": 1795291200_000}, "invalid_started_at"),
    ({"started_at": -1}, "too_old"),
    ({"started_at": "1969-12-31T23:59:59Z"}, "too_old"),
    ({"started_at": "1600-01-01T00:00:00+01:00"}, "too_old"),
    ({"started_at": "1969-12-31T23:59:59Z", "duration_ms": -1}, "negative_duration"),
    ({"started_at": -1e12}, "invalid_started_at"),
    ({"started_at": 1e300}, "invalid_started_at"),
    ({"started_at": "0001-01-01T00:00:00+14:00"}, "too_old"),
    ({"started_at": "2026-11-21T20:01:31Z"}, "ended_in_the_future"),
    ({"started_at": "9999-12-31T23:59:59-14:00"}, "invalid_started_at"),
    ({"started_at": "2500-01-01T00:00:00Z"}, "ended_in_the_future"),
    ({"started_at": "2026-11-14T20:00:29Z"}, "too_old"),
    ({"started_at": 0}, "too_old"),
    ({"status": "OK"}, "invalid_status"),
    ({"status": None}, "invalid_status"),
    ({"status": 0}, "invalid_status"),
    ({"trace_id": TRACE.upper()}, "invalid_trace_id"),
    ({"trace_id": TRACE[:31]}, "invalid_trace_id"),
    ({"trace_id": TRACE + "0"}, "invalid_trace_id"),
    ({"trace_id": "0" * 32}, "invalid_trace_id"),
    ({"trace_id": "g" * 32}, "invalid_trace_id"),
    ({"trace_id": "１" * 32}, "invalid_trace_id"),
    ({"trace_id": " " * 30 + "ab"}, "invalid_trace_id"),
    ({"trace_id": 7}, "invalid_trace_id"),
    ({"trace_id": ""}, "invalid_trace_id"),
    ({"span_id": SPAN.upper()}, "invalid_span_id"),
    ({"span_id": "0" * 16}, "invalid_span_id"),
    ({"span_id": SPAN[:15]}, "invalid_span_id"),
    ({"span_id": TRACE}, "invalid_span_id"),
    ({"parent_span_id": "0" * 16}, "invalid_parent_span_id"),
    ({"parent_span_id": "x" * 16}, "invalid_parent_span_id"),
]


@pytest.mark.parametrize(("wrong", "code"), REFUSED, ids=lambda one: str(one)[:50])
def test_a_wrong_measurement_is_refused_by_itself(wrong: dict[str, Any], code: str) -> None:
    payload = read([item("chat"), item("chat", **wrong), item("chat")])
    assert {origin: one.code for origin, one in payload.rejected.items()} == {1: code}
    assert payload.rejected[1].document().keys() == {"index", "in", "code", "message"}
    assert (payload.accepted, len(payload.measurements)) == (2, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        *(one for one, _ in REFUSED if one.keys() & {"feature", "environment", "release", "labels"}),
        {"status": "slow"},
        {"trace_id": TRACE.upper()},
        {"started_at": "2026-11-14T20:00:00Z"},
        {"milestones": {"first_token": 1, "last_token": 2}},
        {"milestones": {"first_token": None}},
        {"milestones": {"first_token": True}},
        {"milestones": {"first_token": -1}},
        {"milestones": {"complete": 604_800_001}},
        {"milestones": {"complete": 72_000}},
        {"milestones": {"first_token": 2, "complete": 1}},
        {"milestones": {}, "components": []},
        {"milestones": [1840]},
        {"components": {"model": 12}},
        {"components": [{"component": "model"}]},
        {"components": [{"component": "", "duration_ms": 1}]},
        {"components": [{"component": "a\0", "duration_ms": 1}]},
        {"components": [{"component": "model", "duration_ms": -1}]},
        {"components": [{"component": "model", "duration_ms": 604_800_001}]},
        {"components": [{"component": "model", "duration_ms": 1, "offset_ms": -1}]},
        {"components": [{"component": "model", "duration_ms": 1, "offset_ms": 604_800_001}]},
        {"components": [{"component": "model", "duration_ms": 1, "offset_ms": "1"}]},
        {"components": [{"component": "model", "duration_ms": 1, "offset_ms": 72_000}]},
        {"components": [{"component": "model", "duration_ms": 1, "status": "slow"}]},
        {"components": [{"component": "model", "duration_ms": 1, "span_id": "0" * 16}]},
        {"components": [{"component": "model", "duration_ms": 1, "parent_span_id": SPAN.upper()}]},
    ],
    ids=lambda one: str(one)[:60],
)
def test_a_request_with_anything_wrong_is_refused_whole(wrong: dict[str, Any]) -> None:
    payload = read([], [request_item("chat"), request_item("chat", **wrong), request_item("chat")])
    assert list(payload.rejected) == [1]
    assert payload.rejected[1].within == "requests"
    assert (payload.accepted, len(payload.measurements)) == (8, 8)


def test_names_may_have_200_characters_of_any_script() -> None:
    name = "検" * 199 + "😀"
    payload = read([item(name, component=name, environment=name, release=name)])
    assert payload.measurements.targets == [(name, name, None, name, name)]


def test_the_message_tells_what_was_expected_and_what_came() -> None:
    payload = read([item("chat", duration_ms=-3), item("chat", started_at=1795291200_000)])
    messages = [payload.rejected[n].message for n in (0, 1)]
    assert messages[0] == "duration_ms must be ≥ 0, got -3."
    assert "It looks like milliseconds" in messages[1]


def test_the_bounds_in_time_belong_to_what_is_accepted() -> None:
    payload = read(
        [
            item("chat", started_at=(NOW + timedelta(seconds=59)).isoformat(), duration_ms=1000),
            item("chat", started_at=(NOW + timedelta(seconds=59)).isoformat(), duration_ms=1000.001),
            item("chat", started_at=OLDEST.isoformat(), duration_ms=0),
            item("chat", started_at=(OLDEST - timedelta(microseconds=1)).isoformat(), duration_ms=0),
            item("chat", started_at=(NOW - timedelta(days=7)).isoformat(), duration_ms=604_800_000),
        ]
    )
    assert {origin: one.code for origin, one in payload.rejected.items()} == {
        1: "ended_in_the_future",
        3: "too_old",
    }
    assert [ended_at for _, ended_at, _, _ in rows(payload)] == [NOW + timedelta(seconds=60), OLDEST, NOW]


def test_a_long_workflow_counts_by_its_end_not_by_its_start() -> None:
    started_at = (OLDEST - timedelta(minutes=10)).isoformat()
    payload = read([item("chat", started_at=started_at, duration_ms=20 * 60_000)])
    assert rows(payload)[0][1] == OLDEST + timedelta(minutes=10)


def test_an_item_that_is_no_object_is_refused() -> None:
    payload = read([1, None, "x", [], item("chat")], [[], True])
    assert codes(payload) == ["invalid_item"] * 6


def test_a_repeated_key_has_its_last_value() -> None:
    text = msgspec.json.encode(item("chat", duration_ms=5))[:-1] + b',"duration_ms":7}'
    payload = read_bytes(b'{"measurements":[' + text + b"]}")
    assert rows(payload)[0][2] == 7


def test_what_the_sender_wrote_is_no_part_of_a_code() -> None:
    payload = read([item("chat", status="x - at `$.evil`"), item("chat", status="y" * 5000)])
    assert codes(payload) == ["invalid_status"] * 2
    assert len(payload.rejected[1].message) < 400


# -- limits -----------------------------------------------------------------------------------------


def test_each_milestone_and_each_component_item_counts_against_the_limit() -> None:
    assert read([item("chat")], [request_item("chat")], max_items=5).accepted == 5
    with pytest.raises(Refusal) as refused:
        read([item("chat")], [request_item("chat")], max_items=4)
    assert (refused.value.code, refused.value.status) == ("too_many_measurements", 413)


TINY = [b"{}", b"1", b"[]", b'"a"', b'{"feature":[1,2]}']


@pytest.mark.parametrize("key", [b"measurements", b"requests", b"measur\\u0065ments"])
@pytest.mark.parametrize("tiny", TINY)
def test_eight_mib_of_tiny_items_are_refused_in_little_memory(key: bytes, tiny: bytes) -> None:
    """Of four million items not one is decoded."""
    size = 8 * 1024 * 1024
    body = b'{"%s": [%s]}' % (key, b",".join([tiny] * ((size - 50) // (len(tiny) + 1))))
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as refused:
            read_bytes(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (refused.value.code, refused.value.status) == ("too_many_measurements", 413)
    assert peak < 3 * size


def test_a_long_list_under_a_name_of_the_sender_counts_as_nothing() -> None:
    good = msgspec.json.encode(item("chat")).decode()
    numbers = ",".join(["1"] * 20_000)
    body = f'{{"meta": [{numbers}], "deep": {{"measurements": [{numbers}]}}, "measurements": [{good}, 1]}}'
    payload = read_bytes(body.encode())
    assert (payload.accepted, len(payload.rejected)) == (1, 1)


# With all that must not be taken for a bracket, a comma or the end of a text.
_texts = st.text(alphabet='a,[]{}"\\:', max_size=6)
_anything = st.recursive(
    _texts | st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300)
@given(
    lists=st.dictionaries(
        st.sampled_from(["measurements", "requests", "other"]), st.lists(_anything, max_size=9)
    ),
    rest=st.dictionaries(_texts, _anything, max_size=2),
    part=st.integers(1, 40),
)
def test_the_items_of_a_body_are_counted_by_its_commas_wherever_it_is_cut(
    lists: dict[str, Any], rest: dict[str, Any], part: int
) -> None:
    body = msgspec.json.encode(rest | lists)
    longest = max((len(lists[name]) for name in ("measurements", "requests") if name in lists), default=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(items, "_PART", part)
        # A list under a name with an escape in it counts too, and has four at most.
        items._refuse_long_lists(body, max(longest, 4))
        if longest > 4:
            with pytest.raises(Refusal):
                items._refuse_long_lists(body, longest - 1)


def test_an_item_that_stands_for_nothing_counts_as_one() -> None:
    with pytest.raises(Refusal, match="got 5"):
        read([], [1, {}, request_item("chat", milestones={}, components=[]), 4, 5], max_items=4)


def test_four_million_worthless_items_are_not_looked_at_one_by_one() -> None:
    body = b'{"requests":[' + b",".join([b"1"] * 4_000_000) + b"]}"
    with pytest.raises(Refusal, match="got at least"):
        read_bytes(body)


def test_labels_of_a_request_are_bounded_because_each_of_its_rows_keeps_them() -> None:
    payload = read([], [request_item("chat", labels={"prompt": "x" * 4083}), request_item("chat")])
    assert codes(payload) == []
    assert payload.measurements.labels is not None
    kept = {id(one) for one in payload.measurements.labels if one is not None}
    assert len(kept) == 1
    payload = read([], [request_item("chat", labels={"prompt": "x" * 4084})])
    assert codes(payload) == ["invalid_labels"]


# -- what cannot be decoded -------------------------------------------------------------------------

GOOD = msgspec.json.encode(item("chat"))


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b'{"deep":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested_too_deeply"),
        (b'{"deep":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}", "nested_too_deeply"),
        (b"[" * 10_000 + b"]" * 10_000, "nested_too_deeply"),
        (
            GOOD[:-1] + b',"quoted":"\\"[[[{{{","deep":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
            "nested_too_deeply",
        ),
        (GOOD[:-1] + b',"release":"\\ud83d"}', "invalid_text"),
        (GOOD[:-1] + b',"release":"\\ude00"}', "invalid_text"),
        (GOOD[:-1] + b',"release":"\\ud83d\\n"}', "invalid_text"),
        (GOOD[:-1] + b',"release":"\\ud83d\\ud83d\\ude00"}', "invalid_text"),
        (GOOD[:-1] + b',"labels":{"emoji":"\\uD83D"}}', "invalid_text"),
        (GOOD[:-1] + b',"release":"\xff"}', "malformed_item"),
        (GOOD[:-1] + b',"release":"\xed\xa0\x80"}', "malformed_item"),
        (GOOD[:-1] + b',"duration_ms":1e400}', "invalid_duration_ms"),
        (GOOD[:-1] + b',"duration_ms":-1e400}', "invalid_duration_ms"),
        (GOOD[:-1] + b',"duration_ms":1' + b"0" * 5000 + b"}", "invalid_duration_ms"),
        (GOOD[:-1] + b',"started_at":1e400}', "invalid_started_at"),
        (GOOD[:-1] + b',"labels":{"a":1e400}}', "invalid_labels"),
        (GOOD[:-1] + b',"labels":{"a":1' + b"0" * 5000 + b"}}", "invalid_labels"),
    ],
    ids=lambda one: str(one)[-60:],
)
def test_an_item_that_no_decoder_can_hold_costs_no_other_item(bad: bytes, code: str) -> None:
    payload = read_bytes(b'{"measurements":[' + GOOD + b"," + bad + b"," + GOOD + b"]}")
    assert {origin: one.code for origin, one in payload.rejected.items()} == {1: code}
    assert payload.accepted == 2


def test_a_whole_pair_of_surrogates_is_the_character_that_it_stands_for() -> None:
    body = b'{"measurements":[' + GOOD[:-1] + b',"release":"\\ud83d\\ude00"},'
    payload = read_bytes(body + GOOD[:-1] + b',"release":"\\ud83d"}]}')
    assert payload.measurements.targets[0][4] == "😀"
    assert list(payload.rejected) == [1]


def test_a_backslash_before_u0000_is_no_nul() -> None:
    payload = read([item("chat", release="\\u0000"), item("chat", release="\\ud83d")])
    assert codes(payload) == []
    assert [target[4] for target in payload.measurements.targets] == ["\\u0000", "\\ud83d"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"),
        (b'{"measurements":[' + GOOD, "malformed_json"),
        (b'{"measurements":[' + GOOD + b"]}}", "malformed_json"),
        (b"\xef\xbb\xbf{}", "malformed_json"),
        (b'{"measurements":[' + GOOD[:-1] + b',"duration_ms":NaN}]}', "malformed_json"),
        (b'{"measurements":[' + GOOD[:-1] + b',"duration_ms":Infinity}]}', "malformed_json"),
        (b'{"measurements":[' + GOOD[:-1] + b',"duration_ms":-Infinity}]}', "malformed_json"),
        (b'{"measurements":[' + GOOD[:-1] + b',"x":nan}]}', "malformed_json"),
        (b'{"measurements":[' + GOOD[:-1] + b",'x':1}]}", "malformed_json"),
        (b'{"measurements":[' + GOOD[:-1] + b',"release":"\x00"}]}', "malformed_json"),
        (b'{"measurements":[{"deep":' + b"[" * 10_000 + b"}]}", "malformed_json"),
        (b'{"measurements":' + b"[" * 100_000, "malformed_json"),
        (b'{"measurements":[' + GOOD[:-1] + b',"x":"\\ud83d"},NaN]}', "malformed_json"),
        (b"[" * 10_000 + b"]" * 10_000, "invalid_body"),
        (b"[]", "invalid_body"),
        (b"null", "invalid_body"),
        (b"7", "invalid_body"),
        (b'"x"', "invalid_body"),
        (b'{"measurements":{}}', "invalid_body"),
        (b'{"measurements":null}', "invalid_body"),
        (b'{"measurements":"x","requests":[]}', "invalid_body"),
        (b'{"requests":7}', "invalid_body"),
    ],
    ids=lambda one: str(one)[-60:],
)
def test_a_body_that_is_no_json_or_of_another_shape_is_refused_whole(body: bytes, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_bytes(body)
    assert (refused.value.code, refused.value.status) == (code, 400)


def test_nesting_elsewhere_in_the_body_does_not_matter() -> None:
    deep = b"[" * 10_000 + b"]" * 10_000
    payload = read_bytes(b'{"meta":' + deep + b',"measurements":[' + GOOD + b"]}")
    assert payload.accepted == 1


@given(st.lists(broken_items, max_size=4), st.lists(broken_requests, max_size=4))
def test_every_item_is_accepted_or_refused_with_a_reason(
    measurements: list[Any], requests: list[Any]
) -> None:
    payload = read(measurements, requests)
    of_items = set(payload.measurements.origin.tolist())
    repeats = {origin for origin, _ in payload.repeats}
    assert of_items | repeats | payload.rejected.keys() == set(range(len(measurements) + len(requests)))
    assert not of_items & payload.rejected.keys()
    assert all(one.code and one.message for one in payload.rejected.values())


@given(st.binary(max_size=200) | json_values.map(msgspec.json.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(Refusal):
        read_bytes(body)


# -- requests ---------------------------------------------------------------------------------------


def at(ms: float) -> datetime:
    return datetime(2026, 11, 21, 20, 0, 20, tzinfo=UTC) + timedelta(milliseconds=ms)


def call(component: str, **fields: Any) -> dict[str, Any]:
    return {"component": component, "duration_ms": 100, **fields}


def test_a_request_stands_for_its_milestones_and_components() -> None:
    payload = read([], [request_item("chat")])
    assert rows(payload) == [
        ("first_token", at(1840), 1840, "ok"),
        ("complete", at(6210), 6210, "ok"),
        ("retrieval", at(243.5), 231.5, "ok"),
        ("model", at(1750), 1500, "ok"),
    ]
    assert payload.accepted == 4


@pytest.mark.parametrize("status", ["error", "timeout"])
def test_the_status_of_a_request_is_that_of_the_milestone_reached_last(status: str) -> None:
    payload = read([], [request_item("chat", status=status, components=[])])
    assert [(name, found) for name, _, _, found in rows(payload)] == [
        ("first_token", "ok"),
        ("complete", status),
    ]


def test_the_order_of_the_milestones_in_the_body_does_not_matter() -> None:
    milestones = {"complete": 6210, "first_token": 1840}
    payload = read([], [request_item("chat", status="timeout", milestones=milestones, components=[])])
    assert {name: found for name, _, _, found in rows(payload)} == {
        "first_token": "ok",
        "complete": "timeout",
    }


def test_a_request_that_ended_at_its_first_token_fails_there() -> None:
    payload = read([], [request_item("chat", status="error", milestones={"first_token": 900}, components=[])])
    assert rows(payload) == [("first_token", at(900), 900, "error")]


def test_a_request_that_is_not_ok_names_the_milestone_at_which_it_ended() -> None:
    payload = read([], [request_item("chat", status="timeout", milestones={})])
    assert codes(payload) == ["milestone_required"]


def test_a_request_of_components_alone_is_sound() -> None:
    assert read([], [request_item("chat", milestones={})]).accepted == 2


def test_a_component_without_an_offset_starts_with_its_request() -> None:
    payload = read([], [request_item("chat", milestones={}, components=[call("model")])])
    assert rows(payload) == [("model", at(100), 100, "ok")]


def test_several_calls_with_offsets_are_judged_by_the_time_in_which_any_ran() -> None:
    calls = [
        call("tools", offset_ms=500),
        call("tools", offset_ms=0),
        call("tools", offset_ms=50),
        call("tools", offset_ms=60, duration_ms=20),
    ]
    payload = read([], [request_item("chat", milestones={}, components=calls)])
    assert rows(payload) == [("tools", at(600), 250, "ok")]
    assert payload.accepted == 4


def test_several_calls_of_which_one_lacks_its_offset_are_judged_by_their_sum_from_the_start() -> None:
    calls = [call("tools", offset_ms=500), call("tools", duration_ms=30)]
    payload = read([], [request_item("chat", milestones={}, components=calls)])
    assert rows(payload) == [("tools", at(130), 130, "ok")]


@pytest.mark.parametrize(
    ("statuses", "judged"),
    [
        (["ok", "ok"], "ok"),
        (["ok", "error"], "error"),
        (["timeout", "error", "ok"], "timeout"),
        (["error", "timeout"], "timeout"),
    ],
)
def test_several_calls_are_a_timeout_if_any_is_else_an_error_if_any_is(
    statuses: list[str], judged: str
) -> None:
    calls = [call("tools", offset_ms=0, status=status) for status in statuses]
    payload = read([], [request_item("chat", milestones={}, components=calls)])
    assert rows(payload)[0][3] == judged


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), min_size=2, max_size=8))
def test_the_union_of_calls_is_every_moment_in_which_one_ran(intervals: list[tuple[int, int]]) -> None:
    calls = [call("tools", offset_ms=start, duration_ms=length) for start, length in intervals]
    payload = read([], [request_item("chat", milestones={}, components=calls)])
    ran = {ms for start, length in intervals for ms in range(start, start + length)}
    [(_, ended_at, duration_ms, _)] = rows(payload)
    assert duration_ms == len(ran)
    assert ended_at == at(max(start + length for start, length in intervals))


def test_spans_are_kept_only_of_a_component_that_was_called_several_times() -> None:
    calls = [
        call("tools", offset_ms=0, span_id=SPAN),
        call("tools", offset_ms=50, status="error", parent_span_id=SPAN),
        call("model", span_id="b" * 16),
    ]
    payload = read([], [request_item("chat", trace_id=TRACE, milestones={}, components=calls)])
    assert spans(payload) == [("tools", at(100), 100, "ok"), ("tools", at(150), 100, "error")]
    measured = payload.measurements
    assert measured.span_id is not None
    assert measured.span_id[1].tolist() == [False, True]


def test_a_request_without_a_trace_keeps_no_spans() -> None:
    calls = [call("tools", offset_ms=0), call("tools", offset_ms=50)]
    assert spans(read([], [request_item("chat", components=calls)])) == []


def test_calls_that_each_are_short_enough_but_not_together_refuse_the_request() -> None:
    started_at = (NOW - timedelta(days=7)).isoformat()
    calls = [call("tools", duration_ms=400_000_000), call("tools", duration_ms=400_000_000)]
    payload = read([], [request_item("chat", started_at=started_at, milestones={}, components=calls)])
    assert codes(payload) == ["duration_too_long"]


def test_index_counts_within_the_list_that_the_item_stood_in() -> None:
    payload = read(
        [item("chat"), item("chat", duration_ms=-1)],
        [
            request_item("chat"),
            request_item("chat", status="slow"),
            request_item("chat", milestones={"x": 1}),
        ],
    )
    assert {(one.within, one.index) for one in payload.rejected.values()} == {
        ("measurements", 1),
        ("requests", 1),
        ("requests", 2),
    }


# -- duplicates -------------------------------------------------------------------------------------


def test_a_span_that_stands_twice_counts_once() -> None:
    one = item("chat", trace_id=TRACE, span_id=SPAN)
    payload = read([one, one, item("chat")])
    assert (payload.accepted, payload.duplicates, len(payload.measurements)) == (2, 1, 2)


@pytest.mark.parametrize(
    "difference",
    [
        {"component": "retrieval"},
        {"feature": "help"},
        {"environment": "staging"},
        {"release": "v2"},
        {"trace_id": "a" * 32},
        {"started_at": "2026-11-21T20:00:19.750001Z"},
        {"span_id": "a" * 16},
    ],
    ids=str,
)
def test_a_span_with_another_target_trace_or_start_is_another(difference: dict[str, str]) -> None:
    one = item("chat", trace_id=TRACE, span_id=SPAN)
    assert read([one, one | difference]).duplicates == 0


def test_what_differs_in_duration_alone_is_a_repetition() -> None:
    one = item("chat", trace_id=TRACE, span_id=SPAN)
    payload = read([one, one | {"duration_ms": 999}])
    assert (payload.duplicates, rows(payload)[0][2]) == (1, 250)


def test_without_a_span_id_nothing_is_a_repetition() -> None:
    one = item("chat", trace_id=TRACE)
    assert read([one, one]).duplicates == 0


def test_a_span_is_recognised_in_both_lists() -> None:
    start = "2026-11-21T20:00:20Z"
    one = item("chat", component="tools", started_at=start, trace_id=TRACE, span_id=SPAN)
    calls = [call("tools", offset_ms=0, span_id=SPAN), call("model")]
    request = request_item("chat", trace_id=TRACE, milestones={}, components=calls)
    payload = read([one], [request])
    assert (payload.accepted, payload.duplicates) == (2, 1)
    assert [name for name, *_ in rows(payload)] == ["tools", "model"]


def test_a_call_that_stands_twice_in_a_request_counts_once_in_the_union() -> None:
    calls = [call("tools", offset_ms=0, span_id=SPAN)] * 2
    payload = read([], [request_item("chat", trace_id=TRACE, milestones={}, components=calls)])
    assert (payload.accepted, payload.duplicates) == (1, 1)
    assert rows(payload) == [("tools", at(100), 100, "ok")]
    assert spans(payload) == []


@pytest.mark.parametrize("wrong", [{"duration_ms": -1}, {"parent_span_id": "0" * 16}, {"status": "slow"}])
def test_a_sound_span_is_no_repetition_of_a_refused_one(wrong: dict[str, Any]) -> None:
    one = item("chat", trace_id=TRACE, span_id=SPAN)
    payload = read([one | wrong, one, one])
    assert (payload.accepted, payload.duplicates, list(payload.rejected)) == (1, 1, [0])


def test_a_sound_call_is_no_repetition_of_a_call_in_a_refused_request() -> None:
    calls = [call("tools", offset_ms=0, span_id=SPAN)]
    sound = request_item("chat", trace_id=TRACE, components=calls)
    refused = sound | {"milestones": {"complete": -1}}
    payload = read([], [refused, sound])
    assert (payload.accepted, payload.duplicates, list(payload.rejected)) == (3, 0, [0])


def test_a_refused_item_is_no_repetition() -> None:
    one = item("chat", trace_id=TRACE, span_id=SPAN)
    payload = read([one, one | {"duration_ms": -1}])
    assert (payload.accepted, payload.duplicates, list(payload.rejected)) == (1, 0, [1])


@given(st.lists(st.sampled_from(["good", "negative", "request", "bad request"]), max_size=12))
def test_accepted_duplicates_and_refused_add_up_to_what_was_sent(kinds: list[str]) -> None:
    one = item("chat", trace_id=TRACE, span_id=SPAN)
    call_ = {"component": "model", "duration_ms": 1, "offset_ms": 0, "span_id": SPAN}
    request = request_item("chat", trace_id=TRACE, components=[call_])
    bad_request = request | {"milestones": {"complete": -5}}
    made = {
        "good": one,
        "negative": one | {"duration_ms": -5},
        "request": request,
        "bad request": bad_request,
    }
    measurements = [made[kind] for kind in kinds if "request" not in kind]
    requests = [made[kind] for kind in kinds if "request" in kind]
    payload = read(measurements, requests)
    assert len(payload.rejected) == kinds.count("negative") + kinds.count("bad request")
    assert payload.accepted + payload.duplicates == kinds.count("good") + 3 * kinds.count("request")
    assert payload.duplicates == max(0, kinds.count("good") - 1) + max(0, kinds.count("request") - 1)
    assert len(payload.measurements) == payload.accepted


def test_what_is_refused_names_no_target() -> None:
    payload = read(
        [item("chat"), item("chat", component=..., environment="new"), item("ghost", duration_ms=-1)]
    )
    assert payload.measurements.targets == [("chat", "model", None, "production", "")]
    assert np.unique(payload.measurements.target).tolist() == [0]
