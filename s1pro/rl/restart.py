"""New weights for an engine that reads them when it starts, and only then: it is started again, and asked who it is.

LMDeploy takes weights over HTTP as pickles, or by a process group that the trainer would have to join; a folder of
safetensors it reads at its start, as every engine does. So a publication goes this way:

    folder v<N>, complete ──> command of the user ──> /health answers ──> /v1/models ──> the probe

1. The command is a list of words, run without a shell; `{folder}` and `{version}` in a word are replaced. It ends the
   old server, starts the new one in the background, and ends itself, with 0. What it prints is added to
   `restart.log` beside the published folders. After `seconds` it is killed with everything that it started.
2. `/health` has to answer 200 within `ready_seconds`.
3. A server that calls its model by a path (`/v1/models`; LMDeploy does without `--model-name`) has to name this folder.
4. The probe. `NUM_PROMPTS` prompts get one token each, and the log-probabilities e that the engine gives are compared
   with those of the trainer, n, and with those that the trainer had at the last publication, o:

       gap = mean |e - n|                            must not exceed `limit`
       t   = sum (e - o)(n - o) / sum (n - o)^2      1 for the new weights, 0 for the old ones

   t is looked at where the noise of the engine is small beside what the weights moved by: standard error
   s = rms(e - o - t (n - o)) / sqrt(sum (n - o)^2), and weights are old if t < 0.5 - 3 s. So a server that came back
   with its old folder is found after a single small step, long before its answers are `limit` away.

Whatever fails is the mistake of the command or of the server that it started: an `InputError`. The published folders
stay as they are, and the run goes on from its checkpoint when it is started again.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch

from s1pro.base.endpoint import EndpointError
from s1pro.base.errors import InputError
from s1pro.base.http_client import HttpClient
from s1pro.base.records import Sampling
from s1pro.inputs.processor import Processor
from s1pro.kernels.attention import PackedContext
from s1pro.model.network import Network
from s1pro.rl.parity.probes import ProbeSettings, prompts_of
from s1pro.rl.system.config import RestartConfig

NUM_PROMPTS = 32
LONGEST_PROMPT = 32
LOG = "restart.log"
_SHOWN = 400  # characters of what the command printed last
_PAUSE = 0.2

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the probe found. `share` and `error` are t and s above; nan where nothing moved, or at the first time."""

    gap: float
    share: float = math.nan
    error: float = math.nan

    @property
    def is_old(self) -> bool:
        return self.share < 0.5 - 3 * self.error


def compare(engine: Floats, now: Floats, before: Floats | None) -> Comparison:
    """Log-probabilities of the same tokens: by the engine, by the trainer now, and by the trainer before."""
    gap = float(np.abs(engine - now).mean())
    if before is None or not (moved := float(((now - before) ** 2).sum())):
        return Comparison(gap=gap)
    share = float(((engine - before) * (now - before)).sum()) / moved
    left = engine - before - share * (now - before)
    return Comparison(gap=gap, share=share, error=math.sqrt(float((left**2).mean()) / moved))


