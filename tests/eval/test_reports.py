"""Benchmarks through the runner, reports, pages of answers, the paper's table, and two runs side by side."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from s1pro.base.errors import InputError
from s1pro.base.records import Completion, Message, Sampling
from s1pro.cli import main
from s1pro.eval import compare, error_browser, report
from s1pro.eval.answers import Answer, AnswerFile
from s1pro.eval.paper_table import PUBLISHED_COLUMN, ROWS, as_markdown
from s1pro.eval.results import totals
from s1pro.eval.runner import run
from s1pro.eval.statistics import holm, paired_p
from s1pro.tasks.benchmarks.metrics import accuracy, equality
from s1pro.tasks.benchmarks.registry import BENCHMARKS
from s1pro.tasks.benchmarks.spec import Benchmark, BenchmarkTask, Profile, Subtask, user_prompt
from s1pro.tasks.draws import all_at, pass_at
from s1pro.tasks.own import OwnTask
from tests.fake_endpoint import FakeEndpoint, chat_answer


class Scripted:
    """Answers what `say` makes of the last message."""

    def __init__(self, say: Any) -> None:
        self.say = say

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        answer = self.say(messages[-1].text)
        if isinstance(answer, Exception):
            raise answer
        return Completion(text=answer, finish_reason="stop", token_ids=(1,) * 3)

    async def complete(self, prompt: str, sampling: Sampling) -> Completion:
        raise AssertionError

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Completion:
        raise AssertionError


def upstream(response: str, record: Mapping[str, Any]) -> Any:
    """A scorer with a defect: it keeps reasoning."""
    found = re.search(r"yes|no", response.lower())
    return found[0] if found else None


def right(response: str, record: Mapping[str, Any]) -> Any:
    return upstream(response.rpartition("</think>")[2], record)


def part(name: str) -> Subtask:
    return Subtask(
        name=name,
        files=(f"{name}.jsonl",),
        fields={"q": str, "a": str},
        prompt=lambda record: user_prompt(record["q"]),
        gold=lambda record: record["a"],
        compat=Profile(extract=upstream, metric=accuracy(), value=equality),
        strict=Profile(extract=right, metric=accuracy(), value=equality),
        defects=("keeps <reasoning> & all",),
    )


TOY = Benchmark(
    name="smolinstruct",
    title="SmolInstruct",
    subtasks=(part("one"), part("two")),
    aggregate={name: lambda scores: sum(scores.values()) / len(scores) for name in ("compat", "strict")},
    source="nowhere",
    licence="none",
    published=74.8,
)
RECORDS = [{"q": f"question {i}", "a": "yes" if i % 2 else "no"} for i in range(20)]


def tasks(*names: str) -> list[BenchmarkTask]:
    return [BenchmarkTask(TOY, TOY.subtask(name), RECORDS) for name in names]


def say(text: str) -> Any:
    number = int(text.split()[-1])
    if number == 3:
        return ValueError("the prompt is too long")
    if number == 4:
        return "perhaps"
    return f"<think>no?</think>{'yes' if number % 2 else 'no'}"


def test_both_profiles_both_denominators_and_the_paper_table(tmp_path: Path) -> None:
    both = tasks("one", "two")
    results = run(both, Scripted(say), tmp_path)
    first = results[0]
    # compat reads the reasoning: only the ten "no" are right, less the unreadable one
    assert (first.metrics["compat"], first.metrics["strict"]) == (45.0, 90.0)
    assert (first.metrics["compat.n_valid"], first.metrics["n_total"]) == (18, 20)
    assert (first.metrics["compat.of_valid"], first.metrics["strict.of_valid"]) == (50.0, 100.0)
    assert (first.num_failed, first.num_valid, first.score.value) == (1, 18, 0.9)
    strict = first.profiles["strict"]
    assert strict.value == 90.0 and strict.low is not None and strict.high is not None
    assert 70 <= strict.low < 90 < strict.high <= 100
    [total] = totals(both, results)
    assert total.profiles == {"compat": 45.0, "strict": 90.0}
    page = report.write_run(tmp_path, results, both).read_text(encoding="utf-8")
    assert PUBLISHED_COLUMN in page and "74.8" in page
    assert "keeps &lt;reasoning&gt; &amp; all" in page
    rows = {row["benchmark"]: row for row in csv.DictReader((tmp_path / "paper.csv").open(encoding="utf-8"))}
    assert len(rows) == len(ROWS)
    ours = rows["SmolInstruct"]
    assert (ours["compat"], ours["strict"], ours[PUBLISHED_COLUMN]) == ("45.0", "90.0", "74.8")
    assert rows["SArena (Icon)"]["remark"] == "not computable"
    assert (rows["MatBench"]["compat"], rows["MatBench"][PUBLISHED_COLUMN]) == ("", "72.8")
    assert "| science | SmolInstruct | 45.00 | 90.00 | 74.80 |" in (tmp_path / "paper.md").read_text(encoding="utf-8")
    answers = AnswerFile(tmp_path / "answers" / "smolinstruct" / "one.jsonl").answers
    assert answers["3"].error == "ValueError: the prompt is too long"
    assert answers["1"].extraction == {"gold": "yes", "record": 1, "compat": "no", "strict": "yes"}


def test_parts_of_a_benchmark_have_no_total(tmp_path: Path) -> None:
    one = tasks("one")
    [total] = totals(one, run(one, Scripted(say), tmp_path))
    assert (total.profiles, total.num_subtasks, total.of_subtasks) == ({}, 1, 2)
    report.write_run(tmp_path, run(one, Scripted(say), tmp_path), one)
    assert "only 1 of 2 parts evaluated" in (tmp_path / "paper.md").read_text(encoding="utf-8")


def test_the_error_browser_shows_wrong_answers_first_and_has_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_browser, "PER_PAGE", 5)
    monkeypatch.setattr(error_browser, "MOST_PAGES", 2)
    one = tasks("one")
    report.write_run(tmp_path, run(one, Scripted(say), tmp_path), one)
    pages = sorted(path.name for path in (tmp_path / "errors").iterdir())
    assert pages == ["01-smolinstruct-one-1.html", "01-smolinstruct-one-2.html"]
    first = (tmp_path / "errors" / pages[0]).read_text(encoding="utf-8")
    assert first.index("FAILED: ValueError: the prompt is too long") < first.index("perhaps")
    assert first.index("perhaps") < first.index("✓ right")
    assert first.count('<article class="card') == 5
    assert "&lt;think&gt;no?&lt;/think&gt;" in first and "<think>" not in first
    assert "compat: no · strict: yes" in first or "compat: no · strict: no" in first
    assert "10 better answers are in the JSONL file" in (tmp_path / "errors" / pages[1]).read_text(encoding="utf-8")
    assert 'href="errors/01-smolinstruct-one-2.html"' in (tmp_path / "report.html").read_text(encoding="utf-8")


def an_answer(**changes: Any) -> Answer:
    fields: dict[str, Any] = {
        "id": "1", "prompt": [{"role": "user", "content": "What?"}], "response": "x", "score": 0.0, "valid": True,
        "extraction": None, "parts": {}, "finish_reason": "stop", "num_tokens": 1,
    }  # fmt: skip
    return Answer(**{**fields, **changes})


def test_media_become_thumbnails_and_what_is_gone_does_not_hurt(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 900), (10, 200, 30)).save(tmp_path / "large.png")
    np.save(tmp_path / "curve.npy", np.sin(np.arange(50.0)))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG, but not really")

    def shown(kind: str, source: str) -> str:
        part = {"type": kind, kind: source}
        prompt = [{"role": "user", "content": [part, {"type": "text", "text": "What is this?"}]}]
        made = error_browser.card("t", an_answer(prompt=prompt))
        assert made.question == f"[{kind}] What is this?"
        return made.picture_svg

    picture = shown("image", str(tmp_path / "large.png"))
    assert "<image" in picture and len(picture) < 20_000
    assert "<polyline" in shown("time_series", str(tmp_path / "curve.npy"))
    for gone in (
        tmp_path / "none.png",
        tmp_path / "broken.png",
        "https://example.org/a.png",
        "data:image/png;base64,%%",
    ):
        assert shown("image", str(gone)) == ""


def test_long_texts_are_cut_in_the_middle() -> None:
    made = error_browser.card("t", an_answer(response="a" * 5000 + "b" * 5000, finish_reason="length"))
    assert made.answer.startswith("aaa") and made.answer.endswith("bbb") and len(made.answer) < 3100
    assert "7,000 characters" in made.answer and "cut off" in made.note


def doubles(folder: Path, model: Any, *, count: int = 40, wording: str = "Double") -> Path:
    file = folder.with_suffix(".jsonl")
    records = [{"id": str(i), "question": f"{wording} {i}", "answer": 2 * i} for i in range(count)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    run([OwnTask(file, "number", name="doubles")], Scripted(model), folder)
    return folder


def skilled(below: int) -> Any:
    return lambda text: str(2 * int(text.split()[-1]) + (int(text.split()[-1]) >= below) * 1000)


def test_two_runs_are_compared_item_by_item(tmp_path: Path) -> None:
    good, bad = doubles(tmp_path / "good", skilled(30)), doubles(tmp_path / "bad", skilled(20))
    [found] = compare.compare(good, bad)
    assert (found.first, found.second, found.num_items) == (0.75, 0.5, 40)
    assert (found.difference.wins, found.difference.losses, found.difference.ties) == (10, 0, 30)
    assert found.p == pytest.approx(2 / 2**10) and found.p_holm == found.p
    assert found.difference.significant
    [back] = compare.compare(bad, good)
    assert back.difference.mean.value == -0.25 and back.p == found.p
    page = report.write_comparison(tmp_path / "c" / "compare.html", good, bad, [found]).read_text(encoding="utf-8")
    assert "10 / 30 / 0" in page
    fewer = doubles(tmp_path / "fewer", skilled(30), count=30)
    [part] = compare.compare(good, fewer)
    assert (part.num_items, part.left_out, part.p) == (30, 10, 1.0)


def test_benchmarks_are_compared_under_both_profiles(tmp_path: Path) -> None:
    run(tasks("one"), Scripted(say), tmp_path / "a")
    run(tasks("one"), Scripted(lambda text: say(text).rpartition(">")[2] if "3" not in text else "yes"), tmp_path / "b")
    found = {one.profile: one for one in compare.compare(tmp_path / "a", tmp_path / "b")}
    assert found["compat"].first == 0.45 and found["compat"].second == 0.95
    assert found["strict"].first == 0.9 and found["strict"].second == 0.95
    assert found["compat"].p_holm == pytest.approx(2 * found["compat"].p)


def test_runs_that_were_asked_other_things_are_not_compared(tmp_path: Path) -> None:
    first = doubles(tmp_path / "first", skilled(9))
    other = doubles(tmp_path / "other", skilled(9), wording="Twice")
    with pytest.raises(InputError, match="another prompt in each run"):
        compare.compare(first, other)
    with pytest.raises(InputError, match="is no evaluation"):
        compare.compare(first, tmp_path)


def test_paired_tests() -> None:
    assert paired_p([1, 1, 0], [1, 1, 0]) == 1.0
    assert paired_p([1] * 5 + [0], [0] * 5 + [1]) == pytest.approx(2 * (1 + 6) / 64)
    random = np.random.default_rng(1)
    noise = random.normal(size=80)
    assert paired_p(list(noise + 0.6), [0.0] * 80) < 0.001
    assert paired_p(list(noise - noise.mean() + 0.01), [0.0] * 80) > 0.5
    assert holm([0.01, 0.5, 0.03]) == pytest.approx([0.03, 0.5, 0.06])


@pytest.mark.parametrize(
    ("draws", "right", "k", "some", "every"), [(4, 2, 2, 5 / 6, 1 / 6), (3, 0, 1, 0, 0), (3, 3, 3, 1, 1)]
)
def test_draws(draws: int, right: int, k: int, some: float, every: float) -> None:
    assert (pass_at(draws, right, k), all_at(draws, right, k)) == (pytest.approx(some), pytest.approx(every))


def test_every_row_of_the_paper_is_a_benchmark_here_with_its_published_score() -> None:
    for _, name, title, published in ROWS:
        assert title.endswith("(zh)") or BENCHMARKS[name].published == published, title


def test_markdown_cells_cannot_break_the_table() -> None:
    assert as_markdown([["a|b", None, 1.5]], ("x", "y", "z")).splitlines()[-1] == "| a\\|b |  | 1.50 |"


SMOL = {"input": "Formula of ethanol?", "output": "<MOLFORMULA> C2H6O </MOLFORMULA>", "raw_input": "ethanol",
        "raw_output": "C2H6O", "task": "name_conversion-i2f", "sample_id": "1"}  # fmt: skip


def test_a_benchmark_from_its_files_by_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rdkit")
    name = "smolinstruct/i2f"
    subtask = BENCHMARKS["smolinstruct"].subtask("i2f")
    path = tmp_path / "data" / next(name for name in subtask.files if "*" not in name and name.endswith(".jsonl"))
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(SMOL) + "\n", encoding="utf-8")
    with FakeEndpoint(lambda *_: chat_answer("<MOLFORMULA> C2H6O </MOLFORMULA>")) as server:
        arguments = ["eval", "--url", server.url, "--model", "m", "--benchmark", name, "--data", str(tmp_path / "data")]
        assert main([*arguments, "--output", str(tmp_path / "run"), "--json"]) == 0
    [result] = json.loads(capsys.readouterr().out)
    assert (result["task"], result["metrics"]["compat"], result["metrics"]["strict"]) == (name, 100.0, 100.0)
    assert (tmp_path / "run" / "paper.csv").is_file()
    assert main([*arguments[:-3], "smolinstruct/none", "--data", str(tmp_path)]) == 2
    assert "has no subtask 'none'" in capsys.readouterr().err
