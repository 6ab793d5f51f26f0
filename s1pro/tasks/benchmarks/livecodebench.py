"""LiveCodeBench: a program that a model wrote passes all tests of a problem, or it does not.

Records are those of `code_generation_lite`: `public_test_cases` and `private_test_cases` are lists of `{input, output,
testtype}` as JSON text; the private ones of most problems are packed (JSON, pickled, deflated, base64). What is
unpickled may be text and nothing else. `metadata` names the function of problems with `starter_code`.

1. The last fenced block of the reply is the program (upstream: of the last two lines that hold a fence).
2. **stdin**: the program reads the input as standard input, and what it prints is compared. **functional**: a method
   of its class `Solution` (or a function, without such a class) is called with one JSON value per line of the input.
3. Tests run one after another until one fails, 6 seconds each, every one in a fresh process behind walls
   (`tasks.confined`). Where the system has no such walls the benchmark is refused before anything is asked.

| | compat (OpenCompass) | strict (LiveCodeBench) |
|---|---|---|
| printed | equal without blanks at ends of lines; or one number per line, all close to 1e-5 | lines equal without \
blanks at their ends, or equal as decimals |
| returned | equal in value and type, or to the first element of the list that was wanted | equal, tuples as lists |

pass@1 is the mean over problems; `--repeats` gives pass@k. Programs have no threads, no network and 2 GiB of memory.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import re
import zlib
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.extract import answer_part, upstream_visible
from s1pro.tasks.benchmarks.metrics import mean_of
from s1pro.tasks.benchmarks.spec import MEAN, Benchmark, Profile, ProfileName, Record, Subtask, user_prompt
from s1pro.tasks.confined.parent import Confined, Outcome, Walls
from s1pro.tasks.task import Prompt

_INSIDE = "s1pro.tasks.benchmarks.programs"
_WALLS = Walls(seconds=6.0, memory_mb=2048, output_bytes=4 << 20)
_FENCED = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
_ASK_STDIN = "Write a Python program that reads the input from standard input and prints the answer."
_ASK_CLASS = "Write the solution in Python, beginning with this code:"


class _TextOnly(pickle.Unpickler):
    """Of data from elsewhere: no class may be looked up, so nothing can be called."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"{module_name}.{global_name} is no text")


def test_cases(record: Record) -> list[dict[str, str]]:
    """All of them, the public ones first. Raises `InputError` for a field that holds none."""
    cases = [*_cases(record, "public_test_cases"), *_cases(record, "private_test_cases")]
    if not cases:
        raise InputError("the fields 'public_test_cases' and 'private_test_cases' hold no tests")
    return cases


def _cases(record: Record, field: str) -> list[dict[str, str]]:
    found = record[field]
    try:
        if isinstance(found, str):
            found = json.loads(found if found.lstrip().startswith("[") else _unpacked(found))
        return [{name: str(case[name]) for name in ("input", "output", "testtype")} for case in found]
    except (ValueError, TypeError, KeyError, zlib.error, binascii.Error, pickle.UnpicklingError, EOFError) as error:
        raise InputError(f"the field {field!r} holds no test cases ({type(error).__name__}: {error})") from error


def _unpacked(text: str) -> str:
    data = zlib.decompress(base64.b64decode(text.encode(), validate=True))
    return str(_TextOnly(io.BytesIO(data)).load())


def problem(record: Record) -> Record:
    """With its tests as `cases`, and the name of the function as `function` (empty: a program)."""
    cases = test_cases(record)
    try:
        metadata = json.loads(record.get("metadata") or "{}")
        function = str(metadata.get("func_name") or "")
    except (ValueError, AttributeError) as error:
        raise InputError(f"the field 'metadata' is {record['metadata']!r:.60}, expected a JSON object") from error
    if not function and any(case["testtype"] == "functional" for case in cases):
        raise InputError("the field 'metadata' has no func_name, which tests of the type 'functional' need")
    return {**record, "cases": cases, "function": function}


def prompt(record: Record) -> Prompt:
    """The problem, and the form of the answer."""
    code = str(record.get("starter_code") or "")
    ask = f"{_ASK_CLASS}\n```python\n{code}\n```" if code else _ASK_STDIN
    return user_prompt(f"{record['question_content']}\n\n{ask}\nPut the whole program into one block fenced by ```.")


def upstream_program(response: str) -> str:
    """Between the last two lines that hold a fence."""
    lines = upstream_visible(response).split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line][-2:]
    return "\n".join(lines[fences[0] + 1 : fences[1]]) if len(fences) == 2 else ""


def strict_program(response: str) -> str:
    """The last fenced block of the answer."""
    found = _FENCED.findall(answer_part(response))
    return found[-1] if found else ""


def verdict(code: str, record: Record, profile: ProfileName) -> dict[str, Any] | None:
    """`{passed, tests, of, why}` of a program; None without one. Raises `ConfinementError`."""
    if not code.strip():
        return None
    cases = tuple((case["input"], case["output"]) for case in record["cases"])
    return dict(_run(code, cases, record["function"])[profile])


