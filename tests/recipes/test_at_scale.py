"""Recipes for clusters: their numbers, their networks on the meta device, and that their plans fit."""

from __future__ import annotations

import pytest
import torch

from s1pro.base.config import config_from_json, config_to_json
from s1pro.model.network import Network
from s1pro.model.presets import PRESETS
from s1pro.model.sizes import count_parameters
from s1pro.recipes import RECIPES
from s1pro.recipes.at_scale import CLUSTERS, TokenMixture, plan_of
from s1pro.train.config import TrainRun

NAMES = ["30b-a3b-cpt", "30b-a3b-sft", "intern-s1-pro-cpt", "intern-s1-pro-sft"]


def test_the_mixture_is_the_papers() -> None:
    mixture = TokenMixture()
    assert sum(share.tokens for share in mixture.shares) == 6e12
    assert mixture.shares[0].name == "captions" and mixture.shares[0].tokens == 270e9
    with pytest.raises(ValueError, match="captions"):
        TokenMixture(total=1e9, captions=2e9)


@pytest.mark.parametrize("name", NAMES)
def test_recipe(name: str) -> None:
    run, model = RECIPES[name](), name.rsplit("-", 1)[0]
    assert isinstance(run, TrainRun)
    assert config_from_json(TrainRun, config_to_json(run)) == run
    with torch.device("meta"):
        network = Network(PRESETS[model]())
    assert sum(p.numel() for p in network.parameters()) == count_parameters(PRESETS[model]()).total
    plan = plan_of(run, model)
    assert plan.fits and plan.layout is not None and plan.layout.num_ranks == CLUSTERS[model][1]
    assert run.accumulation % plan.layout.num_ranks == 0
    if name.endswith("cpt"):
        assert run.steps * run.accumulation * run.data.tokens_per_batch == pytest.approx(6e12, rel=1e-5)
        weights = {source.name: source.weight for source in run.data.sources}
        assert weights["captions"] / sum(weights.values()) == pytest.approx(0.045)


def test_the_trillion_recipe_routes_as_the_paper_does() -> None:
    run = RECIPES["intern-s1-pro-cpt"]()
    assert isinstance(run, TrainRun)
    assert run.straight_through and run.expert_precision == "fp8" and run.parallel.ep == 8
    layout = plan_of(run, "intern-s1-pro").layout
    assert layout is not None and layout.dispatch == "all_gather"
