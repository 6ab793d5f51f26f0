"""Judges: what is recorded, what is asked again, and what the benchmarks make of replies."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.endpoint import EndpointError, EndpointRefusedError
from s1pro.base.errors import InputError
from s1pro.base.records import Completion, Message, Sampling, Usage
from s1pro.tasks.benchmarks.judged import digit_credit, first_capital, plain_verdict
from s1pro.tasks.benchmarks.registry import BENCHMARKS, load
from s1pro.tasks.benchmarks.spec import BenchmarkTask
from s1pro.tasks.judging import Judge

PICTURE = "iVBORw0KGgo" + "A" * 80
CHOICES = {"index": 1, "question": "What is it?", "A": "red fox", "B": "grey wolf", "answer": "B", "image": PICTURE}


class Scripted:
    """A model that answers as a function says; errors are raised."""

    def __init__(self, reply: Callable[[str, float], str | Exception]) -> None:
        self.reply, self.asked = reply, list[str]()

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        text = messages[-1].text
        self.asked.append(text)
        await asyncio.sleep(0)
        said = self.reply(text, sampling.temperature)
        if isinstance(said, Exception):
            raise said
        return Completion(text=said, finish_reason="stop", usage=Usage(num_prompt_tokens=7, num_tokens=2))

    async def complete(self, prompt: str, sampling: Sampling) -> Completion:
        raise AssertionError

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Completion:
        raise AssertionError


def graded(task: BenchmarkTask, replies: Sequence[str]) -> dict[str, float]:
    async def scores() -> list[Any]:
        return await asyncio.gather(*(task.score(i, r) for i, r in zip(task.items(), replies, strict=True)))

    return dict(task.aggregate(asyncio.run(scores())))


def one(name: str, subtask: str, records: Sequence[dict[str, Any]], judge: Judge | None) -> BenchmarkTask:
    task = BenchmarkTask(BENCHMARKS[name], BENCHMARKS[name].subtask(subtask), records)
    task.judge = judge
    return task


def test_verdicts_are_recorded_and_found_again(tmp_path: Path) -> None:
    client = Scripted(lambda text, temperature: "<think>hm</think> 9" if "right" in text else "nine")
    log = tmp_path / "judge" / "m.jsonl"
    judge = Judge(client, "m", log=log)

    async def both() -> None:
        await asyncio.gather(*(judge.ask(p, digit_credit, (0.0, 0.5)) for p in ("right", "wrong", "right")))

    asyncio.run(both())
    assert sorted(client.asked) == ["right", "wrong", "wrong"]  # the same question once, unreadable replies again
    lines = {line["prompt"]: line for line in map(json.loads, log.read_text().splitlines())}
    assert [t["reply"] for t in lines["right"]["tries"]] == ["9"] and lines["right"]["reading"] == 1.0
    assert [t["temperature"] for t in lines["wrong"]["tries"]] == [0.0, 0.5]
    assert lines["wrong"]["status"] == "unreadable"
    with log.open("a") as file:
        file.write('{"key": "cut')
    again = Judge(client, "m", log=log)
    assert again.totals == judge.totals and again.totals.num_prompt_tokens == 21
    assert asyncio.run(again.ask("right", digit_credit, (0.0, 0.5))).reply == "9"
    assert len(client.asked) == 3
    other = Judge(client, "another", log=log)
    assert other.known("right", (0.0, 0.5)) is None
    log.write_text("{}\n")
    with pytest.raises(InputError, match=r"m\.jsonl, line 1: no verdict of a judge"):
        Judge(client, "m", log=log)


def test_what_failed_is_counted_and_asked_again(tmp_path: Path) -> None:
    working: list[bool] = []
    client = Scripted(lambda text, temperature: "B" if working else EndpointError("away", kind="timeout"))
    records = [{**CHOICES, "index": i} for i in range(3)]
    replies = ["B", "the animal howls", ""]
    log = tmp_path / "m.jsonl"
    found = graded(one("microvqa", "test", records, Judge(client, "m", log=log)), replies)
    assert (found["compat"], found["judge.asked"], found["judge.failed"]) == (pytest.approx(100 / 3), 1, 1)
    working.append(True)
    task = one("microvqa", "test", records, Judge(client, "m", log=log))
    found = graded(task, replies)
    assert (found["compat"], found["strict"]) == (pytest.approx(200 / 3), pytest.approx(100 / 3))
    assert (found["judge.asked"], found["judge.failed"], found["judge.unreadable"]) == (1, 0, 0)
    assert task.judge is not None and (task.judge.totals.read, task.judge.totals.failed) == (1, 0)
    assert len(client.asked) == 2 and "the animal howls" in client.asked[0] and "B. grey wolf" in client.asked[0]
    without = graded(one("microvqa", "test", records, None), replies)
    assert without["compat"] == pytest.approx(100 / 3) and "judge.asked" not in without
    refused = Scripted(lambda text, temperature: EndpointRefusedError("no key", status=401))
    with pytest.raises(EndpointRefusedError):
        graded(one("microvqa", "test", records, Judge(refused, "n")), replies)


def test_gpqa_asks_where_the_form_is_missing() -> None:
    record = {"Question": "Why?", "Correct Answer": "heat", **{f"Incorrect Answer {i}": f"w{i}" for i in (1, 2, 3)}}
    client = Scripted(lambda text, temperature: text.partition(". heat")[0][-1])  # the letter before the right text
    replies = ["ANSWER: B and so on", "it is the heat, clearly", "ANSWER: A"]
    found = graded(one("gpqa", "test", [record] * 3, Judge(client, "m")), replies)
    assert found["judge.asked"] == 1 and "Question: Why?" in client.asked[0]
    assert found["compat"] == pytest.approx(100 / 3)


def test_matbench_reads_the_judge_as_upstream_does() -> None:
    client = Scripted(lambda text, temperature: {"x": "-5", "y": "about 1.5e3 MPa", "z": "none"}[text[-10]])
    records = [{"problem": f"p{i}", "answer": 5.0} for i in range(3)]
    found = graded(one("matbench", "matbench_steels", records, Judge(client, "m")), ["x", "y", "z"])
    assert found["compat"] == pytest.approx((0 + 3.5 + 5) / 3)  # |5-5| without the sign, |1.5-5|, and 0 for none
    verdicts = {"yes": "CORRECT", "no": "A", "eh": "Because it disagrees"}
    client = Scripted(lambda text, temperature: verdicts[text.rpartition("Reply: ")[2].split()[0]])
    records = [{"problem": f"p{i}", "answer": False} for i in range(3)]
    task = one("matbench", "matbench_glass", records, Judge(client, "m"))
    found = graded(task, ["yes", "no", "eh"])
    assert (found["compat"], found["judge.unreadable"]) == (pytest.approx(100 / 3), 1)


@pytest.mark.parametrize("reply", ["<think>5 MPa, so it is B", "<think>5 MPa</think>  \n", "5 MPa</think>", " "])
def test_reasoning_without_an_answer_is_silence(reply: str) -> None:
    """Nobody is asked about it, and no rule reads the reasoning where a judge would decide."""
    client = Scripted(lambda text, temperature: "9")
    steel = one("matbench", "matbench_steels", [{"problem": "p", "answer": 7.0}], Judge(client, "m"))
    found = graded(steel, [reply])
    assert (found["compat"], found["compat.n_valid"], found["judge.asked"]) == (7, 0, 0)
    sfe = {"index": 0, "question": "Why?", "question_type": "open_ended", "answer": "heat", "image": PICTURE}
    found = graded(one("sfe", "en", [sfe], Judge(client, "m")), [reply])
    assert (found["compat"], found["strict"], found["judge.asked"]) == (0, 0, 0)
    assert not client.asked


def test_sfe_grades_what_is_open_and_decides_the_rest(tmp_path: Path) -> None:
    rows = [
        {"index": 0, "question": "<image>Which?", "question_type": "mcq", "A": "x", "B": "y", "answer": "B"},
        {"index": 1, "question": "Name <image> it", "question_type": "exact_match", "A": "", "B": "", "answer": "Ge"},
        {"index": 2, "question": "Why?", "question_type": "open_ended", "A": "", "B": "", "answer": "heat"},
    ]
    with (tmp_path / "SFE.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "image"], delimiter="\t")
        writer.writeheader()
        writer.writerows({**row, "image": PICTURE} for row in rows)
    (task,) = load("sfe", tmp_path, subtasks=["en"])
    digits = {"Which": ["9"], "Name": ["7"], "Why": ["six", "6"]}
    client = Scripted(lambda text, temperature: digits[next(w for w in digits if w in text)][int(temperature > 0)])
    task.judge = Judge(client, "m")
    found = graded(task, ["B", "ge.", "because of heat"])
    assert found["compat"] == pytest.approx(100 * (9 + 7 + 6) / 27)
    assert found["strict"] == pytest.approx(100 * (1 + 1 + 6 / 9) / 3)
    kinds = [[part["type"] for part in task.prompt(item).messages[0].content] for item in task.items()]
    assert kinds == [
        ["text", "image", "text", "text"],
        ["text", "text", "image", "text", "text"],
        ["text", "image", "text", "text"],
    ]
    rows[0]["question_type"] = "essay"
    (tmp_path / "SFE.tsv").write_text(
        "\t".join([*rows[0], "image"]) + "\n" + "\t".join(map(str, [*rows[0].values(), PICTURE]))
    )
    with pytest.raises(InputError, match="question_type"):
        load("sfe", tmp_path, subtasks=["en"])


def test_imo_answers_agree_by_mathematics_or_by_judge(tmp_path: Path) -> None:
    pytest.importorskip("math_verify")
    (tmp_path / "answerbench.csv").write_text("Problem,Short Answer\nFind x.,1/2\nFind y.,all primes\nFind z.,3\n")
    (task,) = load("imo-answer-bench", tmp_path)
    client = Scripted(lambda text, temperature: "Because they differ: B" if "primes" not in text else "By all means, A")
    task.judge = Judge(client, "m")
    found = graded(task, ["\\boxed{0.5}", "\\boxed{every prime}", "\\boxed{4}"])
    assert found["compat"] == 0.0  # the first capital B decides, of Because and of By
    assert found["strict"] == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("reply", "upstream", "plain"),
    [("A", "A", "A"), ("(B).", "B", "B"), ("Because: A", "B", "A"), ("no", None, None), ("CORRECT", None, None),
     ("BAD", "B", None), ("", None, None)],
)  # fmt: skip
def test_letters_of_judges(reply: str, upstream: str | None, plain: str | None) -> None:
    assert (first_capital(reply), plain_verdict(reply)) == (upstream, plain)
    assert digit_credit("4") == pytest.approx(4 / 9) and digit_credit("10") is None and digit_credit("score 9") is None
