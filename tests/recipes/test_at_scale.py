"""Recipes for clusters: their numbers, their networks on the meta device, and that their plans fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from s1pro.base.config import config_from_json, config_to_json
from s1pro.model.network import Network
from s1pro.model.presets import PRESETS
from s1pro.model.sizes import count_parameters
from s1pro.recipes import RECIPES
from s1pro.recipes.at_scale import CLUSTERS, EXPANSIONS, TokenMixture, expanded, plan_of
from s1pro.recipes.expand import ExpandRun
from s1pro.rl.config import RLRun
from s1pro.train.config import TrainRun

NAMES = [f"{model}-{stage}" for model in ("30b-a3b", "intern-s1-pro") for stage in ("cpt", "sft", "rl")]


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
    assert config_from_json(type(run), config_to_json(run)) == run
    assert isinstance(run, RLRun) == name.endswith("rl")
    with torch.device("meta"):
        network = Network(PRESETS[model]())
    assert sum(p.numel() for p in network.parameters()) == count_parameters(PRESETS[model]()).total
    plan = plan_of(run, model)
    assert plan.fits and plan.layout is not None and plan.layout.num_ranks == CLUSTERS[model][1]
    assert name.endswith("rl") or run.accumulation % plan.layout.num_ranks == 0
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


def test_the_expansions_give_what_is_trained_next() -> None:
    """The released architecture grows out of the public one, apart from its words and the period of its positions."""
    grown, released = expanded("intern-s1-pro").text, PRESETS["intern-s1-pro"]().text
    assert grown.router == released.router
    other_words = ("vocab_size", "rope", "intermediate_size", "bos_token_id", "eos_token_id")
    assert replace(grown, **{name: getattr(released, name) for name in other_words}) == released
    assert grown.rope.fope and released.rope.fope
    with torch.device("meta"):
        network = Network(expanded("30b-a3b-expanded"))
    assert sum(p.numel() for p in network.parameters()) == count_parameters(network.config).total > 1.1e11
    for name, (source, run) in EXPANSIONS.items():
        assert isinstance(config_from_json(ExpandRun, config_to_json(run)), ExpandRun)
        assert (
            PRESETS[source]().text.router.num_experts * run.expansion.factor == expanded(name).text.router.num_experts
        )
