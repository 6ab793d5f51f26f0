"""The paged cache: sizes, where tokens go, and that the views by block and by slot are one memory."""

from __future__ import annotations

import pytest
import torch

from s1pro.kernels.paged_cache import PagedKVCache

LAYERS, BLOCKS, SIZE, HEADS, DIM = 3, 5, 4, 2, 6


def cache(dtype: torch.dtype = torch.float32) -> PagedKVCache:
    return PagedKVCache(LAYERS, BLOCKS, SIZE, HEADS, DIM, dtype)


def tokens(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, HEADS, DIM, generator=generator) for _ in range(2))


def test_shapes_sizes_and_zeros():
    kv = cache()
    assert kv.num_slots == 20
    assert kv.num_bytes == 2 * LAYERS * BLOCKS * SIZE * HEADS * DIM * 4
    assert cache(torch.bfloat16).num_bytes == kv.num_bytes // 2
    assert len(kv.key) == len(kv.value) == len(kv.key_slots) == len(kv.value_slots) == LAYERS
    for tensor in kv.key + kv.value:
        assert tensor.shape == (BLOCKS, SIZE, HEADS, DIM) and not tensor.any()
    for tensor in kv.key_slots + kv.value_slots:
        assert tensor.shape == (BLOCKS * SIZE, HEADS, DIM)


@pytest.mark.parametrize("slots", [[0], [19], [3, 4], [7, 2, 19, 0, 8]])
def test_tokens_go_to_their_slots_of_one_layer(slots):
    kv = cache()
    k_TJC, v_TJC = tokens(len(slots))
    kv.write(1, k_TJC, v_TJC, torch.tensor(slots))
    for t, slot in enumerate(slots):
        assert torch.equal(kv.key[1][slot // SIZE, slot % SIZE], k_TJC[t])
        assert torch.equal(kv.value[1][slot // SIZE, slot % SIZE], v_TJC[t])
    others = [slot for slot in range(kv.num_slots) if slot not in slots]
    assert not kv.key_slots[1][others].any() and not kv.value_slots[1][others].any()
    assert not any(kv.key[layer].any() or kv.value[layer].any() for layer in (0, 2))


def test_blocks_and_slots_are_the_same_memory():
    kv = cache()
    kv.key[0][2, 1] = 7.0
    assert bool((kv.key_slots[0][2 * SIZE + 1] == 7.0).all())
    assert kv.value[2].data_ptr() == kv.value_slots[2].data_ptr()


def test_keys_and_values_do_not_share_memory():
    kv = cache()
    assert len({tensor.data_ptr() for tensor in kv.key + kv.value}) == 2 * LAYERS


def test_a_slot_can_be_written_again():
    kv = cache()
    for seed in range(2):
        k_TJC, v_TJC = tokens(2, seed)
        kv.write(0, k_TJC, v_TJC, torch.tensor([5, 6]))
    assert torch.equal(kv.key_slots[0][5:7], k_TJC) and torch.equal(kv.value_slots[0][5:7], v_TJC)


def test_writing_no_tokens_changes_nothing():
    kv = cache()
    kv.write(0, *tokens(0), torch.zeros(0, dtype=torch.int64))
    assert not kv.key[0].any()


def test_views_that_are_not_contiguous_can_be_written():
    """Keys and values are slices of one product in the decoder."""
    kv = cache()
    both = torch.randn(3, 2, HEADS, DIM, generator=torch.Generator().manual_seed(1))
    kv.write(0, both[:, 0], both[:, 1], torch.tensor([9, 1, 4]))
    assert torch.equal(kv.key_slots[0][[9, 1, 4]], both[:, 0])
    assert torch.equal(kv.value_slots[0][[9, 1, 4]], both[:, 1])


@pytest.mark.parametrize("slot", [20, -1])
def test_a_slot_outside_the_cache_is_an_error(slot):
    with pytest.raises((IndexError, RuntimeError)):
        cache().write(0, *tokens(1), torch.tensor([slot]))


def test_another_number_of_slots_than_tokens_is_an_error():
    with pytest.raises((IndexError, RuntimeError)):
        cache().write(0, *tokens(3), torch.tensor([1, 2]))


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("value", [0, -1])
def test_sizes_must_be_positive(position, value):
    sizes = [LAYERS, BLOCKS, SIZE, HEADS, DIM]
    sizes[position] = value
    with pytest.raises(ValueError, match="must be positive"):
        PagedKVCache(*sizes)


def test_meta_device_needs_no_memory():
    kv = PagedKVCache(2, 1000, 16, 8, 128, torch.bfloat16, "meta")
    assert kv.key[0].is_meta and kv.num_bytes == 2 * 2 * 1000 * 16 * 8 * 128 * 2
