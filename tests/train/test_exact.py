"""Training in exact mode: the option, what it refuses, and the same losses up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from s1pro.base.config import config_from_json, config_to_json
from s1pro.parallel.config import ParallelConfig
from s1pro.train.config import TrainRun
from s1pro.train.metrics import read_metrics
from s1pro.train.stage import train

MakeRun = Callable[..., TrainRun]


@pytest.mark.parametrize("precision", ["network", "fp8"])
def test_losses_are_those_of_the_usual_mode(precision: str, tiny_run: MakeRun, copy_source: Callable[..., Any]) -> None:
    losses = {}
    for exact in (False, True):
        run = tiny_run(steps=4, exact=exact, expert_precision=precision)
        assert config_from_json(TrainRun, config_to_json(run)) == run
        result = train(run, sources={"copy": copy_source()})
        assert result.network.exact is exact
        losses[exact] = [record["loss"] for record in read_metrics(run.folder, "train")]
        run.folder.rename(run.folder.with_name(str(exact)))
    assert losses[True] == pytest.approx(losses[False], abs=1e-4 if precision == "network" else 2e-3)


@pytest.mark.parametrize("option", [{"compile": True}, {"parallel": ParallelConfig(ep=2, dispatch="all_gather")}])
def test_what_does_not_go_together(tiny_run: MakeRun, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exact does not work"):
        tiny_run(exact=True, **option)
