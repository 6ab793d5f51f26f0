"""Terms of the reward, control of entropy and length, and the curriculum, against numbers worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s1pro.base.errors import InputError
from s1pro.base.records import Completion
from s1pro.rl.advantages import advantages
from s1pro.rl.batches import micro_batches, sequence
from s1pro.rl.config import RLRun, RolloutConfig, TaskConfig
from s1pro.rl.curriculum import Curriculum, CurriculumConfig
from s1pro.rl.entropy import EntropyConfig, EntropyControl, mean_surprisal
from s1pro.rl.loop import train_rl
from s1pro.rl.objective import ObjectiveConfig
from s1pro.rl.questions import Questions
from s1pro.rl.rewards import RewardConfig, check_parts, reward_terms
from s1pro.rl.rollout import Question, Rollout
from s1pro.tasks.task import Item, Score
from s1pro.train.metrics import read_metrics
from tests.rl.letters import Letters, StoppedError, Vowels, policy, run_in, stops_once, tasks


def rollout(value: float, logprobs: list[float], *, task: str = "t", valid: bool = True, **fields: Any) -> Rollout:
    completion = Completion(
        text="", finish_reason="stop", token_ids=tuple(range(len(logprobs))), logprobs=tuple(logprobs)
    )
    question = Question(task=task, item=Item(id="1"), token_ids=(7, 8))
    return Rollout(
        question=question, completion=completion, score=Score(value=value, valid=valid), group=0, member=0, **fields
    )


def test_terms_of_a_reward() -> None:
    config = RewardConfig(correctness=2.0, form=0.5, length=0.25, free_tokens=10, full_tokens=30)
    for value, valid, tokens, expected in (
        (1.0, True, 10, 2.5),
        (1.0, True, 20, 2.5 - 0.125),
        (0.5, True, 30, 1.0 + 0.5 - 0.25),
        (0.0, False, 90, -0.25),
    ):
        assert reward_terms(Score(value=value, valid=valid), tokens, config).total == expected
    assert reward_terms(Score(value=0.75, valid=False), 999, RewardConfig()).total == 0.75


def test_graded_parts_of_a_reward() -> None:
    config = RewardConfig(parts={"carbon": 0.25, "group": 0.5}, form=0.125)
    half = Score(value=0.0, parts={"carbon": 0.0, "group": 1.0, "new": 1.0})
    for score, expected in (
        (Score(value=1.0, parts={"carbon": 1.0, "group": 1.0}), 1.875),
        (half, 0.625),
        (Score(value=0.0, valid=False, parts={"carbon": 0.0, "group": 0.0}), 0.0),
        (Score(value=0.0), 0.125),
    ):
        assert reward_terms(score, 1, config).total == expected
    check_parts([Score(value=0.0, valid=False), half], config)
    with pytest.raises(InputError, match=r"reward\.parts\.charge: no answer has such a part; there are carbon, group"):
        check_parts([half], replace(config, parts={"group": 1.0, "charge": 1.0}))
    with pytest.raises(InputError, match="there are none"):
        check_parts([Score(value=1.0)], config)
    check_parts([], RewardConfig())
    assert RewardConfig(correctness=0.0, parts={"group": 1.0}).parts == {"group": 1.0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"correctness": 0.0}, "every weight is 0"),
        ({"correctness": 0.0, "parts": {"carbon": 0.0}}, "every weight is 0"),
        ({"parts": {"carbon": -0.5}}, r"reward\.parts\.carbon must be finite and not negative"),
        ({"form": -1.0}, "finite and not negative"),
        ({"length": 0.1}, "needs reward.free_tokens"),
        ({"free_tokens": 3}, "no effect with reward.length=0"),
        ({"length": 0.1, "free_tokens": 9, "full_tokens": 9}, "free_tokens < full_tokens"),
    ],
)
def test_rewards_that_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RewardConfig(**wrong)


def test_length_alone_makes_a_group_of_right_answers_teach() -> None:
    """A tie in correctness is broken in favour of the shorter answer; leave-one-out by hand."""
    config = RewardConfig(length=0.4, free_tokens=0, full_tokens=4)
    group = [
        rollout(1.0, [-1.0] * n, terms=reward_terms(Score(value=1.0), n, config)) for n in (1, 2, 4)
    ]  # rewards 0.9, 0.8, 0.6
    found = advantages([r.reward for r in group], ObjectiveConfig())
    assert found == pytest.approx([0.9 - 0.7, 0.8 - 0.75, 0.6 - 0.85])


def test_the_bonus_is_part_of_every_advantage() -> None:
    one = rollout(1.0, [-0.5, -2.0, 0.0], own=(True, True, False))
    made = sequence(one, 0.25, 2, ObjectiveConfig(), replay=False, entropy_weight=0.1)
    assert made.advantages is not None and made.rollout_logprobs is not None
    assert made.advantages.tolist() == pytest.approx([0, 0, 0.25 + 0.05, 0.25 + 0.2, 0])
    assert made.rollout_logprobs.tolist() == [0, 0, -0.5, -2.0, 0]
    assert made.loss_weights.tolist() == [0, 0, 0.25, 0.25, 0]  # two own tokens, two answers
    assert mean_surprisal([one.own_logprobs]) == 1.25
    assert mean_surprisal([]) == 0.0


def test_the_bonus_follows_the_gradient_of_the_entropy() -> None:
    """Every token once with its probability: the weighted sum of log-probs has the gradient of H, in float64."""
    logits = torch.randn(11, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    logprobs = logits.log_softmax(0)
    (exact,) = torch.autograd.grad(-(logprobs.exp() * logprobs).sum(), logits, retain_graph=True)
    weight = 0.3
    made = sequence(
        rollout(0.0, logprobs.detach().tolist()), 0.0, 1, ObjectiveConfig(), replay=False, entropy_weight=weight
    )
    assert made.advantages is not None
    bonus = torch.from_numpy(made.advantages[2:].astype(np.float64))
    (followed,) = torch.autograd.grad((logprobs.detach().exp() * bonus * logprobs).sum(), logits)
    assert torch.allclose(followed, weight * exact, atol=1e-7)


def test_the_weight_moves_towards_the_target() -> None:
    control = EntropyControl(EntropyConfig(weight=0.02, target=1.5, gain=0.01, max_weight=0.03))
    seen = []
    for entropy in (1.0, 0.2, 2.0, 4.0, 9.0):
        control.observe(entropy)
        seen.append(control.weight)
    assert seen == pytest.approx([0.025, 0.03, 0.025, 0.0, 0.0])
    again = EntropyControl(control.config)
    again.load_state_dict(json.loads(json.dumps({"weight": seen[0]})))
    assert again.weight == seen[0]
    fixed = EntropyControl(EntropyConfig(weight=0.02))
    fixed.observe(0.0)
    assert fixed.weight == 0.02


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gain": 0.5}, "no effect without entropy.target"),
        ({"target": 1.0, "weight": 0.5}, "weight <= max_weight"),
        ({"target": -1.0}, "target > 0"),
        ({"weight": math.inf}, "finite"),
    ],
)
def test_settings_of_entropy_that_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EntropyConfig(**wrong)


def test_entropy_needs_the_plain_sampler(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs rollout\.temperature=1"):
        run_in(tmp_path, entropy=EntropyConfig(weight=0.1), rollout=RolloutConfig(temperature=0.7))


def test_shares_by_hand() -> None:
    curriculum = Curriculum([1.0, 1.0, 2.0], CurriculumConfig(decay=0.5, floor=0.2))
    assert curriculum.shares() == [0.25, 0.25, 0.5]
    assert curriculum.observe({0: [1.0, 0.0], 1: [1.0, 1.0]})  # rates 1/2, 1; factors 1, floor
    assert curriculum.shares() == pytest.approx([1 / 3.2, 0.2 / 3.2, 2 / 3.2])
    curriculum.observe({0: [1.0], 1: [0.0, 0.5]})  # rates 3/4, 5/8; factors 3/4, 15/16
    assert curriculum.rates == [0.75, 0.625, None]
    assert curriculum.shares() == pytest.approx([0.75 / 3.6875, 0.9375 / 3.6875, 2 / 3.6875])


def made_questions(curriculum: CurriculumConfig | None, per_step: int = 4) -> Questions:
    configs = [TaskConfig(name="vowels"), TaskConfig(name="more", weight=2.0)]
    return Questions(tasks(), configs, Letters(), per_step=per_step, seed=1, curriculum=curriculum)  # type: ignore[arg-type]


def asked(questions: Questions, step: int) -> list[tuple[str, str]]:
    return [(question.task, question.item.id) for question in questions.of_step(step)]


def test_a_curriculum_changes_what_is_asked_from_the_next_step_on() -> None:
    questions = made_questions(CurriculumConfig(decay=0.0, floor=0.1), per_step=10)
    first = asked(questions, 0)
    assert first == asked(made_questions(None, per_step=10), 0)  # nothing is known yet
    questions.observe([[rollout(0.5, [-1.0], task="vowels")], [rollout(1.0, [-1.0], task="more")]])
    assert questions.shares() == pytest.approx({"vowels": 1 / 1.2, "more": 0.2 / 1.2})
    later = [task for step in range(1, 13) for task, _ in asked(questions, step)]
    assert later.count("vowels") in (100, 101) and len(later) == 120
    vowels = [pair for pair in [*first, *asked(questions, 1)] if pair[0] == "vowels"]
    assert len(vowels) == len(set(vowels)) > 10  # none comes twice in an epoch


def test_the_state_of_a_curriculum_goes_on_exactly() -> None:
    whole, parts = (made_questions(CurriculumConfig()) for _ in range(2))
    seen: dict[str, list[Any]] = {"whole": [], "parts": []}
    for step in range(9):
        for name in seen:
            questions = whole if name == "whole" else parts
            seen[name].append(asked(questions, step))
            value = (step % 3) / 2
            questions.observe([[rollout(value, [-1.0], task=task) for task, _ in seen[name][-1]]])
        state = json.loads(json.dumps(parts.state_dict()))
        parts = made_questions(CurriculumConfig())
        parts.load_state_dict(state)
    assert seen["whole"] == seen["parts"]
    assert asked(parts, 3) == seen["whole"][3]  # steps of the past too
    assert made_questions(None).state_dict() == {}


class Known(Vowels):
    """Always right: nothing to learn, and the curriculum finds out."""

    async def score(self, item: Item, response: str) -> Score:
        return Score(value=1.0)


def learn(run: RLRun, **options: Any) -> Any:
    found = {"vowels": Vowels(), "more": Known("more")}
    return train_rl(run, tasks=found, network=policy(), processor=Letters(), **options)  # type: ignore[arg-type]


def test_a_part_that_no_answer_has_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"reward\.parts\.charge: no answer has such a part; there are none"):
        learn(run_in(tmp_path, reward=RewardConfig(parts={"charge": 0.5})))
    assert read_metrics(tmp_path, "train") == []


def test_a_run_with_all_controls_is_resumed_exactly(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "steps": 6,
        "checkpoint_every": 1,
        "curriculum": CurriculumConfig(decay=0.5),
        "entropy": EntropyConfig(weight=0.01, target=4.0),
        "reward": RewardConfig(form=0.1, length=0.2, free_tokens=2, full_tokens=10),
    }
    learn(run_in(tmp_path / "whole", **changes))

    stop = stops_once(3)
    stopping = run_in(tmp_path / "parts", **changes, eval_every=1)
    with pytest.raises(StoppedError):
        learn(stopping, on_evaluate=stop)
    learn(stopping, on_evaluate=stop)
    records = [read_metrics(tmp_path / name, "rollout") for name in ("whole", "parts")]
    for record in (r for some in records for r in some):
        for name in ("rollout_seconds", "prepare_seconds"):
            record.pop(name)
    assert records[0] == records[1]
    shares = [record["shares"]["vowels"] for record in records[0]]
    assert shares[0] == pytest.approx(1 / 3) and shares[-1] > 0.5  # "more" is mastered: the floor is left
    weights = [record["entropy_weight"] for record in records[0]]
    surprise = [record["entropy"] for record in records[0]]
    expected = 0.01
    for weight, entropy in zip(weights, surprise, strict=True):
        assert weight == pytest.approx(expected)
        expected = min(max(expected + 0.01 * (4.0 - entropy), 0.0), 0.1)
    for record in records[0]:
        terms = record["terms"]
        assert record["reward"] == pytest.approx(sum(terms.values())) and terms["form"] > 0 > terms["length"]


def test_a_group_without_own_tokens_is_packed_without_weight() -> None:
    """Answers of which nothing is the model's own still count for their group's baseline."""
    group = [rollout(1.0, [-1.0, -1.0]), replace(rollout(0.0, [-1.0, 0.0]), own=(True, False))]
    (batch,) = micro_batches([group], ObjectiveConfig(), num_rows=16, replay=False, source_names=("t",))
    assert batch.loss_weights_T.nonzero().numel() == 3