@lru_cache(maxsize=65536)
def _run(code: str, cases: tuple[tuple[str, str], ...], function: str) -> Mapping[ProfileName, Mapping[str, Any]]:
    """Both profiles look at the same runs, until both have seen a test fail."""
    found: dict[ProfileName, Mapping[str, Any]] = {}
    for number, (given, wanted) in enumerate(cases):
        arguments = {"code": code, "given": given, "function": function}
        outcome = _confined().ask({"op": "call", "function": f"{_INSIDE}:solve", "arguments": arguments})
        for profile in ("compat", "strict"):
            why: str = outcome.ended if outcome.ended != "done" else ""
            if not why and not (returned if function else printed)(outcome, wanted, profile):
                why = "wrong"
            if why:
                found.setdefault(profile, {"passed": False, "tests": number, "of": len(cases), "why": why})
        if len(found) == 2:
            break
    whole = {"passed": True, "tests": len(cases), "of": len(cases), "why": ""}
    return {"compat": found.get("compat", whole), "strict": found.get("strict", whole)}


@lru_cache(maxsize=1)
def _confined() -> Confined:
    return Confined(_WALLS, processes=2)


def check() -> None:
    """Raises `ConfinementError` where programs cannot be run."""
    _confined().check()


def printed(outcome: Outcome, wanted: str, profile: ProfileName) -> bool:
    """What a program printed against what it should."""
    said = outcome.output
    if profile == "strict":
        lines, golds = ([line.strip() for line in text.strip().split("\n")] for text in (said, wanted))
        return len(lines) == len(golds) and all(map(_same_line, lines, golds))
    lines, wanted = said.splitlines(), wanted.strip()
    if wanted in (said.strip(), "\n".join(line.strip() for line in lines).strip()):
        return True
    golds = [line.strip() for line in wanted.split("\n") if line]
    filled = [line for line in lines if line]
    return golds in (lines, filled) or _close(filled, golds)


def _same_line(line: str, gold: str) -> bool:
    if line == gold:
        return True
    try:
        return [Decimal(word) for word in line.split()] == [Decimal(word) for word in gold.split()]
    except InvalidOperation:
        return False


def _close(lines: Sequence[str], golds: Sequence[str]) -> bool:
    """Numbers, one per line; whole ones on both sides must be equal, which they are not here."""
    if all(a.isdigit() and b.isdigit() for a, b in zip(lines, golds, strict=False)):
        return False
    try:
        left, right = [float(a) for a in lines], [float(b) for b in golds]
    except ValueError:
        return False
    return len(left) == len(right) and bool(np.allclose(left, right))


def returned(outcome: Outcome, wanted: str, profile: ProfileName) -> bool:
    """What a function returned against the JSON value that it should."""
    gold, value = json.loads(wanted), outcome.value["value"]
    if profile == "strict":
        return bool(value == gold)
    if outcome.value["tuples_inside"]:
        return False
    return _same_type(value, gold) or bool(isinstance(gold, list) and gold and _same_type(value, gold[0]))


def _same_type(value: Any, gold: Any) -> bool:
    if type(value) is not type(gold):
        return False
    if isinstance(value, list):
        return len(value) == len(gold) and all(map(_same_type, value, gold))
    if isinstance(value, dict):
        return value.keys() == gold.keys() and all(_same_type(value[key], gold[key]) for key in value)
    return bool(value == gold)


def _passed(gold: Any, prediction: Mapping[str, Any]) -> float:
    return float(prediction["passed"])


def _profile(name: ProfileName, program: Any) -> Profile:
    return Profile(
        extract=lambda response, record: verdict(program(response), record, name),
        value=_passed,
        metric=mean_of(_passed, scale=100.0),
    )


LIVECODEBENCH = Benchmark(
    name="livecodebench",
    title="LiveCodeBench v6",
    subtasks=(
        Subtask(
            name="v6",
            files=("*.jsonl", "*.parquet"),
            fields={
                "question_id": (str, int), "question_content": str, "public_test_cases": (str, list),
                "private_test_cases": (str, list),
            },
            prompt=prompt,
            gold=lambda record: len(record["cases"]),
            compat=_profile("compat", upstream_program),
            strict=_profile("strict", strict_program),
            prepare=problem,
            check=check,
            slow=True,
            defects=(
                "one number per line is right if it is close to 1e-5",
                "a function may return the first element of the list that it should return",
                "upstream puts a program into a function and its own stand-in for standard input; here it is run as it "
                "is, without threads",
            ),
        ),
    ),
    aggregate=MEAN,
    source="livecodebench/code_generation_lite on the Hugging Face Hub, release v6",
    licence="CC (not verified)",
    published=74.3,
    notes=("programs run behind walls (Linux); execution.execution_scores takes verdicts from elsewhere",),
)  # fmt: skip
