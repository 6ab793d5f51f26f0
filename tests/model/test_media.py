"""Images, videos and signals of several sequences in one packed row."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from s1pro.base.media import Media, Patches, Signals, join_media
from s1pro.base.signal_tokens import signal_layout
from s1pro.kernels.attention import PackedContext
from s1pro.model.config import ModelConfig
from s1pro.model.exact import use_exact_operators
from s1pro.model.network import Network
from s1pro.model.presets import small_time_series, tiny, with_media

IMAGE, VIDEO, SIGNAL = 500, 501, 502


def config() -> ModelConfig:
    return with_media(
        tiny(),
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=503,
        vision_end_token_id=504,
        ts_token_id=SIGNAL,
        ts_start_token_id=505,
        ts_end_token_id=506,
    )


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(config(), seed=2).eval()


def patches(t: int, h: int, w: int, seed: int) -> Patches[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return Patches(pixel_values_PX=torch.randn(t * h * w, 1536, generator=draw), grids=((t, h, w),))


def signal(length: int, channels: int, rate: float, seed: int) -> Signals[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(length * channels, generator=draw)
    return Signals(values_X=values, shapes=((length, channels),), sampling_rates=(rate,))


def run(network: Network, sequences: list[list[int]], media: Media[Tensor] | None) -> Tensor:
    ids = torch.tensor([token for ids in sequences for token in ids])
    positions = torch.cat([torch.arange(len(ids)) for ids in sequences])
    context = PackedContext.from_lengths([len(ids) for ids in sequences])
    logits = network(ids, positions, context, media=media).logits
    assert logits is not None
    return logits


@torch.no_grad()
def test_sequences_with_all_kinds_of_media_in_one_row(network: Network) -> None:
    """Two conversations packed give what each gives alone."""
    first = Media(images=patches(1, 2, 4, 0), videos=patches(2, 2, 2, 1), signals=signal(40, 2, 20.0, 2))
    second = Media(images=patches(1, 4, 2, 3), signals=signal(300, 1, 100.0, 4))
    third = Media(signals=signal(1, 3, 5.0, 5))
    counts = [signal_layout(*case).tokens for case in ((40, 20.0), (300, 100.0), (1, 5.0))]
    sequences = [
        [1, IMAGE, IMAGE, 2, *[SIGNAL] * counts[0], 3, VIDEO, VIDEO, 4],
        [*[SIGNAL] * counts[1], 7, IMAGE, IMAGE, *[SIGNAL] * counts[2], 8],
    ]
    later = join_media([second, third], torch.cat)
    assert later is not None
    together = run(network, sequences, join_media([first, later], torch.cat))
    alone = torch.cat([run(network, [sequences[0]], first), run(network, [sequences[1]], later)])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-5)


def mixed() -> tuple[list[list[int]], list[Media[Tensor]]]:
    """Sequences with pictures of several sizes, a video, and signals of several rates, lengths and widths."""
    media = [
        Media(images=patches(1, 2, 4, 0), videos=patches(3, 2, 2, 1), signals=signal(40, 2, 20.0, 2)),
        Media(images=patches(1, 4, 2, 3), signals=signal(300, 1, 100.0, 4)),
        Media(images=join_media([Media(images=patches(1, 2, 2, s)) for s in (5, 6, 7)], torch.cat).images),  # type: ignore[union-attr]
        Media(signals=signal(1700, 1, 2000.0, 8)),
    ]
    counts = [signal_layout(*case).tokens for case in ((40, 20.0), (300, 100.0), (1700, 2000.0))]
    sequences = [
        [1, IMAGE, IMAGE, 2, *[SIGNAL] * counts[0], 3, VIDEO, VIDEO, VIDEO, 4],
        [*[SIGNAL] * counts[1], 7, IMAGE, IMAGE, 8],
        [9, IMAGE, 10, IMAGE, IMAGE],
        [*[SIGNAL] * counts[2], 11],
    ]
    return sequences, media


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_exact_mode_media_have_their_bits_in_any_company(dtype: torch.dtype) -> None:
    """Alone, packed in any order, with and without gradients."""
    network = Network(config(), seed=2).eval().to(dtype)
    use_exact_operators(network)
    sequences, media = mixed()
    alone = [run(network, [ids], medium) for ids, medium in zip(sequences, media, strict=True)]
    for order in ((0, 1, 2, 3), (3, 1, 0, 2), (2, 0), (1, 3)):
        chosen = [sequences[i] for i in order]
        joined = join_media([media[i] for i in order], torch.cat)
        together = run(network, chosen, joined)
        assert together.requires_grad
        with torch.inference_mode():
            assert torch.equal(run(network, chosen, joined), together)
        assert torch.equal(together, torch.cat([alone[i] for i in order]))


def test_gradients_of_towers_in_exact_mode_are_the_usual_ones() -> None:
    sequences, media = mixed()
    gradients = []
    for exact in (False, True):
        network = Network(config(), seed=2)
        use_exact_operators(network, exact)
        run(network, sequences, join_media(media, torch.cat)).square().mean().backward()
        gradients.append({name: param.grad for name, param in network.named_parameters()})
    usual, exactly = gradients
    towers = [name for name in usual if name.startswith(("model.visual.", "model.time_series."))]
    assert len(towers) > 20
    for name in towers:
        assert usual[name] is not None and exactly[name] is not None, name
        torch.testing.assert_close(exactly[name], usual[name], atol=1e-6, rtol=1e-3, msg=name)


@torch.no_grad()
def test_signals_replace_their_placeholders_and_nothing_before(network: Network) -> None:
    recorded = signal(40, 1, 20.0, 0)
    ids = [1, 2, *[SIGNAL] * signal_layout(40, 20.0).tokens, 3]
    with_signal, without = run(network, [ids], Media(signals=recorded)), run(network, [ids], None)
    torch.testing.assert_close(with_signal[:2], without[:2])
    assert not torch.allclose(with_signal[2:], without[2:])
    other = replace(recorded, values_X=-recorded.values_X)
    assert not torch.allclose(run(network, [ids], Media(signals=other))[2:], with_signal[2:])


def test_gradients_reach_the_module_through_the_placeholders() -> None:
    network = Network(config(), seed=2)
    ids = [1, *[SIGNAL] * signal_layout(300, 5.0).tokens, 3]
    run(network, [ids], Media(signals=signal(300, 2, 5.0, 0))).logsumexp(-1).sum().backward()
    for name, param in network.model.time_series.named_parameters():
        assert param.grad is not None and bool(param.grad.any()), name


def test_counts_that_do_not_match(network: Network) -> None:
    with pytest.raises(
        ValueError, match=r"1 signal placeholders \(token 502\) for 2 signal tokens of signals of shapes "
    ):
        run(network, [[SIGNAL, 1]], Media(signals=signal(40, 1, 20.0, 0)))
    with pytest.raises(ValueError, match=r"1 video placeholders \(token 501\) for 2 video tokens of grids"):
        run(network, [[VIDEO, 1]], Media(videos=patches(2, 2, 2, 0)))


def test_media_without_a_tower() -> None:
    with pytest.raises(ValueError, match="no time-series module"):
        run(Network(tiny()), [[SIGNAL, 1]], Media(signals=signal(1, 1, 1.0, 0)))
    only_signals = Network(replace(tiny(), time_series=small_time_series(64), ts_token_id=SIGNAL))
    with pytest.raises(ValueError, match="no vision tower"):
        run(only_signals, [[IMAGE, 1]], Media(images=patches(1, 2, 2, 0)))
    assert run(only_signals, [[SIGNAL, 1]], Media(signals=signal(1, 1, 1.0, 0))).shape == (2, 512)


def test_towers_leave_the_weights_of_the_decoder_as_they_are() -> None:
    plain, towers = Network(tiny(), seed=5), Network(config(), seed=5)
    for name, weight in plain.state_dict().items():
        if "embed_tokens" in name:
            assert torch.equal(weight, towers.state_dict()[name])
    assert torch.equal(
        Network(replace(tiny(), time_series=small_time_series(64)), seed=5).lm_head.weight, plain.lm_head.weight
    )
