"""The command on two ranks, one of which is killed or stands still: the other says so, answers 503 and ends with 1."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.serve.http.running import WEB, post

pytestmark = pytest.mark.slow

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]


def start(folder: Path, rank: int, port: int) -> subprocess.Popen[str]:
    """As torchrun does, but without its agent, which would end the other rank itself."""
    repository = Path(__file__).parents[3]
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository), "RANK": str(rank), "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    command = [sys.executable, "-m", "s1pro", "serve", str(folder), "--port", "0", "--rank-timeout", "8"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.match(r"tiny-model at (http://127\.0\.0\.1:\d+)/", line):
            return found[1]
    raise AssertionError(process.stderr.read() if process.stderr else "no address")


def ask(url: str, tokens: int) -> httpx.Response:
    body = {"messages": HELLO, "max_tokens": tokens, "ignore_eos": True, "temperature": 0}
    return post(url + CHAT, body)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("victim", [0, 1])
def test_the_other_rank_says_so_and_ends(folder: Path, victim: int, blow: signal.Signals) -> None:
    port = free_port()
    processes = [start(folder, rank, port) for rank in range(2)]
    try:
        urls = [address(process) for process in processes]
        for url in urls:
            assert ask(url, 3).status_code == 200
        survivor = 1 - victim
        with ThreadPoolExecutor(1) as pool:
            long = pool.submit(ask, urls[survivor], 3000)
            with httpx.stream("POST", urls[victim] + CHAT, json={"messages": HELLO, "stream": True}) as stream:
                next(stream.iter_lines())  # both have work
                processes[victim].send_signal(blow)
                answer = long.result(60)
        assert answer.status_code == 503, answer.text
        assert f"rank {survivor} of 2 cannot go on" in answer.json()["error"]["message"]
        health = WEB.get(urls[survivor] + "/health")
        assert (health.status_code, health.json()) == (503, {"status": "failed"})
        assert ask(urls[survivor], 3).status_code == 503
        assert processes[survivor].wait(60) == 1
        assert processes[survivor].stderr is not None
        errors = processes[survivor].stderr.read()
        assert "error: rank" in errors and "start all ranks again" in errors and "Traceback" not in errors
    finally:
        for process in processes:
            process.kill()
            process.wait()
