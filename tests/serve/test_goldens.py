"""Generation against numbers measured with the released code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from s1pro.base.records import Sampling
from s1pro.checkpoint.released import load_network
from s1pro.kernels.attention import PagedContext
from s1pro.kernels.paged_cache import PagedKVCache
from s1pro.model.network import Network
from s1pro.serve.engine import Engine

PROMPT = 24  # of the 40 ids in e_greedy_text


@pytest.fixture(scope="module")
def folder(goldens_dir: Path) -> Path:
    return goldens_dir / "model_tiny"


@pytest.fixture(scope="module")
def network(folder: Path) -> Network:
    return load_network(folder).eval()


@pytest.fixture(scope="module")
def goldens(folder: Path) -> dict[str, Tensor]:
    return dict(load_file(folder / "goldens.safetensors"))


def test_greedy_text_equals_the_released_generate(network: Network, goldens: dict[str, Tensor]) -> None:
    sequence = goldens["e_greedy_text.sequence"][0].tolist()
    fillers = [[7] * 3, [9] * 50]
    engine = Engine(network, cache_tokens=512)
    answers = engine.generate([*fillers, sequence[:PROMPT]], Sampling(max_new_tokens=len(sequence) - PROMPT))
    assert list(answers[-1].token_ids) == sequence[PROMPT:]


@torch.inference_mode()
def test_cached_decoding_equals_the_released_cache(network: Network, goldens: dict[str, Tensor]) -> None:
    """Prefill of 10 tokens, then 5 single steps, both sequences in one batch, in scattered blocks."""
    ids_BS, expected_BSV = goldens["e_incremental.input_ids"], goldens["e_incremental.logits_cached"]
    text, block_size = network.config.text, 4
    cache = PagedKVCache(
        num_layers=text.num_hidden_layers,
        num_blocks=9,
        block_size=block_size,
        num_kv_heads=text.num_key_value_heads,
        head_dim=text.head_dim,
        dtype=torch.float32,
        device="cpu",
    )
    table_BM = torch.tensor([[7, 2, 5, 0], [1, 8, 3, 6]])
    done, logits = 0, []
    for new in (10, 1, 1, 1, 1, 1):
        positions_S = torch.arange(done, done + new)
        slots_BS = table_BM[:, positions_S // block_size] * block_size + positions_S % block_size
        context = PagedContext(
            cache=cache,
            cu_seqlens_q=(0, new, 2 * new),
            block_table_BM=table_BM,
            context_lens=(done + new, done + new),
            slot_mapping_T=slots_BS.flatten(),
        )
        output = network(ids_BS[:, positions_S].flatten(), positions_S.repeat(2), context)
        logits.append(output.logits.view(2, new, -1))
        done += new
    torch.testing.assert_close(torch.cat(logits, dim=1), expected_BSV, atol=2e-5, rtol=1e-5)
