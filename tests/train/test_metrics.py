"""metrics.jsonl, TensorBoard, forgetting on resume; router statistics; FLOPs."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from s1pro.base.errors import MissingExtraError
from s1pro.data.batch import Segment, collate
from s1pro.data.sequence import TokenSequence
from s1pro.model.presets import tiny
from s1pro.model.router import RouterOutput
from s1pro.model.sizes import forward_flops_per_token
from s1pro.train.metrics import MetricsWriter, read_metrics
from s1pro.train.router_statistics import RouterStatistics
from s1pro.train.throughput import measure_peak_flops, training_flops


def test_records_are_json_lines_and_non_finite_numbers_become_null(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path, tensorboard=False)
    writer.write("train", 1, {"loss": float("nan"), "source_loss": {"a": 1.5}})
    writer.write("validation", 1, {"loss": 2.0})
    writer.close()
    assert read_metrics(tmp_path) == [
        {"kind": "train", "step": 1, "loss": None, "source_loss": {"a": 1.5}},
        {"kind": "validation", "step": 1, "loss": 2.0},
    ]
    assert read_metrics(tmp_path, "validation") == [{"kind": "validation", "step": 1, "loss": 2.0}]
    assert read_metrics(tmp_path / "elsewhere") == []


def test_half_a_surrogate_pair_is_written_as_its_escape(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path, tensorboard=False)
    writer.write("rollout", 1, {"text": "a\ud800b"})
    writer.close()
    (record,) = read_metrics(tmp_path)
    assert record["text"] == "a\ud800b"


def test_forget_after_drops_later_steps_and_a_cut_line(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path, tensorboard=False)
    for step in range(1, 5):
        writer.write("train", step, {"loss": float(step)})
    writer.close()
    with writer.path.open("a") as file:
        file.write('{"kind": "train", "st')
    writer = MetricsWriter(tmp_path, tensorboard=False)
    writer.forget_after(2)
    writer.write("train", 3, {"loss": 30.0})
    writer.close()
    assert [(r["step"], r["loss"]) for r in read_metrics(tmp_path)] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_tensorboard_is_optional_unless_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    MetricsWriter(tmp_path).close()
    with pytest.raises(MissingExtraError, match=r"s1pro\[tensorboard\]"):
        MetricsWriter(tmp_path, tensorboard=True)


def test_tensorboard_receives_the_scalars(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    writer = MetricsWriter(tmp_path, tensorboard=True)
    writer.write("train", 3, {"loss": 2.5, "source_loss": {"a": 1.5}, "load": [1, 2]})
    writer.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "train/source_loss/a"}
    assert (events.Scalars("train/loss")[0].step, events.Scalars("train/loss")[0].value) == (3, 2.5)


def router(ids: list[list[int]], num_experts: int = 4) -> RouterOutput:
    ids_TK = torch.tensor(ids)
    return RouterOutput(ids_TK, torch.ones(ids_TK.shape) / 2, torch.zeros(len(ids), num_experts))


def test_router_statistics_count_real_rows_over_micro_batches() -> None:
    statistics = RouterStatistics(num_groups=2)
    uniform, skewed = [[0, 2], [1, 3]], [[0, 2], [0, 2]]
    statistics.add([router(uniform + [[1, 3]] * 3), router(skewed + [[1, 3]] * 3)], num_real_rows=2)
    statistics.add([router(uniform), router(skewed)], num_real_rows=2)
    report = json.loads(json.dumps(statistics.report()))
    assert report["0"] == {
        "entropy": 1.0,
        "max_violation": 0.0,
        "unused": 0,
        "confidence": 0.25,
        "group_load": [0.5, 0.5],
        "load": [0.25] * 4,
    }
    assert report["1"]["load"] == [0.5, 0, 0.5, 0] and report["1"]["unused"] == 2
    assert report["1"]["max_violation"] == 1.0
    assert report["1"]["entropy"] == pytest.approx(math.log(2) / math.log(4), abs=1e-6)
    assert RouterStatistics(2).report() == {}


def test_training_flops_follow_the_real_sequences() -> None:
    config = tiny(vocab_size=16)

    def batch(*lengths: int, num_rows: int) -> float:
        made = [
            Segment(
                sequence=TokenSequence(
                    token_ids=np.zeros(n + 1, dtype=np.int32),
                    loss_weights=np.ones(n + 1, dtype=np.float32),
                    prompt_group="science",
                ),
                source=0,
            )
            for n in lengths
        ]
        return training_flops(config, collate(made, num_rows=num_rows, source_names=["a"]))

    assert batch(9, num_rows=9) == batch(9, num_rows=64) == pytest.approx(3 * 9 * forward_flops_per_token(config, 5.0))
    assert batch(9, 3, num_rows=12) == pytest.approx(batch(9, num_rows=9) + batch(3, num_rows=3))
    assert batch(num_rows=4) == 0.0
    assert 1e8 < measure_peak_flops(torch.device("cpu"), torch.float32, size=128) < 1e13
