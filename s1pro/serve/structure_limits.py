"""What schemas, expressions and grammars may not hold, because llguidance ends the process on it.

Found by feeding it hostile input (version 1.9): recursion without a limit of its own in long chains of `$ref` and of
rules, and in integers whose magnitude comes near 2^63. A stack that overflows cannot be caught, so these are refused
before they are compiled. Other limits (size of a schema, complexity of an expression) are its own and become errors.
"""

from __future__ import annotations

import json
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.records import StructuredOutput

MAX_TEXT = 2**20
MAX_INTEGER = 10**18
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
MAX_REFERENCES = 256
MAX_RULES = 256
MAX_CHAIN = 1000
"""References of a schema, or rules of a grammar, times how deep they nest. Measured to end the process: 2,640."""


def check_structure(wanted: StructuredOutput) -> None:
    """Raises `InputError` for what must not be compiled."""
    text = wanted.value
    if len(text) > MAX_TEXT:
        raise InputError(f"structured output: {len(text)} characters of {wanted.kind}, more than {MAX_TEXT}")
    if wanted.kind == "json_schema":
        _check_schema(_parsed(text))
    elif wanted.kind == "grammar":
        _check_grammar(text)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"structured output: the schema is no JSON: {error}") from error


def _check_schema(schema: Any) -> None:
    references = deepest = 0
    stack = [(schema, 1)]
    while stack:
        node, depth = stack.pop()
        deepest = max(deepest, depth)
        if isinstance(node, dict):
            references += "$ref" in node
            bounds = [node[name] for name in BOUNDS if isinstance(node.get(name), int | float)]
            if any(abs(bound) > MAX_INTEGER for bound in bounds):
                raise InputError(f"structured output: bounds beyond {MAX_INTEGER:.0e} are not supported, got {bounds}")
            stack.extend((value, depth + 1) for value in node.values())
        elif isinstance(node, list):
            stack.extend((value, depth + 1) for value in node)
        elif isinstance(node, int) and abs(node) > MAX_INTEGER:
            raise InputError(
                f"structured output: integers beyond {MAX_INTEGER:.0e} are not supported, got {node!r:.40}"
            )
    _check_chain("$ref in a schema", references, MAX_REFERENCES, deepest)


def _check_grammar(text: str) -> None:
    """The rules, and apart from them the JSON schemas that stand behind `%json`."""
    decoder = json.JSONDecoder()
    first, *pieces = text.split("%json")
    rules = [first]
    for piece in pieces:
        try:
            schema, end = decoder.raw_decode(piece := piece.lstrip())
        except (ValueError, RecursionError) as error:
            raise InputError(f"structured output: no JSON behind %json: {error}") from error
        _check_schema(schema)
        rules.append(piece[end:])
    depth = deepest = 0
    for character in "".join(rules):
        depth += (character in "([") - (character in ")]")
        deepest = max(deepest, depth)
    _check_chain("rules in a grammar", sum(piece.count(":") for piece in rules), MAX_RULES, deepest)


def _check_chain(what: str, count: int, most: int, depth: int) -> None:
    if count > most or count * depth > MAX_CHAIN:
        raise InputError(f"structured output: {count} {what}, nested {depth} deep, are too many")
