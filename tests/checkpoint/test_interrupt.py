"""A writer that dies at any point: the old or the new folder loads completely, and the next save works."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from s1pro.checkpoint import shards
from s1pro.checkpoint.released import load_network, save_network
from s1pro.model.network import Network
from s1pro.model.presets import tiny

POINTS = {  # where the writer is killed, and which folder (by seed) loads afterwards
    "no shard is written": 0,
    "one shard is written": 0,
    "half of a shard is written": 0,
    "all is written, nothing flushed": 0,
    "before the first rename": 0,
    "between the renames": 0,
    "the old folder is half deleted": 1,
}
SHARD_BYTES = 200_000

WRITER = '''
"""Saves over each folder named on the command line in a forked child, which kills itself at its point."""
import json, os, shutil, signal, sys
from pathlib import Path
from s1pro.checkpoint import folder as folders, shards
from s1pro.checkpoint.released import save_network
from s1pro.model.network import Network
from s1pro.model.presets import tiny

def die(*_args, **_kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def after(count, function):
    """`function`, which is called `count` times and then kills the process instead."""
    calls = []
    def counted(*args, **kwargs):
        calls.append(1)
        return die() if len(calls) > count else function(*args, **kwargs)
    return counted

def half_of_a_shard(tensors, path, metadata):
    save_file(tensors, path, metadata=metadata)
    os.truncate(path, path.stat().st_size // 2)
    die()

def half_deleted(path, ignore_errors=False):
    if path.name.endswith(".old") and path.is_dir():
        (path / "config.json").unlink()
        die()
    rmtree(path, ignore_errors=ignore_errors)

def arm(point):
    if point == "no shard is written":
        shards.save_file = die
    elif point == "one shard is written":
        shards.save_file = after(1, save_file)
    elif point == "half of a shard is written":
        shards.save_file = half_of_a_shard
    elif point == "all is written, nothing flushed":
        folders._sync = die
    elif point == "before the first rename":
        Path.rename = die
    elif point == "between the renames":
        Path.rename = after(1, Path.rename)
    elif point == "the old folder is half deleted":
        shutil.rmtree = half_deleted

save_file, rmtree = shards.save_file, shutil.rmtree
for point, target in json.loads(sys.argv[1]).items():
    child = os.fork()
    if child == 0:
        arm(point)
        save_network(Network(tiny(64), seed=1), target, max_shard_bytes=int(sys.argv[2]))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (point, status)
'''


def same_weights(network: Network, seed: int) -> bool:
    expected = Network(network.config, seed=seed).state_dict()
    return all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder per point: held the network of seed 0, then the writer of seed 1 was killed."""
    folders = {}
    for number, point in enumerate(POINTS):
        folders[point] = tmp_path_factory.mktemp(f"point{number}") / "model"
        save_network(Network(tiny(64), seed=0), folders[point], max_shard_bytes=SHARD_BYTES)
        (folders[point] / "tokenizer.json").write_text("kept")
    places = json.dumps({point: str(folder) for point, folder in folders.items()})
    subprocess.run([sys.executable, "-c", WRITER, places, str(SHARD_BYTES)], check=True, timeout=250)
    return folders


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_writer_leaves_a_complete_folder(killed: dict[str, Path], point: str) -> None:
    folder = killed[point]
    assert same_weights(load_network(folder), seed=POINTS[point])
    save_network(Network(tiny(64), seed=2), folder, max_shard_bytes=SHARD_BYTES)
    assert same_weights(load_network(folder), seed=2)
    assert (folder / "tokenizer.json").read_text() == "kept"
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_crash_while_writing_the_first_time_leaves_nothing_to_load(tmp_path: Path) -> None:
    (tmp_path / ".model.new").mkdir()
    (tmp_path / ".model.new" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="no such folder"):
        load_network(tmp_path / "model")
    assert same_weights(load_network(save_network(Network(tiny(64), seed=2), tmp_path / "model")), seed=2)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_and_an_interrupt_clean_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    folder = save_network(Network(tiny(64), seed=0), tmp_path / "model", max_shard_bytes=SHARD_BYTES)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    original, written = shards.save_file, []

    def full(tensors: dict, path: Path, metadata: dict) -> None:
        if written:
            raise error
        written.append(path)
        original(tensors, path, metadata=metadata)

    monkeypatch.setattr(shards, "save_file", full)
    with pytest.raises(type(error)):
        save_network(Network(tiny(64), seed=1), folder, max_shard_bytes=SHARD_BYTES)
    assert written and {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_disk_that_returns_other_bytes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = shards.save_file

    def corrupting(tensors: dict, path: Path, metadata: dict) -> None:
        original(tensors, path, metadata=metadata)
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(bytes([0x55]))

    monkeypatch.setattr(shards, "save_file", corrupting)
    with pytest.raises(ValueError, match="reads back differently; check the disk"):
        save_network(Network(tiny(64), seed=0), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


LOOP = """
import sys
from s1pro.checkpoint.released import save_network
from s1pro.model.network import Network
from s1pro.model.presets import tiny
networks = [Network(tiny(64), seed=seed) for seed in (0, 1)]
print("ready", flush=True)
while True:
    for network in networks:
        save_network(network, sys.argv[1], max_shard_bytes=200_000)
"""


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    folder, moments = tmp_path / "model", random.Random(5)
    save_network(Network(tiny(64), seed=0), folder)
    for _ in range(20):
        writer = subprocess.Popen([sys.executable, "-c", LOOP, str(folder)], stdout=subprocess.PIPE, text=True)
        try:
            assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
            time.sleep(moments.uniform(0.0, 0.3))
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        network = load_network(folder)
        assert same_weights(network, 0) or same_weights(network, 1)
    save_network(Network(tiny(64), seed=2), folder)
    assert same_weights(load_network(folder), 2) and [path.name for path in tmp_path.iterdir()] == ["model"]
