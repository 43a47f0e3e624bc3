"""Columns of numbers to and from PostgreSQL in its binary formats, without a Python object a value.

Sources: PostgreSQL documentation, "COPY", binary format; array_recv/array_send for the layout of arrays.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from django.db import connection
from psycopg.adapt import Loader
from psycopg.errors import error_from_result
from psycopg.generators import copy_to, execute
from psycopg.pq import ExecStatus, Format, TransactionStatus

# PostgreSQL counts microseconds from 2000-01-01, Unix from 1970-01-01.
POSTGRES_EPOCH_US = 946_684_800_000_000

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
# Larger pieces cost more a byte: libpq copies what it has not sent yet.
_SENT_AT_ONCE = 128 * 1024


class Nullable:
    """A column of which some rows are NULL: `values` where `present`."""

    def __init__(self, values: np.ndarray, present: np.ndarray) -> None:
        self.values = values
        self.present = present


@dataclass(frozen=True)
class Rows:
    """Rows of a table, by column.

    `columns`: name -> big-endian array (`>i2`, `>i4`, `>i8`, `>f8`, `V16` for a uuid; timestamptz as `>i8`
    microseconds since 2000). `texts`: one jsonb column, None for NULL, which comes last. `id_column` is filled
    with the id of the row that they belong to.
    """

    table: str
    id_column: str
    columns: dict[str, np.ndarray | Nullable]
    texts: tuple[str, list[bytes | None]] | None = None

    def statement(self) -> str:
        """COPY, which awaits the rows."""
        names = [*self.columns, self.id_column, *([self.texts[0]] if self.texts else [])]
        return f"COPY {self.table} ({', '.join(names)}) FROM STDIN (FORMAT binary)"

    def encoded(self, owner_id: int) -> bytes:
        """The rows in PostgreSQL's binary format."""
        columns = {**self.columns, self.id_column: np.full(_size(self.columns), owner_id, dtype=">i8")}
        return b"".join([_HEADER, *_records(columns, self.texts[1] if self.texts else None), _TRAILER])


def insert_with_rows(statement: str, parameters: Sequence[Any], several: Sequence[Rows]) -> int:
    """Inserts one row, and by binary COPY the rows that belong to it; gives its id, which `statement` returns.

    All is one command, and thereby one transaction where none is open: one trip to the server, one more for
    each table, and none for BEGIN and COMMIT.
    """
    raw = _raw_connection()
    # In a transaction of Django's, psycopg would begin it before the first statement.
    begins = not raw.autocommit and raw.info.transaction_status == TransactionStatus.IDLE
    command = "; ".join(
        [
            *(["BEGIN"] if begins else []),
            psycopg.ClientCursor(raw).mogrify(statement, parameters),
            *(rows.statement() for rows in several),
        ]
    )
    # A full disk, or a server that goes away, is the same error here as in any statement of Django's.
    try:
        with connection.wrap_database_errors, raw.lock:
            return int(raw.wait(_insert_with_rows(raw.pgconn, command.encode(), several)))
    except BaseException:
        if raw.info.transaction_status == TransactionStatus.ACTIVE:
            connection.close()  # the server still awaits rows; without their end it keeps nothing
        raise


def _insert_with_rows(server: Any, command: bytes, several: Sequence[Rows]) -> Generator[Any, Any, int]:
    server.send_query(command)
    *_, inserted, _ = yield from _answers(server)
    owner_id = int(inserted.get_value(0, 0))
    for rows in several:
        encoded = rows.encoded(owner_id)
        for start in range(0, len(encoded), _SENT_AT_ONCE):
            yield from copy_to(server, encoded[start : start + _SENT_AT_ONCE])
        server.put_copy_end()
        yield from _answers(server)
    return owner_id


def _answers(server: Any) -> Generator[Any, Any, list[Any]]:
    """What the server says up to the end, or up to where it awaits rows. Raises what it says of an error."""
    answers: list[Any] = yield from execute(server)
    if answers[-1].status == ExecStatus.FATAL_ERROR:
        raise error_from_result(answers[-1])
    return answers


def _records(columns: dict[str, np.ndarray | Nullable], texts: list[bytes | None] | None) -> Sequence[bytes]:
    """The rows' bytes, grouped by which of their columns are NULL: within a group every row has one width."""
    size = _size(columns)
    pattern = np.zeros(size, dtype=np.int64)
    for bit, column in enumerate(columns.values()):
        if isinstance(column, Nullable):
            pattern |= (~column.present).astype(np.int64) << bit
    has_text = (
        np.array([text is not None for text in texts], dtype=bool) if texts else np.zeros(size, dtype=bool)
    )
    pattern |= has_text.astype(np.int64) << 62
    parts: list[bytes] = []
    found = np.unique(pattern)
    for one in found:
        rows = slice(None) if len(found) == 1 else np.flatnonzero(pattern == one)
        records = _fixed_width(columns, rows, int(one), field_count=len(columns) + (texts is not None))
        if not int(one) >> 62:
            parts.append(records.tobytes() if texts is None else _with_null_text(records))
        else:
            assert texts is not None
            parts.append(_with_texts(records, texts, np.arange(size)[rows]))
    return parts


