"""A feature's alert rules over HTTP: a router of the API, mounted at /api/v1/."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Field, Router, Schema
from ninja.responses import Response

from budgets.api.auth import BearerKey
from budgets.api.pagination import paginate

from . import rules_described as described
from .models import AlertRule, Severity
from .requests import actor_of, body_of, key_of
from .rule_documents import document_of
from .rule_settings import delete_rule, feature_of, rule_of, save_rule

router = Router()


class RuleAnswer(Schema):
    """A rule. Null: `severity` is what the kind decides, `keep_firing_seconds` the installation's; a `milestone` and a
    `component` that are both null stand for all that the kind watches. `parameters` are there with their values."""

    feature: str
    name: str
    # Not the enumeration: the document knows another of that name, of the steps of incidents.
    kind: str = Field(json_schema_extra={"enum": list(AlertRule.Kind.values)})
    environment: str
    milestone: str | None
    component: str | None
    severity: Severity | None
    enabled: bool
    for_seconds: int
    keep_firing_seconds: int | None
    parameters: dict[str, Any]
    is_default: bool


class RulePage(Schema):
    """By name; `next_cursor` is null on the last page."""

    items: list[RuleAnswer]
    next_cursor: str | None


@router.get(
    "/features/{feature}/rules",
    auth=BearerKey("read"),
    response=RulePage,
    operation_id="listRules",
    openapi_extra=described.LIST_RULES,
)
def list_rules(request: HttpRequest, feature: str, cursor: str | None = None) -> Response:
    """The feature's rules by name, those that every feature has among them."""
    rules = AlertRule.objects.filter(feature=feature_of(key_of(request).team, feature)).select_related(
        "feature"
    )
    return Response(
        paginate(rules, cursor, field="name", describe=lambda found: [_answer(one) for one in found])
    )


@router.get(
    "/features/{feature}/rules/{name}",
    auth=BearerKey("read"),
    response=RuleAnswer,
    operation_id="getRule",
    openapi_extra=described.GET_RULE,
)
def get_rule(request: HttpRequest, feature: str, name: str) -> Response:
    """One rule."""
    return Response(_answer(rule_of(key_of(request).team, feature, name)))


@router.put(
    "/features/{feature}/rules/{name}",
    auth=BearerKey("write"),
    response={200: RuleAnswer, 201: RuleAnswer},
    operation_id="putRule",
    openapi_extra=described.PUT_RULE,
)
def put_rule(request: HttpRequest, feature: str, name: str) -> Response:
    """Makes the feature's rule what the body says."""
    saved = save_rule(
        team=key_of(request).team,
        feature=feature,
        name=name,
        document=body_of(request),
        actor=actor_of(request),
        now=timezone.now(),
    )
    return Response(_answer(saved.rule), status=201 if saved.is_created else 200)


@router.delete(
    "/features/{feature}/rules/{name}",
    auth=BearerKey("write"),
    response={204: None},
    operation_id="deleteRule",
    openapi_extra=described.DELETE_RULE,
)
def delete_rule_by_name(request: HttpRequest, feature: str, name: str) -> HttpResponse:
    """Ends the rule. An incident that nothing else holds open ends with it."""
    rule = rule_of(key_of(request).team, feature, name)
    delete_rule(rule_id=rule.pk, actor=actor_of(request), now=timezone.now())
    return HttpResponse(status=204)


def _answer(rule: AlertRule) -> dict[str, Any]:
    return {
        "feature": rule.feature.slug,
        "name": rule.name,
        **document_of(rule),
        "is_default": rule.is_default,
    }
