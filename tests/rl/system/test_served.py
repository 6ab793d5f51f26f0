"""`system.served`: a server writes the answers and gets the weights of every round; the run is that of one process."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.endpoint import EndpointError
from s1pro.checkpoint.released import save_network
from s1pro.cli import main
from s1pro.model.network import Network
from s1pro.rl.config import RLRun, RolloutConfig
from s1pro.rl.engines import PublicationError
from s1pro.rl.loop import train_rl
from s1pro.rl.restart import NUM_PROMPTS
from s1pro.rl.rollout import RecordError
from s1pro.rl.system.config import EngineConfig, RestartConfig, SystemConfig
from s1pro.serve.http.service import Service
from s1pro.train.metrics import read_metrics
from tests.rl.engine_servers import serving
from tests.rl.letters import StoppedError, run_in, stops_once, tasks
from tests.rl.restarts import restartable
from tests.serve.http import running

CONFIG = running.config()
OWN = ("answered", "publish_seconds", "rollout_seconds", "prepare_seconds", "seconds", "tokens_per_second", "mfu")
"""Times, and the fingerprint of log-probabilities to the last bit."""


def run_of(folder: Path, **changes: Any) -> RLRun:
    return run_in(folder, data=dataclasses.replace(run_in(folder).data, tokens_per_batch=256), **changes)


def learn(run: RLRun, **options: Any) -> list[dict[str, Any]]:
    """The records of the run, without those of single machines."""
    train_rl(run, tasks=tasks(), network=Network(CONFIG, seed=5), processor=running.processor(), **options)
    found = [*read_metrics(run.folder, "rollout"), *read_metrics(run.folder, "train")]
    return [{name: value for name, value in record.items() if name not in OWN} for record in found]


@contextmanager
def own_server(weights: Path) -> Iterator[EngineConfig]:
    """It begins with other weights than the run."""
    settings = dataclasses.replace(running.SETTINGS, weights_root=weights)
    service = Service(running.engine(max_batch=16), running.processor(), settings, max_batch=16)
    with running.running(service) as url:
        yield EngineConfig(name="s1pro", url=f"{url}/v1", model="tiny", folder=weights)


def check_same(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Same questions and answers; numbers as near as float32 sums of other batches are."""
    assert len(found) == len(wanted) > 0
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ("asked", "reward", "rewards", "length", "groups", "teaching_groups", "replayed", "lag"):
            assert ours.get(name) == theirs.get(name), name
        for name in ("loss", "grad_norm", "surprisal", "entropy"):
            assert (ours.get(name) or 0.0) == pytest.approx(theirs.get(name) or 0.0, rel=1e-3, abs=1e-5), name
        if "mismatch" in ours:  # of answers that lag behind it is that of the weights
            here, there = ours["mismatch"], theirs["mismatch"]
            assert here["k3"] == pytest.approx(there["k3"], rel=1e-3, abs=1e-9) and here["tokens"] == there["tokens"]
            assert here["routing_agreement"] == pytest.approx(there["routing_agreement"], abs=0.01)


