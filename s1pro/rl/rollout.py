"""Answers to learn from: what was asked, what the engine said, what it is worth.

    Question --draw--> Sampled --judged--> Rollout

A rollout keeps the tokens as they were sampled, never its text re-tokenised; the log-probability that each of them had;
and which experts every fed token used. `check_record` refuses records that do not fit together: replay of a record that
is one token short would train on another network than the one that answered, and nothing would crash.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from s1pro.base.client import ModelClient, TakesMedia
from s1pro.base.errors import InputError
from s1pro.base.media import Media
from s1pro.base.records import Completion, Message, PromptGroup, Sampling
from s1pro.rl.config import RolloutConfig
from s1pro.rl.rewards import RewardConfig, RewardTerms, reward_terms
from s1pro.tasks.judges.judge import Failure, Here, Judge
from s1pro.tasks.task import Item, Score, Task

if TYPE_CHECKING:
    from s1pro.rl.agent import Agent

LOGPROB_SLACK = 1e-4
"""How far above 0 a log-probability may round."""


class RecordError(ValueError):
    """A rollout whose parts do not belong together."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One prompt, as ids: what all answers of a group begin with.

    Attributes:
        media: pictures, videos and signals whose placeholders are among the ids.
    """

    task: str
    item: Item
    token_ids: tuple[int, ...]
    prompt_group: PromptGroup = "science"
    media: Media[Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What followed a prompt.

    Attributes:
        completion: all tokens behind the prompt. Those that the model did not write have the log-probability 0.
        own: which of them the model wrote itself; None is all.
        response: what is scored.
        turns, calls, failed_calls, ending: of an answer with tools (`rl.agent`).
    """

    completion: Completion
    response: str
    own: tuple[bool, ...] | None = None
    turns: int = 1
    calls: int = 0
    failed_calls: int = 0
    ending: str = ""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One answer to one question.

    Attributes:
        score: of the task.
        group: number of the question in the step, member: number of the answer in its group.
        failure: why there is no score (`tasks.judges`); the answer teaches nothing then, and `score` is 0.
        own: which tokens of the completion the model wrote itself and learns from; None is all.
        terms: what the reward is made of; without them it is the value of the score.
        turns, calls, failed_calls, ending: as in `Sampled`.
    """

    question: Question
    completion: Completion
    score: Score
    group: int
    member: int
    failure: Failure | None = None
    own: tuple[bool, ...] | None = None
    terms: RewardTerms | None = None
    turns: int = 1
    calls: int = 0
    failed_calls: int = 0
    ending: str = ""

    def __post_init__(self) -> None:
        if self.own is not None and len(self.own) != len(self.completion.token_ids):
            raise RecordError(f"{len(self.completion.token_ids)} tokens, but {len(self.own)} marks of whose they are")

    @property
    def reward(self) -> float:
        return self.score.value if self.terms is None else self.terms.total

    @property
    def num_tokens(self) -> int:
        """That the model wrote."""
        return len(self.completion.token_ids) if self.own is None else sum(self.own)

    @property
    def own_logprobs(self) -> tuple[float, ...]:
        """Of the tokens that the model wrote."""
        logprobs = self.completion.logprobs or ()
        return tuple(logprobs) if self.own is None else tuple(itertools.compress(logprobs, self.own))


async def answer(
    questions: Sequence[Question],
    tasks: dict[str, Task],
    client: ModelClient,
    config: RolloutConfig,
    *,
    seed: int,
    routing_shape: tuple[int, int] | None,
    judge: Judge | None = None,
    reward: RewardConfig | None = None,
    first: int = 0,
    agent: Agent | None = None,
) -> list[list[Rollout]]:
    """Every question answered `group_size` times and scored; groups in the order of the questions.

    Args:
        seed: of the step; every answer draws from a stream of its own, whatever else is in the batch.
        routing_shape: layers with experts and experts per token, where replay needs the record; else None.
        judge: who scores; by default the tasks themselves, in this process.
        reward: the terms of the reward; the value of the score by default.
        first: number of the first question in its step.
        agent: answers the calls of tools; without one, every answer is one turn.

    Raises:
        InputError: a prompt with media, and a client that takes none.
        RecordError: an answer whose record does not fit.
    """
    judge = judge or Here(tasks)
    gate = asyncio.Semaphore(config.concurrency)

    async def one(group: int, member: int) -> Rollout:
        question = questions[group]
        async with gate:
            sampled = await draw(
                question,
                tasks[question.task],
                client,
                lambda turn: config.sampling(stream_seed(seed, question, first + group, member, turn)),
                routing_shape=routing_shape,
                agent=agent,
            )
        check_record(question, sampled.completion, routing_shape)
        return await judged(sampled, question, judge, reward, group=first + group, member=member)

    members = range(config.group_size)
    found = await asyncio.gather(*(one(group, member) for group in range(len(questions)) for member in members))
    return [found[i : i + len(members)] for i in range(0, len(found), len(members))]


async def draw(
    question: Question,
    task: Task,
    client: ModelClient,
    sampling_of: Callable[[int], Sampling],
    *,
    routing_shape: tuple[int, int] | None = None,
    agent: Agent | None = None,
) -> Sampled:
    """One answer.

    Args:
        sampling_of: how turn 0, 1, … draws; without an agent there is one turn.

    Raises:
        InputError: media that the client cannot take.
        RecordError: a turn before the last one whose record does not fit.
    """
    if agent is not None:
        return await agent.draw(question, task, client, sampling_of, routing_shape)
    completion = await generate(client, question.token_ids, sampling_of(0), question.media)
    return Sampled(completion=completion, response=completion.text)


async def judged(
    sampled: Sampled, question: Question, judge: Judge, reward: RewardConfig | None, *, group: int, member: int
) -> Rollout:
    """The answer with its score and its reward, or with the reason why it has none."""
    verdict = await judge.score(question.task, question.item, sampled.response)
    rollout = Rollout(
        question=question,
        completion=sampled.completion,
        own=sampled.own,
        score=verdict.score or Score(value=0.0, valid=False),
        group=group,
        member=member,
        failure=verdict.failure,
        turns=sampled.turns,
        calls=sampled.calls,
        failed_calls=sampled.failed_calls,
        ending=sampled.ending,
    )
    if reward is None:
        return rollout
    return dataclasses.replace(rollout, terms=reward_terms(rollout.score, rollout.num_tokens, reward))


async def generate(
    client: ModelClient, token_ids: Sequence[int], sampling: Sampling, media: Media[Any] | None
) -> Completion:
    """What the client writes behind these tokens."""
    if media is None:
        return await client.generate(token_ids, sampling)
    if not isinstance(client, TakesMedia):
        raise InputError(f"{type(client).__name__} takes prompts of text only: learn from media with the own engine")
    return await client.generate_with_media(token_ids, media, sampling)


def stream_seed(seed: int, question: Question, group: int, member: int, turn: int = 0) -> int:
    """A seed for one turn of one answer: the same in every run, different for every other."""
    text = f"{seed}|{question.task}|{question.item.id}|{group}|{member}" + (f"|{turn}" if turn else "")
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def check_record(question: Question, completion: Completion, routing_shape: tuple[int, int] | None) -> None:
    """Whether tokens, log-probabilities and routing of an answer are of one piece.

    Raises:
        RecordError: what does not fit.
    """
    where = f"task {question.task!r}, item {question.item.id!r}"
    sampled, logprobs = completion.token_ids, completion.logprobs
    if completion.prompt_token_ids and completion.prompt_token_ids != question.token_ids:
        raise RecordError(f"{where}: the engine answered another prompt than it was asked")
    if not sampled or logprobs is None or len(logprobs) != len(sampled):
        got = "no" if logprobs is None else str(len(logprobs))
        raise RecordError(f"{where}: {len(sampled)} tokens with {got} log-probabilities")
    if not all(math.isfinite(value) and value <= LOGPROB_SLACK for value in logprobs):
        raise RecordError(f"{where}: a log-probability is not a finite number below 0")
    if routing_shape is None:
        return
    trace = completion.routing
    fed = (*question.token_ids, *sampled[:-1])
    if trace is None:
        raise RecordError(
            f"{where}: replay needs the experts of every token, and the engine returned none; start it so that it does "
            "(docs/rl.md), or set rollout.replay=false"
        )
    if trace.experts_TLK.shape != (len(fed), *routing_shape):
        raise RecordError(
            f"{where}: routing of shape {trace.experts_TLK.shape} for {len(fed)} fed tokens, {routing_shape[0]} layers "
            f"and {routing_shape[1]} experts per token"
        )
    if trace.token_ids_T is not None and trace.token_ids_T.tolist() != list(fed):
        first = next(i for i, (a, b) in enumerate(zip(trace.token_ids_T.tolist(), fed, strict=True)) if a != b)
        raise RecordError(
            f"{where}: row {first} of the routing is about token {trace.token_ids_T[first]}, but {fed[first]} was fed"
        )
    if trace.policy_version != completion.policy_version:
        raise RecordError(
            f"{where}: routing of weights {trace.policy_version}, tokens of weights {completion.policy_version}"
        )


def science_or_general(messages: Sequence[Message], science_prompt: str) -> PromptGroup:
    """The prompt group of a conversation, by its system prompt."""
    system = next((message.text for message in messages if message.role == "system"), None)
    return "general" if system is not None and system != science_prompt else "science"


def mean_length(rollouts: Sequence[Rollout]) -> float:
    return float(np.mean([rollout.num_tokens for rollout in rollouts]))
