"""Many clients on one server: does it answer all of them, refuse honestly, keep its memory, and starve nobody?

    python bench/load_test.py [FOLDER] [--clients 64] [--seconds 120] [--max-batch 16] [--max-waiting 16] [--json FILE]

Starts `s1pro serve` on a free port (without FOLDER on a tiny random model with all towers) and lets clients ask for
the given time: chats and completions, whole and streamed, with pictures and signals, in mixed lengths. One request in
ten is given up midway. A client that gets 429 waits as long as `Retry-After` says, at most a second. Measured from
outside:

    statuses   every answer is 200 or 429, and every 429 says when to come back; nothing else counts as honest
    memory     resident memory of the server, every half second: median of the last quarter of the time against the
               second quarter (the first one fills pools and caches)
    fairness   answers of the client with the fewest against the mean, and the longest time that a client went without
    the end    after all clients have left, no sequence runs or waits and no block is held
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

LONGEST_WAIT = 1.0
GIVEN_UP = 0.1


@dataclass
class Client:
    """What one client has seen."""

    statuses: Counter[int] = field(default_factory=Counter)
    given_up: int = 0
    tokens: int = 0
    problems: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    last: float = field(default_factory=time.monotonic)
    longest_gap: float = 0.0

    def answered(self, begin: float) -> None:
        now = time.monotonic()
        self.latencies.append(now - begin)
        self.longest_gap = max(self.longest_gap, now - self.last)
        self.last = now


@dataclass(frozen=True, kw_only=True)
class Result:
    """See the module docstring; memory in MiB, times in seconds."""

    seconds: float
    clients: int
    answers: int
    refused: int
    given_up: int
    problems: list[str]
    tokens_per_second: float
    latency_median: float
    latency_99: float
    memory_begin: float
    memory_end: float
    fewest_answers: int
    mean_answers: float
    longest_gap: float
    left_running: float
    left_waiting: float
    left_blocks: float

    @property
    def memory_growth(self) -> float:
        return self.memory_end / self.memory_begin - 1


async def run_load(url: str, pid: int, *, clients: int, seconds: float, seed: int = 0) -> Result:
    """Lets `clients` ask for `seconds`; `pid` is the server, whose memory is watched."""
    seen = [Client() for _ in range(clients)]
    memory: list[float] = []
    end = time.monotonic() + seconds
    watcher = asyncio.create_task(_watch(pid, memory))
    begin = time.monotonic()
    await asyncio.gather(*(_ask(url, client, random.Random(seed + i), end) for i, client in enumerate(seen)))
    lasted = time.monotonic() - begin
    watcher.cancel()
    async with httpx.AsyncClient(base_url=url, timeout=120) as web:
        left = await _left(web)
    latencies = sorted(latency for client in seen for latency in client.latencies) or [0.0]
    answers = [client.statuses[200] for client in seen]
    quarter = len(memory) // 4
    return Result(
        seconds=lasted,
        clients=clients,
        answers=sum(answers),
        refused=sum(client.statuses[429] for client in seen),
        given_up=sum(client.given_up for client in seen),
        problems=[problem for client in seen for problem in client.problems][:10],
        tokens_per_second=sum(client.tokens for client in seen) / lasted,
        latency_median=statistics.median(latencies),
        latency_99=latencies[int(0.99 * (len(latencies) - 1))],
        memory_begin=statistics.median(memory[quarter : 2 * quarter] or memory),
        memory_end=statistics.median(memory[3 * quarter :] or memory),
        fewest_answers=min(answers),
        mean_answers=statistics.mean(answers),
        longest_gap=max(client.longest_gap for client in seen),
        left_running=left["s1pro_running_sequences"],
        left_waiting=left["s1pro_waiting_sequences"],
        left_blocks=left["s1pro_cache_blocks_used"],
    )


async def _ask(url: str, client: Client, rng: random.Random, end: float) -> None:
    """One client with a connection of its own; a request that it gives up takes the connection with it."""
    web = httpx.AsyncClient(base_url=url, timeout=120, verify=False)
    while (begin := time.monotonic()) < end:
        path, body = _request(rng)
        patience = rng.uniform(0.01, 0.3) if rng.random() < GIVEN_UP else None
        try:
            async with asyncio.timeout(patience):
                status, wait = await _one(web, client, path, body)
        except TimeoutError:
            client.given_up += 1
            await web.aclose()
            web = httpx.AsyncClient(base_url=url, timeout=120, verify=False)
            continue
        except httpx.HTTPError as error:
            client.problems.append(f"{path}: {type(error).__name__} {error}")
            continue
        client.statuses[status] += 1
        if status == 200:
            client.answered(begin)
        elif status == 429 and wait is not None:
            await asyncio.sleep(min(wait, LONGEST_WAIT) * rng.uniform(0.5, 1))
    await web.aclose()


async def _one(web: httpx.AsyncClient, client: Client, path: str, body: dict[str, Any]) -> tuple[int, float | None]:
    """One request to its end; the status, and for 429 how long to wait."""
    async with web.stream("POST", path, json=body) as response:
        text = (await response.aread()).decode()
    status = response.status_code
    if status == 200:
        client.tokens += int(body["max_tokens"])
        whole = text.endswith("data: [DONE]\n\n") if body.get("stream") else '"usage"' in text
        if not whole or '"error"' in text:
            client.problems.append(f"{path}: answer without end: {text[-200:]}")
        return status, None
    wait = response.headers.get("Retry-After", "")
    if status != 429 or not wait.isdigit():
        client.problems.append(f"{path}: {status} {text[:200]}")
    return status, float(wait) if wait.isdigit() else None


def _request(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """A request of mixed kind; its answer has as many tokens as it allows."""
    more = {
        "max_tokens": rng.choice([1, 8, 16, 32]),
        "ignore_eos": True,
        "stream": rng.random() < 0.5,
        "seed": rng.randrange(9),
    }
    text = f"Question {rng.randrange(50)}: what is it? " + "It is a fox. " * rng.randrange(8)
    if rng.random() < 0.3:
        return "/v1/completions", {"prompt": text, **more}
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    kind = rng.random()
    if kind < 0.15:
        parts.append({"type": "image_url", "image_url": {"url": _picture(rng.randrange(256))}})
    elif kind < 0.3:
        values = np.sin(np.arange(300) / rng.randint(2, 9)).round(4).tolist()
        parts.append({"type": "time_series", "time_series": values, "sampling_rate": 100, "unit": "mV"})
    return "/v1/chat/completions", {"messages": [{"role": "user", "content": parts}], **more}


def _picture(value: int) -> str:
    stream = io.BytesIO()
    Image.fromarray(np.full((32, 64, 3), value, np.uint8)).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


async def _watch(pid: int, memory: list[float]) -> None:
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        if found is not None:
            memory.append(int(found[1]) / 1024)
        await asyncio.sleep(0.5)


async def _left(web: httpx.AsyncClient) -> dict[str, float]:
    """What the server still holds a moment after the last client has left."""
    found: dict[str, float] = {}
    for _ in range(20):
        text = (await web.get("/metrics")).text
        found = {name: float(value) for name, value in re.findall(r"^(s1pro_\w+) (\S+)$", text, re.MULTILINE)}
        if not found["s1pro_running_sequences"] and not found["s1pro_cache_blocks_used"]:
            break
        await asyncio.sleep(0.1)
    return found


@contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """`s1pro serve` as a process of its own: address and process id."""
    command = [sys.executable, "-m", "s1pro", "serve", str(folder), "--port", "0", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={"OMP_NUM_THREADS": "1", **os.environ}
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+:\d+", process.stdout.readline())
            if found is None:
                raise RuntimeError("the server did not start")
            _wait_until_healthy(found[0])
            yield found[0], process.pid
        finally:
            process.terminate()
            process.wait(60)


def _wait_until_healthy(url: str) -> None:
    for _ in range(100):
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer")


def write_tiny_model(folder: Path) -> None:
    """A random model with towers for all media, and its tokenizer."""
    from s1pro.checkpoint.released import save_network
    from s1pro.inputs.images import ImageSettings
    from s1pro.inputs.media_parts import Preparation
    from s1pro.inputs.processor import Processor
    from s1pro.inputs.tokenizer_training import train_tokenizer
    from s1pro.model import presets
    from s1pro.model.network import Network

    tokenizer = train_tokenizer(["Question: what is it? It is a fox."] * 4, vocab_size=300)
    processor = Processor(tokenizer, preparation=Preparation(images=ImageSettings(min_pixels=1024, max_pixels=8192)))
    names = {"image": "<|image_pad|>", "video": "<|video_pad|>", "ts": "<TS_CONTEXT>"}
    ids = {f"{kind}_token_id": tokenizer.token_to_id(token) or -1 for kind, token in names.items()}
    save_network(Network(presets.with_media(presets.tiny(tokenizer.vocab_size), **ids), seed=1), folder)
    processor.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--max-batch", default="16")
    parser.add_argument("--max-waiting", default="16")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder
        if folder is None:
            folder = Path(temporary) / "tiny"
            write_tiny_model(folder)
        with served(folder, "--max-batch", args.max_batch, "--max-waiting", args.max_waiting) as (url, pid):
            result = asyncio.run(run_load(url, pid, clients=args.clients, seconds=args.seconds))
    record = {**asdict(result), "memory_growth": result.memory_growth}
    print(json.dumps(record, indent=2))
    if args.json is not None:
        args.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