@pytest.mark.parametrize("schedule", ["synchronous", "one_step_off"])
def test_our_server_gives_the_curve_of_one_process(schedule: Any, tmp_path: Path) -> None:
    system = SystemConfig(schedule=schedule, shards=2)
    wanted = learn(run_of(tmp_path / "local", steps=3, system=system))
    with own_server(tmp_path / "weights") as engine:
        found = learn(run_of(tmp_path / "served", steps=3, system=system, engine=engine))
    check_same(found, wanted)
    published = sorted(folder.name for folder in (tmp_path / "weights").iterdir())
    assert published == ["v1", "v2"], "two stay, and nothing is published behind the last round"


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    system = SystemConfig(schedule="one_step_off")
    wanted = learn(run_of(tmp_path / "local", steps=3, system=system))
    with own_server(tmp_path / "weights") as engine:
        run = run_of(tmp_path / "served", steps=3, system=system, engine=engine, eval_every=1, checkpoint_every=1)
        stop = stops_once(1)
        with pytest.raises(StoppedError):
            learn(run, on_evaluate=stop)
        check_same(learn(run, on_evaluate=stop), wanted)


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_other_engines_are_asked_and_published_to_in_their_form(name: Any, tmp_path: Path) -> None:
    server_network = Network(CONFIG, seed=6).eval()  # not the weights of the run
    with serving(name, server_network, running.processor()) as server:
        engine = EngineConfig(name=name, url=server.url, model="tiny", folder=tmp_path / "weights")
        records = learn(run_of(tmp_path / "run", steps=3, engine=engine))
        calls = [(path, body) for path, body in server.calls]
    asked = "/v1/completions" if name == "vllm" else "/generate"
    publish = "/collective_rpc" if name == "vllm" else "/update_weights_from_disk"
    order = [path for path, _ in calls if path in (asked, publish)]
    assert order == [publish, *[asked] * 24] * 3, "weights first, then every answer of the round"
    folders = [str(body) for path, body in calls if path == publish]
    assert all(f"v{version}" in text for version, text in enumerate(folders))
    rounds = [record for record in records if record["kind"] == "rollout"]
    assert [record["version"] for record in rounds] == [0, 1, 2]
    for record in rounds:
        assert record["replayed"] == 1.0 and record["mismatch"]["k3"] < 1e-9
        assert record["mismatch"]["tokens"] > 0 and min(record["mismatch"]["routing_agreement"]) > 0.99


