"""Engines that are started again for new weights: what the command is given, and what is noticed when it goes wrong."""

from __future__ import annotations

import asyncio
import copy
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s1pro.base.errors import InputError
from s1pro.base.records import Sampling
from s1pro.model.network import Network
from s1pro.rl.engines import ServedEngine
from s1pro.rl.restart import Restarts, compare, run_command
from s1pro.rl.system.config import EngineConfig, RestartConfig
from tests.rl.engine_servers import RecordingServer, serving
from tests.rl.restarts import restartable
from tests.rl.test_engines import NETWORK, PROMPT, client_of, ours
from tests.serve.http import running


def moved(number: int, by: float = 1e-4) -> Network:
    """NETWORK after `number` small steps."""
    network = copy.deepcopy(NETWORK)
    with torch.no_grad():
        for parameter in network.parameters():
            generator = torch.Generator().manual_seed(parameter.numel())
            parameter += number * by * torch.randn(parameter.shape, generator=generator)
    return network


def engine_of(server: RecordingServer, folder: Path, command: Sequence[str], **changes: Any) -> ServedEngine:
    config = RestartConfig(command=tuple(command), **changes)
    processor = running.processor()
    return ServedEngine(client_of(server), folder=folder, processor=processor, restarts=Restarts(config, processor))


def test_a_server_that_is_started_again_answers_with_the_new_weights(tmp_path: Path) -> None:
    sampling = Sampling(max_new_tokens=4, temperature=1.0, seed=7)
    with serving("lmdeploy", copy.deepcopy(NETWORK), running.processor()) as server, restartable(server) as command:
        engine = engine_of(server, tmp_path, command)
        for version in (1, 2, 3):
            asyncio.run(engine.publish(moved(version), version))
        after = asyncio.run(engine.generate(PROMPT, sampling))
        asked = {path for path, _ in server.calls}
    assert after.logprobs == ours(sampling, network=moved(3)).logprobs
    assert after.policy_version == 3 and after.routing is not None and after.routing.policy_version == 3
    assert asked == {"/generate"}, "no weights went over HTTP"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["restart.log", "v2", "v3"]
    assert (tmp_path / "restart.log").read_text() == "starting version 1\nstarting version 2\nstarting version 3\n"


@pytest.mark.parametrize("named", [True, False])
def test_a_server_that_came_back_with_its_old_folder_is_noticed(named: bool, tmp_path: Path) -> None:
    """By the name of its model, or, where that is the same always, by log-probabilities that moved by 1e-4 or less."""
    first = str(tmp_path / "v1")
    with (
        serving("lmdeploy", copy.deepcopy(NETWORK), running.processor()) as server,
        restartable(server, lambda folder: first, named=named) as command,
    ):
        engine = engine_of(server, tmp_path, command)
        asyncio.run(engine.publish(moved(1, by=1e-6), 1))
        says = f"serves {first} and not {tmp_path / 'v2'}" if named else "with the weights of the publication before"
        with pytest.raises(InputError, match=says):
            asyncio.run(engine.publish(moved(2, by=1e-6), 2))
    assert engine.version == 1
    assert {path.name for path in tmp_path.iterdir()} == {"restart.log", "v1", "v2"}
    for folder in ("v1", "v2"):
        assert (tmp_path / folder / "config.json").exists() and list((tmp_path / folder).glob("*.safetensors"))


