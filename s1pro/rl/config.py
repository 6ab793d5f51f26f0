"""The complete description of a run of reinforcement learning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from s1pro.base.records import Sampling
from s1pro.rl.curriculum import CurriculumConfig
from s1pro.rl.entropy import EntropyConfig
from s1pro.rl.objective import ObjectiveConfig
from s1pro.rl.rewards import RewardConfig
from s1pro.rl.system.config import EngineConfig, SystemConfig
from s1pro.tasks.agents.settings import AgentConfig
from s1pro.tasks.judges.pool import JudgeConfig
from s1pro.train.config import Stage, TrainRun


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """One task that is learned: its name in `tasks.registry`, and how often it is asked, relative to the others.

    Attributes:
        num_items: questions that there are.
    """

    name: str
    weight: float = 1.0
    num_items: int = 2000

    def __post_init__(self) -> None:
        if not self.weight > 0 or self.num_items < 1:
            raise ValueError(f"task {self.name!r}: weight and num_items must be positive")


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """How the policy answers.

    Attributes:
        prompts: questions per step, over all tasks.
        group_size: answers to each.
        temperature, top_p, max_new_tokens: of the sampler. Log-probabilities are those of the raw distribution, as the
            trainer computes them; so temperature 1 and top_p 1 sample what is learned.
        enable_thinking: the chat template asks for reasoning first.
        replay: the trainer uses the experts that the rollout used (rollout router replay).
        drop_uniform: groups whose answers are all worth the same are not trained on; they count in the metrics.
        concurrency: answers that are under way at once.
    """

    prompts: int = 32
    group_size: int = 8
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 64
    enable_thinking: bool = False
    replay: bool = True
    drop_uniform: bool = True
    concurrency: int = 64

    def __post_init__(self) -> None:
        for name in ("prompts", "group_size", "max_new_tokens", "concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"rollout.{name} must be at least 1, got {getattr(self, name)}")
        if not self.temperature > 0:
            raise ValueError(
                f"rollout.temperature must be positive, got {self.temperature}: greedy answers are all alike"
            )
        self.sampling(seed=0)  # says what else cannot be

    def sampling(self, seed: int) -> Sampling:
        return Sampling(max_new_tokens=self.max_new_tokens, temperature=self.temperature, top_p=self.top_p, seed=seed)


@dataclass(frozen=True, kw_only=True)
class RLRun(TrainRun):
    """A `TrainRun` whose data are its own answers. `data.tokens_per_batch` is the size of a micro-batch; how many there
    are follows from the answers, so `accumulation` stays 1. `loss` and `data.sources` are those of `sft_every`.

    Attributes:
        judges: who scores the answers.
        agent: the model may use tools (`tasks.agents`); None answers in one turn.
        curriculum: shares of tasks follow their pass rates; None asks by the weights.
        system: where rollouts, training and scoring happen.
        engine: a server that writes the answers to learn from; None is the engine in this process.
        sft_every: every so many steps one is a step of fine-tuning on a micro-batch of `data.sources`; 0 for never.
        updates: optimizer steps per batch of rollouts; with more than one the ratio to the old policy leaves 1.
        old_logprobs: "recompute": the trainer computes them once more before the first update, and the gap to the
            engine is measured on the way; "rollout": those of the engine are taken.
        parity_limit: largest k3 estimate of KL(engine || trainer) of a step; above it the run stops. None only reports.
    """

    stage: Stage = "rl"
    freeze_router: bool = True
    tasks: tuple[TaskConfig, ...] = ()
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    judges: JudgeConfig = field(default_factory=JudgeConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    entropy: EntropyConfig = field(default_factory=EntropyConfig)
    curriculum: CurriculumConfig | None = None
    system: SystemConfig = field(default_factory=SystemConfig)
    engine: EngineConfig | None = None
    agent: AgentConfig | None = None
    sft_every: int = 0
    updates: int = 1
    old_logprobs: Literal["recompute", "rollout"] = "recompute"
    parity_limit: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stage != "rl":
            raise ValueError(f"stage of a run of reinforcement learning is rl, got {self.stage!r}")
        if self.accumulation != 1:
            raise ValueError("accumulation has no effect: micro-batches follow from the answers; set rollout.prompts")
        if self.data.validation or (self.data.sources and not self.sft_every):
            raise ValueError(
                "data.validation and, without sft_every, data.sources have no effect: the data are the answers to "
                "`tasks`"
            )
        if self.sft_every < 0 or self.sft_every == 1:
            raise ValueError(
                f"sft_every must be 0 or at least 2, got {self.sft_every}: 1 leaves no step to learn by RL"
            )
        if self.rollout.max_new_tokens > self.data.tokens_per_batch:
            raise ValueError(
                f"rollout.max_new_tokens={self.rollout.max_new_tokens} must not exceed data.tokens_per_batch="
                f"{self.data.tokens_per_batch}: a prompt with its answer fits into a micro-batch"
            )
        if self.updates < 1 or self.updates > self.rollout.prompts:
            raise ValueError(
                f"updates must lie between 1 and rollout.prompts={self.rollout.prompts}, got {self.updates}"
            )
        if self.objective.baseline == "leave_one_out" and self.rollout.group_size < 2:
            raise ValueError("objective.baseline=leave_one_out needs rollout.group_size of at least 2")
        if self.entropy.is_on and (self.rollout.temperature, self.rollout.top_p) != (1.0, 1.0):
            raise ValueError("entropy needs rollout.temperature=1 and rollout.top_p=1: only then is surprise entropy")
        self._check_together()

    def _check_together(self) -> None:
        """Settings of different parts that exclude each other."""
        if self.parity_limit is not None and self.old_logprobs != "recompute":
            raise ValueError("parity_limit has no effect with old_logprobs=rollout: nothing is compared then")
        if self.agent is not None and self.system.mode == "local" and self.system.under_way != "finish":
            raise ValueError(
                "agent needs system.under_way=finish or system.mode=ray: in one process a tool would wait while the "
                "trainer works, and its time would run out"
            )
        if self.parity_limit is not None and self.system.staleness:
            raise ValueError("parity_limit needs system.schedule=synchronous: other answers are of other weights")
        if self.engine is None:
            return
        if self.system.mode == "ray":
            raise ValueError("engine has no effect with system.mode=ray, whose workers have engines of their own")
        if self.system.under_way != "finish":
            raise ValueError(
                "engine needs system.under_way=finish: answers on a server end with the weights they began"
            )
        if self.engine.name == "sglang" and self.rollout.temperature != 1:
            raise ValueError(
                f"engine.name=sglang needs rollout.temperature=1, got {self.rollout.temperature}: its "
                "log-probabilities are those after the temperature"
            )
