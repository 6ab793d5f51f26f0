"""Schemas and grammars that end the process of llguidance are refused; ordinary ones are not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.base.records import StructuredOutput
from s1pro.serve.structure_limits import check_structure


def schema(value: Any) -> StructuredOutput:
    return StructuredOutput(kind="json_schema", value=json.dumps(value))


def grammar(text: str) -> StructuredOutput:
    return StructuredOutput(kind="grammar", value=text)


def chain(length: int, depth: int) -> dict[str, Any]:
    """Definitions that refer to each other, each through nested arrays."""
    definitions: dict[str, Any] = {f"d{length}": {"type": "string"}}
    for i in range(length):
        inner: dict[str, Any] = {"$ref": f"#/$defs/d{i + 1}"}
        for _ in range(depth):
            inner = {"type": "array", "items": inner}
        definitions[f"d{i}"] = inner
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


@pytest.mark.parametrize(
    "wanted",
    [
        schema({"const": -(2**63)}),
        schema({"enum": ["x", -(2**63) + 1]}),
        schema({"type": "integer", "minimum": -(2**63), "maximum": 0}),
        schema({"type": "integer", "minimum": -1e19, "maximum": -9.3e18}),
        schema(chain(3000, 0)),
        schema(chain(240, 8)),
        grammar("\n".join(["start: r0", *(f"r{i}: r{i + 1}" for i in range(5000)), 'r5000: "a"'])),
        grammar('start: %json {"const": -9223372036854775808}'),
        grammar("start: %json {"),
        StructuredOutput(kind="json_schema", value="[" * 100_000),
        StructuredOutput(kind="regex", value="a" * (2**20 + 1)),
    ],
)
def test_what_ends_the_process_is_refused(wanted: StructuredOutput) -> None:
    with pytest.raises(InputError, match="structured output"):
        check_structure(wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        schema({"type": "integer", "minimum": -(10**18), "maximum": 10**18}),
        schema({"enum": [1e300, 5e-324, -0.5, -9.3e18]}),
        schema(chain(60, 2)),
        grammar(
            f"start: a\na: %json {json.dumps({'type': 'object', 'properties': {f'p{i}': {} for i in range(400)}})}\n"
        ),
        StructuredOutput(kind="json_object"),
        StructuredOutput(kind="regex", value="(a|b){1,20}"),
    ],
)
def test_ordinary_ones_pass(wanted: StructuredOutput) -> None:
    check_structure(wanted)
