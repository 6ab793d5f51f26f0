"""Where rollouts, training and scoring happen, and how far answers may lag behind the weights.

A *round* is the questions of one batch; weights are published once per round. With staleness s, round n + s is asked
when round n is about to be trained on, so its answers begin with weights at most s rounds older than those they train.

| schedule | staleness | weights of a round |
|---|---|---|
| synchronous | 0 | those it trains |
| one_step_off | 1 | those before the last round; engines work while the trainer does |
| asynchronous | `max_staleness` | the newest when its piece begins; `under_way` says what new ones do to answers |

Nothing is dropped for being late: rounds are trained on in their order, every question once. A round is answered in
`shards` pieces, each by one engine alone, from an empty cache. So what an answer is depends on weights, seed and piece,
not on who computes it or how often it had to be begun again.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s1pro.base.endpoint import EngineName

Schedule = Literal["synchronous", "one_step_off", "asynchronous"]
UnderWay = Literal["finish", "keep", "recompute"]


@dataclass(frozen=True, kw_only=True)
class SystemConfig:
    """See the module docstring.

    Attributes:
        mode: all in one process, or rollout workers, judges and trainer as Ray actors.
        max_staleness: in rounds; for schedule=asynchronous.
        under_way: answers that are being written when weights come finish with the old ones, or go on with the new ones
            (partial rollouts): their tokens so far keep their keys, values and routing, or are computed again.
        shards: pieces of a round.
        workers: rollout workers, each with an engine.
        judges: actors that score, each with `judges.processes` of the run.
        colocated: workers give the memory of their caches back while the trainer works; with fractions of GPUs they can
            share its devices.
        worker_cpus, worker_gpus, trainer_cpus, trainer_gpus: what Ray reserves.
        address: of a Ray cluster; empty starts one on this machine.
        restarts: how often a trainer that died is started again.
    """

    mode: Literal["local", "ray"] = "local"
    schedule: Schedule = "synchronous"
    max_staleness: int = 1
    under_way: UnderWay = "finish"
    shards: int = 1
    workers: int = 1
    judges: int = 1
    colocated: bool = False
    worker_cpus: float = 1.0
    worker_gpus: float = 0.0
    trainer_cpus: float = 1.0
    trainer_gpus: float = 0.0
    address: str = ""
    restarts: int = 3

    def __post_init__(self) -> None:
        for name in ("max_staleness", "shards", "workers", "judges"):
            if getattr(self, name) < 1:
                raise ValueError(f"system.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("worker_cpus", "worker_gpus", "trainer_cpus", "trainer_gpus", "restarts"):
            if getattr(self, name) < 0:
                raise ValueError(f"system.{name} must not be negative, got {getattr(self, name)}")
        if self.schedule != "asynchronous" and (self.max_staleness, self.under_way) != (1, "finish"):
            raise ValueError("system.max_staleness and under_way have no effect without system.schedule=asynchronous")
        if self.workers > self.shards * (self.staleness + 1):
            raise ValueError(
                f"system.workers={self.workers} would be idle: there are shards={self.shards} pieces per round and "
                f"{self.staleness + 1} rounds at once; raise system.shards"
            )
        if self.colocated and self.schedule != "synchronous":
            raise ValueError("system.colocated needs schedule=synchronous: workers and trainer take turns")
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        changed = [name for name in RAY_ONLY if getattr(self, name) != defaults[name]]
        if self.mode == "local" and changed:
            raise ValueError(f"system.{changed[0]} has no effect with system.mode=local")

    @property
    def staleness(self) -> int:
        """Rounds that are asked ahead."""
        return {"synchronous": 0, "one_step_off": 1}.get(self.schedule, self.max_staleness)


@dataclass(frozen=True, kw_only=True)
class RestartConfig:
    """How a server gets new weights that only reads them when it starts (`rl.restart`).

    Attributes:
        command: words of a program and its arguments, run without a shell; `{folder}` and `{version}` are replaced. It
            ends the server, starts it again on the folder, in the background, and ends.
        seconds: for the command.
        ready_seconds: until the server is ready.
        limit: largest mean difference of log-probabilities between the server and the trainer.
    """

    command: tuple[str, ...]
    seconds: float = 300.0
    ready_seconds: float = 1200.0
    limit: float = 0.1

    def __post_init__(self) -> None:
        if not self.command or not self.command[0]:
            raise ValueError("engine.restart.command is empty: name a program, and {folder} among its arguments")
        if not any("{folder}" in word or "{version}" in word for word in self.command):
            raise ValueError(
                f"engine.restart.command {list(self.command)} has neither {{folder}} nor {{version}} in it: it could "
                "not know what to load"
            )
        for name in ("seconds", "ready_seconds", "limit"):
            if not getattr(self, name) > 0:
                raise ValueError(f"engine.restart.{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """A server that writes the answers, instead of the engine in this process (`rl.engines`, `rl.system.served`).

    Attributes:
        name: who serves.
        url: its address, with the `/v1`.
        model: what the server calls the model.
        folder: where weights are published, under the same path for the server; None is `published` in the folder of
            the run.
        seconds: for one answer.
        api_key_variable: environment variable that holds the key.
        restart: the server gets its weights by being started again; needed for LMDeploy, possible for every one.
    """

    name: EngineName = "s1pro"
    url: str = ""
    model: str = "model"
    folder: Path | None = None
    seconds: float = 300.0
    api_key_variable: str | None = None
    restart: RestartConfig | None = None

    def __post_init__(self) -> None:
        if self.name == "lmdeploy" and self.restart is None:
            raise ValueError(
                "engine.name=lmdeploy needs engine.restart: over HTTP it takes new weights as pickles only, which are "
                "not sent from here; name a command that starts it again on a folder (docs/rl.md)"
            )
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"engine.url must be like http://127.0.0.1:8000/v1, got {self.url!r}")
        if self.seconds <= 0:
            raise ValueError(f"engine.seconds must be positive, got {self.seconds}")


RAY_ONLY = (
    "workers", "judges", "colocated", "worker_cpus", "worker_gpus", "trainer_cpus", "trainer_gpus", "address",
    "restarts",
)  # fmt: skip
"""Settings that have no influence on the numbers."""
