"""The OpenAPI document for programs, and the same as a page for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.html import format_html, format_html_join

from .api import api
from .openapi import openapi_document

_PREFIX = "#/components/schemas/"
# Shown by hand where there is something to show; annotations beside a $ref add nothing to the type.
_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {} items",
    "default": "default {}",
}


@dataclass(frozen=True, slots=True)
class Word:
    """A piece of a type; `schema` is the component that it leads to."""

    text: str
    schema: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A field or a parameter."""

    name: str
    place: str
    is_required: bool
    type: list[Word]
    description: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation answers with one status."""

    status: str
    phrase: str
    description: str
    type: list[Word]
    codes: list[tuple[str, str]]
    headers: list[Row]
    example: str


@dataclass(frozen=True, slots=True)
class Operation:
    id: str
    method: str
    path: str
    summary: str
    description: str
    scope: str
    parameters: list[Row]
    body: list[Word]
    examples: list[tuple[str, str]]
    curl: str
    answers: list[Answer]


def openapi_json(request: HttpRequest) -> JsonResponse:
    return JsonResponse(openapi_document(api))


def reference(request: HttpRequest) -> HttpResponse:
    """The document as a page. It holds nothing secret, so nobody needs to log in."""
    document = openapi_document(api)
    groups = [
        (tag["name"], tag["description"], _operations(document, tag["name"])) for tag in document["tags"]
    ]
    schemas = [
        (name, schema.get("description", ""), list(_fields(schema)), _type(schema))
        for name, schema in sorted(document["components"]["schemas"].items())
    ]
    scopes = document["components"]["securitySchemes"]["key"]["description"]
    page = {
        "groups": groups,
        "schemas": schemas,
        "about": [_with_code(paragraph) for paragraph in document["info"]["description"].split("\n\n")],
        "scopes": _bullets(scopes),
    }
    return render(request, "api/reference.html", page)


def _operations(document: Mapping[str, Any], tag: str) -> list[Operation]:
    return [
        _operation(path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if tag in operation["tags"]
    ]


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> Operation:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    examples = [
        (one["summary"], json.dumps(one["value"], indent=2, ensure_ascii=False))
        for one in content.get("examples", {}).values()
    ]
    parameters = [
        Row(one["name"], one["in"], one["required"], _type(one["schema"]), one["description"])
        for one in operation["parameters"]
    ]
    scopes = [scope for one in operation["security"] for scope in one["key"]]
    return Operation(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=operation.get("description", "").partition("\n\n")[0],
        scope=" or ".join(scopes),
        parameters=parameters,
        body=_type(content["schema"]) if content else [],
        examples=examples,
        curl=_curl(method.upper(), path, bool(scopes), bool(content)),
        answers=[_answer(status, one) for status, one in operation["responses"].items()],
    )


def _curl(method: str, path: str, has_key: bool, has_body: bool) -> str:
    lines = [f"curl -X {method} '{settings.PUBLIC_URL}{path}'"]
    lines += ['-H "Authorization: Bearer $KEY"'] if has_key else []
    lines += ["-H 'Content-Type: application/json' -d @body.json"] if has_body else []
    return " \\\n  ".join(lines)


def _answer(status: str, answer: Mapping[str, Any]) -> Answer:
    content = answer.get("content", {}).get("application/json", {})
    is_error = int(status) >= 400 and "allOf" in content.get("schema", {})
    example = json.dumps(content["example"], indent=2, ensure_ascii=False) if "example" in content else ""
    headers = [
        Row(name, "header", one.get("required", False), _type(one["schema"]), one["description"])
        for name, one in answer.get("headers", {}).items()
    ]
    return Answer(
        status=status,
        phrase=HTTPStatus(int(status)).phrase,
        description="" if is_error else _with_code(answer["description"]),
        # An answer without a body (204) has no type.
        type=[Word("Error", "Error")] if is_error else _type(content["schema"]) if content else [],
        codes=_bullets(answer["description"]) if is_error else [],
        headers=headers,
        example="" if is_error else example,
    )


def _with_code(text: str) -> str:
    """HTML of a text in which backticks mark code."""
    parts = enumerate(text.split("`"))
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", part) if n % 2 else part,) for n, part in parts)
    )


def _bullets(text: str) -> list[tuple[str, str]]:
    """The name and the sentence of each "- `name`: sentence"."""
    lines = [line[3:].partition("`: ") for line in text.splitlines() if line.startswith("- `")]
    return [(name, sentence) for name, _, sentence in lines]


def _type(schema: Mapping[str, Any]) -> list[Word]:
    """What a value must be, in words."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_PREFIX)
        return [Word(name, name)]
    for several in ("oneOf", "anyOf"):
        if several in schema and "properties" not in schema:
            words: list[Word] = []
            for one in schema[several]:
                words += [Word("or"), *_type(one)] if words else _type(one)
            return words
    kind = schema.get("type", "any value")
    if kind == "array":
        return [Word("array of"), *_type(schema.get("items", {})), *_limits(schema)]
    if "const" in schema:
        return [Word(json.dumps(schema["const"]))]
    if "enum" in schema:
        return [Word(" | ".join(map(str, schema["enum"]))), *_limits(schema)]
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return [Word("object of"), *_type(schema["additionalProperties"])]
    name = " | ".join(kind) if isinstance(kind, list) else kind
    return [Word(f"{name} ({schema['format']})" if "format" in schema else name), *_limits(schema)]


def _limits(schema: Mapping[str, Any]) -> list[Word]:
    said = [text.format(_value(schema[key])) for key, text in _BOUNDS.items() if key in schema]
    return [Word(", ".join(said))] if said else []


def _value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (str, bool)) else f"{value:,}".replace(",", "\u202f")


def _fields(schema: Mapping[str, Any], within: str = "") -> Iterator[Row]:
    """Each field of an object, those of objects within it too."""
    for variant in schema.get("oneOf", []) if "properties" not in schema else []:
        yield from _fields(variant, within)
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        if field.get("readOnly"):
            continue
        yield Row(within + name, "", name in required, _type(field), _said_of(field))
        for inner, mark in ((field, "."), (field.get("items", {}), "[].")):
            for one in [inner, *inner.get("oneOf", [])]:
                if one.get("type") == "object":
                    yield from _fields(one, f"{within}{name}{mark}")


def _said_of(field: Mapping[str, Any]) -> str:
    variants = [field, *field.get("oneOf", []), *field.get("anyOf", [])]
    return next((one["description"] for one in variants if one.get("description")), "")
