"""Answers with tools: the model writes, its calls are answered, it writes on; one row of tokens in the end.

    prompt | own turn, <|im_end|> | what the tools said, next turn begins | own turn, <|im_end|> | …
             learns                 does not                               learns

1. A turn is generated behind all tokens so far, exactly as they are: nothing is rendered or encoded a second time.
2. Its text is read by the parser of the server (`serve.answer_text`). Without a call it is the answer, and is scored.
3. Calls are answered by the toolbox; the results become the tokens that follow `<|im_end|>` in the chat template.

What is kept is one `Completion`: the tokens behind the prompt, log-probabilities (0 where the tools spoke), and the
experts of every fed token, each row recorded when its token was first fed. The routing of turn n covers the tokens of
all turns before it, too, but rows are only taken for tokens that no earlier turn had fed: the log-probability of a
token was computed with those. The record of every turn is checked on the way (`check_record`).

The server, which gets text from its clients, renders a conversation anew, and so loses an empty `<think></think>` of
earlier turns; here it stays, as it was in the prompt of that turn.

An episode ends with an answer ("answered"), in the middle of a turn ("cut_off"), with calls that nobody answers since
turns ("turns") or time ("time") are used up, or when no room is left ("room"). Only an answer, or the beginning of one
that was cut off, is scored; every other ending is scored as silence.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from s1pro.base.client import ModelClient
from s1pro.base.errors import InputError
from s1pro.base.records import Completion, Message, RoutingTrace, Sampling
from s1pro.inputs.processor import Processor
from s1pro.rl.config import RLRun
from s1pro.rl.rollout import Question, Sampled, check_record, generate
from s1pro.serve.answer_text import THINK, AnswerParser, ToolCall
from s1pro.tasks.agents.offered import offered_tools, toolbox_of
from s1pro.tasks.agents.settings import AgentConfig
from s1pro.tasks.agents.toolbox import ERROR, Toolbox
from s1pro.tasks.task import Item, Task

SamplingOf = Callable[[int], Sampling]
"""How turn 0, 1, … draws."""


class Agent:
    """See the module docstring.

    Args:
        max_tokens: of a prompt with all that follows.

    Raises:
        InputError: as `offered_tools`.
    """

    def __init__(self, config: AgentConfig, processor: Processor, *, max_tokens: int, enable_thinking: bool) -> None:
        self.config, self.max_tokens = config, max_tokens
        self.processor, self.enable_thinking = processor, enable_thinking
        self._offered = offered_tools(config)

    def described(self, task: Task, item: Item) -> tuple[dict[str, Any], ...]:
        """The tools of a question, for its prompt."""
        return self._toolbox(task, item).described

    async def draw(
        self,
        question: Question,
        task: Task,
        client: ModelClient,
        sampling_of: SamplingOf,
        routing_shape: tuple[int, int] | None,
    ) -> Sampled:
        """One answer.

        Raises:
            InputError: a prompt that leaves no room.
            RecordError: a turn whose record does not fit.
        """
        if len(question.token_ids) >= self.max_tokens:
            raise InputError(
                f"task {question.task!r}: a prompt of {len(question.token_ids)} tokens, its tools included, leaves no "
                f"room in {self.max_tokens} tokens; raise data.tokens_per_batch or offer fewer tools"
            )
        episode = _Episode(question=question, routing_shape=routing_shape)
        toolbox = self._toolbox(task, question.item)
        spent = 0.0
        for turn in range(self.config.max_turns):
            room = self.max_tokens - len(episode.ids)
            if room < 1:
                return episode.sampled("room", "")
            completion = await self._turn(episode, client, sampling_of(turn), room)
            calls = self._calls(completion, episode) if toolbox.tools else []
            if completion.finish_reason != "stop":
                return episode.sampled("cut_off", "" if calls else completion.text)
            if not calls:
                return episode.sampled("answered", completion.text)
            if completion.token_ids[-1] != self.processor.tokenizer.eos_token_id:
                return episode.sampled("answered", "")  # the end of all text, not of a turn
            if turn == self.config.max_turns - 1:
                break
            began = time.monotonic()
            results = [await self._result(toolbox, call, number) for number, call in enumerate(calls)]
            spent += time.monotonic() - began
            episode.note(calls, results)
            if spent > self.config.seconds:
                return episode.sampled("time", "")
            episode.listen(self._spoken(results))
        return episode.sampled("turns", "")

    async def _turn(self, episode: _Episode, client: ModelClient, sampling: Sampling, room: int) -> Completion:
        limit = min(sampling.max_new_tokens, room)
        completion = await generate(
            client, episode.ids, dataclasses.replace(sampling, max_new_tokens=limit), episode.question.media
        )
        check_record(
            dataclasses.replace(episode.question, token_ids=tuple(episode.ids)), completion, episode.routing_shape
        )
        episode.speak(completion)
        return completion

    def _calls(self, completion: Completion, episode: _Episode) -> list[ToolCall]:
        """The calls of a turn, read as the server reads them."""
        think = self.processor.tokenizer.token_to_id(THINK)
        reasoning = think is not None and episode.last_before_turn == think
        parser = AnswerParser(reasoning=reasoning, tools=True)
        pieces = [*parser.push(completion.text), *parser.finish()]
        return [piece for piece in pieces if isinstance(piece, ToolCall)]

    async def _result(self, toolbox: Toolbox, call: ToolCall, number: int) -> str:
        if number >= self.config.max_calls:
            return f"{ERROR}at most {self.config.max_calls} calls in one turn"
        return await toolbox.answer(call.name, call.arguments)

    def _spoken(self, results: Sequence[str]) -> list[int]:
        messages = [Message(role="tool", content=result) for result in results]
        return self.processor.encode_next(messages, enable_thinking=self.enable_thinking, allow_control_tokens=False)

    def _toolbox(self, task: Task, item: Item) -> Toolbox:
        return toolbox_of(task, item, self._offered, self.config)


@dataclass(kw_only=True)
class _Episode:
    """What has been said so far; `ids` begin with the prompt, everything else with what followed."""

    question: Question
    routing_shape: tuple[int, int] | None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    own: list[bool] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    traces: list[RoutingTrace] | None = field(default_factory=list)
    turns: int = 0
    calls: int = 0
    failed_calls: int = 0
    last_before_turn: int = -1
    completion: Completion | None = None

    def __post_init__(self) -> None:
        self.ids = list(self.question.token_ids)

    def speak(self, completion: Completion) -> None:
        """A turn of the model."""
        assert completion.logprobs is not None
        self.last_before_turn = self.ids[-1]
        count = len(completion.token_ids)
        self.ids += completion.token_ids
        self.logprobs += completion.logprobs
        self.own += [True] * count
        self.versions += completion.token_versions or (completion.policy_version,) * count
        self.texts.append(completion.text)
        self.turns += 1
        if completion.routing is None:
            self.traces = None
        elif self.traces is not None:
            self.traces.append(completion.routing)
        self.completion = completion

    def listen(self, ids: Sequence[int]) -> None:
        """What the tools said, and the beginning of the next turn; nothing of it learns."""
        self.ids += ids
        self.logprobs += [0.0] * len(ids)
        self.own += [False] * len(ids)
        self.versions += [self.versions[-1]] * len(ids)

    def note(self, calls: Sequence[ToolCall], results: Sequence[str]) -> None:
        """For people who read the transcript, and for the metrics."""
        self.calls += len(calls)
        self.failed_calls += sum(result.startswith(ERROR) for result in results)
        self.texts += [f"\n[tool] {result}\n" for result in results]

    def sampled(self, ending: str, response: str) -> Sampled:
        """The episode as one completion. Tokens of tools behind the last own one are left out: nobody read them."""
        assert self.completion is not None
        begin = len(self.question.token_ids)
        count = max((i + 1 for i, own in enumerate(self.own) if own), default=0)
        versions = tuple(self.versions[:count])
        completion = Completion(
            text="".join(self.texts),
            finish_reason=self.completion.finish_reason,
            prompt_token_ids=self.question.token_ids,
            token_ids=tuple(self.ids[begin : begin + count]),
            logprobs=tuple(self.logprobs[:count]),
            cached_tokens=self.completion.cached_tokens,
            routing=None if self.traces is None else joined(self.traces),
            policy_version=self.completion.policy_version,
            token_versions=versions if len(set(versions)) > 1 else None,
        )
        return Sampled(
            completion=completion,
            response=response,
            own=tuple(self.own[:count]),
            turns=self.turns,
            calls=self.calls,
            failed_calls=self.failed_calls,
            ending=ending,
        )


def joined(traces: Sequence[RoutingTrace]) -> RoutingTrace:
    """The traces of all turns as one: of every turn the rows of tokens that no turn before had fed."""
    experts, tokens, known = [], [], 0
    for trace in traces:
        experts.append(trace.experts_TLK[known:])
        tokens.append(None if trace.token_ids_T is None else trace.token_ids_T[known:])
        known = len(trace.experts_TLK)
    told = [some for some in tokens if some is not None]
    return RoutingTrace(
        experts_TLK=np.concatenate(experts),
        policy_version=traces[-1].policy_version,
        token_ids_T=np.concatenate(told) if len(told) == len(tokens) else None,
    )


def agent_of(run: RLRun, processor: Processor) -> Agent | None:
    """Whoever answers the calls of tools in a run. Raises `InputError` for tools that cannot be used here."""
    if run.agent is None:
        return None
    thinking = run.rollout.enable_thinking
    return Agent(run.agent, processor, max_tokens=run.data.tokens_per_batch, enable_thinking=thinking)


def needs_agent(task: Task) -> InputError:
    """What a run without an agent says to a task with tools."""
    return InputError(f"task {task.name!r} has tools, and this run has no agent: give --agent, or set agent={{}}")