def _size(columns: dict[str, np.ndarray | Nullable]) -> int:
    return len(next(c.values if isinstance(c, Nullable) else c for c in columns.values()))


def _fixed_width(
    columns: dict[str, np.ndarray | Nullable], rows: slice | np.ndarray, pattern: int, field_count: int
) -> np.ndarray:
    layout: list[tuple[str, Any]] = [("fields", ">i2")]
    values: dict[str, np.ndarray] = {}
    lengths: dict[str, int] = {}
    for bit, (name, column) in enumerate(columns.items()):
        layout.append((f"{name} length", ">i4"))
        if pattern >> bit & 1:
            lengths[name] = -1
            continue
        array = (column.values if isinstance(column, Nullable) else column)[rows]
        layout.append((name, array.dtype))
        values[name] = array
        lengths[name] = array.dtype.itemsize
    count = len(next(iter(values.values())))
    records = np.empty(count, dtype=np.dtype(layout))
    records["fields"] = field_count
    for name, length in lengths.items():
        records[f"{name} length"] = length
        if length > 0:
            records[name] = values[name]
    return records


def _with_null_text(records: np.ndarray) -> bytes:
    width = records.dtype.itemsize
    out = np.full((len(records), width + 4), 0xFF, dtype=np.uint8)
    out[:, :width] = records.view(np.uint8).reshape(len(records), width)
    return out.tobytes()


def _with_texts(records: np.ndarray, texts: list[bytes | None], rows: np.ndarray) -> bytes:
    fixed = records.tobytes()
    width = records.dtype.itemsize
    parts: list[bytes] = []
    for position, row in enumerate(rows.tolist()):
        text = texts[row] or b"{}"
        # jsonb is sent as a version byte and its text.
        parts += (
            fixed[position * width : (position + 1) * width],
            (len(text) + 1).to_bytes(4, "big"),
            b"\x01",
            text,
        )
    return b"".join(parts)


_ELEMENTS: dict[str, np.dtype[Any]] = {
    "int2": np.dtype(">i2"),
    "int4": np.dtype(">i4"),
    "int8": np.dtype(">i8"),
    "float8": np.dtype(">f8"),
    "timestamptz": np.dtype(">i8"),
    "uuid": np.dtype("V16"),
}


def _loader_of(element: np.dtype[Any]) -> type[Loader]:
    class ArrayLoader(Loader):
        format = Format.BINARY

        def load(self, data: Any) -> np.ndarray:
            # 20 bytes: dimensions, has-null flag, element type, size, lower bound; an empty array has 12.
            if len(data) < 20:
                return np.empty(0, dtype=element.newbyteorder("="))
            records = np.frombuffer(data, dtype=[("length", ">i4"), ("value", element)], offset=20)
            values = records["value"]
            return np.ascontiguousarray(
                values if element.kind == "V" else values.astype(element.newbyteorder("="))
            )

    return ArrayLoader


_LOADERS = {
    psycopg.adapters.types[name].array_oid: _loader_of(element) for name, element in _ELEMENTS.items()
}


def fetch_arrays(query: str, parameters: Sequence[Any]) -> tuple[Any, ...]:
    """The one row of a query, in which every array of numbers comes as a numpy array.

    Arrays must hold no NULL: `coalesce` them in the query. A uuid comes as `V16`, a timestamptz as
    microseconds since 2000. Other columns come as psycopg gives them.
    """
    cursor = psycopg.Cursor(_raw_connection())
    for oid, loader in _LOADERS.items():
        cursor.adapters.register_loader(oid, loader)
    with connection.wrap_database_errors:
        cursor.execute(query.encode(), parameters, binary=True)
        row = cursor.fetchone()
    assert row is not None
    return tuple(row)


def fetch_binary(query: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """The rows of a query in binary: as text, bytes would come as hexadecimal digits, twice as long and to be decoded."""
    cursor = psycopg.Cursor(_raw_connection())
    with connection.wrap_database_errors:
        cursor.execute(query.encode(), parameters, binary=True)
        return cursor.fetchall()


def _raw_connection() -> Any:
    connection.ensure_connection()
    return connection.connection
