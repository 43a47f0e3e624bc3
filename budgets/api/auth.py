"""Who calls: a bearer key, and whether it may."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja.security import HttpBearer

from budgets.errors import Refusal
from budgets.keys import authenticate
from budgets.models import IngestKey


class BearerKey(HttpBearer):
    """Takes a key that has one of the scopes. `request.auth` is then the IngestKey, with its team."""

    def __init__(self, *scopes: str) -> None:
        super().__init__()
        self.scopes = scopes

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        key: IngestKey | None = authenticate(token, timezone.now())
        if key is not None and not set(self.scopes) & set(key.scopes):
            raise Refusal(
                "missing_scope",
                f"This key has the scopes {', '.join(key.scopes)}; this operation needs {' or '.join(self.scopes)}.",
                status=403,
            )
        return key
