"""How an operation is described in the OpenAPI document: what ninja cannot see by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from .error_codes import ERRORS, EVERYWHERE, OF_BODIES, ErrorCode

Schema = Mapping[str, Any]

# Without U+0000, which PostgreSQL's text refuses.
TEXT: Schema = {"type": "string", "pattern": r"^[^\x00]*$"}

_RETRY_AFTER = {
    "Retry-After": {
        "description": "Seconds after which to try again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    }
}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {
        "WWW-Authenticate": {
            "description": "How to authenticate.",
            "required": True,
            "schema": {"type": "string", "const": "Bearer"},
        }
    },
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


def ref(name: str) -> dict[str, str]:
    """A reference to a schema among the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def nullable(schema: Schema) -> dict[str, Any]:
    return {"oneOf": [schema, {"type": "null"}]}


def answer(
    description: str,
    schema: Schema,
    *,
    example: Any = None,
    headers: Mapping[str, Any] | None = None,
    links: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """An answer as JSON."""
    content: dict[str, Any] = {"schema": schema}
    if example is not None:
        content["example"] = example
    described: dict[str, Any] = {"description": description, "content": {"application/json": content}}
    if headers:
        described["headers"] = dict(headers)
    if links:
        described["links"] = dict(links)
    return described


def body(schema: Schema, *, examples: Mapping[str, Any], is_required: bool = True) -> dict[str, Any]:
    """A request body as JSON; `examples` are bodies by their titles."""
    return {
        "required": is_required,
        "content": {
            "application/json": {
                "schema": schema,
                "examples": {
                    title.lower().replace(" ", "_"): {"summary": title, "value": value}
                    for title, value in examples.items()
                },
            }
        },
    }


def parameter(
    name: str,
    description: str,
    schema: Schema,
    *,
    where: str = "query",
    is_required: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """A parameter in the query, the path or the headers."""
    return {
        "name": name,
        "in": where,
        "description": description,
        "required": is_required or where == "path",
        "schema": schema,
        **more,
    }


def operation(
    *,
    tag: str,
    summary: str,
    scope: str | tuple[str, ...],
    answers: Mapping[int, Mapping[str, Any]],
    errors: Iterable[str] = (),
    parameters: Iterable[Mapping[str, Any]] = (),
    request_body: Mapping[str, Any] | None = None,
    beside_errors: Mapping[str, Schema] | None = None,
) -> dict[str, Any]:
    """What `openapi_extra` of an operation is: its answers, and each error code that it may answer with.

    Codes that every operation, or every one with a body, may answer with need not be named. `beside_errors`
    are further properties of a 400. Of several scopes one is enough.
    """
    possible = {*EVERYWHERE, *errors} | (set(OF_BODIES) if request_body else set())
    described: dict[str, Any] = {
        "tags": [tag],
        "summary": summary,
        "x-scope": scope,
        "parameters": list(parameters),
        "responses": {
            **answers,
            **_refusals({code: ERRORS[code] for code in sorted(possible)}, beside_errors or {}),
        },
    }
    if request_body:
        described["requestBody"] = request_body
    return described


def _refusals(
    codes: Mapping[str, ErrorCode], beside_errors: Mapping[str, Schema]
) -> dict[int, dict[str, Any]]:
    """The answers of each status that these codes come with."""
    refusals: dict[int, dict[str, Any]] = {}
    for status in sorted({code.status for code in codes.values()}):
        here = {name: code.meaning for name, code in codes.items() if code.status == status}
        told = "\n".join(f"- `{name}`: {meaning}" for name, meaning in here.items())
        first = next(iter(here))
        refusals[status] = answer(
            f"{HTTPStatus(status).phrase}\n\n{told}",
            _error_of(here, beside_errors if status == 400 else {}),
            example={"error": {"code": first, "message": here[first], "fields": {}}},
            headers=_HEADERS.get(status),
        )
    return refusals


def _error_of(codes: Iterable[str], beside: Mapping[str, Schema]) -> dict[str, Any]:
    """The one shape of errors, with one of these codes."""
    code = {"type": "string", "enum": sorted(codes)}
    error = {"type": "object", "properties": {"code": code}}
    return {"allOf": [ref("Error"), {"type": "object", "properties": {"error": error, **beside}}]}
