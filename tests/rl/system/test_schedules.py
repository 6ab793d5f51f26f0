"""Rounds asked ahead, in one process: how old answers are, what they remember, and that a run can be killed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from s1pro.base.records import Completion, Sampling
from s1pro.data.batch import Segment, collate
from s1pro.kernels.attention import PackedContext
from s1pro.kernels.cross_entropy import token_logprobs
from s1pro.model.network import Network
from s1pro.rl.batches import sequence
from s1pro.rl.loop import train_rl
from s1pro.rl.objective import ObjectiveConfig
from s1pro.rl.rollout import Question, RecordError, Rollout
from s1pro.rl.system.ahead import RoundsAhead, StaleError, token_versions
from s1pro.rl.system.config import SystemConfig
from s1pro.rl.system.kept import groups_from_json, groups_to_json
from s1pro.rl.system.work import Group, Unit, units_of
from s1pro.serve.client import LocalClient
from s1pro.tasks.task import Item, Score
from s1pro.train.metrics import read_metrics
from tests.rl.letters import VOCABULARY, Letters, StoppedError, policy, run_in, stops_once, tasks

TIMES = ("seconds", "rollout_seconds", "prepare_seconds", "tokens_per_second", "mfu")
AHEAD = {
    "one step off": SystemConfig(schedule="one_step_off", shards=2),
    "asynchronous": SystemConfig(schedule="asynchronous", max_staleness=2),
    "partial": SystemConfig(schedule="asynchronous", max_staleness=2, under_way="keep"),
}


def learn(folder: Path, **options: Any) -> list[dict[str, Any]]:
    on_evaluate = options.pop("on_evaluate", None)
    train_rl(run_in(folder, **options), tasks=tasks(), network=policy(), processor=Letters(), on_evaluate=on_evaluate)  # type: ignore[arg-type]
    found = [*read_metrics(folder, "rollout"), *read_metrics(folder, "train")]
    return [{name: value for name, value in record.items() if name not in TIMES} for record in found]


def check_lags(records: list[dict[str, Any]], name: str) -> None:
    """How far answers lag behind the weights that they train."""
    rollouts, staleness = [r for r in records if r["kind"] == "rollout"], AHEAD[name].staleness
    assert [r["round"] for r in rollouts] == list(range(4))
    largest = [r["largest_lag"] for r in rollouts]
    assert max(largest) == largest[staleness] == staleness
    if name == "partial":
        assert max(r["mixed_versions"] for r in rollouts) > 0.3
    else:
        assert largest == [min(number, staleness) for number in range(4)]
        assert all(r["lag"] == r["largest_lag"] and r["mixed_versions"] == 0 for r in rollouts)


@pytest.mark.parametrize("name", AHEAD)
def test_a_run_with_rounds_ahead_is_resumed(name: str, tmp_path: Path) -> None:
    """Exactly where answers finish with the weights they began with; otherwise the same questions, each once."""

    stop = stops_once(2)
    options: dict[str, Any] = {"steps": 4, "checkpoint_every": 1, "eval_every": 1, "system": AHEAD[name]}
    whole = learn(tmp_path / "whole", **options)
    check_lags(whole, name)
    with pytest.raises(StoppedError):
        learn(tmp_path / "parts", on_evaluate=stop, **options)
    parts = learn(tmp_path / "parts", on_evaluate=stop, **options)
    if name == "partial":
        names = ("round", "asked")
        whole, parts = ([{n: r[n] for n in names} for r in some if "asked" in r] for some in (whole, parts))
    assert whole == parts


@pytest.mark.parametrize("recompute", [True, False])
def test_log_probs_of_answers_that_went_on_under_new_weights(recompute: bool) -> None:
    """In exact mode each is, bit for bit, that of the weights that drew the token: over the whole text if it was
    computed again, and in any case for the answers that no new weights met."""
    versions = {number: policy(number).state_dict() for number in range(3)}
    network = policy(0).eval()
    client = LocalClient.from_network(network, Letters(), exact=True, max_batch=4)  # type: ignore[arg-type]
    prompts = [[(7 * i + j) % (VOCABULARY - 2) for j in range(5 + i)] for i in range(6)]

    async def every() -> list[Completion]:
        sampling = Sampling(max_new_tokens=12, temperature=1.0, seed=1, ignore_eos=True)
        running = [asyncio.ensure_future(client.generate(p, replace(sampling, seed=i))) for i, p in enumerate(prompts)]
        for number in (1, 2):
            for _ in range(6):
                await asyncio.sleep(0)
            client.engine.update_weights(versions[number], number, recompute=recompute)
        return await asyncio.gather(*running)

    completions = asyncio.run(every())
    found = [c.token_versions or (c.policy_version,) * len(c.token_ids) for c in completions]
    assert any(len(set(v)) == 3 for v in found) and all(list(v) == sorted(v) for v in found)
    for prompt, completion, drawn in zip(prompts, completions, found, strict=True):
        assert completion.routing is not None and completion.routing.policy_version == completion.policy_version
        if not recompute and len(set(drawn)) > 1:
            drawn = (drawn[0],) * drawn.count(drawn[0])  # later ones saw keys and values of several weights
        for version in set(drawn):
            right = raw_logprobs(versions[version], prompt, completion.token_ids)
            for place, by in enumerate(drawn):
                assert by != version or (completion.logprobs is not None and completion.logprobs[place] == right[place])


def raw_logprobs(weights: dict[str, Any], prompt: list[int], sampled: tuple[int, ...]) -> list[float]:
    from s1pro.model.exact import use_exact_operators

    network = policy(0).eval()
    network.load_state_dict(weights)
    use_exact_operators(network)
    ids = torch.tensor([*prompt, *sampled])
    with torch.no_grad():
        output = network(ids[:-1], torch.arange(len(ids) - 1), PackedContext(cu_seqlens=(0, len(ids) - 1)))
        logprobs = token_logprobs(output.hidden_TD, network.lm_head.weight, ids[1:], chunk=64, exact=True)
    return logprobs[len(prompt) - 1 :].tolist()  # type: ignore[no-any-return]


class Canned:
    """Workers whose answers are of the weights that a test wants."""

    def __init__(self, versions: dict[int, tuple[int, ...]]) -> None:
        self.versions, self.units = versions, dict[int, list[Unit]]()

    def publish(self, version: int) -> None:
        pass

    def submit(self, number: int, units: Any) -> None:
        self.units[number] = list(units)

    def collect(self, number: int) -> list[Group]:
        versions = self.versions[number]
        completion = Completion(
            text="a", finish_reason="stop", token_ids=(1, 2), logprobs=(-1.0, -1.0), policy_version=versions[-1],
            token_versions=versions,
        )  # fmt: skip
        questions = [question for unit in self.units[number] for question in unit.questions]
        return [
            [Rollout(question=q, completion=completion, score=Score(value=1.0), group=i, member=0)]
            for i, q in enumerate(questions)
        ]

    def finished(self) -> dict[int, list[Group]]:
        return {}

    def report(self) -> dict[str, object]:
        return {}

    def close(self) -> None:
        pass


def questions_of(number: int) -> list[Question]:
    return [Question(task="t", item=Item(id=f"{number}-{i}"), token_ids=(1,)) for i in range(3)]


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ((10, 11), None),
        ((11, 12), None),
        ((9, 12), r"tokens of weights 9; allowed are \[10, 11, 12\]"),
        ((12, 13), "tokens of weights 13"),
        ((11, 10), "run backwards"),
        ((12,), "with 1 versions"),
    ],
)
def test_answers_older_than_promised_are_noticed(versions: tuple[int, ...], message: str | None) -> None:
    """Round 2 at staleness 2, weights 10, 11 and 12 published."""
    canned = Canned({0: (10, 10), 1: (10, 11), 2: versions})
    ahead = RoundsAhead(canned, questions_of, staleness=2, shards=2)
    for number in range(2):
        ahead.answers(number, 10 + number, further=9)
    assert set(canned.units) == {0, 1, 2, 3}
    if message is None:
        assert ahead.answers(2, 12, further=9)[1]["largest_lag"] == 2 - (versions[0] - 10)
        return
    with pytest.raises(StaleError, match=message):
        ahead.answers(2, 12, further=9)


def test_answers_of_another_round_are_noticed() -> None:
    class Mixed(Canned):
        def collect(self, number: int) -> list[Group]:
            return super().collect(number)[::-1]

    ahead = RoundsAhead(Mixed({0: (0, 0)}), questions_of, staleness=0, shards=1)
    with pytest.raises(RecordError, match="not those to its 3 questions"):
        ahead.answers(0, 0, further=9)


def test_no_more_rounds_are_asked_than_can_be_trained() -> None:
    canned = Canned({0: (0, 0)})
    RoundsAhead(canned, questions_of, staleness=4, shards=1).answers(0, 0, further=2)
    assert set(canned.units) == {0, 1, 2}


def test_pieces_of_a_round() -> None:
    for count in range(1, 20):
        for shards in range(1, 8):
            questions = [Question(task="t", item=Item(id=str(i)), token_ids=(1,)) for i in range(count)]
            units = units_of(7, questions, shards)
            assert [q for unit in units for q in unit.questions] == questions
            assert [unit.first for unit in units] == [
                sum(len(u.questions) for u in units[:i]) for i in range(len(units))
            ]
            sizes = [len(unit.questions) for unit in units]
            assert max(sizes) - min(sizes) <= 1 and len(units) == min(count, shards)


def test_rollouts_in_a_checkpoint_are_exact() -> None:
    network: Network = policy(3).eval()
    client = LocalClient.from_network(network, Letters())  # type: ignore[arg-type]
    ids = [5, 6, 7]
    completion = asyncio.run(client.generate(ids, Sampling(max_new_tokens=9, temperature=1.0, seed=4)))
    question = Question(task="t", item=Item(id="0"), token_ids=tuple(ids))
    rollout = Rollout(
        question=question, completion=completion, score=Score(value=0.1, parts={"a": 1 / 3}), group=0, member=0
    )
    marked = replace(rollout, own=(True,) * len(completion.token_ids), member=1, failure="time")
    ((one, other),) = groups_from_json(groups_to_json([[rollout, marked]]), [question])
    assert replace(one.completion, routing=None) == replace(completion, routing=None)
    assert (one.score, one.own, one.terms, one.failure) == (rollout.score, None, None, None)
    assert (other.own, other.failure, other.member) == (marked.own, "time", 1)
    batches = [
        collate(
            [Segment(sequence=sequence(r, 1.0, 2, ObjectiveConfig(), replay=True), source=0)],
            num_rows=16,
            source_names=("t",),
        )
        for r in (rollout, one)
    ]
    assert torch.equal(batches[0].routed_experts_LTK, batches[1].routed_experts_LTK)  # type: ignore[arg-type]
    assert torch.equal(batches[0].rollout_logprobs_T, batches[1].rollout_logprobs_T)  # type: ignore[arg-type]
    assert token_versions(one) == token_versions(rollout)
