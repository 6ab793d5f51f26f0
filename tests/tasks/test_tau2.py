"""The mock domain of tau2, end to end: the real task files, scripted speakers, our own world and rewards."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.base.records import Completion, Message, Sampling
from s1pro.tasks.tau2.mock_domain import MockDomain
from s1pro.tasks.tau2.orchestrator import Conversation, ModelSpeaker, converse, read_turn, write_turn
from s1pro.tasks.tau2.records import Tau2Task, ToolCall, Turn, read_tasks
from s1pro.tasks.tau2.rewards import Profile, reward
from tests.fake_endpoint import tool_call as call

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples" / "tau2_mock"
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the files of tau2's mock domain are not here")


class Script:
    """Says its lines, one per turn; the last one again and again."""

    def __init__(self, side: str, *lines: str) -> None:
        self.side, self.lines = side, list(lines)

    async def speak(self, turns: Sequence[Turn]) -> Turn:
        line = self.lines.pop(0) if len(self.lines) > 1 else self.lines[0]
        return read_turn(line, self.side)  # type: ignore[arg-type]


def task(name: str) -> Tau2Task:
    return next(one for one in read_tasks(SAMPLES) if one.id == name)


def play(which: Tau2Task, agent: Sequence[str], user: Sequence[str] = ("Do it.", "###STOP###")) -> Conversation:
    return asyncio.run(converse(MockDomain(SAMPLES), which, Script("assistant", *agent), Script("user", *user)))


def value(which: Tau2Task, played: Conversation, profile: Profile = "strict") -> float:
    return reward(MockDomain(SAMPLES), which, played.world, played.turns, played.ending, profile).value


CREATE = call("create_task", user_id="user_1", title="Important Meeting")
COMPLETE_1, COMPLETE_2 = (call("update_task_status", task_id=f"task_{i}", status="completed") for i in (1, 2))
TOLD = "The agent acknowledged the previous context. The agent confirmed the task status was updated successfully"
NOTICED = (
    call("check_notifications"),
    "I am done with task_1.",
    call("dismiss_notification", notification_id="notif_1"),
)
GOOD: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "create_task_1": ((CREATE, "Done."), ("Do it.", "###STOP###")),
    "create_task_1_with_env_assertions": ((CREATE, "Done."), ("Do it.", "###STOP###")),
    "create_task_1_nl_eval": (("You are great.",), ("Praise me.", "###STOP###")),
    "update_task_1": ((COMPLETE_1, "Done."), ("Do it.", "###STOP###")),
    "update_task_with_message_history": ((COMPLETE_2, "Done."), ("Do it.", "###STOP###")),
    "update_task_with_initialization_data": ((COMPLETE_2, TOLD), ("Do it.", "###STOP###")),
    "update_task_with_initialization_actions": ((COMPLETE_2, "Done."), ("Do it.", "###STOP###")),
    "update_task_with_history_and_env_assertions": ((COMPLETE_2, "Done."), ("Do it.", "###STOP###")),
    "update_task_with_user_tools": ((COMPLETE_1, "Done."), (*NOTICED, "###STOP###")),
    "impossible_task_1": ((call("transfer_to_human_agents", summary="all"), "Bye."), ("Delete all.", "###TRANSFER###")),
}


def test_the_reader_knows_all_ten_tasks() -> None:
    tasks = read_tasks(SAMPLES)
    assert {one.id for one in tasks} == set(GOOD)
    assert sum(one.basis == ("DB", "COMMUNICATE") for one in tasks) == 6
    assert task("impossible_task_1").actions[0].compare == ()  # type: ignore[index]
    assert len(task("update_task_with_message_history").history) == 4


@pytest.mark.parametrize("name", sorted(GOOD))
def test_doing_the_right_thing_is_worth_1(name: str) -> None:
    played = play(task(name), *GOOD[name])
    assert played.ending == "user_stop"
    if name == "update_task_with_user_tools":
        # DB wants the inbox as after the golden actions (unread), ENV_ASSERTION wants it read: nothing is worth 1
        assert (value(task(name), played), value(task(name), played, "compat")) == (0.0, 0.0)
        return
    assert (value(task(name), played), value(task(name), played, "compat")) == (1.0, 1.0)


@pytest.mark.parametrize("name", sorted(set(GOOD) - {"create_task_1_nl_eval"}))
def test_doing_nothing_is_worth_0(name: str) -> None:
    played = play(task(name), ("Certainly, done.",))
    assert value(task(name), played) == 0.0


def test_a_wrong_change_beside_the_right_one_is_worth_0() -> None:
    played = play(task("create_task_1"), (CREATE, COMPLETE_1, "Done."))
    assert value(task("create_task_1"), played) == 0.0


def test_endings() -> None:
    one = task("create_task_1")
    assert play(one, ("Hello?",), ("Well.",)).ending == "max_steps"
    errors = play(one, (call("delete_task", task_id="task_1"),))
    assert errors.ending == "too_many_errors"
    assert sum(turn.failed for turn in errors.turns) == 10
    several = play(one, (call("delete_task", task_id="task_1") * 3,))  # all calls of a turn are done, then counted
    assert several.ending == "too_many_errors" and sum(turn.failed for turn in several.turns) == 12
    silent = play(one, ("<think>hm</think>",))
    assert silent.ending == "agent_error"
    done = play(one, (CREATE, "Done."), ("Do it.", "Really?"))
    assert done.ending == "max_steps" and value(one, done) == 0.0  # right, but nobody ended it


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (call("create_task", user_id="user_9", title="x"), "User user_9 not found"),
        (call("create_task", user_id="user_1"), "missing a required argument: 'title'"),
        (call("create_task", user_id="user_1", title="x", colour="red"), "unexpected keyword argument 'colour'"),
        (call("create_task", user_id=["user_1"], title="x"), "user_id must be text"),
        (call("update_task_status", task_id="task_1", status="lost"), "the status is one of pending, completed"),
        (call("add_notification", notification_id="n", message="m"), "there is no tool 'add_notification'"),
        (call("digest"), "there is no tool 'digest'"),
        ("<tool_call>{broken</tool_call>", "cannot be read"),
        ('<tool_call>{"name": "get_users", "arguments": [1]}</tool_call>', "cannot be read"),
    ],
)
def test_calls_that_cannot_be_done_change_nothing_and_say_why(line: str, message: str) -> None:
    domain, one = MockDomain(SAMPLES), task("create_task_1")
    world = domain.world(one)
    before = world.digest()
    [asked] = read_turn(line, "assistant").calls
    answer = world.answer(asked)
    assert answer.failed and message in answer.text
    assert world.digest() == before == domain.world(one).digest()


def test_worlds_do_not_share_anything() -> None:
    domain, one = MockDomain(SAMPLES), task("update_task_with_initialization_data")
    first = domain.world(one)
    first.answer(ToolCall(name="update_task_status", arguments={"task_id": "task_2", "status": "completed"}))
    assert domain.world(one).digest() != first.digest()
    user = domain.world(one).db["users"]["user_1"]
    assert user == {"user_id": "user_1", "name": "Test User", "tasks": ["task_1", "task_2"]}


def test_the_profiles_differ_where_upstream_is_odd() -> None:
    one = replace(task("update_task_1"), basis=("ACTION",))
    played = play(one, ('<tool_call>{"name": "update_task_status", "arguments": {}}</tool_call>', "Done."))
    assert (value(one, played, "compat"), value(one, played, "strict")) == (1.0, 0.0)
    two = replace(task("create_task_1"), basis=("COMMUNICATE",), communicate=("1,200",))
    played = play(two, ("It costs 1,200.",))
    assert (value(two, played, "compat"), value(two, played, "strict")) == (0.0, 1.0)
    with pytest.raises(InputError, match="needs a judge"):
        value(replace(one, basis=("NL_ASSERTION",)), played)


def test_turns_are_read_as_they_are_written() -> None:
    turn = Turn(speaker="assistant", text="One moment.", calls=(ToolCall(name="f", arguments={"a": "ü"}),))
    assert read_turn(write_turn(turn), "assistant") == turn


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[0].pop("id"), "task 1: the field 'id' is missing"),
        (lambda t: t[1]["evaluation_criteria"].update(reward_basis=["LUCK"]), "reward_basis 'LUCK' is none of"),
        (
            lambda t: t[0]["evaluation_criteria"]["actions"][0].update(arguments=3),
            "'arguments' is 3, of the wrong type",
        ),
        (lambda t: t.append(t[0]), "two tasks have one id"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    shutil.copytree(SAMPLES, tmp_path / "mock")
    tasks = json.loads((SAMPLES / "tasks.json").read_text())
    change(tasks)
    (tmp_path / "mock" / "tasks.json").write_text(json.dumps(tasks))
    with pytest.raises(InputError, match=re.escape(message)):
        read_tasks(tmp_path / "mock")


class Recorder:
    def __init__(self) -> None:
        self.seen: list[list[Message]] = []

    async def chat(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        self.seen.append(list(messages))
        return Completion(text="ok", finish_reason="stop")

    async def complete(self, prompt: str, sampling: Sampling) -> Completion:
        raise AssertionError

    async def generate(self, prompt_token_ids: Sequence[int], sampling: Sampling) -> Completion:
        raise AssertionError


def test_no_side_sees_the_calls_of_the_other() -> None:
    played = play(task("update_task_with_user_tools"), *GOOD["update_task_with_user_tools"])
    for side, own, other in (
        ("assistant", "update_task_status", "notif"),
        ("user", "check_notifications", "update_task_status"),
    ):
        recorder = Recorder()
        asyncio.run(ModelSpeaker(recorder, side, "be kind", {}).speak(played.turns))  # type: ignore[arg-type]
        text = "\n".join(str(message.content) for message in recorder.seen[0])
        assert own in text and other not in text
        assert recorder.seen[0][0].content == "be kind"
