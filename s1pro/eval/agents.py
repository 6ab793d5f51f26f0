"""tau2 through a model: every task of a domain is played, scored under both profiles, written, resumed and reported
like any other answer.

A line of `answers/tau2-<domain>.jsonl` is one conversation: `prompt` is what the task says to the user, `response` the
transcript, `parts` the rewards under both profiles and their parts, `score` the strict one. `all@k` of the result is
upstream's pass^k. A conversation whose endpoint failed for good, or whose judge did, is marked as failed and counts 0.

Where a task names NL_ASSERTION, a judge reads the conversation (`tau2.rewards.asserted`); its prompts and replies are
recorded like those of other judges.

In solo mode (`tau2.solo`) nobody plays the customer, `prompt` is the ticket, and the file is
`tau2-<domain>-solo.jsonl`.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from s1pro.base.client import ModelClient
from s1pro.base.endpoint import EndpointError, EndpointRefusedError
from s1pro.base.records import Message, Sampling
from s1pro.base.stamp import write_json
from s1pro.eval.answers import Answer, AnswerFile
from s1pro.eval.asking import MAX_ERROR, all_of
from s1pro.eval.cache import token_counts
from s1pro.eval.progress import ProgressBar
from s1pro.eval.prompts import digest
from s1pro.eval.results import TaskResult, task_result
from s1pro.eval.runner import EvalSettings, RunOptions, answer_path, claim, results_json
from s1pro.tasks.judging import Judge
from s1pro.tasks.task import Item, Prompt, Score, mean_parts
from s1pro.tasks.tau2.orchestrator import (
    Conversation,
    ModelSpeaker,
    Speaker,
    agent_instructions,
    converse,
    user_instructions,
    write_turn,
)
from s1pro.tasks.tau2.records import Tau2Task
from s1pro.tasks.tau2.rewards import ENDED, Profile, asserted, needs_judge, reward
from s1pro.tasks.tau2.solo import SoloSpeaker, solo_instructions
from s1pro.tasks.tau2.world import Domain

PROFILES: tuple[Profile, ...] = ("compat", "strict")


class Played:
    """The tasks of a domain as a `Task`, for results and reports; conversations are scored when they end.

    Attributes:
        judge: who reads conversations for NL_ASSERTION.
        policy: what the agent may do, alone or with a customer.
    """

    judge: Judge | None = None

    def __init__(self, domain: Domain, tasks: Sequence[Tau2Task], *, solo: bool = False) -> None:
        self.name, self.domain, self.solo = f"tau2-{domain.label}{'-solo' if solo else ''}", domain, solo
        self.policy = domain.read_policy(domain.solo_policies) if solo else domain.policy
        self.tasks = {task.id: task for task in tasks}

    def needs_judge(self) -> bool:
        """Whether any of its tasks cannot be scored without one."""
        return any(map(needs_judge, self.tasks.values()))

    def items(self) -> Sequence[Item]:
        return [Item(id=name) for name in self.tasks]

    def prompt(self, item: Item) -> Prompt:
        task = self.tasks[item.id]
        return Prompt(messages=(Message(role="user", content=task.ticket if self.solo else task.instructions),))

    async def score(self, item: Item, response: str) -> Score:
        """Of silence: a transcript alone does not say what it did to the databases."""
        return Score(value=0.0, valid=False)

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return mean_parts(scores)


def run_agents(
    played: Played,
    client: ModelClient,
    user: ModelClient,
    folder: Path,
    options: RunOptions,
    settings: EvalSettings,
    progress: ProgressBar | None = None,
) -> TaskResult:
    """Plays every task `options.repeats` times, or goes on where an earlier run stopped.

    Args:
        user: the model that plays the customer.
    """
    claim(folder, settings, options.overwrite)
    items = list(played.items())[: options.limit]
    paths = [answer_path(folder, played.name, repeat) for repeat in range(options.repeats)]

    async def everything() -> TaskResult:
        with ExitStack() as stack:
            files = [AnswerFile(path) for path in paths]
            for file in files:
                if options.retry_failed:
                    file.forget_failed()
                stack.enter_context(file)
            playing = _Playing(played, client, user, settings.sampling, options, progress or ProgressBar(shown=False))
            await playing.all(items, files)
            answers = [[file.answers[item.id] for item in items] for file in files]
        return await task_result(played, items, answers, prices=options.prices)

    result = asyncio.run(everything())
    write_json(folder / "results.json", results_json([result], settings, client=client, judge=played.judge))
    return result


class _Playing:
    def __init__(
        self,
        played: Played,
        client: ModelClient,
        user: ModelClient,
        sampling: Sampling,
        options: RunOptions,
        progress: ProgressBar,
    ) -> None:
        self.played, self.client, self.user, self.sampling = played, client, user, sampling
        self.places, self.progress = asyncio.Semaphore(options.concurrency), progress

    async def all(self, items: Sequence[Item], files: Sequence[AnswerFile]) -> None:
        missing = [(item, n) for n, file in enumerate(files) for item in items if item.id not in file.answers]
        total, done = len(items) * len(files), len(items) * len(files) - len(missing)

        async def one(item: Item, repeat: int) -> None:
            nonlocal done
            async with self.places:
                files[repeat].append(await self._one(item, repeat))
            done += 1
            self.progress.update(self.played.name, done, total)

        self.progress.update(self.played.name, done, total)
        await all_of(one(item, repeat) for item, repeat in missing)

    async def _one(self, item: Item, repeat: int) -> Answer:
        domain, task = self.played.domain, self.played.tasks[item.id]
        sampling = self.sampling
        if repeat and sampling.seed is not None:
            sampling = dataclasses.replace(sampling, seed=sampling.seed + repeat)
        agent = _Counting(self.client)
        speaker, customer = self._speakers(task, agent, sampling)
        prompt = [message.as_dict() for message in self.played.prompt(item).messages]
        try:
            played = await converse(domain, task, speaker, customer)
            return self._answer(item, prompt, played, agent, await self._borne_out(task, played))
        except EndpointRefusedError:
            raise
        except (EndpointError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"[:MAX_ERROR]
            return _line(item, prompt, "", dict.fromkeys(PROFILES, 0.0), None, agent, "failed", reason)

    def _speakers(self, task: Tau2Task, agent: ModelClient, sampling: Sampling) -> tuple[Speaker, Speaker | None]:
        domain = self.played.domain
        tools, policy = domain.tools_of(task), domain.policy_of(task)
        if self.played.solo:
            alone = solo_instructions(self.played.policy, task)
            return SoloSpeaker(agent, alone, tools, sampling), None
        return (
            ModelSpeaker(agent, "assistant", agent_instructions(policy), tools["assistant"], sampling),
            ModelSpeaker(self.user, "user", user_instructions(task), tools["user"], sampling),
        )

    async def _borne_out(self, task: Tau2Task, played: Conversation) -> list[str] | None:
        """A, B, or nothing readable for every assertion. Raises `ValueError` for a judge that is away."""
        judge = self.played.judge
        if judge is None or not needs_judge(task):
            return None
        if played.ending not in ENDED:  # worth 0 whatever it says
            return []
        verdicts = await asserted(task, played.turns, judge)
        failed = next((verdict.error for verdict in verdicts if verdict.status == "failed"), None)
        if failed is not None:
            raise ValueError(f"the judge failed: {failed}")
        return [str(verdict.reading or "unreadable") for verdict in verdicts]

    def _answer(
        self, item: Item, prompt: Any, played: Conversation, agent: _Counting, said: Sequence[str] | None
    ) -> Answer:
        task, domain = self.played.tasks[item.id], self.played.domain
        borne_out = None if said is None else [letter == "A" for letter in said]
        rewards = {
            name: reward(domain, task, played.world, played.turns, played.ending, name, borne_out=borne_out)
            for name in PROFILES
        }
        parts: dict[str, float] = {name: found.value for name, found in rewards.items()}
        parts |= {f"{name}.{part}": v for name, found in rewards.items() for part, v in found.parts.items()}
        extraction: dict[str, Any] = {"gold": ", ".join(task.basis), "ending": played.ending}
        extraction |= {} if said is None else {"judge": list(said)}
        return _line(item, prompt, transcript(played), parts, extraction, agent)


class _Counting:
    """A client that counts tokens of one conversation."""

    def __init__(self, client: ModelClient) -> None:
        self.client = client
        self.num_prompt_tokens = self.num_tokens = 0

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Any:
        completion = await self.client.chat(messages, sampling)
        prompt_tokens, tokens = token_counts(completion)
        self.num_prompt_tokens += prompt_tokens
        self.num_tokens += tokens
        return completion

    async def complete(self, prompt: str, sampling: Sampling) -> Any:
        return await self.client.complete(prompt, sampling)

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Any:
        return await self.client.generate(prompt_token_ids, sampling)


def transcript(played: Conversation) -> str:
    """For readers."""
    lines = []
    for turn in played.turns:
        name = f"tool ({turn.side})" if turn.speaker == "tool" else turn.speaker
        lines.append(f"{name}: {write_turn(turn)}")
    return "\n".join([*lines, f"[{played.ending}]"])


def _line(
    item: Item,
    prompt: Any,
    response: str,
    parts: Mapping[str, float],
    extraction: Any,
    agent: _Counting,
    status: Any = "answered",
    error: str = "",
) -> Answer:
    return Answer(
        id=item.id,
        prompt=prompt,
        response=response,
        score=parts["strict"],
        valid=status == "answered",
        extraction=extraction,
        parts=parts,
        finish_reason="stop",
        num_tokens=agent.num_tokens,
        num_prompt_tokens=agent.num_prompt_tokens,
        status=status,
        error=error,
        digest=digest(prompt),
    )
