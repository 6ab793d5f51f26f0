"""LiveCodeBench on problems made here: programs and functions, right, wrong, slow, and hostile."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks import livecodebench
from s1pro.tasks.benchmarks.livecodebench import printed, returned, strict_program, upstream_program
from s1pro.tasks.benchmarks.registry import load
from s1pro.tasks.confined.parent import ConfinementError, Outcome
from tests.tasks.confined.test_confined import needs_walls

SUM = {
    "question_id": "sum", "question_content": "Add two numbers.", "starter_code": "", "metadata": "{}",
    "public_test_cases": json.dumps([{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]),
}  # fmt: skip
PAIRS = {
    "question_id": "pairs", "question_content": "Swap.", "starter_code": "class Solution:\n    def swap(self, a, b):",
    "metadata": json.dumps({"func_name": "swap"}),
    "public_test_cases": json.dumps([{"input": '1\n"x"', "output": '["x", 1]', "testtype": "functional"}]),
    "private_test_cases": json.dumps([{"input": "[]\n3", "output": "[3, []]", "testtype": "functional"}]),
}  # fmt: skip


def packed(cases: list[dict[str, str]]) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


def loaded(folder: Path, *records: dict[str, Any]) -> Any:
    (folder / "test.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return load("livecodebench", folder)[0]


def graded(task: Any, number: int, reply: str) -> tuple[bool | None, bool | None, str]:
    score = task.grade(task.items()[number], reply)
    found = [score.extraction[name] for name in ("compat", "strict")]
    return (
        *(None if one is None else one["passed"] for one in found),
        (found[1] or found[0] or {"why": "none"})["why"],
    )


def fenced(code: str) -> str:
    return f"I would write\n```python\n{code}\n```\n"


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Any:
    private = packed([{"input": "10\n-4\n", "output": "6", "testtype": "stdin"}])
    return loaded(tmp_path_factory.mktemp("lcb"), {**SUM, "private_test_cases": private}, PAIRS)


READ = "import sys\nprint(sum(map(int, sys.stdin.read().split())))"


@needs_walls
@pytest.mark.parametrize(
    ("code", "passed", "why"),
    [
        (READ, True, ""),
        ("import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())))", True, ""),
        ("print(sum(map(int, open(0).read().split())))\nexit()", True, ""),
        ("a = []\ntry:\n    while 1: a += input().split()\nexcept EOFError: print(sum(map(int, a)))", True, ""),
        ("if __name__ == '__main__':\n    print(int(fsum(map(int, stdin.read().split()))))", True, ""),  # a prelude
        ("print(3)", False, "wrong"),
        ("print(sum(map(int, input().split())))", False, "wrong"),  # the second test has two lines
        ("raise ValueError", False, "error"),
        ("def (", False, "error"),
        ("import os; os._exit(0)", False, "crash"),
        ("open('/etc/passwd').read(); " + READ.replace("\n", ";"), False, "error"),
    ],
)
def test_programs(task: Any, code: str, passed: bool, why: str) -> None:
    assert graded(task, 0, fenced(code)) == (passed, passed, why)


@needs_walls
def test_a_program_that_does_not_end(monkeypatch: pytest.MonkeyPatch, task: Any) -> None:
    quick = livecodebench.Confined(livecodebench.Walls(seconds=0.5))
    monkeypatch.setattr(livecodebench, "_confined", lambda: quick)
    assert graded(task, 0, fenced("while True: pass")) == (False, False, "time")
    quick.close()


@needs_walls
@pytest.mark.parametrize(
    ("code", "compat", "strict"),
    [
        ("class Solution:\n    def swap(self, a, b):\n        return [b, a]", True, True),
        ("class Solution:\n    def swap(self, a, b):\n        return b, a", True, True),
        ("def swap(a, b): return [b, a]", True, True),
        ("class Solution:\n    def swap(self, a, b):\n        return b", True, False),  # the first element of the list
        ("class Solution:\n    def swap(self, a, b):\n        return [a, b]", False, False),
        ("class Solution:\n    def swap(self, a, b):\n        return {b}", False, False),  # no JSON
        ("class Solution: pass", False, False),
    ],
)
def test_functions(task: Any, code: str, compat: bool, strict: bool) -> None:
    assert graded(task, 1, fenced(code))[:2] == (compat, strict)


@needs_walls
def test_silence_reasoning_and_the_whole_number(task: Any) -> None:
    replies = [fenced(READ), "no program"]
    assert graded(task, 0, "no program") == (None, None, "none")
    assert graded(task, 0, f"<think>{fenced(READ)}") == (True, None, "")  # reasoning that never ended is no answer
    assert graded(task, 0, f"{fenced('print(3)')}</think>{fenced(READ)}") == (True, True, "")
    scores = [task.grade(item, reply) for item, reply in zip(task.items(), replies, strict=True)]
    found = task.aggregate(scores)
    assert (found["compat"], found["strict"], found["strict.n_valid"], found["strict.of_valid"]) == (50, 50, 1, 100)


def test_which_block_is_the_program() -> None:
    two = fenced("a = 1") + fenced("b = 2")
    assert upstream_program(two) == "b = 2" and strict_program(two) == "b = 2\n"
    assert upstream_program("```\nunended") == "" and strict_program("```\nunended") == ""
    assert upstream_program("```python\na\n```\n```") == ""  # of the last two fences there is nothing between
    assert strict_program("```python\na\n```\n```") == "a\n"


@pytest.mark.parametrize(
    ("said", "wanted", "compat", "strict"),
    [
        ("3\n", "3", True, True),
        (" 3  \n4\n\n", "3\n4\n", True, True),
        ("3 4", "3  4", False, True),  # equal as decimals
        ("3\n\n4", "3\n4", True, False),
        ("0.333333", "0.3333331", True, False),
        ("1.0", "1", True, True),
        ("1e0 2", "1 2.0", False, True),
        ("4", "3", False, False),
        ("yes", "Yes", False, False),
        ("", "3", False, False),
        ("", "", True, True),
        ("nan", "nan", True, True),
    ],
)
def test_what_is_printed(said: str, wanted: str, compat: bool, strict: bool) -> None:
    outcome = Outcome(ended="done", output=said)
    assert (printed(outcome, wanted, "compat"), printed(outcome, wanted, "strict")) == (compat, strict)


@pytest.mark.parametrize(
    ("value", "tuples", "wanted", "compat", "strict"),
    [
        ([1, 2], False, "[1, 2]", True, True),
        (1, False, "[1, 2]", True, False),
        (1, False, "1.0", False, True),
        (True, False, "1", False, True),
        ([[1]], True, "[[1]]", False, True),
        (None, False, "null", True, True),
        ({"a": 1}, False, '{"a": 1}', True, True),
        ({"a": 1}, False, '{"b": 1}', False, False),
    ],
)
def test_what_is_returned(value: Any, tuples: bool, wanted: str, compat: bool, strict: bool) -> None:
    outcome = Outcome(ended="done", value={"value": value, "tuples_inside": tuples})
    assert (returned(outcome, wanted, "compat"), returned(outcome, wanted, "strict")) == (compat, strict)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("ran",)


@needs_walls
def test_wrong_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    harmful = base64.b64encode(zlib.compress(pickle.dumps(Harmful()))).decode()
    for private, why in (
        (harmful, r"line 1: the field 'private_test_cases' holds no test cases \(UnpicklingError"),
        ("?", "line 1: the field 'private_test_cases' holds no test cases"),
        ('[{"input": "1"}]', r"no test cases \(KeyError: 'output'"),
        (packed([{"input": "", "output": "", "testtype": "functional"}]), "no func_name"),
    ):
        with pytest.raises(InputError, match=why):
            loaded(tmp_path, {**SUM, "private_test_cases": private})
    with pytest.raises(InputError, match="'metadata' is"):
        loaded(tmp_path, {**SUM, "private_test_cases": "[]", "metadata": "name"})
    assert capsys.readouterr().out == ""


def test_refused_where_there_are_no_walls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no() -> None:
        raise ConfinementError("code of others cannot be confined here")

    monkeypatch.setattr(livecodebench.Confined, "check", lambda self: no())
    with pytest.raises(InputError, match="cannot be confined"):
        loaded(tmp_path, {**SUM, "private_test_cases": "[]"})
