"""Records in the schemas of upstream (hand-made: licences forbid shipping), and errors with file, line and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.reading import located_records, read_records
from s1pro.tasks.benchmarks.registry import BENCHMARKS, benchmark_named, load
from s1pro.tasks.task import Score

GPQA_LINE = "Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\n"
OK: dict[str, tuple[str, str, Any]] = {
    "smolinstruct": (
        "bbbp",
        "test.jsonl",
        [
            {"input": "q", "output": "<BOOLEAN> Yes </BOOLEAN>", "raw_input": "C", "raw_output": "Yes", "target": None,
             "task": "property_prediction-bbbp", "sample_id": "bbbp.0"},
            {"input": "q", "output": "<SMILES> C </SMILES>", "task": "forward_synthesis", "sample_id": "fs.0"},
        ],
    ),
    "mol-instructions": (
        "retrosynthesis",
        "retrosynthesis.jsonl",
        [{"id_ddm": "1", "dialogs": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "[C]"}]}],
    ),
    "biology-instructions": (
        "DNA-cpd",
        "DNA-cpd.jsonl",
        [{"prompt": "q", "ground_truth": "positive", "meta_data": {"ans_type": "cls", "task": "t"}}],
    ),
    "matbench": (
        "matbench_glass", "matbench_base_fold_0_matbench_glass_test.json", [{"problem": "q", "answer": False}],
    ),
    "scits": (
        "BIU01",
        "BIU01/meta_data.jsonl",
        [{"id": "a", "task_id": ["BIU01"], "data_type": "x", "input_text": "q", "input_ts": {"path": "a.csv"},
          "gt_text": "t", "gt_result": {"gt_class": {"default": "MI"}}, "meta_data": {}}],
    ),
    "scireasoner": ("PEER/stability", "PEER/stability/test/data.json", [{"input": "q", "output": "Yes"}]),
    "ifeval": (
        "test",
        "ifeval.jsonl",
        [{"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [None]}],
    ),
    "gaia": ("test", "metadata.jsonl", [{"task_id": "1", "Question": "q", "Final answer": "3", "file_name": ""}]),
    "aime-2025": ("test", "aime2025-I.jsonl", [{"question": "q", "answer": "42"}]),
    "xlrs-bench": (
        "lite",
        "XLRS-Bench-lite_part0.jsonl",
        [{"question": "q", "multi-choice options": "(A) x", "answer": "AB", "category": "c", "l2-category": "d",
          "image": "/9j/" + "A" * 80}],
    ),
}  # fmt: skip


def write(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records) if path.suffix == ".json" else "\n".join(map(json.dumps, records)))


@pytest.mark.parametrize("name", OK)
def test_records_of_upstream(name: str, tmp_path: Path) -> None:
    subtask, file, records = OK[name]
    write(tmp_path / file, records)
    (task,) = load(name, tmp_path, subtasks=[subtask])
    assert (task.name, len(task.items())) == (f"{name}/{subtask}", 1)
    assert task.prompt(task.items()[0]).messages
    gold = task.subtask.gold(task.record(task.items()[0]))
    assert gold is not None


@pytest.mark.parametrize("name", OK)
def test_a_missing_field_is_named(name: str, tmp_path: Path) -> None:
    subtask, file, records = OK[name]
    for field in BENCHMARKS[name].subtask(subtask).fields:
        broken = [{k: v for k, v in records[0].items() if k != field}]
        write(tmp_path / file, broken)
        with pytest.raises(InputError, match=rf"{Path(file).name}, (line|record) 1: the field '{field}' is missing"):
            load(name, tmp_path, subtasks=[subtask])


@pytest.mark.parametrize("name", OK)
def test_a_wrong_type_is_named(name: str, tmp_path: Path) -> None:
    subtask, file, records = OK[name]
    field = next(iter(BENCHMARKS[name].subtask(subtask).fields))
    write(tmp_path / file, [records[0], {**records[0], field: {"a": 1.5}}])
    with pytest.raises(InputError, match=rf"{Path(file).name}, (line|record) 2: the field '{field}' is .*expected"):
        load(name, tmp_path, subtasks=[subtask])


def test_gpqa_from_csv(tmp_path: Path) -> None:
    (tmp_path / "gpqa_diamond.csv").write_text(GPQA_LINE + 'q1,"a, b",c,d,e\nq2,a,b,c,d\n')
    (task,) = load("gpqa", tmp_path)
    assert [task.subtask.gold(task.record(item)) for item in task.items()] == ["D", "C"]
    (tmp_path / "gpqa_diamond.csv").write_text(GPQA_LINE + "q1,a,b\n")
    with pytest.raises(InputError, match=r"line 2: not as many cells"):
        load("gpqa", tmp_path)


def test_mmlu_pro_from_parquet(tmp_path: Path) -> None:
    rows = [{"question": "q", "options": ["a", "b"], "answer": "B", "category": "law"}] * 3
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test-00000.parquet")
    (task,) = load("mmlu-pro", tmp_path, 2)
    assert len(task.items()) == 2
    pq.write_table(pa.Table.from_pylist([*rows, {**rows[0], "answer": "C"}]), tmp_path / "test-00000.parquet")
    with pytest.raises(InputError, match=r"test-00000\.parquet, row 4: the field 'answer' is 'C'"):
        load("mmlu-pro", tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"x": 1}\n{"x": \n', r"a\.jsonl, line 2: not JSON"),
        ("a.jsonl", "[1]\n", "line 1: expected an object"),
        ("a.jsonl", "\n\n", "no records"),
        ("a.json", '{"x": 1}', "expected a list"),
        ("a.json", "[", "not JSON"),
        ("a.csv", "x\nhigh\n", "line 2, field 'x': 'high' is no"),
        ("a.tsv", "x\ty\n1\n", "line 2: not as many cells"),
        ("a.parquet", "no", "not a Parquet file"),
        ("a.txt", "x", "unknown ending"),
        ("a.jsonl", '{"x": true}\n', "line 1: the field 'x' is True, expected"),
        ("a.jsonl", b"\xff\n", "not UTF-8"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_records(path, {"x": (int, float)})


def test_cells_become_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("n\tbox\tflag\ttext\n3\t[1, 2]\tTrue\t7\n")
    ((where, record),) = located_records(tmp_path / "a.tsv", {"n": int, "box": list, "flag": bool, "text": str})
    assert (where, record) == ("line 2", {"n": 3, "box": [1, 2], "flag": True, "text": "7"})


def test_data_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected GPQA|no data for gpqa/test; expected gpqa_diamond\.csv"):
        load("gpqa", tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        load("gpqa", tmp_path / "nowhere")
    with pytest.raises(InputError, match="there is no benchmark 'gqpa'; there are smolinstruct"):
        benchmark_named("gqpa")
    with pytest.raises(InputError, match="no subtask"):
        load("gpqa", tmp_path, subtasks=["train"])
    write(tmp_path / "test.jsonl", OK["smolinstruct"][2])
    with pytest.raises(InputError, match="no record belongs to the subtask 'hiv'"):
        load("smolinstruct", tmp_path, subtasks=["hiv"])


@pytest.mark.parametrize("name", [name for name, benchmark in BENCHMARKS.items() if not benchmark.subtasks])
def test_what_cannot_be_scored_says_why(name: str, tmp_path: Path) -> None:
    benchmark = BENCHMARKS[name]
    assert benchmark.status != "computable"
    assert benchmark.notes
    with pytest.raises(InputError, match=benchmark.status):
        load(name, tmp_path)


def test_all_parts_are_read_in_order(tmp_path: Path) -> None:
    record = OK["xlrs-bench"][2][0]
    for part in (0, 2, 10):
        write(tmp_path / f"XLRS-Bench-lite_part{part}.jsonl", [{**record, "question": str(part)}])
    (task,) = load("xlrs-bench", tmp_path)
    assert [task.record(item)["question"] for item in task.items()] == ["0", "2", "10"]


def test_every_benchmark_is_whole() -> None:
    for name, benchmark in BENCHMARKS.items():
        assert benchmark.name == name
        names = [subtask.name for subtask in benchmark.subtasks]
        assert len(set(names)) == len(names)
        if names:
            for profile in ("compat", "strict"):
                assert isinstance(benchmark.aggregate[profile](dict.fromkeys(names, 1.0)), float)
            assert benchmark.source
            assert benchmark.licence


def test_scores_survive_json(tmp_path: Path) -> None:
    """A run that goes on reads its scores from a file."""
    for name, (subtask, file, records) in OK.items():
        folder = tmp_path / name
        write(folder / file, records)
        (task,) = load(name, folder, subtasks=[subtask])
        replies = ["Yes", "<SELFIES>[C]</SELFIES>", "3", "\\boxed{42}", ""]
        scores = [task.grade(task.items()[0], reply) for reply in replies]
        again = [
            Score(value=s.value, extraction=json.loads(json.dumps(s.extraction)), valid=s.valid, parts=s.parts)
            for s in scores
        ]
        assert task.aggregate(again) == task.aggregate(scores)
        assert all(0 <= s.value <= 1 for s in scores)
