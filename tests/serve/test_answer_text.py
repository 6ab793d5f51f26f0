from __future__ import annotations

import json
import random

import pytest

from s1pro.serve.answer_text import AnswerParser, Content, Piece, Reasoning, ToolCall, as_tool_call


def joined(pieces: list[Piece]) -> tuple[str, str, list[tuple[str, object]]]:
    """Reasoning, content, calls."""
    reasoning = "".join(piece.text for piece in pieces if isinstance(piece, Reasoning))
    content = "".join(piece.text for piece in pieces if isinstance(piece, Content))
    calls = [(p.name, json.loads(p.arguments)) for p in pieces if isinstance(p, ToolCall)]
    return reasoning, content, calls


def parse(text: str, cuts: list[int], *, reasoning: bool = False, tools: bool = True) -> list[Piece]:
    parser = AnswerParser(reasoning=reasoning, tools=tools)
    pieces: list[Piece] = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        pieces += parser.push(text[start:end])
    return pieces + parser.finish()


CALL = '<tool_call>\n{"name": "f", "arguments": {"a": [1, "</tool_call>", "<think>"], "ü": null}}\n</tool_call>'
ARGUMENTS = {"a": [1, "</tool_call>", "<think>"], "ü": None}
CASES = [
    # text, starts in reasoning -> reasoning, content, calls
    ("Hello there.\n", False, ("", "Hello there.\n", [])),
    ("first\nthen</think>\n\nAnswer", True, ("first\nthen", "Answer", [])),
    ("never ends", True, ("never ends", "", [])),
    ("\n<think>why</think>\nso", False, ("why", "so", [])),
    ("a <think> in the middle", False, ("", "a <think> in the middle", [])),
    ("a < b and <tool_cal> is none", False, ("", "a < b and <tool_cal> is none", [])),
    (CALL, False, ("", "", [("f", ARGUMENTS)])),
    (f"plan</think>\n\nLet me see.\n{CALL}\n{CALL}", True, ("plan", "Let me see.", [("f", ARGUMENTS)] * 2)),
    (CALL + "\nDone.", False, ("", "Done.", [("f", ARGUMENTS)])),
    ("x<tool_call>{broken</tool_call>y", False, ("", "x<tool_call>{broken</tool_call>y", [])),
    ('<tool_call>{"name": 1}</tool_call>', False, ("", '<tool_call>{"name": 1}</tool_call>', [])),
    ('<tool_call>{"name": "f", "arguments": {}}', False, ("", "", [("f", {})])),
    ('<tool_call>{"name": "f", "argum', False, ("", '<tool_call>{"name": "f", "argum', [])),
    (
        '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>',
        False,
        ("", '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>', []),
    ),
    (f"<tool_call>junk</tool_call>{CALL}", False, ("", "<tool_call>junk</tool_call>", [("f", ARGUMENTS)])),
]


@pytest.mark.parametrize(("text", "reasoning", "expected"), CASES)
def test_the_parts_of_an_answer_do_not_depend_on_how_it_arrives(
    text: str, reasoning: bool, expected: tuple[str, str, list[tuple[str, object]]]
) -> None:
    assert joined(parse(text, [], reasoning=reasoning)) == expected
    assert joined(parse(text, list(range(1, len(text))), reasoning=reasoning)) == expected
    rng = random.Random(text)
    for _ in range(20):
        cuts = sorted(rng.sample(range(len(text)), min(4, len(text) - 1)))
        assert joined(parse(text, cuts, reasoning=reasoning)) == expected, cuts


def test_without_tools_calls_are_text() -> None:
    assert joined(parse(CALL, [], tools=False)) == ("", CALL, [])


def test_text_is_not_held_back_longer_than_needed() -> None:
    parser = AnswerParser(reasoning=False, tools=True)
    assert parser.push("Hello <") == [Content(text="Hello")]
    assert parser.push("b>") == [Content(text=" <b>")]
    thinking = AnswerParser(reasoning=True, tools=False)
    assert thinking.push("so </thi") == [Reasoning(text="so ")]
    assert thinking.push("s one") == [Reasoning(text="</this one")]


@pytest.mark.parametrize("arguments", ['{"a": 1}', {"a": 1}])
def test_arguments_may_be_an_object_or_its_text(arguments: object) -> None:
    call = as_tool_call({"name": "f", "arguments": arguments})
    assert call is not None
    assert json.loads(call.arguments) == {"a": 1}


@pytest.mark.parametrize("arguments", ["[1]", "{", 3, None, [1], float("inf"), {"a": float("nan")}])
def test_arguments_that_are_no_object_make_no_call(arguments: object) -> None:
    assert as_tool_call({"name": "f", "arguments": arguments}) is None


def test_half_a_surrogate_pair_in_a_call_is_replaced() -> None:
    call = as_tool_call({"name": "f", "arguments": {"a": "\ud800"}})
    assert call is not None and json.loads(call.arguments) == {"a": "?"}
