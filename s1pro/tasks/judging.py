"""A second model that reads answers: a judge, with every prompt and reply of it on record.

    Judged      of a subtask: what the judge is asked about an answer, and how its reply is read
    Judge       a client, and the log of its verdicts (JSON lines): key, prompt, every reply, what was read, tokens

A verdict is named by the digest of judge, prompt and temperatures, so an answer is judged once, in whatever run; a
resumed run finds verdicts in the log. A verdict is

    read          a reply could be read
    unreadable    none could, at any of the temperatures: counted, and scored as the benchmark says (0)
    failed        the endpoint gave none: counted and scored likewise, and asked again by the next run

A judge that refuses every prompt (wrong key, address or model) ends the run: there is nothing to count.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from s1pro.base.client import ModelClient
from s1pro.base.endpoint import EndpointError, EndpointRefusedError
from s1pro.base.errors import InputError
from s1pro.base.records import Message, Sampling

VerdictStatus = Literal["read", "unreadable", "failed"]
LONGEST_REPLY = 2048


@dataclass(frozen=True, kw_only=True)
class Judged:
    """How a judge takes part in a subtask.

    Attributes:
        prompt: what it is asked about a record and a response.
        read: what its reply says, in the place of the prediction; None if that is nothing. A mapping by profile where
            they read it in different ways.
        profiles: which of `compat` and `strict` it decides; `always`, or only where rules read nothing.
        temperatures: of its tries, until one can be read.
        required: without a judge there is no number.
        replaces: defects that are none with a judge.
    """

    prompt: Callable[[Mapping[str, Any], str], str]
    read: Callable[[str, Mapping[str, Any]], Any]
    profiles: tuple[str, ...] = ("compat",)
    always: bool = False
    temperatures: tuple[float, ...] = (0.0,)
    required: bool = False
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a judge said; `reading` is JSON."""

    status: VerdictStatus
    reading: Any = None
    reply: str = ""
    error: str = ""


@dataclass(kw_only=True)
class JudgeTotals:
    """Verdicts by status, and the tokens of all replies in the log."""

    read: int = 0
    unreadable: int = 0
    failed: int = 0
    num_prompt_tokens: int = 0
    num_tokens: int = 0


@dataclass
class Judge:
    """See the module docstring.

    Args:
        client: how to reach it; retries and limits belong to it.
        model: its name, part of every key.
        log: where verdicts are kept; None keeps them in memory.
        concurrency: most questions under way at once.

    Raises:
        InputError: the log has a line that is none of it.
    """

    client: ModelClient
    model: str
    log: Path | None = None
    concurrency: int = 16
    verdicts: dict[str, Verdict] = field(default_factory=dict, init=False)
    totals: JudgeTotals = field(default_factory=JudgeTotals, init=False)
    _under_way: dict[str, asyncio.Task[Verdict]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(self.concurrency)
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self._read(self.log)

    def known(self, prompt: str, temperatures: Sequence[float]) -> Verdict | None:
        """The verdict on a question, if there is one."""
        return self.verdicts.get(self._key(prompt, temperatures))

    async def ask(self, prompt: str, read: Callable[[str], Any], temperatures: Sequence[float]) -> Verdict:
        """The verdict on a question; asked unless it was read, or found unreadable, before.

        Raises:
            EndpointRefusedError: the judge takes no prompt from us.
        """
        key = self._key(prompt, temperatures)
        known = self.verdicts.get(key)
        if known is not None and known.status != "failed":
            return known
        if key not in self._under_way:
            self._under_way[key] = asyncio.ensure_future(self._ask(key, prompt, read, temperatures))
        try:
            return await asyncio.shield(self._under_way[key])
        finally:
            if key in self._under_way and self._under_way[key].done():
                del self._under_way[key]

    async def _ask(self, key: str, prompt: str, read: Callable[[str], Any], temperatures: Sequence[float]) -> Verdict:
        tries: list[dict[str, Any]] = []
        verdict = Verdict(status="unreadable")
        async with self._places:
            for temperature in temperatures:
                sampling = Sampling(max_new_tokens=LONGEST_REPLY, temperature=temperature)
                try:
                    answer = await self.client.chat([Message(role="user", content=prompt)], sampling)
                except EndpointRefusedError:
                    raise
                except (EndpointError, ValueError) as error:
                    verdict = Verdict(status="failed", error=f"{type(error).__name__}: {error}"[:500])
                    break
                reply = answer.text.rpartition("</think>")[2].strip()
                usage = answer.usage
                counts = (usage.num_prompt_tokens, usage.num_tokens) if usage else (0, len(answer.token_ids))
                tries.append(
                    {
                        "temperature": temperature,
                        "reply": reply,
                        "num_prompt_tokens": counts[0],
                        "num_tokens": counts[1],
                    }
                )
                reading = read(reply)
                verdict = Verdict(status="unreadable" if reading is None else "read", reading=reading, reply=reply)
                if reading is not None:
                    break
        self._keep(key, prompt, tries, verdict)
        return verdict

    def _key(self, prompt: str, temperatures: Sequence[float]) -> str:
        text = json.dumps([self.model, prompt, list(temperatures)], ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def _keep(self, key: str, prompt: str, tries: Sequence[Mapping[str, Any]], verdict: Verdict) -> None:
        line = {"key": key, "judge": self.model, "prompt": prompt, "tries": tries, **vars(verdict)}
        if self.log is not None:
            with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._count(line)

    def _read(self, path: Path) -> None:
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        for number, text in enumerate(data[:whole].splitlines(), start=1):
            try:
                self._count(json.loads(text))
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}, line {number}: no verdict of a judge ({error}); remove the line") from error
        if whole < len(data):  # cut in two by a kill
            with path.open("r+b") as file:
                file.truncate(whole)

    def _count(self, line: Mapping[str, Any]) -> None:
        """Takes a line into account; a later verdict on the same question replaces a failed one."""
        before = self.verdicts.get(line["key"])
        verdict = Verdict(status=line["status"], reading=line["reading"], reply=line["reply"], error=line["error"])
        totals = self.totals
        if before is not None:
            setattr(totals, before.status, getattr(totals, before.status) - 1)
        setattr(totals, verdict.status, getattr(totals, verdict.status) + 1)
        totals.num_prompt_tokens += sum(each["num_prompt_tokens"] for each in line["tries"])
        totals.num_tokens += sum(each["num_tokens"] for each in line["tries"])
        self.verdicts[line["key"]] = verdict
