"""Lists in pages: `{"items": [...], "next_cursor": ...}`."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from budgets.errors import Refusal

PAGE_SIZE = 50
M = TypeVar("M", bound=Model)


def paginate(
    queryset: QuerySet[M],
    cursor: str | None,
    *,
    field: str = "pk",
    is_descending: bool = False,
    describe: Callable[[list[M]], list[dict[str, Any]]],
) -> dict[str, Any]:
    """One page after the cursor, ordered by a unique field. Raises Refusal("invalid_cursor")."""
    if cursor is not None:
        after = _read(cursor, queryset, field)
        queryset = queryset.filter(**{f"{field}__{'lt' if is_descending else 'gt'}": after})
    rows = list(queryset.order_by(f"-{field}" if is_descending else field)[: PAGE_SIZE + 1])
    is_more = len(rows) > PAGE_SIZE
    rows = rows[:PAGE_SIZE]
    next_cursor = _write(getattr(rows[-1], field)) if is_more else None
    return {"items": describe(rows), "next_cursor": next_cursor}


def _write(value: Any) -> str:
    return base64.urlsafe_b64encode(str(value).encode()).decode().rstrip("=")


def _read(cursor: str, queryset: QuerySet[M], field: str) -> Any:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        model_field = queryset.model._meta.pk if field == "pk" else queryset.model._meta.get_field(field)
        value = model_field.to_python(text)  # type: ignore[union-attr]
        if not text or "\0" in text or (isinstance(value, int) and not -(2**63) <= value < 2**63):
            raise ValueError(text)
    except Exception as error:
        raise Refusal(
            "invalid_cursor",
            "cursor must be a next_cursor of this list, unchanged.",
            fields={"cursor": ["Expected the next_cursor of an answer."]},
        ) from error
    return value
