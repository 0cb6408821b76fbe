"""The OpenAPI document and docs/api.md say what the registry says."""

import json
import re
from pathlib import Path
from typing import Any

from gateway.api.catalogue import PREFIX, all_operations
from gateway.api.openapi import document
from gateway.api.reference import reference_page
from gateway.domain.refusals import Code

ROOT = Path(__file__).parent.parent.parent
DOCUMENT: dict[str, Any] = json.loads(json.dumps(document("0.0.0")))


def test_every_operation_is_in_it_once() -> None:
    found = {
        (path, method.upper()): op
        for path, methods in DOCUMENT["paths"].items()
        for method, op in methods.items()
    }
    assert set(found) == {(PREFIX + op.path, op.method) for op in all_operations()}
    ids = [op["operationId"] for op in found.values()]
    assert len(ids) == len(set(ids)) > 20
    statuses = {op.name: op.status for op in all_operations()}
    for (path, method), op in found.items():
        named = re.findall(r"{(\w+)}", path)
        stated = [one["name"] for one in op["parameters"] if one["in"] == "path"]
        assert named == stated, path
        assert all(one["required"] for one in op["parameters"] if one["in"] == "path")
        assert op["summary"] and op["x-right"]
        good = [status for status in op["responses"] if status.startswith("2")]
        tried = {"200"} if any(one["name"] == "dry_run" for one in op["parameters"]) else set()
        assert set(good) == {str(statuses[op["operationId"]])} | tried
        assert "422" in op["responses"]
        if method == "GET":
            assert "requestBody" not in op
        for one in op["responses"].values():
            assert one["description"]


def test_every_reference_leads_somewhere_and_no_input_is_left_over() -> None:
    names = set(DOCUMENT["components"]["schemas"])
    referred = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(DOCUMENT)))
    assert referred <= names
    assert names <= referred
    assert DOCUMENT["openapi"].startswith("3.1")


def test_a_body_does_not_repeat_the_address() -> None:
    post = DOCUMENT["paths"][f"{PREFIX}/companies/{{company_id}}/members"]["post"]
    schema = post["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["required"]) == {"email", "role"}
    assert "company_id" not in schema["properties"]
    assert "password_hash" not in json.dumps(DOCUMENT)


def test_the_reference_page_is_fresh_and_names_every_code_and_command() -> None:
    page = reference_page()
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == page, (
        "make it anew: python -m gateway.api.reference > docs/api.md"
    )
    for code in Code:
        assert f"`{code.value}`" in page
    for op in all_operations():
        assert f"### {op.method} {PREFIX}{op.path}\n" in page
