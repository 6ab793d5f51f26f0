"""What a conversation of tau2 is worth: the product of the parts that the task names, 0 unless somebody ended it.

| part | 1 if |
|---|---|
| DB | both databases are as after the golden actions on a fresh world; 1 without actions and assertions |
| ENV_ASSERTION | every assertion gives what it should on the world as it is now |
| ACTION | every golden call was made |
| COMMUNICATE | every expected piece of information was said by the agent |
| NL_ASSERTION | a judge says of every assertion that the conversation bears it out; 1 without assertions |

Two profiles. **compat** is upstream: a golden call is met by one that agrees in the arguments *which the model gave*
(so a call without arguments meets all); commas are removed from what was said but not from what is expected, so "1,200"
is never found; and between golden actions the two databases do not learn from each other (`World.sync`), so that of a
bill asked for and paid only the asking is golden. **strict**: the arguments of the golden call count; commas inside
numbers are removed on both sides; databases learn after every call.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.judged import plain_verdict
from s1pro.tasks.judging import Judge, Verdict
from s1pro.tasks.tau2.records import GoldAction, Tau2Task, ToolCall, Turn
from s1pro.tasks.tau2.world import Domain, ToolError, World

Profile = Literal["compat", "strict"]
ENDED = ("agent_stop", "user_stop")


@dataclass(frozen=True, kw_only=True)
class Reward:
    """`parts` are all that were computed; `value` is the product of those in the basis."""

    value: float
    parts: Mapping[str, float]
    note: str = ""


def reward(
    domain: Domain,
    task: Tau2Task,
    world: World,
    turns: Sequence[Turn],
    ending: str,
    profile: Profile = "strict",
    *,
    borne_out: Sequence[bool] | None = None,
) -> Reward:
    """Of one conversation.

    Args:
        world: as the conversation left it.
        turns: all of them, the history of the task included.
        borne_out: what a judge said of every assertion (`asserted`); None where nobody was asked.

    Raises:
        InputError: the basis needs a judge, and none was asked.
    """
    if needs_judge(task) and borne_out is None:
        raise InputError(f"{task.id}: its reward needs a judge (NL_ASSERTION)")
    if ending not in ENDED:
        return Reward(value=0.0, parts={}, note=f"ended by {ending}")
    if not task.has_criteria:
        return Reward(value=1.0, parts={}, note="no criteria")
    calls = [call for turn in turns for call in turn.calls]
    parts = {
        "DB": _database(domain, task, world, profile),
        "ENV_ASSERTION": float(all(_holds(world, task, i) for i in range(len(task.assertions or ())))),
        "ACTION": float(all(any(_meets(g, call, profile) for call in calls) for g in task.actions or ())),
        "COMMUNICATE": float(all(_said(info, turns, profile) for info in task.communicate)),
    }
    if borne_out is not None or "NL_ASSERTION" in task.basis:
        parts["NL_ASSERTION"] = float(all(borne_out or ()))
    value = 1.0
    for name in task.basis:
        value *= parts[name]
    return Reward(value=value, parts=parts)


def needs_judge(task: Tau2Task) -> bool:
    """Whether its reward depends on assertions in words."""
    return "NL_ASSERTION" in task.basis and bool(task.nl_assertions)


async def asserted(task: Tau2Task, turns: Sequence[Turn], judge: Judge) -> list[Verdict]:
    """What a judge says of every assertion, one question each; A is yes."""
    said = "\n".join(f"{turn.speaker}: {turn.text}" for turn in turns if turn.speaker != "tool" and turn.text)
    questions = [
        "Below is a conversation of a customer (user) with an agent (assistant), and a statement about it. Does the "
        "conversation bear the statement out? Reply A if it does and B if not, nothing else.\n\n"
        f"Conversation:\n{said}\n\nStatement: {statement}\n\nA or B:"
        for statement in task.nl_assertions
    ]
    return list(await asyncio.gather(*(judge.ask(question, plain_verdict, (0.0,)) for question in questions)))


def _database(domain: Domain, task: Tau2Task, world: World, profile: Profile) -> float:
    if task.actions is None and task.assertions is None:
        return 1.0
    golden = domain.world(task)
    for action in task.actions or ():
        golden.answer(action.call, synced=profile == "strict")
    return float(golden.digest() == world.digest())


def _holds(world: World, task: Tau2Task, number: int) -> bool:
    assert task.assertions is not None
    assertion = task.assertions[number]
    try:
        return bool(world.function(assertion.call) == assertion.expected)
    except ToolError:
        return False


def _meets(golden: GoldAction, call: ToolCall, profile: Profile) -> bool:
    if call.name != golden.call.name or call.arguments is None:
        return False
    if profile == "strict" and call.side != golden.call.side:
        return False
    wanted = golden.call.arguments or {}
    names = golden.compare
    if names is None:
        names = tuple(call.arguments) if profile == "compat" else tuple(wanted)
    missing = object()
    return all(call.arguments.get(name, missing) == wanted.get(name, missing) for name in names)


def _said(info: str, turns: Sequence[Turn], profile: Profile) -> bool:
    texts = [turn.text.lower() for turn in turns if turn.speaker == "assistant"]
    if profile == "compat":
        return any(info.lower() in text.replace(",", "") for text in texts)
    return any(_without_commas(info.lower()) in _without_commas(text) for text in texts)


def _without_commas(text: str) -> str:
    """Those between digits."""
    return re.sub(r"(?<=\d),(?=\d)", "", text)