def test_lmdeploy_is_started_again_for_every_round(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    folders: list[str] = []

    def chosen(folder: str) -> str:
        folders.append(Path(folder).name)
        return folder

    with (
        serving("lmdeploy", Network(CONFIG, seed=6).eval(), running.processor()) as server,
        restartable(server, chosen) as command,
    ):
        restart = RestartConfig(command=command)
        engine = EngineConfig(name="lmdeploy", url=server.url, model="tiny", folder=weights, restart=restart)
        records = learn(run_of(tmp_path / "run", steps=3, engine=engine))
        paths = [path for path, _ in server.calls]
    assert folders == ["v0", "v1", "v2"] and paths == ["/generate"] * 3 * (NUM_PROMPTS + 24)
    rounds = [record for record in records if record["kind"] == "rollout"]
    assert [record["version"] for record in rounds] == [0, 1, 2]
    for record in rounds:
        assert record["replayed"] == 1.0 and record["mismatch"]["k3"] < 1e-9 and record["probe_gap"] < 1e-5


def test_the_command_of_a_restart_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_network(Network(CONFIG, seed=5), tmp_path / "model")
    running.processor().save_pretrained(tmp_path / "model")
    program = tmp_path / "restart.sh"
    program.write_text('#!/bin/sh\necho "no device for $1"; exit 4\n')
    program.chmod(0o755)
    command = ["rl", "--model", str(tmp_path / "model"), "--tasks", "group_in_smiles", "--steps", "1", "--folder",
               str(tmp_path / "run"), "--validation", "2", "--engine", "lmdeploy", "--url", "http://127.0.0.1:1/v1",
               "--restart", str(program), "{folder}"]  # fmt: skip
    assert main(command) == 2
    folder, says = tmp_path / "run" / "published", capsys.readouterr().err
    assert f"failed with exit code 4: no device for {folder / 'v0'}; see {folder / 'restart.log'}" in says
    assert "Traceback" not in says and sorted(p.name for p in folder.iterdir()) == ["restart.log", "v0"]


def test_an_engine_that_returns_no_experts(tmp_path: Path) -> None:
    def forget(answer: Any) -> None:
        answer["choices"][0].pop("routed_experts")

    with serving("vllm", Network(CONFIG, seed=5).eval(), running.processor(), damage=forget) as server:
        engine = EngineConfig(name="vllm", url=server.url, model="tiny")
        with pytest.raises(RecordError, match=r"returned none; start it so that it does .* rollout\.replay=false"):
            learn(run_of(tmp_path / "a", steps=1, engine=engine))
        rollout = dataclasses.replace(run_of(tmp_path).rollout, replay=False)
        records = learn(run_of(tmp_path / "b", steps=1, engine=engine, rollout=rollout))
    assert records[0]["replayed"] == 0.0 and records[0]["mismatch"]["k3"] < 1e-9


def test_a_server_that_loses_the_weights_ends_the_run(tmp_path: Path) -> None:
    def behind(answer: Any) -> None:
        answer["meta_info"]["weight_version"] = "0"

    with serving("sglang", Network(CONFIG, seed=5).eval(), running.processor(), damage=behind) as server:
        engine = EngineConfig(name="sglang", url=server.url, model="tiny")
        with pytest.raises(PublicationError, match="weights 0 answered, and 1 were published"):
            learn(run_of(tmp_path, steps=3, engine=engine))
    assert [record["version"] for record in read_metrics(tmp_path, "rollout")] == [0]


def test_a_server_that_is_not_there_or_takes_no_weights(tmp_path: Path) -> None:
    settings = dataclasses.replace(running.SETTINGS, control=False)
    service = Service(running.engine(), running.processor(), settings, max_batch=8)
    with running.running(service) as url, pytest.raises(EndpointError, match="HTTP 404"):
        learn(run_of(tmp_path, steps=1, engine=EngineConfig(url=f"{url}/v1", model="tiny")))


def test_settings_that_cannot_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = EngineConfig(url="http://127.0.0.1:1/v1")
    with pytest.raises(ValueError, match="workers have engines of their own"):
        run_of(tmp_path, engine=engine, system=SystemConfig(mode="ray"))
    with pytest.raises(ValueError, match="under_way=finish"):
        run_of(tmp_path, engine=engine, system=SystemConfig(schedule="asynchronous", under_way="keep"))
    with pytest.raises(ValueError, match=r"rollout\.temperature=1, got 0\.7"):
        warm = RolloutConfig(prompts=6, group_size=4, max_new_tokens=10, temperature=0.7)
        run_of(tmp_path, engine=dataclasses.replace(engine, name="sglang"), rollout=warm)
    with pytest.raises(ValueError, match=r"engine\.seconds must be positive"):
        dataclasses.replace(engine, seconds=0.0)
    command = ["rl", "--model", str(tmp_path), "--tasks", "mass_from_smiles"]
    for given, says in (
        (["--engine", "vllm"], "--engine and --url go together"),
        (["--url", "http://127.0.0.1:1/v1"], "--engine and --url go together"),
        (["--publish", "weights"], "--publish has no effect without --engine and --url"),
        (["--engine", "vllm", "--url", "localhost:1"], "engine.url must be like http://127.0.0.1:8000/v1"),
        (["--restart", "x", "{folder}"], "--restart has no effect without --engine and --url"),
        (["--engine", "lmdeploy", "--url", "http://127.0.0.1:1/v1"], "lmdeploy needs engine.restart"),
        (["--engine", "lmdeploy", "--url", "http://127.0.0.1:1/v1", "--restart", "x"], "neither {folder} nor {versio"),
    ):
        assert main([*command, *given]) == 2
        assert says in capsys.readouterr().err
    shown = [*command, "--engine", "vllm", "--url", "http://127.0.0.1:1/v1", "--served-model", "m", "--show"]
    assert main(shown) == 0
    assert json.loads(capsys.readouterr().out)["engine"]["model"] == "m"


@pytest.mark.slow
def test_the_two_commands_work_together(tmp_path: Path) -> None:
    """`s1pro serve` in a process of its own answers for `s1pro rl`; rewards are those of a run without it."""
    save_network(Network(CONFIG, seed=5), tmp_path / "model")
    running.processor().save_pretrained(tmp_path / "model")
    weights = tmp_path / "weights"
    weights.mkdir()
    command = ["rl", "--model", str(tmp_path / "model"), "--tasks", "group_in_smiles", "--steps", "3", "--json",
               "--validation", "8", "--set", "rollout.prompts=8", "--set", "rollout.drop_uniform=false",
               "--set", "reward.form=0.1"]  # fmt: skip
    assert main([*command, "--folder", str(tmp_path / "local")]) == 0
    serve = [sys.executable, "-m", "s1pro", "serve", str(tmp_path / "model"), "--port", "0", "--control",
             "--weights-root", str(weights), "--max-batch", "64"]  # fmt: skip
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            line = next(line for line in server.stdout if "http://" in line)
            url = next(word for word in line.split() if word.startswith("http://")).rstrip("/.,;")
            engine = ["--engine", "s1pro", "--url", f"{url.removesuffix('/v1')}/v1", "--publish", str(weights)]
            assert main([*command, "--folder", str(tmp_path / "served"), *engine]) == 0
        finally:
            server.terminate()
    local, served = (read_metrics(tmp_path / name, "rollout") for name in ("local", "served"))
    assert len(local) == len(served) == 3
    for ours, theirs in zip(served, local, strict=True):
        assert ours["asked"] == theirs["asked"] and ours["length"] == theirs["length"]
        assert ours["reward"] == pytest.approx(theirs["reward"], abs=1e-6)
        assert ours["mismatch"]["k3"] < 1e-9


@pytest.mark.slow
def test_the_command_learns_with_an_lmdeploy_that_is_started_again(tmp_path: Path) -> None:
    """`s1pro rl --engine lmdeploy` against a process that speaks as LMDeploy does and reads weights when it starts, and
    only then; a shell script ends it and starts it for every round. LMDeploy takes no seed, so both runs take the most
    likely tokens; they learn from the length of their answers, and are the same run."""
    save_network(Network(CONFIG, seed=5), tmp_path / "model")
    running.processor().save_pretrained(tmp_path / "model")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script, pid = tmp_path / "restart.sh", tmp_path / "pid"
    script.write_text(
        f"""#!/bin/sh
        if [ -f {pid} ]; then
            kill "$(cat {pid})"
            while kill -0 "$(cat {pid})" 2>/dev/null; do sleep 0.1; done
        fi
        setsid {sys.executable} -m tests.rl.lmdeploy_stand_in "$1" {port} &
        echo $! > {pid}
        """
    )
    script.chmod(0o755)
    command = ["rl", "--model", str(tmp_path / "model"), "--tasks", "group_in_smiles", "--steps", "3", "--json",
               "--validation", "8", "--set", "rollout.prompts=8", "--set", "rollout.group_size=2", "--set",
               "rollout.top_p=1e-4", "--set", "rollout.drop_uniform=false", "--set", "objective.baseline=none",
               "--set", "reward.length=0.2", "--set", "reward.free_tokens=0", "--set", "reward.full_tokens=64",
               "--set", "optimizer.lr=1e-3"]  # fmt: skip
    assert main([*command, "--folder", str(tmp_path / "local")]) == 0
    engine = ["--engine", "lmdeploy", "--url", f"http://127.0.0.1:{port}/v1", "--restart", str(script), "{folder}"]
    try:
        assert main([*command, "--folder", str(tmp_path / "served"), *engine]) == 0
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)
    local, served = (
        [*read_metrics(tmp_path / name, "rollout"), *read_metrics(tmp_path / name, "train")]
        for name in ("local", "served")
    )
    assert all(record.pop("probe_gap") < 1e-5 for record in served[:3])
    check_same([_bare(record) for record in served], [_bare(record) for record in local])
    assert served[3]["grad_norm"] > 0 and abs(served[0]["entropy"] - served[2]["entropy"]) > 1e-4, "nothing moved"
    assert sorted(path.name for path in (tmp_path / "served" / "published").iterdir()) == ["restart.log", "v1", "v2"]


def _bare(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in OWN}
