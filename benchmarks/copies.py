"""Rows as PostgreSQL's binary COPY takes them, made from columns.

Source: PostgreSQL documentation, "COPY", binary format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"


def of_numbers(columns: Mapping[str, np.ndarray]) -> bytes:
    """Rows of columns that are never NULL, each of the type (`>i4`, `V16`, …) in which it is sent."""
    layout: list[tuple[str, Any]] = [("fields", ">i2")]
    for name, array in columns.items():
        layout += [(f"{name} length", ">i4"), (name, array.dtype)]
    records = np.empty(len(next(iter(columns.values()))), dtype=layout)
    records["fields"] = len(columns)
    for name, array in columns.items():
        records[f"{name} length"] = array.dtype.itemsize
        records[name] = array
    return _HEADER + records.tobytes() + _TRAILER


def of_numbers_and_bytes(columns: Mapping[str, np.ndarray], last: Sequence[bytes]) -> bytes:
    """Rows of columns as above and one of bytes, which comes last. NaN and a uuid of zeros stand for NULL.

    Rows with the same columns NULL have one width: they are made together, and stand together.
    """
    pattern = np.zeros(len(last), dtype=np.int64)
    for bit, array in enumerate(columns.values()):
        if array.dtype.kind == "V":
            is_null = ~np.ascontiguousarray(array).view("u1").reshape(len(last), -1).any(axis=1)
            pattern |= is_null.astype(np.int64) << bit
        elif array.dtype.kind == "f":
            pattern |= np.isnan(array).astype(np.int64) << bit
    sizes = np.fromiter(map(len, last), dtype=">i4", count=len(last))
    parts = [_HEADER]
    for one in np.unique(pattern).tolist():
        rows = np.flatnonzero(pattern == one)
        layout: list[tuple[str, Any]] = [("fields", ">i2")]
        for bit, (name, array) in enumerate(columns.items()):
            layout.append((f"{name} length", ">i4"))
            layout += [] if one >> bit & 1 else [(name, array.dtype)]
        records = np.empty(len(rows), dtype=[*layout, ("last length", ">i4")])
        records["fields"] = len(columns) + 1
        for bit, (name, array) in enumerate(columns.items()):
            records[f"{name} length"] = -1 if one >> bit & 1 else array.dtype.itemsize
            if not one >> bit & 1:
                records[name] = array[rows]
        records["last length"] = sizes[rows]
        fixed, width = records.tobytes(), records.dtype.itemsize
        for position, row in enumerate(rows.tolist()):
            parts += (fixed[position * width : (position + 1) * width], last[row])
    return b"".join([*parts, _TRAILER])
