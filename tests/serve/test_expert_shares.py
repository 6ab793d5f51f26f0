"""A rank's share of a folder: the right numbers, nothing of the others, in the memory that it needs."""

from __future__ import annotations

import ctypes
import gc
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from s1pro.checkpoint import shards
from s1pro.checkpoint.released import load_network, save_network
from s1pro.model.config import ModelConfig, RouterConfig
from s1pro.model.network import Network
from s1pro.model.presets import tiny
from s1pro.serve.expert_shares import load_share, spread_experts
from tests.parallel.ranks import run_ranks


@pytest.mark.parametrize("layout", ["per_expert", "fused"])
def test_a_share_is_the_part_of_the_whole(tmp_path: Path, layout: str) -> None:
    save_network(Network(tiny(), seed=5), tmp_path, layout=layout)  # type: ignore[arg-type]

    def load(rank: int) -> set[str]:
        names, read = set(), shards.StoredTensors.read

        def remember(self: shards.StoredTensors, name: str, index: int | None = None) -> torch.Tensor:
            names.add(name)
            return read(self, name, index)

        shards.StoredTensors.read = remember  # type: ignore[method-assign]
        share = load_share(tmp_path, dist.group.WORLD, dtype=torch.bfloat16)
        shards.StoredTensors.read = read  # type: ignore[method-assign]
        expected = spread_experts(load_network(tmp_path, dtype=torch.bfloat16), dist.group.WORLD)
        state, other = share.state_dict(), expected.state_dict()
        assert state.keys() == other.keys()
        assert all(torch.equal(state[name], other[name]) and state[name].dtype == other[name].dtype for name in state)
        return names

    for rank, names in enumerate(run_ranks(load, 2)):
        if layout == "per_expert":
            experts = {int(name.split(".experts.")[1].split(".")[0]) for name in names if ".experts." in name}
            assert experts == set(range(4 * rank, 4 * rank + 4))


def wide() -> ModelConfig:
    """96 MiB, nearly all of them experts."""
    config = tiny(vocab_size=64)
    router = RouterConfig(num_experts=16, top_k=2)
    text = replace(config.text, hidden_size=256, moe_intermediate_size=1024, num_hidden_layers=2, router=router)
    return replace(config, text=text)


@pytest.mark.slow
def test_a_rank_of_two_takes_about_half_of_the_memory(tmp_path: Path) -> None:
    network = Network(wide(), seed=1)
    total = sum(p.nbytes for p in network.parameters())
    experts = sum(p.nbytes for name, p in network.named_parameters() if ".experts." in name)
    assert experts > 0.95 * total > 90e6
    save_network(network, tmp_path, max_shard_bytes=10**7)
    del network

    def peak(rank: int, shared: bool) -> int:
        shards.MAX_MAPPED_BYTES = 2**23  # what files may hold mapped is the same for any model
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what tests before this one left free would be taken again, and not be seen
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = memory("VmHWM")
        network = load_share(tmp_path, dist.group.WORLD) if shared else load_network(tmp_path)
        assert len(network.model.language_model.layers[0].mlp.experts.down_proj) == (8 if shared else 16)
        return memory("VmHWM") - before

    [whole] = run_ranks(peak, 1, False)
    assert whole > total
    for share in run_ranks(peak, 2, True):
        assert 0.45 * total < share < whole - 0.4 * total, (share, whole)


def memory(key: str) -> int:
    """Bytes, as the kernel counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
