"""Checkpoints of many ranks: read by any other number, complete or not there, the same state bit for bit."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.base.region import Region
from s1pro.checkpoint import state_parts
from s1pro.checkpoint.state_parts import COUNTERS, StoredState, is_complete
from s1pro.checkpoint.training_state import flatten, latest_state
from s1pro.parallel.config import ParallelConfig
from s1pro.parallel.mesh import Ranks, join
from s1pro.train import checkpoints as checkpoints_module
from s1pro.train.config import TrainRun
from s1pro.train.loop import Trainer
from s1pro.train.metrics import read_metrics
from s1pro.train.optim import OptimizerConfig
from tests.parallel.ranks import run_ranks
from tests.parallel.runs import Parts, assembled, small_run, small_trainer

LAYOUTS = {
    1: ParallelConfig(),
    2: ParallelConfig(dp_shard=1, dp_replicate=2, ep=2),
    4: ParallelConfig(ep=2, dispatch="all_to_all"),
}


def state_of(trainer: Trainer[Any, Any]) -> Parts:
    """Every tensor of the training state that this rank holds, and where it belongs."""
    flat, _ = flatten(trainer.checkpoints._tensors())
    copies = {name: tensor.clone() for name, tensor in flat.items()}
    return Parts(copies, trainer.checkpoints._regions(flat))


def run_to(rank: int, run: TrainRun) -> tuple[Parts, int]:
    """Trains to the end of `run` (or does nothing if its folder is there already) and returns the state."""
    trainer = small_trainer(run, join(run.parallel, "cpu"))
    trainer.train()
    return state_of(trainer), trainer.steps_done


def on_ranks(num_ranks: int, run: TrainRun) -> dict[str, Tensor]:
    """The assembled state after a run on so many ranks; its layout is that of `LAYOUTS`."""
    run = replace(run, parallel=replace(LAYOUTS[num_ranks], async_checkpoint=run.parallel.async_checkpoint))
    if num_ranks == 1:
        trainer = small_trainer(run, Ranks())
        trainer.train()
        return assembled([state_of(trainer)])
    results = run_ranks(run_to, num_ranks, run)
    assert {steps for _, steps in results} == {run.steps}
    return assembled([parts for parts, _ in results])


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(folder, "train")]


@pytest.mark.parametrize("kind", ["adamw", pytest.param("muon", marks=pytest.mark.slow)])
def test_any_number_of_ranks_reads_what_another_wrote(tmp_path: Path, kind: str) -> None:
    """4 -> 2 -> 1 -> 4 ranks: the state stays the same bit for bit, and so does the step that follows on one rank."""
    optimizer = OptimizerConfig(kind=kind, lr=1e-3, eps=1e-4)  # type: ignore[arg-type]
    run = small_run(tmp_path / "run", steps=2, optimizer=optimizer, keep_checkpoints=9)
    written = on_ranks(4, run)
    assert len(written) > 50 and latest_state(run.folder / "checkpoints") is not None
    for ranks in (2, 1, 4):
        assert same_bits(on_ranks(ranks, run), written)
    whole = replace(run, folder=tmp_path / "whole", steps=4)
    on_ranks(1, whole)
    shutil.copytree(run.folder, tmp_path / "copy")
    for ranks, folder in ((1, run.folder), (2, tmp_path / "copy")):
        more = replace(run, folder=folder, steps=4)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"steps": 4}))
        on_ranks(ranks, more)
        assert losses(folder) == pytest.approx(losses(whole.folder), rel=1e-6 if kind == "adamw" else 1e-3)


def test_background_writing_gives_the_same_checkpoints(tmp_path: Path) -> None:
    run = small_run(tmp_path / "sync", steps=5, checkpoint_every=1, keep_checkpoints=3)
    background = replace(run, folder=tmp_path / "async", parallel=ParallelConfig(async_checkpoint=True))
    states = [on_ranks(2, one) for one in (run, background)]
    assert same_bits(*states)
    for folder in (run.folder, background.folder):
        steps = sorted(path.name for path in (folder / "checkpoints").iterdir())
        assert steps == ["step-00000003", "step-00000004", "step-00000005"]
    for step in (3, 4):  # what was copied is the state of its step, though training went on
        for part in ("part-00000-of-00002.safetensors", "part-00001-of-00002.safetensors"):
            a, b = (f / "checkpoints" / f"step-0000000{step}" / part for f in (run.folder, background.folder))
            assert a.read_bytes() == b.read_bytes()


def test_a_folder_without_all_its_parts_is_not_loaded(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run", steps=2, checkpoint_every=1)
    on_ranks(2, run)
    root = run.folder / "checkpoints"
    first, second = (root / f"step-0000000{step}" for step in (1, 2))
    assert latest_state(root) == second
    part = second / "part-00001-of-00002.safetensors"
    part.write_bytes(part.read_bytes()[:-1])
    assert latest_state(root) == first and not is_complete(second)
    part.unlink()
    assert latest_state(root) == first
    (first / COUNTERS).write_text("{")
    assert latest_state(root) is None
    shutil.copytree(second, root / ".step-00000003.new")
    assert latest_state(root) is None


def test_names_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    for name in ("../secret.safetensors", "/etc/passwd", "part-00000-of-00001.bin", "state.safetensors"):
        content = {"counters": {}, "plain": {}, "parts": {name: 1}}
        (tmp_path / COUNTERS).write_text(json.dumps(content))
        with pytest.raises(InputError, match="does not name parts of a step"):
            state_parts.read_counters(tmp_path / COUNTERS)
        assert not is_complete(tmp_path)


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ({"a": [[4, 2], [3, 0]]}, "does not lie in"),
        ({"a": [[4], [0]]}, "differ in length"),
        ({"a": [["x", 2], [0, 0]]}, "invalid literal"),
        ({"a": 5}, "damaged or missing"),
        ({"a": [[9, 2], [0, 0]]}, r"is torch.float32 \(9, 2\), this run needs torch.float32 \(4, 2\)"),
        ({"a": [[4, 2], [0, 0]]}, "4 of 8 numbers of a are stored"),
    ],
)
def test_damaged_headers_are_one_clear_error(tmp_path: Path, regions: Any, message: str) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2, 2)}, tmp_path / "part", metadata={state_parts.REGIONS: json.dumps(regions)})
    with pytest.raises(InputError, match=message):
        StoredState(tmp_path, ["part"]).read_into("a", torch.zeros(4, 2), Region.whole((4, 2)))


@pytest.mark.parametrize("background", [False, True])
def test_a_rank_that_cannot_write_stops_all(tmp_path: Path, background: bool) -> None:
    run = small_run(tmp_path / "run", steps=3, checkpoint_every=1, parallel=ParallelConfig(async_checkpoint=background))

    def full_disk(rank: int) -> str:
        trainer = small_trainer(run, join(run.parallel, "cpu"))
        if rank == 1:

            def no_space(*unused: Any) -> None:
                time.sleep(0.05)
                raise OSError(28, "No space left on device")

            checkpoints_module.write_part = no_space
        with pytest.raises(InputError, match="checkpoint of step 1 was not written") as caught:
            trainer.train()
        return str(caught.value)

    messages = run_ranks(full_disk, 2)
    assert "another rank failed" in messages[0] and "No space left" in messages[1]
    assert latest_state(run.folder / "checkpoints") is None


def test_regions_overlap_as_slices_do() -> None:
    whole = torch.arange(60).view(5, 4, 3)
    a, b = Region((5, 4, 3), (1, 0, 1), (3, 4, 2)), Region((5, 4, 3), (2, 2, 0), (3, 2, 2))
    common = a.overlap(b)
    assert common == Region((5, 4, 3), (2, 2, 1), (2, 2, 1)) == b.overlap(a)
    inside = whole[common.inside(Region.whole((5, 4, 3)))]
    for box in (a, b):
        assert torch.equal(whole[box.inside(Region.whole((5, 4, 3)))][common.inside(box)], inside)
    assert a.overlap(Region((5, 4, 3), (4, 0, 0), (1, 4, 3))) is None
    with pytest.raises(ValueError, match="cannot be compared"):
        a.overlap(Region.whole((5, 4)))
    with pytest.raises(ValueError, match="does not lie in"):
        Region((3,), (2,), (2,))
