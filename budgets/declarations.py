"""What can be declared by a document in a file, and features among it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from django.db import transaction

from . import doorbell
from .features import declare_feature, declared_document, describe, with_documents
from .models import Feature, Team


class DeclaredKind(Protocol):
    """One kind of thing that a team declares under a name. A spec is the body of its PUT."""

    name: str
    name_field: str
    """What a refusal calls the name that stands beside the spec."""
    has_references: bool
    """Whether texts of its spec may refer to variables of the environment, as ${NAME}."""

    def names(self, team: Team) -> list[str]:
        """What the team has of it, in order."""
        ...

    def spec_of(self, team: Team, name: str) -> dict[str, Any] | None:
        """The spec that would change nothing, secrets included; None where there is nothing of this name."""
        ...

    def exported(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """A spec as it is kept in a file: without secrets, which stay as they are when it is saved."""
        ...

    def shown(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """A spec as anybody may see it, who then knows no secret, yet whether one was changed."""
        ...

    def save(self, *, team: Team, name: str, spec: Any, actor: str, now: datetime) -> str:
        """Makes it what the spec says, in the caller's transaction; gives a remark for people, or "".

        Raises Refusal, and then nothing was changed.
        """
        ...


class DeclaredFeatures:
    """Features with their components and latency budgets."""

    name = "Feature"
    name_field = "feature"
    has_references = False  # a description or a note may say anything

    def names(self, team: Team) -> list[str]:
        return list(Feature.objects.filter(team=team).order_by("slug").values_list("slug", flat=True))

    def spec_of(self, team: Team, name: str) -> dict[str, Any] | None:
        feature = with_documents(Feature.objects.filter(team=team, slug=name)).first()
        if feature is None:
            return None
        document = declared_document(describe(feature))
        del document["team"]  # stands beside the spec
        return document

    def exported(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return dict(spec)

    def shown(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        return dict(spec)

    def save(self, *, team: Team, name: str, spec: Any, actor: str, now: datetime) -> str:
        declared = declare_feature(team=team, slug=name, document=spec, actor=actor, now=now)
        if declared.feature.rejudge_requested_at is not None:
            transaction.on_commit(lambda: doorbell.send("budgets.tasks.rejudge"))
        return ""
