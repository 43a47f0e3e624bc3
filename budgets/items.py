"""The items of a body: their fields and types, and a reason for each that cannot be decoded.

A body whose every item has the right types is decoded in one go; only where that fails is each item decoded
by itself, to say which one is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np

from .errors import Refusal

MAX_NAME = 200
MAX_DEPTH = 100
"""Brackets within brackets. An item needs five; what is deeper than the decoder can follow is cut out."""

Instant = Annotated[datetime, msgspec.Meta(tz=True)] | float
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
StatusName = Literal["ok", "error", "timeout"]
TraceId = Annotated[str, msgspec.Meta(min_length=32, max_length=32)]
SpanId = Annotated[str, msgspec.Meta(min_length=16, max_length=16)]
Labels = dict[str, str | int | float | bool]


class MeasurementItem(msgspec.Struct, gc=False):
    """One measured component or milestone."""

    feature: Name
    started_at: Instant
    duration_ms: float
    component: Name | None = None
    milestone: str | None = None
    status: StatusName = "ok"
    trace_id: TraceId | None = None
    span_id: SpanId | None = None
    parent_span_id: SpanId | None = None
    environment: Name = "production"
    release: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""
    labels: Labels | None = None


class ComponentCall(msgspec.Struct, gc=False):
    """One call of a component within a request."""

    component: Name
    duration_ms: float
    offset_ms: float | None = None
    status: StatusName = "ok"
    span_id: SpanId | None = None
    parent_span_id: SpanId | None = None


class RequestItem(msgspec.Struct, gc=False):
    """A whole request, which stands for its measurements."""

    feature: Name
    started_at: Instant
    milestones: dict[str, float] = {}
    components: list[ComponentCall] = []
    status: StatusName = "ok"
    trace_id: TraceId | None = None
    environment: Name = "production"
    release: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""
    labels: Labels | None = None


class Body(msgspec.Struct, gc=False):
    measurements: list[MeasurementItem] = []
    requests: list[RequestItem] = []


class _RawBody(msgspec.Struct, gc=False):
    measurements: list[msgspec.Raw] = []
    requests: list[msgspec.Raw] = []


# An item has eleven at most, but for those in its labels. Fewer than this are 12 MB of objects in any case.
_MANY_COMMAS = 16
# How much of a body is looked at at a time where memory counts, and how much before a list its key may take.
_PART = 1 << 18
_LONGEST_KEY = 256
_KEY = re.compile(rb'"([^"]*)"\s*:\s*$')
# Stands for an item that was cut out. A sender who writes it is told the same.
_TOO_DEEP = b'"nested too deeply"'
_decode_body = msgspec.json.Decoder(Body).decode
_decode_raw_body = msgspec.json.Decoder(_RawBody).decode
_decode_measurement = msgspec.json.Decoder(MeasurementItem).decode
_decode_request = msgspec.json.Decoder(RequestItem).decode


class Reason(NamedTuple):
    code: str
    message: str


class Items(NamedTuple):
    """The items of a body, None for each that cannot be decoded.

    `undecodable` says why, by position, requests counted after measurements.
    """

    measurements: Sequence[MeasurementItem | None]
    requests: Sequence[RequestItem | None]
    undecodable: dict[int, Reason]


def decode_items(body: bytes, max_items: int) -> Items:
    """The measurements and the requests of a body.

    Raises Refusal `malformed_json`, `invalid_body`, or `too_many_measurements` (413).
    """
    try:
        # jsonb and text refuse U+0000, which only an escape can put into JSON: look at each item then. Most bodies
        # hold no backslash at all, and one byte is found twenty times as fast as six.
        if b"\\" not in body or b"\\u0000" not in body:
            decoded = _decode_body(body)
            _refuse_too_many(len(decoded.measurements) + sum(map(_size, decoded.requests)), max_items)
            return Items(decoded.measurements, decoded.requests, {})
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    # Before each of them costs an object: eight MiB hold four million.
    if body.count(b",") > _MANY_COMMAS * max_items:
        _refuse_long_lists(body, max_items)
    try:
        raw = _decode_raw(body)
    except msgspec.ValidationError as error:
        raise Refusal(
            "invalid_body",
            f'The body must be an object with lists "measurements" and "requests": {error}. Nothing was stored.',
        ) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal("malformed_json", f"The body is not JSON: {error}. Nothing was stored.") from error
    # And before each of them costs an exception.
    _refuse_too_many(len(raw.measurements) + len(raw.requests), max_items)
    undecodable: dict[int, Reason] = {}
    measurements = _decode_each(raw.measurements, _decode_measurement, 0, undecodable)
    requests = _decode_each(raw.requests, _decode_request, len(measurements), undecodable)
    _refuse_too_many(len(measurements) + sum(map(_size, requests)), max_items)
    return Items(measurements, requests, undecodable)


def _size(request: RequestItem | None) -> int:
    """How many items a request counts as: one where it stands for none."""
    return 1 if request is None else len(request.milestones) + len(request.components) or 1


def _refuse_too_many(count: int, max_items: int, about: str = "") -> None:
    if count > max_items:
        raise Refusal(
            "too_many_measurements",
            f"A body holds at most {max_items} measurements, got {about}{count}. Send it in several parts; "
            "nothing was stored.",
            status=413,
        )


def _refuse_long_lists(body: bytes, max_items: int) -> None:
    """Raises Refusal("too_many_measurements", 413) for a list of items that is too long, by the commas in it.

    Part by part, so that it needs little more than the body itself.
    """
    unescaped = _without_escaped_quotes(body)
    depth, quotes, list_at, commas = 0, 0, 0, 0
    for start in range(0, len(body), _PART):
        text = np.frombuffer(unescaped, dtype=np.uint8, offset=start, count=min(_PART, len(body) - start))
        is_quote = text == ord('"')
        is_outside = (np.cumsum(is_quote, dtype=np.uint8) + np.uint8(quotes)) & 1 == 0
        opens = is_outside & ((text == ord("[")) | (text == ord("{")))
        closes = is_outside & ((text == ord("]")) | (text == ord("}")))
        depths = depth + np.cumsum(opens.view(np.int8) - closes.view(np.int8), dtype=np.int32)
        # A list of items is the second bracket: {"requests": [.
        begun = np.flatnonzero(opens & (depths == 2))
        separators = np.flatnonzero(is_outside & (text == ord(",")) & (depths == 2))
        counts = np.diff(np.searchsorted(separators, begun), prepend=0, append=len(separators))
        counts[0] += commas
        places = [list_at, *(begun + start).tolist()]
        for n in np.flatnonzero(counts >= max_items).tolist():
            place = places[n]
            if body[place : place + 1] == b"[" and _is_of_items(body[max(0, place - _LONGEST_KEY) : place]):
                _refuse_too_many(int(counts[n]) + 1, max_items, "at least ")
        depth, quotes = int(depths[-1]), (quotes + int(is_quote.sum())) & 1
        list_at, commas = places[-1], int(counts[-1])


def _is_of_items(before: bytes) -> bool:
    """Whether a list may be that of measurements or requests, by the key before it."""
    key = _KEY.search(before)
    return key is None or key[1] in (b"measurements", b"requests") or b"\\" in key[1]


def _decode_raw(body: bytes) -> _RawBody:
    """The items, not decoded yet; those that nest too deeply or hold half a character are marked as such."""
    try:
        return _decode_raw_body(body)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, RecursionError):
        mended = _without_deep_items(_without_lone_surrogates(body))
        if mended == body:
            raise
    return _decode_raw_body(mended)


_SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB][\da-fA-F]{2}(?P<low>\\u[dD][c-fC-F][\da-fA-F]{2})?|[c-fC-F][\da-fA-F]{2})"
)


def _without_escaped_backslashes(body: bytes) -> bytes:
    """A body of the same length in which each backslash that is left begins an escape."""
    return body.replace(b"\\\\", b"__")


def _without_escaped_quotes(body: bytes) -> bytes:
    """A body of the same length in which each quote begins or ends a text."""
    return _without_escaped_backslashes(body).replace(b'\\"', b"__") if b"\\" in body else body


def _without_lone_surrogates(body: bytes) -> bytes:
    """The body with U+0000, which refuses an item, for each half of a pair of surrogates.

    Senders in JavaScript make them by cutting a text in the middle of an emoji, and the whole of a body would
    be no JSON for it.
    """
    mended = bytearray(body)
    for found in _SURROGATE.finditer(_without_escaped_backslashes(body)):
        if found["low"] is None:
            mended[found.start() : found.end()] = b"\\u0000"
    return bytes(mended)


def _without_deep_items(body: bytes) -> bytes:
    """The body with a mark for each item that nests deeper than MAX_DEPTH. Takes time in proportion to its size."""
    # What stands between quotes is no bracket, and an escaped quote ends nothing.
    text = np.frombuffer(_without_escaped_quotes(body), dtype=np.uint8)
    is_outside = np.cumsum(text == ord('"'), dtype=np.uint8) & 1 == 0
    opens = is_outside & ((text == ord("[")) | (text == ord("{")))
    closes = is_outside & ((text == ord("]")) | (text == ord("}")))
    depth = np.cumsum(opens.view(np.int8) - closes.view(np.int8), dtype=np.int32)
    # An item is the third bracket: {"requests": [{…}]}.
    starts = np.flatnonzero(opens & (depth == 3))
    ends = np.append(np.flatnonzero(closes & (depth == 2)) + 1, len(body))
    deep = np.searchsorted(starts, np.flatnonzero(depth > MAX_DEPTH), side="right") - 1
    parts: list[bytes] = []
    reached = 0
    for position in np.unique(deep).tolist():
        parts += (body[reached : starts[position]], _TOO_DEEP)
        reached = int(ends[position])
    return b"".join([*parts, body[reached:]])


def _decode_each(
    raw: list[msgspec.Raw], decode: Callable[[Any], Any], first: int, undecodable: dict[int, Reason]
) -> list[Any]:
    items: list[Any] = []
    for origin, one in enumerate(raw, first):
        item = None
        text = bytes(one)
        try:
            if text == _TOO_DEEP:
                undecodable[origin] = Reason(
                    "nested_too_deeply", f"An item nests at most {MAX_DEPTH} levels deep."
                )
            elif b"\\u0000" in text and _has_nul(msgspec.json.decode(text)):
                undecodable[origin] = Reason(
                    "invalid_text", "Texts must not contain U+0000 nor half of a pair of surrogates."
                )
            else:
                item = decode(text)
        except msgspec.ValidationError as error:
            undecodable[origin] = _why_invalid(str(error))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            undecodable[origin] = Reason("malformed_item", f"The item cannot be read: {error}.")
        items.append(item)
    return items


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or _has_nul(one) for key, one in value.items())
    return isinstance(value, list) and any(_has_nul(one) for one in value)


def _why_invalid(message: str) -> Reason:
    """A code and a sentence out of msgspec's, e.g. "Expected `float`, got `str` - at `$.duration_ms`"."""
    # From the right: what was sent may stand in the first part, and hold anything.
    what, mark, path = message.rpartition(" - at `$")
    if not mark:
        what, path = message, ""
    path = path.rstrip("`").lstrip(".")
    missing = re.search(r"missing required field `(\w+)`", what)
    if missing:
        return Reason(
            "missing_field", f"{path + '.' if path else ''}{missing[1]} is required and was not given."
        )
    name = re.sub(r"\[[^]]*\]", "", path).split(".")[-1]
    if name in ("trace_id", "span_id", "parent_span_id"):
        return Reason(f"invalid_{name}", hex_rule(name))
    if not name:
        return Reason("invalid_item", f"An item must be an object: {what:.300}.")
    return Reason(f"invalid_{name}", f"{path}: {what:.300}.")


def hex_rule(name: str) -> str:
    return f"{name} must be {32 if name == 'trace_id' else 16} lower-case hex digits, not all zero."
