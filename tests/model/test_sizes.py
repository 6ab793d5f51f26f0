"""Sizes by arithmetic against models built on the meta device and the published numbers."""

from dataclasses import replace

import pytest
import torch

from s1pro.model.config import TimeSeriesConfig
from s1pro.model.network import Network
from s1pro.model.presets import PRESETS, bench, demo, intern_s1_pro, small_time_series, small_vision, tiny
from s1pro.model.sizes import cache_bytes_per_token, count_parameters, forward_flops_per_token, routing_bytes_per_token


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_arithmetic_equals_the_built_model(name):
    config = PRESETS[name]()
    with torch.device("meta"):
        network = Network(config)
    towers = {".visual.": 0, ".time_series.": 0, "": 0}
    for key, parameter in network.named_parameters():
        towers[next(tower for tower in towers if tower in key)] += parameter.numel()
    sizes = count_parameters(config)
    assert (sizes.vision, sizes.time_series, sizes.text) == tuple(towers.values())


@pytest.mark.parametrize(
    "series", [TimeSeriesConfig(out_hidden_size=64), small_time_series(64)], ids=["release", "small"]
)
def test_the_time_series_module_is_counted(series):
    config = replace(tiny(), vision=small_vision(64), time_series=series)
    with torch.device("meta"):
        network = Network(config)
    sizes = count_parameters(config)
    assert sizes.time_series == sum(p.numel() for p in network.model.time_series.parameters())
    assert sizes.total == sum(p.numel() for p in network.parameters())


def test_the_released_model_has_its_published_size():
    sizes = count_parameters(intern_s1_pro())
    assert round(sizes.text / 1e9, 1) == 916.6
    assert round(sizes.active / 1e9, 1) == 21.7
    assert round(sizes.vision / 1e6) == 340
    assert cache_bytes_per_token(intern_s1_pro()) == 192_512
    assert routing_bytes_per_token(intern_s1_pro()) == 1_504


def test_small_presets_keep_their_limits():
    assert count_parameters(tiny()).total <= 300_000
    assert count_parameters(demo()).total <= 3_500_000
    assert tiny().text.router.num_experts == demo().text.router.num_experts == 8
    assert tiny().text.router.top_k == demo().text.router.top_k == 2
    sizes = count_parameters(bench())
    assert round(sizes.text / 1e6, 1) == 41.9 or round(sizes.text / 1e6, 1) == 40.9


def test_flops_count_active_parameters_and_attention():
    config = tiny()
    base = forward_flops_per_token(config, context=0)
    assert base == 2 * count_parameters(config).active
    assert forward_flops_per_token(config, context=10) - base == 4 * 2 * 4 * 16 * 10