class Restarts:
    """Steps 1 to 4 of the module docstring, publication after publication.

    Args:
        processor: its tokenizer makes the prompts of the probe.
    """

    def __init__(self, config: RestartConfig, processor: Processor) -> None:
        self.config = config
        self._prompts = prompts_of(processor, ProbeSettings(prompts=NUM_PROMPTS, longest=LONGEST_PROMPT))
        self._before: Floats | None = None

    async def load(self, client: HttpClient, network: Network, folder: Path, version: int) -> Comparison:
        """Makes the server serve `folder`, which holds `network`.

        Raises:
            InputError: the command, the time, or what the server answers.
        """
        log = folder.parent / LOG
        await run_command(self.config, folder, version, log)
        await self._wait(client, log)
        await self._check_name(client, folder)
        return await self._check_weights(client, network, folder)

    async def _wait(self, client: HttpClient, log: Path) -> None:
        """Step 2."""
        until, last = time.monotonic() + self.config.ready_seconds, "no answer"
        while True:
            try:
                status, _ = await client.get("/health")
            except EndpointError as error:
                last = str(error)
            else:
                if status == 200:
                    return
                last = f"HTTP {status}"
            if time.monotonic() >= until:
                raise InputError(
                    f"engine.restart: the command ended, and {client.settings.base_url} was not ready "
                    f"{self.config.ready_seconds:g} s later (/health: {last}); raise engine.restart.ready_seconds, or "
                    f"see {log}"
                )
            await asyncio.sleep(_PAUSE)

    async def _check_name(self, client: HttpClient, folder: Path) -> None:
        """Step 3; a server without the route, or with a name of its own for the model, says nothing here."""
        status, data = await client.get("/models")
        names = _model_names(data) if status == 200 else []
        paths = [name for name in names if name.startswith("/")]
        if paths and not any(Path(name).resolve() == folder.resolve() for name in paths):
            raise InputError(
                f"engine.restart: {client.settings.base_url} serves {', '.join(paths)} and not {folder}; the command "
                "has to load {folder}"
            )

    async def _check_weights(self, client: HttpClient, network: Network, folder: Path) -> Comparison:
        """Step 4."""
        answers = await asyncio.gather(*(client.generate(ids, _one_token(i)) for i, ids in enumerate(self._prompts)))
        where = f"engine.restart: {client.settings.base_url}"
        if any(len(a.token_ids) != 1 or a.logprobs is None or len(a.logprobs) != 1 for a in answers):
            raise InputError(f"{where} gives no log-probabilities of its tokens; start it so that it does")
        tokens = [answer.token_ids[0] for answer in answers]
        rows = last_rows(network, self._prompts)
        engine = np.array([answer.logprobs[0] for answer in answers if answer.logprobs is not None])
        place = np.arange(len(tokens))
        found = compare(engine, rows[place, tokens], None if self._before is None else self._before[place, tokens])
        if found.is_old:
            raise InputError(
                f"{where} answers with the weights of the publication before, not with {folder} (share of the "
                f"change: {found.share:.2f} +- {found.error:.2f}); the command has to end the old server first"
            )
        if not found.gap <= self.config.limit:
            raise InputError(
                f"{where} does not answer with the weights in {folder}: log-probabilities differ by {found.gap:.3g} on "
                f"average, engine.restart.limit is {self.config.limit:g}; `s1pro parity` finds out why"
            )
        self._before = rows
        return found


async def run_command(config: RestartConfig, folder: Path, version: int, log: Path) -> None:
    """Step 1. Raises `InputError`."""
    words = [word.replace("{folder}", str(folder)).replace("{version}", str(version)) for word in config.command]
    with log.open("ab") as output:
        begins = output.tell()
        process = await _started(words, output)
        try:
            async with asyncio.timeout(config.seconds):
                code = await process.wait()
        except TimeoutError as error:
            raise InputError(
                f"engine.restart.command {words} did not end within {config.seconds:g} s and was killed; it has to "
                f"start the server in the background and end{_printed(log, begins)}"
            ) from error
        finally:
            if process.returncode is None:
                await _killed(process)
    if code:
        raise InputError(f"engine.restart.command {words} failed with exit code {code}{_printed(log, begins)}")


async def _started(words: Sequence[str], output: IO[bytes]) -> asyncio.subprocess.Process:
    """In a session of its own: Ctrl-C is for the run, not for the server. A file takes what it prints, since a pipe
    would be held open by the server that it leaves behind."""
    try:
        return await asyncio.create_subprocess_exec(
            *words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    except (OSError, ValueError) as error:
        raise InputError(f"engine.restart.command: {words[0]!r} cannot be run: {error}") from error


async def _killed(process: asyncio.subprocess.Process) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)  # the session has the number of its first process
    except ProcessLookupError:
        return
    await process.wait()


@torch.no_grad()
def last_rows(network: Network, prompts: Sequence[Sequence[int]]) -> Floats:
    """Log-probabilities of every token behind each prompt, `[prompts, V]`."""
    device = network.lm_head.weight.device
    bounds = np.cumsum([0, *map(len, prompts)]).tolist()
    output = network(
        torch.tensor([token for ids in prompts for token in ids], device=device),
        torch.cat([torch.arange(len(ids)) for ids in prompts]).to(device),
        PackedContext(cu_seqlens=tuple(bounds)),
        logits_index=torch.tensor([stop - 1 for stop in bounds[1:]], device=device),
    )
    rows: Floats = output.logits.double().log_softmax(dim=-1).cpu().numpy()
    return rows


def _one_token(number: int) -> Sampling:
    return Sampling(max_new_tokens=1, temperature=1.0, seed=number)


def _model_names(data: bytes) -> list[str]:
    try:
        listed: Any = json.loads(data)
    except ValueError:
        return []
    cards = listed.get("data") if isinstance(listed, Mapping) else None
    return [str(card["id"]) for card in cards or () if isinstance(card, Mapping) and "id" in card]


def _printed(log: Path, begins: int) -> str:
    """The end of what the command printed, for an error."""
    with log.open("rb") as file:
        file.seek(begins)
        text = file.read().decode("utf-8", "replace").strip()
    return f": {text[-_SHOWN:]}; see {log}" if text else f"; it printed nothing ({log})"
