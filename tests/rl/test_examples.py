"""Which answers of a round are kept for people."""

from __future__ import annotations

from pathlib import Path

from s1pro.base.records import Completion, Message
from s1pro.rl.examples import examples
from s1pro.rl.loop import train_rl
from s1pro.rl.rollout import Question, Rollout
from s1pro.tasks.task import Item, Prompt, Score
from s1pro.train.metrics import read_metrics
from tests.rl.letters import Letters, Vowels, policy, run_in, tasks

TASKS = {name: Vowels(name) for name in ("vowels", "more")}


def group(task: str, number: int, rewards: list[float]) -> list[Rollout]:
    question = Question(task=task, item=Item(id=f"{task}-{number}", asked={"n": number}), token_ids=(1,))
    return [
        Rollout(
            question=question,
            completion=Completion(text=f"answer {i}", finish_reason="stop"),
            score=Score(value=reward, valid=i != 1, parts={"half": reward / 2}),
            group=number,
            member=i,
        )
        for i, reward in enumerate(rewards)
    ]


def test_the_questions_that_teach_most_of_different_tasks_from_the_best_answer_to_the_worst() -> None:
    flat, wide, other = [0.5] * 6, [0.1, 0.9, 0.3, 0.2, 0.5, 0.4], [0.2, 0.3]
    found = examples([group("vowels", 0, flat), group("vowels", 1, wide), group("more", 2, other)], TASKS)
    assert [(e["task"], e["question"]) for e in found] == [("vowels", "vowels 1"), ("more", "more 2")]
    assert [a["reward"] for a in found[0]["answers"]] == [0.9, 0.4, 0.3, 0.1]
    assert [a["text"] for a in found[0]["answers"]] == ["answer 1", "answer 5", "answer 2", "answer 0"]
    assert not found[0]["answers"][0]["valid"] and found[0]["answers"][0]["parts"] == {"half": 0.45}
    assert found[0]["mean"] == sum(wide) / 6
    assert [a["reward"] for a in found[1]["answers"]] == [0.3, 0.2]


def test_one_task_gives_two_questions() -> None:
    found = examples([group("vowels", i, [0.0, i / 10]) for i in range(4)], {"vowels": Vowels()})
    assert [e["item"] for e in found] == ["vowels-3", "vowels-2"]


def test_every_round_of_a_run_keeps_some(tmp_path: Path) -> None:
    train_rl(run_in(tmp_path, steps=2), tasks=tasks(), network=policy(), processor=Letters())  # type: ignore[arg-type]
    records = read_metrics(tmp_path, "rollout")
    assert len(records) == 2
    for record in records:
        assert {e["task"] for e in record["examples"]} == {"vowels", "more"}
        for example in record["examples"]:
            assert example["question"].startswith(example["task"])
            rewards = [a["reward"] for a in example["answers"]]
            assert rewards == sorted(rewards, reverse=True) and len(rewards) == 4
            for answer in example["answers"]:
                vowels = sum(letter in "aeiouAEIOU" for letter in answer["text"])
                assert answer["reward"] == vowels / max(len(answer["text"]), 1)


def test_files_that_a_question_shows_are_named() -> None:
    class Shown(Vowels):
        def prompt(self, item: Item) -> Prompt:
            parts = (
                {"type": "image", "image": "here/red.png"},
                {"type": "image", "image": "data:" + "A" * 900},
                {"type": "text", "text": "Which colour?"},
            )
            return Prompt(messages=(Message(role="system", content="be brief"), Message(role="user", content=parts)))

    (found,) = examples([group("vowels", 0, [0.0, 1.0])], {"vowels": Shown()})
    assert found["media"] == [{"type": "image", "image": "here/red.png"}] and found["question"] == "Which colour?"
