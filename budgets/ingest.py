"""Storing a batch once: decode, check, and commit measurements and batch together before answering."""

from __future__ import annotations

import hashlib
import threading
import time
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
from django.conf import settings
from django.db import connection, transaction

from . import columns, request_ids, series
from .columns import Nullable
from .errors import Refusal, error_document
from .items import Reason
from .locks import NAMESPACE
from .models import Batch, IngestKey
from .partitions import ensure_partitions
from .payloads import Columns, Ids, Payload, Target, postgres_us, read_payload

IDEMPOTENCY_FOR = timedelta(hours=24)
_DAY_US = 86_400_000_000
# What follows a member of a gzip file is copied for the next one: in short steps, thousands of members cost little.
_GZIP_STEP = 16_384
# How long a process trusts its count of a team's backlog: the limit is there to protect the database, not to be exact.
_BACKLOG_FOR_S = 1.0


@dataclass(frozen=True)
class Answer:
    """What to answer. `batch_id` is None where nothing was stored now."""

    status: int
    document: dict[str, Any]
    is_replay: bool = False
    batch_id: int | None = None


def accept(*, key: IngestKey, body: bytes, idempotency_key: str | None = None, now: datetime) -> Answer:
    """Stores what is usable of a body, durably, and says what was not.

    Raises Refusal for a body that is refused whole: 400, 409, 413, 422, 429 by the code. Where nothing in it
    is usable the answer has status 400 and the reasons, and nothing is kept under the idempotency key.
    """
    if idempotency_key is None:
        _refuse_backlog(key)
    else:
        _check_idempotency_key(idempotency_key)
    payload = read_payload(
        body,
        now=now,
        oldest=now - timedelta(days=settings.RAW_RETENTION_DAYS),
        max_items=settings.INGEST_MAX_MEASUREMENTS,
    )
    # Before the transaction: a partition that is made stays, and its locks are not held while rows are written.
    _ensure_partitions("budgets_measurement", payload.measurements)
    _ensure_partitions("budgets_span", payload.spans)
    found = series.find(key.team, payload.measurements.targets)
    if idempotency_key is None and not found.unknown:
        # One command stores it, which is a transaction by itself.
        return _store(key, payload, found.series, None, None, now)
    with transaction.atomic():
        digest = None
        if idempotency_key is not None:
            digest = hashlib.sha256(body).digest()
            replay = _replay(key, idempotency_key, digest, now)
            if replay is not None:
                return replay
            _refuse_backlog(key)
        first = payload.measurements.first_ended_at() if found.unknown else {}
        resolved = found.series | series.make(found.unknown, now, ended_at=first)
        return _store(key, payload, resolved, idempotency_key, digest, now)


def encode(document: dict[str, Any]) -> bytes:
    """The answer as JSON."""
    return msgspec.json.encode(document)


def inflate(body: bytes, limit: int) -> bytes:
    """A gzip body, inflated no further than the limit.

    Raises Refusal("body_too_large", 413) beyond it and Refusal("malformed_gzip") for what is no gzip.
    """
    parts: list[bytes] = []
    size = 0
    inflater = zlib.decompressobj(wbits=31)
    try:
        for start in range(0, len(body), _GZIP_STEP):
            data = body[start : start + _GZIP_STEP]
            while data:
                if inflater.eof:
                    # A gzip file may be several in a row.
                    inflater = zlib.decompressobj(wbits=31)
                parts.append(inflater.decompress(data, limit + 1 - size))
                size += len(parts[-1])
                if size > limit:
                    raise Refusal(
                        "body_too_large",
                        f"The body inflates to more than {limit} bytes. Send it in several parts; nothing was stored.",
                        status=413,
                    )
                data = inflater.unused_data
    except zlib.error as error:
        raise Refusal("malformed_gzip", f"The body is not gzip: {error}. Nothing was stored.") from error
    if body and not inflater.eof:
        raise Refusal("malformed_gzip", "The gzip body is cut off. Nothing was stored.")
    return b"".join(parts)


def _store(
    key: IngestKey,
    payload: Payload,
    found: dict[Target, int | Reason],
    idempotency_key: str | None,
    digest: bytes | None,
    now: datetime,
) -> Answer:
    refused = {target: one for target, one in found.items() if isinstance(one, Reason)}
    if refused:
        payload.reject_targets(refused)
    measurements = payload.measurements.without(payload.rejected)
    rejected = [payload.rejected[origin].document() for origin in sorted(payload.rejected)]
    if not len(measurements):
        return Answer(400, {**_nothing_usable(len(rejected)), "rejected": rejected})
    document = {"accepted": payload.accepted, "duplicates": payload.duplicates, "rejected": rejected}
    several = [_rows("budgets_measurement", measurements, found)]
    spans = payload.spans.without(payload.rejected)
    if len(spans):
        several.append(_rows("budgets_span", spans, found))
    batch_id = columns.insert_with_rows(
        """
        INSERT INTO budgets_batch (team_id, key_id, state, received_at, measurement_count,
                                   ended_from, ended_to, idempotency_key, payload_digest, answer, request_id)
        VALUES (%s, %s, 'pending', %s, %s, to_timestamp(%s / 1e6), to_timestamp(%s / 1e6), %s, %s, %s, %s)
        RETURNING id
        """,
        [
            key.team_id,
            key.pk,
            now,
            len(measurements),
            int(measurements.ended_us.min()),
            int(measurements.ended_us.max()),
            idempotency_key,
            digest,
            msgspec.json.encode(document).decode() if idempotency_key is not None else None,
            request_ids.of_this_request(),
        ],
        several,
    )
    return Answer(200, document, batch_id=batch_id)


