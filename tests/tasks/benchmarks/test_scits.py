"""SciTS: substrings upstream, words here; verdicts, times, series beside their records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks import scits
from s1pro.tasks.benchmarks.registry import load
from tests.tasks.benchmarks.scoring import numbers


def record(result: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "1", "task_id": ["X"], "input_text": "what?", "input_ts": {"path": "a.csv"}, "gt_result": result, **more,
    }  # fmt: skip


def test_labels_as_substrings() -> None:
    golds = [record({"gt_class": {"default": label}}) for label in ("Normal", "abnormal", "noise", "noise")]
    replies = ["normal", "abnormal", "noise", "it is abnormal"]
    got = numbers("scits", "BIU01", golds, replies)
    assert got["compat.accuracy"] == pytest.approx(75.0)
    # normal: right once, wrong twice; abnormal: right once, wrong once; noise: right once, missing once
    assert got["compat"] == pytest.approx(100 * (2 / 4 + 2 / 3 + 2 / 3) / 3)
    assert got["compat.uar"] == pytest.approx(100 * (1 + 1 + 0.5) / 3)
    assert got["strict.accuracy"] == pytest.approx(75.0)
    assert got["strict"] == pytest.approx(100 * (1 + 2 / 3 + 2 / 3) / 3)


def test_labels_that_were_never_hit_are_left_out_upstream() -> None:
    golds = [record({"gt_class": {"default": label}}) for label in ("cat", "cat", "cat", "dog")]
    got = numbers("scits", "RAU01", golds, ["cat", "cat", "cat", "?"])
    assert (got["compat"], got["compat.accuracy"]) == (100.0, 75.0)
    assert got["strict"] == 50.0


def test_lists_of_labels() -> None:
    golds = [record({"gt_class": {"default": ["MI", "CD"]}}), record({"gt_class": {"default": ["MI"]}})]
    got = numbers("scits", "BIU02", golds, ["CD only", "MI and CD"])
    assert got["compat.accuracy"] == pytest.approx(75.0)
    assert got["strict.accuracy"] == 0.0


def test_keys_have_suffixes() -> None:
    golds = [record({"gt_class": {"kind": "P", "side": "left"}})]
    got = numbers("scits", "PHU01", golds, ["p on the left"])
    assert (got["compat.f1_score_kind"], got["compat.f1_score_side"]) == (100.0, 100.0)


def test_letters_occur_in_any_sentence() -> None:
    golds = [record({"answer": letter}) for letter in "AB"]
    got = numbers("scits", "MEU04", golds, ["The best one is hard to say", "Answer: B"])
    assert got["compat.accuracy"] == 100.0
    assert got["strict.accuracy"] == 50.0


@pytest.mark.parametrize(
    ("dataset", "reply", "upstream", "strict"),
    [
        ("STEAD", "I know it is there", False, None),
        ("STEAD", "yes", True, True),
        ("STEAD", "an event at 12", True, None),
        ("TIMECAP", "no", True, False),
        ("MDD", "depressive", True, True),
        ("MDD", "unsure", None, None),
        ("MIMII Due", "abnormal, an anomaly", False, True),
        ("TS_MQA", "there are no anomalies", False, False),
        ("STEAD", "no</think>yes", True, True),
        ("MDD", "", None, None),
    ],
)
def test_verdicts(dataset: str, reply: str, upstream: bool | None, strict: bool | None) -> None:
    asked = record({"contain": True}, dataset_name=dataset)
    for read, wanted in ((scits.upstream_verdict, upstream), (scits.strict_verdict, strict)):
        found = read(reply, asked)
        assert (None if found is None else found["contain"]) is wanted


def test_detection() -> None:
    golds = [record({"contain": c}, dataset_name="MDD") for c in (True, True, False, True)]
    got = numbers("scits", "NEU01", golds, ["depressive", "?", "healthy", "healthy"])
    assert got["compat"] == pytest.approx(100 * 2 / 3)
    assert got["strict"] == pytest.approx(100 * 2 / 4)
    assert (got["compat.accuracy"], got["compat.success_rate"]) == (50.0, 75.0)


def test_times_of_events() -> None:
    golds = [record({"contain": True, "start_time": 100, "end": 0}), record({"contain": False, "start_time": None})]
    got = numbers("scits", "EAU01_EAG02", golds, ["yes, at 1.2e2 of 5", "yes at 7"])
    # upstream reads 1, 2, 2, 5: the first against 100; the gold of 0 is left out
    assert got["compat.mean_relative_error"] == pytest.approx(99.0)
    assert got["strict.median_relative_error"] == pytest.approx(20.0)


def test_forecasts(tmp_path: Path) -> None:
    (tmp_path / "MEG03").mkdir()
    np.save(tmp_path / "MEG03" / "gold.npy", np.array([1.0, 2.0, 3.0]))
    (tmp_path / "MEG03" / "gold.csv").write_text("10\nX\n30\n")
    lines = [
        '{"id": 1, "task_id": ["MEG03"], "input_text": "q", "input_ts": {"path": "in.csv"}, "gt_result": {}, '
        f'"gt_ts": {{"path": "{name}", "length": 3}}}}'
        for name in ("gold.npy", "gold.csv")
    ]
    (tmp_path / "MEG03" / "meta_data.jsonl").write_text("\n".join(lines))
    (task,) = load("scits", tmp_path, subtasks=["MEG03"])
    part = task.prompt(task.items()[0]).messages[0].content[0]
    assert part == {"type": "time_series", "time_series": str(tmp_path / "MEG03" / "in.csv")}
    scores = [task.grade(item, reply) for item, reply in zip(task.items(), ["[1, 2.5, 3]", "10"], strict=True)]
    got = task.aggregate(scores)
    assert got["compat"] == pytest.approx((0 + 0.5 + 0 + 0 + 10) / 5)
    assert got["strict"] == pytest.approx((0 + 0.5 + 0 + 10 + 10) / 5)
    silent = task.aggregate([task.grade(item, "") for item in task.items()])
    assert silent["compat"] == pytest.approx((1 + 1 + 1 + 10 + 10) / 5)
    (tmp_path / "MEG03" / "gold.csv").write_text("10\nlow\n")
    with pytest.raises(InputError, match=r"meta_data\.jsonl, line 2: gt_ts"):
        load("scits", tmp_path, subtasks=["MEG03"])


def test_synthesis_needs_no_series(tmp_path: Path) -> None:
    """Errors 0 and 1, of golds 2 and 4; the second record has a series before its question."""
    lines = [
        {"id": "1", "task_id": ["ENG01"], "input_text": "make one", "gt_ts": {"values": [2.0, 4.0]}},
        {"id": "2", "task_id": "ENG01", "input_text": "q", "gt_ts": {"values": [1]}, "input_ts": {"path": "in.csv"}},
    ]
    (tmp_path / "ENG01.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (task,) = load("scits", tmp_path, subtasks=["ENG01"])
    assert task.prompt(task.items()[0]).messages[0].content == "make one"
    assert task.prompt(task.items()[1]).messages[0].content[0]["type"] == "time_series"
    found = task.aggregate([task.grade(item, reply) for item, reply in zip(task.items(), ("2, 5", "1"), strict=True)])
    assert found["compat"] == pytest.approx(1 / 3) and found["compat.relative_mae"] == pytest.approx(1 / 12, abs=1e-6)
    (tmp_path / "ENG01.jsonl").write_text(json.dumps({**lines[0], "gt_ts": None}))
    with pytest.raises(InputError, match="line 1: the field 'gt_ts' is None"):
        load("scits", tmp_path, subtasks=["ENG01"])


def test_wrong_golds() -> None:
    with pytest.raises(InputError, match="gt_class"):
        scits.gold_labels(record({}))
    with pytest.raises(InputError, match="contain"):
        scits.gold_event(record({"contain": "perhaps"}))
    with pytest.raises(InputError, match="input_ts"):
        scits.prompt(record({}) | {"input_ts": {}})
