"""The training runs of the demo, as their folders tell them: metrics by kind, and the router of the trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1pro.checkpoint.config_file import read_config
from s1pro.model.config import RouterConfig
from s1pro.train.metrics import read_metrics

TITLES = {"pretrain": "pre-training", "joint": "joint run"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """The numbers of one training stage by kind."""

    name: str
    train: Sequence[Mapping[str, Any]]
    validation: Sequence[Mapping[str, Any]]
    router: Sequence[Mapping[str, Any]]
    router_config: RouterConfig

    @property
    def title(self) -> str:
        return TITLES[self.name]

    @property
    def tokens(self) -> int:
        return int(self.train[-1]["total_tokens"])

    @property
    def seconds(self) -> float:
        return float(sum(record["seconds"] for record in self.train))

    @property
    def layers(self) -> dict[str, dict[str, Any]]:
        """Statistics of the last measured step, per layer."""
        return dict(self.router[-1]["layers"])


def read_runs(folder: Path) -> list[Run]:
    """Both runs of a demo folder."""
    models = {"pretrain": folder / "pretrain" / "model", "joint": folder / "model"}
    return [_read(folder / name, read_config(models[name]).text.router) for name in TITLES]


def _read(folder: Path, router: RouterConfig) -> Run:
    records = read_metrics(folder)
    kinds = {kind: [r for r in records if r["kind"] == kind] for kind in ("train", "validation", "router")}
    return Run(name=folder.name, router_config=router, **kinds)