def test_a_server_with_other_weights_is_noticed_at_the_first_time(tmp_path: Path) -> None:
    from s1pro.checkpoint.released import save_network

    save_network(Network(running.config(), seed=99), tmp_path / "another")
    with (
        serving("lmdeploy", copy.deepcopy(NETWORK), running.processor()) as server,
        restartable(server, lambda folder: str(tmp_path / "another"), named=False) as command,
        pytest.raises(InputError, match=r"does not answer with the weights in .*v1.* engine\.restart\.limit is 0\.01"),
    ):
        asyncio.run(engine_of(server, tmp_path / "weights", command, limit=0.01).publish(NETWORK, 1))


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import sys; print('no GPU left'); sys.exit(3)", "failed with exit code 3: no GPU left; see"),
        ("import sys; sys.exit(1)", "failed with exit code 1; it printed nothing"),
        ("pass", r"was not ready 0\.5 s later \(/health: HTTP 503\)"),
    ],
)
def test_commands_that_fail(program: str, says: str, tmp_path: Path) -> None:
    with serving("lmdeploy", copy.deepcopy(NETWORK), running.processor()) as server:
        server.starting = 10**6
        engine = engine_of(server, tmp_path, (sys.executable, "-c", program, "{folder}"), ready_seconds=0.5)
        with pytest.raises(InputError, match=says):
            asyncio.run(engine.publish(NETWORK, 1))
        assert server.calls == [] and engine.version == 0


def test_a_command_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        "print(child.pid, flush=True); time.sleep(600)"
    )
    config = RestartConfig(command=(sys.executable, "-c", program, "{folder}"), seconds=3.0)
    with pytest.raises(InputError, match=r"did not end within 3 s and was killed; it has to .* background and end"):
        asyncio.run(run_command(config, tmp_path, 1, tmp_path / "log"))
    child = Path("/proc") / (tmp_path / "log").read_text().strip() / "stat"
    for _ in range(100):
        if not child.exists() or child.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError("the child lives")


def test_what_the_command_leaves_behind_does_not_hold_it(tmp_path: Path) -> None:
    """A server in the background keeps the output open; the command has ended all the same."""
    program = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'])"
    config = RestartConfig(command=(sys.executable, "-c", program, "{folder}"), seconds=15.0)
    asyncio.run(run_command(config, tmp_path, 1, tmp_path / "log"))


def test_a_word_is_a_word(tmp_path: Path) -> None:
    """No shell reads the command: what a shell would split, expand or run is passed on."""
    program = "import sys; print(sys.argv[1:])"
    words = ("a b", "$HOME", "; echo x", "*", "{folder}/{version}")
    config = RestartConfig(command=(sys.executable, "-c", program, *words))
    asyncio.run(run_command(config, tmp_path, 5, tmp_path / "l"))
    assert (tmp_path / "l").read_text().strip() == repr([*words[:4], f"{tmp_path}/5"])


def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    config = RestartConfig(command=("/no/such/program", "{folder}"))
    with pytest.raises(InputError, match=r"'/no/such/program' cannot be run: .*No such file"):
        asyncio.run(run_command(config, tmp_path, 1, tmp_path / "log"))


def test_old_or_new_under_noise() -> None:
    """An engine that rounds elsewhere, by much more than one step moved the weights or by less; 400 draws of each."""
    random = np.random.default_rng(0)
    for step, noise in ((1e-2, 1e-3), (1e-3, 1e-3), (1e-3, 1e-2)):
        wrong_alarms = found = 0
        for _ in range(400):
            before = -random.exponential(2.0, size=32)
            now = before + step * random.standard_normal(32)
            rounding = noise * random.standard_normal(32)
            wrong_alarms += compare(now + rounding, now, before).is_old
            found += compare(before + rounding, now, before).is_old
        assert wrong_alarms <= 4
        assert (found >= 390) if step > noise else (found <= 400)
    same = compare(before, before, before)
    assert same.gap == 0 and not same.is_old and not compare(before, now, None).is_old


def test_settings_of_a_restart() -> None:
    with pytest.raises(ValueError, match="is empty"):
        RestartConfig(command=())
    with pytest.raises(ValueError, match=r"has neither .folder. nor .version."):
        RestartConfig(command=("systemctl", "restart", "engine"))
    with pytest.raises(ValueError, match=r"engine\.restart\.ready_seconds must be positive, got 0"):
        RestartConfig(command=("x", "{folder}"), ready_seconds=0)
    with pytest.raises(ValueError, match=r"engine\.name=lmdeploy needs engine\.restart"):
        EngineConfig(name="lmdeploy", url="http://127.0.0.1:1/v1")
