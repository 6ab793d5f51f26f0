"""The whole network: initialisation, packing, replay, dtype, media errors."""

import pytest
import torch

from s1pro.base.media import Media, Patches
from s1pro.kernels.attention import PackedContext
from s1pro.model.config import ModelConfig, VisionConfig
from s1pro.model.network import Network
from s1pro.model.presets import tiny


def packed(*lengths: int) -> tuple[torch.Tensor, torch.Tensor, PackedContext]:
    ids = torch.randint(0, 512, (sum(lengths),), generator=torch.Generator().manual_seed(5))
    positions = torch.cat([torch.arange(length) for length in lengths])
    return ids, positions, PackedContext.from_lengths(lengths)


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    a = Network(tiny(), seed=7)
    torch.manual_seed(2)
    b, c = Network(tiny(), seed=7), Network(tiny(), seed=8)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert not torch.equal(a.lm_head.weight, c.lm_head.weight)
    gate = a.model.language_model.layers[0].mlp.gate.weight.detach()
    assert float(gate.std()) > 0.01  # a zero gate would never learn


def test_a_packed_sequence_does_not_see_its_neighbours():
    network = Network(tiny())
    ids, positions, context = packed(5, 9, 3)
    together = network(ids, positions, context).logits
    for start, stop in ((0, 5), (5, 14), (14, 17)):
        alone = network(ids[start:stop], positions[start:stop], PackedContext.from_lengths([stop - start])).logits
        torch.testing.assert_close(together[start:stop], alone, atol=1e-5, rtol=1e-5)


def test_fope_is_not_translation_invariant():
    network = Network(tiny())
    with torch.no_grad():
        rotary = network.model.language_model.rotary_emb
        for coef in (rotary.sin_coef, rotary.cos_coef):
            coef += 0.3 * torch.randn(coef.shape, generator=torch.Generator().manual_seed(0))
    ids, positions, context = packed(12)
    shift = (network(ids, positions + 37, context).logits - network(ids, positions, context).logits).abs().max()
    assert float(shift.detach()) > 1e-4


def test_replayed_routing_of_the_same_model_changes_nothing():
    network = Network(tiny())
    ids, positions, context = packed(6, 4)
    first = network(ids, positions, context)
    again = network(ids, positions, context, routed_experts_LTK=first.routing_LTK)
    assert torch.equal(first.logits, again.logits) and torch.equal(first.routing_LTK, again.routing_LTK)
    other = (first.routing_LTK + 1) % 4 + first.routing_LTK // 4 * 4
    assert not torch.equal(first.logits, network(ids, positions, context, routed_experts_LTK=other).logits)
    with pytest.raises(ValueError, match="1 layers, the model has 2"):
        network(ids, positions, context, routed_experts_LTK=first.routing_LTK[:1])


def test_logits_of_selected_rows_and_float32_head():
    network = Network(tiny()).to(torch.bfloat16)
    ids, positions, context = packed(6, 4)
    full = network(ids, positions, context)
    rows = network(ids, positions, context, logits_index=torch.tensor([5, 9]))
    assert full.hidden_TD.dtype == torch.bfloat16 and full.logits.dtype == torch.float32
    torch.testing.assert_close(rows.logits, full.logits[[5, 9]])
    assert network(ids, positions, context, compute_logits=False).logits is None


def test_straight_through_changes_gradients_but_not_values():
    from dataclasses import replace

    plain = tiny()
    through = replace(plain, text=replace(plain.text, router=replace(plain.text.router, straight_through=True)))
    ids, positions, context = packed(8, 8)
    grads = []
    for config in (plain, through):
        network = Network(config)
        logits = network(ids, positions, context).logits
        logits.square().mean().backward()
        grads.append((logits.detach(), network.model.language_model.layers[0].mlp.gate.weight.grad))
    assert torch.equal(grads[0][0], grads[1][0])
    assert not torch.allclose(grads[0][1], grads[1][1])
    assert bool((grads[1][1].norm(dim=1) > 0).all())


def tiny_with_vision() -> ModelConfig:
    vision = VisionConfig(
        depth=1,
        hidden_size=32,
        num_heads=2,
        intermediate_size=48,
        patch_size=4,
        num_position_embeddings=16,
        out_hidden_size=64,
    )
    return ModelConfig(text=tiny().text, vision=vision, image_token_id=500, video_token_id=501)


def test_media_replace_their_placeholders_and_nothing_else():
    network = Network(tiny_with_vision())
    ids, positions, context = packed(10)
    ids[3:5] = 500
    pixels = torch.randn(8, 96, generator=torch.Generator().manual_seed(0))
    media = Media(images=Patches(pixel_values_PX=pixels, grids=((1, 2, 4),)))
    with_image = network(ids, positions, context, media=media).logits
    without = network(ids, positions, context).logits
    torch.testing.assert_close(with_image[:3], without[:3])
    assert not torch.allclose(with_image[3:], without[3:])


def test_wrong_number_of_placeholders_is_an_error():
    network = Network(tiny_with_vision())
    ids, positions, context = packed(10)
    ids[:] = 1
    ids[3] = 500
    media = Media(images=Patches(pixel_values_PX=torch.zeros(8, 96), grids=((1, 2, 4),)))
    with pytest.raises(ValueError, match="1 image placeholders"):
        network(ids, positions, context, media=media)
    with pytest.raises(ValueError, match="no vision tower"):
        Network(tiny())(ids, positions, context, media=media)
    with pytest.raises(ValueError, match="describe 8 patches"):
        Patches(pixel_values_PX=torch.zeros(7, 96), grids=((1, 2, 4),))
