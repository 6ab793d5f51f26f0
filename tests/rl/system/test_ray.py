"""On Ray: the numbers of one process, and processes that are killed at random moments.

Killed are real processes, by SIGKILL. A run has to end with the metrics of one that nobody disturbed: every question
asked once, every answer the same, every step the same.
"""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from s1pro.checkpoint.released import save_network
from s1pro.cli import main
from s1pro.model import presets
from s1pro.model.network import Network
from s1pro.rl.loop import train_rl
from s1pro.rl.system.config import SystemConfig
from s1pro.rl.system.launch import launch
from s1pro.tasks.judges.pool import JudgeConfig
from s1pro.train.metrics import read_metrics
from tests.rl.letters import Letters, policy, run_in, tasks
from tests.serve.http import running

pytestmark = pytest.mark.slow

TIMES = ("seconds", "rollout_seconds", "prepare_seconds", "tokens_per_second", "mfu")
WIRE = ("published_bytes", "trace_bytes_per_token", "worker_seconds")
STEPS = 6


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    """One for all tests: logical cores cost nothing."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=12, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def settings(folder: Path, system: SystemConfig, **options: Any) -> Any:
    run = run_in(folder, steps=STEPS, system=system, **options)
    return replace(run, rollout=replace(run.rollout, max_new_tokens=30), judges=JudgeConfig(processes=1))


def learn(run: Any, stop: threading.Event | None = None, on_evaluate: Any = None) -> Any:
    return train_rl(
        run,
        tasks=tasks(),
        network=policy(),
        processor=Letters(),
        stop=stop,
        on_evaluate=on_evaluate,  # type: ignore[arg-type]
    )


def learn_away(run: Any, stop: threading.Event) -> int:
    return int(learn(run, stop).steps)


def records(folder: Path) -> list[dict[str, Any]]:
    found = [*read_metrics(folder, "rollout"), *read_metrics(folder, "train")]
    return [{name: value for name, value in r.items() if name not in (*TIMES, *WIRE)} for r in found]


class Killer:
    """Kills one of the processes that `pids` names, again and again at random moments."""

    def __init__(self, pids: Callable[[], list[int]], *, kills: int, seed: int) -> None:
        self.killed = 0
        self._pids, self._kills, self._draw = pids, kills, random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()

    def _run(self) -> None:
        while self.killed < self._kills and not self._over.wait(self._draw.uniform(0.1, 1.5)):
            os.kill(self._draw.choice(self._pids()), signal.SIGKILL)
            self.killed += 1


@pytest.mark.parametrize("precision", ["network", "fp8"])
def test_local_and_ray_give_the_same_result(precision: str, tmp_path: Path) -> None:
    """Bit for bit: answers, metrics and weights, also when FP8 experts travel as bytes."""
    options: dict[str, Any] = {"expert_precision": precision}
    results = [
        learn(settings(tmp_path / "local", SystemConfig(shards=3), **options)),
        learn(settings(tmp_path / "ray", SystemConfig(mode="ray", workers=2, shards=3, colocated=True), **options)),
    ]
    assert records(tmp_path / "local") == records(tmp_path / "ray")
    states = [result.network.state_dict() for result in results]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    (last,) = read_metrics(tmp_path / "ray", "rollout")[-1:]
    text = results[0].network.config.text
    assert last["trace_bytes_per_token"] == len(text.moe_layers) * text.router.top_k  # one byte per slot
    assert last["replayed"] == 1.0


@pytest.mark.parametrize("victims", ["workers", "judges"])
def test_killing_workers_or_judges_changes_nothing(victims: str, tmp_path: Path) -> None:
    learn(settings(tmp_path / "whole", SystemConfig(schedule="one_step_off", shards=3)))
    killers: list[Killer] = []

    def begin(trainer: Any) -> dict[str, Any]:
        workers = trainer.rollouts.workers
        if not killers:
            killers.append(Killer(lambda: workers.pids()[victims], kills=3, seed=1))
            killers[0].start()
        return {}

    system = SystemConfig(mode="ray", schedule="one_step_off", workers=2, judges=2, shards=3)
    learn(settings(tmp_path / "killed", system), on_evaluate=begin)
    killers[0].stop()
    assert killers[0].killed >= 2
    assert records(tmp_path / "whole") == records(tmp_path / "killed")


def test_killing_a_worker_of_an_asynchronous_run_loses_and_repeats_nothing(tmp_path: Path) -> None:
    learn(settings(tmp_path / "whole", SystemConfig()))
    killers: list[Killer] = []

    def begin(trainer: Any) -> dict[str, Any]:
        workers = trainer.rollouts.workers
        if not killers:
            killers.append(Killer(lambda: workers.pids()["workers"], kills=2, seed=3))
            killers[0].start()
        return {}

    system = SystemConfig(
        mode="ray", schedule="asynchronous", max_staleness=2, under_way="recompute", workers=2, shards=3
    )
    learn(settings(tmp_path / "killed", system), on_evaluate=begin)
    killers[0].stop()
    assert killers[0].killed
    asked, whole = (
        [(r["round"], r["asked"]) for r in read_metrics(tmp_path / f, "rollout")] for f in ("killed", "whole")
    )
    assert asked == whole and len(asked) == STEPS
    assert max(record["largest_lag"] for record in read_metrics(tmp_path / "killed", "rollout")) <= 2


def test_killing_the_trainer_changes_nothing(tmp_path: Path) -> None:
    import ray

    whole = settings(tmp_path / "whole", SystemConfig(schedule="one_step_off", shards=2), checkpoint_every=2)
    learn(whole)
    system = SystemConfig(mode="ray", schedule="one_step_off", workers=2, shards=2, restarts=4)
    run = settings(tmp_path / "killed", system, checkpoint_every=2)
    killers: list[Killer] = []

    def begin(trainer: Any) -> None:
        def training() -> list[int]:
            """The trainer, once it has got somewhere since it was killed last."""
            steps = len(read_metrics(run.folder, "train"))
            until = time.monotonic() + 200
            while len(read_metrics(run.folder, "train")) in (0, steps) and time.monotonic() < until:
                time.sleep(0.02)
            return [ray.get(trainer.pid.remote())]

        killers.append(Killer(training, kills=2, seed=5))
        killers[0].start()

    assert launch(run, functools.partial(learn_away, run), on_start=begin) == STEPS
    killers[0].stop()
    assert killers[0].killed
    assert records(tmp_path / "whole") == records(tmp_path / "killed")


def test_a_run_is_stopped_from_outside_and_goes_on(tmp_path: Path) -> None:
    whole = settings(tmp_path / "whole", SystemConfig())
    learn(whole)
    run = settings(tmp_path / "stopped", SystemConfig(mode="ray"))

    def begin(trainer: Any) -> None:
        trainer.stop.remote()

    with pytest.raises(KeyboardInterrupt):
        launch(run, functools.partial(learn_away, run), on_start=begin)
    assert 1 <= len(read_metrics(run.folder, "train")) < STEPS
    learn(replace(run, system=SystemConfig()))  # on one machine after all
    assert records(tmp_path / "whole") == records(tmp_path / "stopped")


def test_what_is_wrong_is_said_as_in_one_process(tmp_path: Path) -> None:
    from s1pro.base.errors import InputError

    run = settings(tmp_path, SystemConfig(mode="ray"))
    run = replace(run, data=replace(run.data, tokens_per_batch=30))
    with pytest.raises(InputError, match=r"raise data\.tokens_per_batch"):
        launch(run, functools.partial(learn_away, run))


def test_the_command_line_on_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder, registry tasks and their questions: the same accuracies from one process and from Ray."""
    pytest.importorskip("rdkit")
    model = tmp_path / "model"
    save_network(Network(presets.tiny(384), seed=1), model)
    running.processor().save_pretrained(model)
    small = ["rollout.prompts=4", "rollout.group_size=2", "rollout.max_new_tokens=8", "export=false", "system.shards=2"]
    arguments = [
        "rl",
        "--model",
        str(model),
        "--tasks",
        "group_in_smiles",
        "--steps",
        "2",
        "--validation",
        "5",
        "--json",
    ]
    for setting in small:
        arguments += ["--set", setting]
    said = {}
    for name, mode in (("local", ["--mode", "local"]), ("ray", ["--mode", "ray", "--workers", "2"])):
        assert main([*arguments, "--json", *mode, "--folder", str(tmp_path / name)]) == 0
        said[name] = json.loads(capsys.readouterr().out)
    assert said["ray"]["steps"] == 2 and said["ray"]["before"] == said["local"]["before"]
    assert said["ray"]["after"] == said["local"]["after"]
    assert records(tmp_path / "ray") == records(tmp_path / "local")
