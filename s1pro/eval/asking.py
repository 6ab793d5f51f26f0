"""One task and one model: every item asked, every answer scored and written, every failure marked.

1. Items that have a line in the file are skipped.
2. The others are asked concurrently. Retries, rate limits and the circuit breaker belong to the client.
3. What failed although it may work later (a server that was away for longer than the client's patience) is asked once
   more when all others are through.
4. What failed for good gets a line with the status "failed" and its reason: it scores 0 and stays in the denominator.

A client that refuses every prompt (wrong key, address, model) ends the run: there is nothing to mark.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from s1pro.base.client import ModelClient, TakesTools
from s1pro.base.endpoint import EndpointError, EndpointRefusedError
from s1pro.base.errors import InputError, MissingExtraError
from s1pro.base.records import Completion, Sampling
from s1pro.eval.answers import Answer, AnswerFile
from s1pro.eval.cache import CompletionCache, token_counts
from s1pro.eval.progress import ProgressBar
from s1pro.eval.prompts import digest, without_folders
from s1pro.tasks.agents.conversation import answer_with_tools
from s1pro.tasks.agents.offered import toolbox_of
from s1pro.tasks.agents.settings import AgentConfig
from s1pro.tasks.agents.toolbox import HasTools
from s1pro.tasks.benchmarks.spec import BenchmarkTask
from s1pro.tasks.task import Item, Prompt, Score, Task

MAX_ERROR = 500


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a task is asked.

    Attributes:
        thinking: the model was told to reason, so a response without `</think>` is reasoning that never ended.
        places: held by every request under way.
    """

    task: Task
    items: Sequence[Item]
    sampling: Sampling
    thinking: bool
    places: asyncio.Semaphore
    progress: ProgressBar
    cache: CompletionCache | None = None

    async def ask(self, client: ModelClient, files: Sequence[AnswerFile], label: str) -> list[list[Answer]]:
        """The answers to all items, in the order of the items: one list per file, a file per repeat."""
        for file in files:
            self._check_same_questions(file)
        missing = [(item, repeat) for repeat, file in enumerate(files) for item in self._missing(file)]
        total = len(self.items) * len(files)
        done = total - len(missing)
        self.progress.update(label, done, total)
        again: list[tuple[Item, int]] = []

        async def one(item: Item, repeat: int, *, last: bool) -> None:
            nonlocal done
            if await self._one(item, repeat, client, files[repeat], last=last):
                done += 1
                self.progress.update(label, done, total)
            else:
                again.append((item, repeat))

        await all_of(one(item, repeat, last=False) for item, repeat in missing)
        await all_of(one(item, repeat, last=True) for item, repeat in list(again))
        return [[file.answers[item.id] for item in self.items] for file in files]

    def _missing(self, file: AnswerFile) -> list[Item]:
        return [item for item in self.items if item.id not in file.answers]

    async def _one(self, item: Item, repeat: int, client: ModelClient, file: AnswerFile, *, last: bool) -> bool:
        """Whether the item has its line now."""
        prompt = self.task.prompt(item)
        async with self.places:
            try:
                completion = await self._complete(item, prompt, repeat, client)
            except EndpointRefusedError:
                raise
            except (EndpointError, ValueError) as error:
                if isinstance(error, MissingExtraError):
                    raise
                if isinstance(error, EndpointError) and error.may_work_later and not last:
                    return False
                file.append(await self._failure(item, prompt, error))
                return True
            response = scored_text(completion, thinking=self.thinking)
            score = await self.task.score(item, response)
        file.append(_answer(item, prompt, response, score, completion))
        return True

    async def _complete(self, item: Item, prompt: Prompt, repeat: int, client: ModelClient) -> Completion:
        """Items of one and the same prompt are draws, like repeats: each has its own seed and place in a cache."""
        sampling, task = self.sampling, self.task
        drawn = isinstance(task, BenchmarkTask) and task.subtask.made is not None
        step = repeat + (len(self.items) * repeat + int(item.id) if drawn else 0)
        if step and sampling.seed is not None:
            sampling = dataclasses.replace(sampling, seed=sampling.seed + step)
        if isinstance(task, HasTools):
            return await self._with_tools(task, item, prompt, sampling, client)
        if self.cache is None:
            return await client.chat(prompt.messages, sampling)
        turns = [message.as_dict() for message in prompt.messages]
        place = [item.id] if drawn else []
        key = digest(self.cache.model, self.thinking, turns, dataclasses.asdict(sampling), repeat, *place)
        found = self.cache.find(key)
        if found is None:
            found = await client.chat(prompt.messages, sampling)
            self.cache.keep(key, found)
        return found

    async def _with_tools(
        self, task: Any, item: Item, prompt: Prompt, sampling: Sampling, client: ModelClient
    ) -> Completion:
        """Results of tools are part of the answer, so completions that several runs share are of no use here."""
        if not isinstance(client, TakesTools):
            raise InputError(f"the task {task.name!r} has tools, and {type(client).__name__} takes none")
        config = AgentConfig()
        toolbox = toolbox_of(task, item, (), config)
        return await answer_with_tools(client, prompt.messages, toolbox, sampling, config)

    async def _failure(self, item: Item, prompt: Prompt, error: Exception) -> Answer:
        score = await score_of_silence(self.task, item)
        silence = Completion(text="", finish_reason="abort")
        answer = _answer(item, prompt, "", score, silence)
        return dataclasses.replace(answer, status="failed", error=f"{type(error).__name__}: {error}"[:MAX_ERROR])

    def _check_same_questions(self, file: AnswerFile) -> None:
        for item in self.items:
            answer = file.answers.get(item.id)
            if answer is None:
                continue
            asked = [message.as_dict() for message in self.task.prompt(item).messages]
            if without_folders(answer.prompt) != without_folders(asked):
                raise InputError(
                    f"{file.path}: item {item.id!r} was asked with another prompt; "
                    "the task has changed since: choose another folder, or overwrite"
                )


async def score_of_silence(task: Task, item: Item) -> Score:
    """Of an answer that never came: scored, because metrics of benchmarks need the gold of every item, but by rules
    alone, without a judge. Its value is 0 whatever the rules say."""
    if getattr(task, "judge", None) is not None:
        task = copy.copy(task)
        task.judge = None  # type: ignore[attr-defined]
    return dataclasses.replace(await task.score(item, ""), value=0.0, valid=False)


def scored_text(completion: Completion, *, thinking: bool) -> str:
    """One form for all sources: reasoning, `</think>`, answer. Reasoning that never ended leaves an empty answer."""
    if completion.reasoning_content:
        return f"{completion.reasoning_content}</think>{completion.text}"
    if thinking and completion.text and completion.reasoning_content is None and "</think>" not in completion.text:
        return f"{completion.text}</think>"
    return completion.text


def _answer(item: Item, prompt: Prompt, response: str, score: Score, completion: Completion) -> Answer:
    turns = [message.as_dict() for message in prompt.messages]
    prompt_tokens, tokens = token_counts(completion)
    return Answer(
        id=item.id,
        prompt=turns,
        response=response,
        score=float(score.value),
        valid=score.valid,
        extraction=score.extraction,
        parts=score.parts,
        finish_reason=completion.finish_reason,
        num_tokens=tokens,
        num_prompt_tokens=prompt_tokens,
        digest=digest(turns),
    )


async def all_of(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs all at once; the first error cancels the others and is raised as it is."""
    running = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
