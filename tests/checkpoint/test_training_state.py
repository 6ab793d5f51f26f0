"""Training state: bit for bit, complete or not at all, only the newest steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.checkpoint.training_state import COUNTERS, TENSORS, latest_state, load_state, save_state


def state() -> dict[str, Any]:
    """Everything an optimizer may hold: dtypes, scalars, NaN with a payload, views, lists, numbers and None."""
    generator = torch.Generator().manual_seed(1)
    wide = torch.randn(6, 4, generator=generator)
    return {
        "model": {"a.weight": wide.clone(), "a.bias": torch.tensor([0.0, -0.0, 1e-42, float("inf"), float("nan")])},
        "optimizer": {
            "state": {0: {"exp_avg": wide.bfloat16(), "step": torch.tensor(7.0)}, 1: {"exp_avg": wide.t()}},
            "param_groups": [{"lr": 0.1, "betas": (0.9, 0.95), "foreach": None, "fused": True, "params": [0, 1]}],
        },
        "generator": generator.get_state(),
        "counts": [torch.arange(5), torch.tensor([True, False]), torch.zeros(0, 3), torch.tensor(3, dtype=torch.int64)],
        "odd nan": torch.tensor([0x7FC12345, -1], dtype=torch.int32).view(torch.float32),
    }


def blank(like: Any) -> Any:
    """The same nesting with zeros."""
    if isinstance(like, Tensor):
        return torch.zeros_like(like)
    if isinstance(like, dict):
        return {key: blank(value) for key, value in like.items()}
    if isinstance(like, list):
        return [blank(value) for value in like]
    return like


def tensors_of(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [tensor for item in items for tensor in tensors_of(item)]


def same_bits(a: Any, b: Any) -> bool:
    pairs = zip(tensors_of(a), tensors_of(b), strict=True)
    return all(x.dtype == y.dtype and x.shape == y.shape and bits(x) == bits(y) for x, y in pairs)


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def test_the_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    before, counters = state(), {"step": 3, "tokens": 10**15, "seen": [1, 2], "note": "µ", "loss": 0.1 + 0.2}
    folder = save_state(tmp_path, 3, before, counters)
    assert folder == tmp_path / "step-00000003" and same_bits(before, state())
    after = blank(before)
    assert not same_bits(before, after)
    assert load_state(folder, after) == counters
    assert same_bits(before, after)


def test_a_real_optimizer_continues_exactly(tmp_path: Path) -> None:
    def train(model: torch.nn.Linear, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            x = torch.randn(3, 4, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()

    def fresh(seed: int) -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = torch.nn.Linear(4, 2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        train(model, optimizer, range(1))  # creates the moments
        return model, optimizer

    model, optimizer = fresh(0)
    train(model, optimizer, range(1, 4))
    save_state(tmp_path, 4, {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, {})
    train(model, optimizer, range(4, 8))
    again, its_optimizer = fresh(1)
    load_state(tmp_path / "step-00000004", {"model": again.state_dict(), "optimizer": its_optimizer.state_dict()})
    train(again, its_optimizer, range(4, 8))
    assert same_bits(dict(model.state_dict()), dict(again.state_dict()))


def test_tensors_that_share_memory(tmp_path: Path) -> None:
    flat = torch.arange(8.0)
    before = {"first": flat[:4], "rest": flat[4:], "all": flat, "again": flat, "turned": flat.view(2, 4).t()}
    folder = save_state(tmp_path, 1, before, {})
    after = {name: torch.zeros(tensor.shape) for name, tensor in before.items()}
    load_state(folder, after)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_two_tensors_under_one_path_are_refused(tmp_path: Path) -> None:
    for twice in ({"a/b": torch.zeros(1), "a": {"b": torch.ones(1)}}, {0: torch.zeros(1), "0": torch.ones(1)}):
        with pytest.raises(InputError, match="two entries"):
            save_state(tmp_path, 1, twice, {})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["model"].pop("a.bias"), r"does not fit this run .*unexpected \['model/a\.bias'\]"),
        (lambda s: s["model"].update(extra=torch.zeros(1)), r"missing \['model/extra'\]"),
        (lambda s: s["model"].update({"a.bias": torch.zeros(4)}), r"model/a\.bias is torch\.float32 \(5,\), this run"),
        (lambda s: s["model"].update({"a.bias": torch.zeros(5, dtype=torch.float64)}), r"needs torch\.float64 \(5,\)"),
        (lambda s: s["optimizer"]["param_groups"][0].update(lr=0.2), "belongs to another optimizer"),
        (lambda s: s["optimizer"]["param_groups"].append({"lr": 1}), "belongs to another optimizer"),
    ],
)
def test_a_state_that_does_not_fit(tmp_path: Path, change: Any, message: str) -> None:
    folder = save_state(tmp_path, 3, state(), {})
    target = blank(state())
    change(target)
    with pytest.raises(InputError, match=message) as caught:
        load_state(folder, target)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_truncated_tensors(tmp_path: Path, size: int) -> None:
    folder = save_state(tmp_path, 3, state(), {})
    (folder / TENSORS).write_bytes((folder / TENSORS).read_bytes()[:size])
    with pytest.raises(InputError, match="damaged or missing") as caught:
        load_state(folder, blank(state()))
    assert str(folder / TENSORS) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"counters": {}}', "\xff", "[" * 10**5])
def test_damaged_counters(tmp_path: Path, text: str) -> None:
    folder = save_state(tmp_path, 3, state(), {})
    (folder / COUNTERS).write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="delete this step folder") as caught:
        load_state(folder, blank(state()))
    assert str(folder / COUNTERS) in str(caught.value)


def test_missing_files(tmp_path: Path) -> None:
    for name in (TENSORS, COUNTERS):
        folder = save_state(tmp_path, 3, state(), {})
        (folder / name).unlink()
        with pytest.raises(InputError, match="damaged or missing"):
            load_state(folder, blank(state()))
        assert latest_state(tmp_path) is None  # and the next save of this step writes it again
    assert latest_state(save_state(tmp_path, 3, state(), {}).parent) == tmp_path / "step-00000003"


def test_only_the_newest_steps_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10, 9, 100):
        save_state(tmp_path, step, {"x": torch.tensor(float(step))}, {"step": step}, keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000009", "step-00000010", "step-00000100"]
    newest = latest_state(tmp_path)
    assert newest is not None and load_state(newest, {"x": torch.zeros(())}) == {"step": 100}
    save_state(tmp_path, 101, {"x": torch.tensor(1.0)}, {}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000101"]


def test_a_step_that_is_there_is_left_alone(tmp_path: Path) -> None:
    save_state(tmp_path, 5, {"x": torch.tensor(1.0)}, {"who": "first"})
    folder = save_state(tmp_path, 5, {"x": torch.tensor(2.0)}, {"who": "second"})
    x = torch.zeros(())
    assert load_state(folder, {"x": x}) == {"who": "first"} and float(x) == 1.0


def test_incomplete_folders_are_ignored(tmp_path: Path) -> None:
    assert latest_state(tmp_path / "nowhere") is None and latest_state(tmp_path) is None
    complete = save_state(tmp_path, 5, {"x": torch.tensor(1.0)}, {})
    for name in ("step-00000006", ".step-00000007.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / COUNTERS).write_text("{}")
    assert latest_state(tmp_path) == complete
    save_state(tmp_path, 6, {"x": torch.tensor(1.0)}, {})  # the incomplete one is replaced
    assert latest_state(tmp_path) == tmp_path / "step-00000006"


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from s1pro.checkpoint import training_state
original = training_state.save_file
def half(tensors, path):
    original(tensors, path)
    os.truncate(path, path.stat().st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)
training_state.save_file = half
training_state.save_state(Path(sys.argv[1]), 6, {"x": torch.ones(1000)}, {}, keep=1)
"""


def test_a_killed_writer_leaves_the_older_step(tmp_path: Path) -> None:
    save_state(tmp_path, 5, {"x": torch.zeros(1000)}, {"step": 5})
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=250, env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    assert latest_state(tmp_path) == tmp_path / "step-00000005"
    assert json.loads((tmp_path / "step-00000005" / COUNTERS).read_text())["counters"] == {"step": 5}
    x = torch.zeros(1000)
    load_state(save_state(tmp_path, 6, {"x": torch.ones(1000)}, {}, keep=1), {"x": x})
    assert bool((x == 1).all()) and [path.name for path in tmp_path.iterdir()] == ["step-00000006"]
