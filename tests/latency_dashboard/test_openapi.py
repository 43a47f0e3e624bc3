"""The OpenAPI document tells of everything that the API takes and answers, and of nothing else."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from django.test import Client
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from alerts.channels import KINDS
from alerts.described import CHANNELS
from budgets.api import schemas
from budgets.api.error_codes import BEYOND_THE_API, ERRORS, OF_ADDRESSES, REJECTIONS
from budgets.documents import READ_ONLY_FIELDS, FeatureDocument, LatencyBudgetDocument
from budgets.items import Body, ComponentCall, MeasurementItem, RequestItem
from latency_dashboard.api import api as ninja_api
from latency_dashboard.openapi import openapi_document
from tests.api import Api, error_code
from tests.children import PROJECT
from tests.factories import make_key, make_team

DOCUMENT: dict[str, Any] = json.loads(json.dumps(openapi_document(ninja_api)))
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def test_the_document_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    OPENAPI_31_VALIDATOR.validate(DOCUMENT)


def test_every_reference_leads_to_a_component_and_every_component_is_referred_to() -> None:
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))
    assert referred == DOCUMENT["components"]["schemas"].keys()


def test_the_document_is_for_everybody_and_only_to_be_read() -> None:
    assert Client().get("/api/v1/openapi.json").json() == DOCUMENT
    response = Client(enforce_csrf_checks=True).post("/api/v1/openapi.json")
    assert (response.status_code, error_code(response)) == (405, "method_not_allowed")
    assert response["Allow"] == "GET, HEAD"


def test_every_operation_of_the_api_is_documented_with_the_parameters_that_it_takes() -> None:
    found = {
        f"{method} /api/v1{path}": {(one["in"], one["name"], one["required"]) for one in known["parameters"]}
        for path, methods in _plain_paths().items()
        for method, known in methods.items()
    }
    assert found.keys() == OPERATIONS.keys() - {"GET /healthz", "GET /readyz"}
    for name, parameters in found.items():
        documented = OPERATIONS[name]["parameters"]
        # Headers are read without ninja.
        known = {(one["in"], one["name"], one["required"]) for one in documented if one["in"] != "header"}
        assert known == parameters, name


def _plain_paths() -> dict[str, dict[str, Any]]:
    """What ninja reads out of the signatures, by path and method."""
    from ninja.openapi.schema import OpenAPISchema

    paths: dict[str, dict[str, Any]] = {}
    schema = OpenAPISchema(ninja_api, "")
    for _, router in ninja_api._routers:
        for path, view in router.path_operations.items():
            for operation in view.operations:
                for method in operation.methods:
                    parameters = schema.operation_parameters(operation)
                    paths.setdefault(path, {})[method] = {"parameters": parameters}
    return paths


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_names_the_scope_and_every_status_with_its_codes(name: str) -> None:
    operation = OPERATIONS[name]
    if not operation["security"]:
        return
    assert all(one["key"] in (["ingest"], ["read"], ["write"]) for one in operation["security"])
    for status, answer in operation["responses"].items():
        if int(status) < 400:
            continue
        codes = _codes(answer)
        assert codes, status
        assert all(ERRORS[code].status == int(status) for code in codes), status
    assert {"400", "401", "403", "500", "503"} <= operation["responses"].keys()
    assert "Retry-After" in operation["responses"]["503"]["headers"]


def _codes(answer: dict[str, Any]) -> list[str]:
    schema = answer["content"]["application/json"]["schema"]
    return schema["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"]


def test_every_code_is_one_that_an_operation_can_answer_with() -> None:
    answered = {
        code
        for operation in OPERATIONS.values()
        for status, answer in operation["responses"].items()
        if int(status) >= 400 and operation["security"]
        for code in _codes(answer)
    }
    assert answered == ERRORS.keys() - OF_ADDRESSES.keys()


# -- the codes that stand in the source --------------------------------------------------------------

# Callable → whether the code that it is given is of an error or of an item of a POST that was rejected.
_MAKES_AN_ERROR = {"Refusal", "error_document", "_refusal", "refusal", "Fields", "_check_ms"}
_METHODS = {"Refusal.of": "Refusal", "problems.add": "add_problem"}
_MAKES_A_REJECTION = {"Reason", "Rejection", "reject"}
_CODE = re.compile(r"[a-z]+(_[a-z]+)+")


def _calls() -> Iterator[tuple[str, str]]:
    """Each call in the source that is given a code: the name of what is called, and the code."""
    for folder in ("budgets", "alerts", "latency_dashboard"):
        for path in sorted((PROJECT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    name = _METHODS.get(called) or called.rpartition(".")[2]
                    for given in [*node.args, *(keyword.value for keyword in node.keywords)]:
                        if isinstance(given, ast.Constant) and isinstance(given.value, str):
                            yield name, given.value


def _codes_of(names: set[str]) -> set[str]:
    return {code for name, code in _calls() if name in names and _CODE.fullmatch(code)}


def test_every_code_of_an_error_in_the_source_is_documented() -> None:
    from latency_dashboard.api_errors import _CODES, _OTHER

    # Arguments that look like codes and are fields.
    fields = {"latency_budgets", "runbook_url", "budget_ms"}
    found = _codes_of({*_MAKES_AN_ERROR, "add_problem"}) - fields
    found |= {code for code, _ in [*_CODES.values(), _OTHER]}
    found |= {"unauthorized", "forbidden"}  # one word each
    documented = ERRORS.keys() | BEYOND_THE_API.keys()
    assert found - documented == set(), "write these down in budgets/api/error_codes.py"
    assert documented - found == set(), "nothing makes these any more"
    assert not ERRORS.keys() & BEYOND_THE_API.keys()


def test_every_code_of_a_rejected_item_in_the_source_is_documented() -> None:
    of_fields = {
        f"invalid_{field}"
        for item in (MeasurementItem, RequestItem, ComponentCall)
        for field in item.__struct_fields__
    }
    assert _codes_of(_MAKES_A_REJECTION) | of_fields == REJECTIONS.keys()


def test_every_code_is_explained_in_the_reference_of_errors() -> None:
    text = (PROJECT / "docs/reference/errors.md").read_text()
    rows = {
        tuple(cell.strip() for cell in line.strip("|").split(" | "))
        for line in text.splitlines()
        if line.startswith("| `")
    }
    errors = {(f"`{code}`", str(one.status), one.meaning) for code, one in ERRORS.items()}
    others = {
        (f"`{code}`", meaning) for codes in (BEYOND_THE_API, REJECTIONS) for code, meaning in codes.items()
    }
    assert rows == errors | others


# -- bodies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "struct", "more"),
    [
        ("FeatureDocument", FeatureDocument, READ_ONLY_FIELDS),
        ("LatencyBudget", LatencyBudgetDocument, frozenset()),
        ("Measurements", Body, frozenset()),
        ("Measurement", MeasurementItem, frozenset()),
        ("Request", RequestItem, frozenset()),
        ("ComponentCall", ComponentCall, frozenset()),
    ],
)
def test_a_body_is_documented_with_the_fields_that_are_decoded(
    name: str, struct: type[msgspec.Struct], more: frozenset[str]
) -> None:
    schema = schemas.SCHEMAS[name]
    fields = msgspec.structs.fields(struct)
    assert schema["properties"].keys() == {field.name for field in fields} | more
    assert set(schema["required"]) == {field.name for field in fields if field.required}


def test_every_kind_of_channel_is_documented() -> None:
    assert CHANNELS.keys() == KINDS.keys()


@pytest.mark.parametrize("name", [name for name, one in OPERATIONS.items() if "requestBody" in one])
def test_every_example_fits_its_schema(name: str) -> None:
    content = OPERATIONS[name]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        _validator(content["schema"]).validate(example["value"])
    for status, answer in OPERATIONS[name]["responses"].items():
        of_answer = answer["content"]["application/json"]
        if "example" in of_answer:
            assert _validator(of_answer["schema"]).is_valid(of_answer["example"]), status


def _validator(schema: dict[str, Any]) -> Any:
    return jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]})


def test_the_example_of_a_feature_is_one_that_can_be_declared(db: None) -> None:
    team = make_team(slug="assistants")
    api = Api(team, make_key(team)[1])
    content = OPERATIONS["PUT /api/v1/features/{feature}"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        assert api.put("features/support-chat", example["value"]).status_code == 201