def _nothing_usable(rejected: int) -> dict[str, object]:
    if not rejected:
        return error_document(
            "empty_body", 'The body holds neither "measurements" nor "requests". Nothing was stored.'
        )
    said = "The only item was" if rejected == 1 else f"All {rejected} items were"
    return error_document("nothing_usable", f"{said} rejected. Nothing was stored.")


def _ensure_partitions(table: str, rows: Columns) -> None:
    good = rows.ended_us
    if not len(good):
        return
    days = {int(good.min()) // _DAY_US, int(good.max()) // _DAY_US}
    if len(days) > 1:
        days = set(np.unique(good // _DAY_US).tolist())
    ensure_partitions(table, [datetime.fromtimestamp(day * 86_400, tz=UTC).date() for day in days])


def _rows(table: str, rows: Columns, found: dict[Target, int | Reason]) -> columns.Rows:
    """Rows to be written. A refused target has no series, and no rows either."""
    series_of = [found[target] for target in rows.targets]
    series_id = np.array([0 if isinstance(one, Reason) else one for one in series_of], dtype=">i4")
    written: dict[str, np.ndarray | Nullable] = {
        "ended_at": postgres_us(rows.ended_us),
        "duration_ms": rows.duration_ms.astype(">f8"),
        "series_id": series_id[rows.target],
        "status": rows.status.astype(">i2"),
    }
    for name in ("trace_id", "span_id", "parent_span_id"):
        ids: Ids = getattr(rows, name)
        if ids is not None:
            written[name] = ids[0] if ids[1].all() else Nullable(*ids)
    return columns.Rows(table, "batch_id", written, ("labels", rows.labels) if rows.labels else None)


# -- idempotency ------------------------------------------------------------------------------------


def _check_idempotency_key(idempotency_key: str) -> None:
    if not 1 <= len(idempotency_key) <= 255 or not idempotency_key.isprintable():
        raise Refusal(
            "invalid_idempotency_key",
            "Idempotency-Key must have 1 to 255 printable characters. Nothing was stored.",
        )


def _replay(key: IngestKey, idempotency_key: str, digest: bytes, now: datetime) -> Answer | None:
    """The answer that was given before; None where the key is free, which this transaction then holds."""
    name = hashlib.sha256(f"{key.team_id} {idempotency_key}".encode()).digest()
    with connection.cursor() as cursor:
        # Not an insert that waits: a sender that repeats itself while the first try is under way is told so.
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [int.from_bytes(name[:7], "big") ^ NAMESPACE])
        if not cursor.fetchone()[0]:
            raise Refusal(
                "idempotency_key_in_flight",
                "A request under this Idempotency-Key is being stored just now. Try again in a moment.",
                status=409,
            )
    before = Batch.objects.filter(team_id=key.team_id, idempotency_key=idempotency_key).first()
    if before is None:
        return None
    if before.received_at <= now - IDEMPOTENCY_FOR:
        Batch.objects.filter(pk=before.pk).update(idempotency_key=None)
        return None
    if bytes(before.payload_digest or b"") != digest:
        raise Refusal(
            "idempotency_key_reused",
            "This Idempotency-Key came with another payload within the last 24 h. Use a new key for new data; "
            "nothing was stored.",
            status=422,
        )
    assert before.answer is not None
    return Answer(200, _in_order(before.answer), is_replay=True)


def _in_order(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer as it was given, to the byte: jsonb sorts keys by itself."""
    rejected = [
        {name: one[name] for name in ("index", "in", "code", "message")} for one in answer["rejected"]
    ]
    return {"accepted": answer["accepted"], "duplicates": answer["duplicates"], "rejected": rejected}


# -- backlog ----------------------------------------------------------------------------------------

_backlogs: dict[tuple[str, int], tuple[float, int]] = {}
_backlogs_lock = threading.Lock()


def _refuse_backlog(key: IngestKey) -> None:
    name = (str(connection.settings_dict["NAME"]), key.team_id)
    with _backlogs_lock:
        counted_at, backlog = _backlogs.get(name, (float("-inf"), 0))
    if time.monotonic() - counted_at > _BACKLOG_FOR_S:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT coalesce(sum(measurement_count), 0) FROM budgets_batch WHERE state = 'pending' AND team_id = %s",
                [key.team_id],
            )
            backlog = int(cursor.fetchone()[0])
        with _backlogs_lock:
            _backlogs[name] = (time.monotonic(), backlog)
    if backlog > settings.INGEST_MAX_BACKLOG:
        raise Refusal(
            "backlog_full",
            f"{backlog} measurements of the team wait to be rolled up, over {settings.INGEST_MAX_BACKLOG}. "
            "Try again later; nothing was stored.",
            status=429,
        )
