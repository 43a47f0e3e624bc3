"""The items of a body: their fields and types, and a reason for each that cannot be decoded.

A body whose every item has the right types is decoded in one go; only where that fails is each item decoded
by itself, to say which one is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from .errors import Refusal

MAX_NAME = 200

Instant = Annotated[datetime, msgspec.Meta(tz=True)] | float
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
StatusName = Literal["ok", "error", "timeout"]
TraceId = Annotated[str, msgspec.Meta(min_length=32, max_length=32)]
SpanId = Annotated[str, msgspec.Meta(min_length=16, max_length=16)]
Labels = dict[str, str | int | float | bool]


class MeasurementItem(msgspec.Struct):
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


class ComponentCall(msgspec.Struct):
    """One call of a component within a request."""

    component: Name
    duration_ms: float
    offset_ms: float | None = None
    status: StatusName = "ok"
    span_id: SpanId | None = None
    parent_span_id: SpanId | None = None


class RequestItem(msgspec.Struct):
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


class Body(msgspec.Struct):
    measurements: list[MeasurementItem] = []
    requests: list[RequestItem] = []


class _RawBody(msgspec.Struct):
    measurements: list[msgspec.Raw] = []
    requests: list[msgspec.Raw] = []


_decode_body = msgspec.json.Decoder(Body).decode
_decode_raw_body = msgspec.json.Decoder(_RawBody).decode
_decode_measurement = msgspec.json.Decoder(MeasurementItem).decode
_decode_request = msgspec.json.Decoder(RequestItem).decode


def decode_items(
    body: bytes,
) -> tuple[Sequence[MeasurementItem | None], Sequence[RequestItem | None], dict[int, tuple[str, str]]]:
    """The measurements and the requests of a body, None for each that cannot be decoded, and why it cannot.

    The reasons are (code, message) by position, requests counted after measurements. Raises Refusal
    `malformed_json` or `invalid_body`.
    """
    try:
        # jsonb and text refuse U+0000, which only an escape can put into JSON: look at each item then.
        if b"\\u0000" not in body:
            decoded = _decode_body(body)
            return decoded.measurements, decoded.requests, {}
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        raw = _decode_raw_body(body)
    except msgspec.ValidationError as error:
        raise Refusal(
            "invalid_body",
            f'The body must be an object with lists "measurements" and "requests": {error}. Nothing was stored.',
        ) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal("malformed_json", f"The body is not JSON: {error}. Nothing was stored.") from error
    undecodable: dict[int, tuple[str, str]] = {}
    measurements = _decode_each(raw.measurements, _decode_measurement, 0, undecodable)
    requests = _decode_each(raw.requests, _decode_request, len(raw.measurements), undecodable)
    return measurements, requests, undecodable


def _decode_each(
    raw: list[msgspec.Raw], decode: Callable[[Any], Any], first: int, undecodable: dict[int, tuple[str, str]]
) -> list[Any]:
    items: list[Any] = []
    for origin, one in enumerate(raw, first):
        item = None
        try:
            if b"\\u0000" in bytes(one) and _has_nul(msgspec.json.decode(one)):
                undecodable[origin] = ("invalid_text", "Names, releases and labels must not contain U+0000.")
            else:
                item = decode(one)
        except msgspec.ValidationError as error:
            undecodable[origin] = _why_invalid(str(error))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            undecodable[origin] = ("malformed_item", f"The item cannot be read: {error}.")
        items.append(item)
    return items


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or _has_nul(one) for key, one in value.items())
    return isinstance(value, list) and any(_has_nul(one) for one in value)


def _why_invalid(message: str) -> tuple[str, str]:
    """A code and a sentence out of msgspec's, e.g. "Expected `float`, got `str` - at `$.duration_ms`"."""
    what, _, path = message.partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    missing = re.search(r"missing required field `(\w+)`", what)
    if missing:
        return "missing_field", f"{path + '.' if path else ''}{missing[1]} is required and was not given."
    name = re.sub(r"\[.*", "", path.split(".")[-1])
    if name in ("trace_id", "span_id", "parent_span_id"):
        return f"invalid_{name}", hex_rule(name)
    if not name:
        return "invalid_item", f"An item must be an object: {what}."
    return f"invalid_{name}", f"{path}: {what}."


def hex_rule(name: str) -> str:
    return f"{name} must be {32 if name == 'trace_id' else 16} lower-case hex digits, not all zero."
