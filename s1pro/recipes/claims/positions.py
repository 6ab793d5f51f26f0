"""Claim 4: FoPE extrapolates further than RoPE.

A network is trained on sequences of L tokens and read on sequences of 4 L. The loss "at k times the training length" is
the mean over the tokens at positions (k - 1) L to k L, so at 2 and 4 times every token stands where training never was.
FoPE (`model.rope`) drops the frequencies that do not complete a period within L, for which training has shown only a
piece of the circle, and mixes the others; RoPE keeps all. Two kinds of sequences:

    text      descriptions of molecules one after another, cut into windows
    signals   sums of two waves with random periods, phases and noise, one token per sample: what is to be predicted
              repeats itself in the context

Both arms have the same weights but for the coefficients of FoPE, the same data, and their own learning rate and one
further setting, tuned by the loss *within* the training length: extrapolation is what is tested, so nothing is chosen
by it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from s1pro.data.batch import PackedBatch
from s1pro.data.sequence import TokenSequence
from s1pro.data.sources import Source
from s1pro.kernels.attention import PackedContext
from s1pro.model.config import ModelConfig, RopeConfig, RouterConfig, TextConfig
from s1pro.model.network import Network
from s1pro.recipes.claims.claim import Claim, Measurement, Mechanism, Results, Unit, Verdict
from s1pro.recipes.claims.comparing import difference, mean_of
from s1pro.recipes.claims.molecules import VOCABULARY, prepare_molecules, token_stream
from s1pro.recipes.expansion_comparison import train_steps
from s1pro.report.plots import Curve, Panel
from s1pro.train.config import DataConfig
from s1pro.train.setup import build_loader, validation_batches

FOPE, ROPE = "fope", "rope"
KINDS = ("text", "signals")
LEVELS = 64
LONGEST = 4  # training lengths


@dataclass(frozen=True, kw_only=True)
class PositionSettings:
    """Sizes, and what was tuned.

    Attributes:
        length: L.
        held_out: sequences of 4 L.
        lr: by arm; theta: of RoPE; learnable: whether the coefficients of FoPE are trained, init_factor: how far
            they start from the identity.
    """

    length: int = 64
    steps: int = 100
    tokens: int = 512
    sequences: int = 2000
    held_out: int = 32
    lr: Mapping[str, float]
    theta: float = 10_000.0
    learnable: bool = True
    init_factor: float = 0.5


class Windows:
    """Sequences of equal length in memory, as a source of the loader."""

    def __init__(self, name: str, ids_NS: npt.NDArray[np.int32]) -> None:
        self.name, self._ids_NS = name, ids_NS

    def __len__(self) -> int:
        return len(self._ids_NS)

    def num_rows(self, index: int) -> int:
        return self._ids_NS.shape[1] - 1

    def is_conversation(self, index: int) -> bool:
        return False

    def has_media(self, index: int) -> bool:
        return False

    def sequence(self, index: int) -> TokenSequence:
        ids_S = self._ids_NS[index]
        return TokenSequence(
            token_ids=ids_S, loss_weights=np.ones(len(ids_S), dtype=np.float32), prompt_group="science"
        )


def signal_windows(count: int, length: int, *, seed: int) -> npt.NDArray[np.int32]:
    """`[count, length]` of levels: two waves of periods 6 to 24 samples, noise of a twentieth of their amplitude."""
    random = np.random.default_rng(seed)
    time_S = np.arange(length)
    period_N21 = random.uniform(6, 24, (count, 2, 1))
    phase_N21 = random.uniform(0, 2 * np.pi, (count, 2, 1))
    value_NS = np.sin(2 * np.pi * time_S / period_N21 + phase_N21).sum(axis=1) / 2
    value_NS = value_NS + random.normal(0, 0.05, value_NS.shape)
    return ((value_NS.clip(-1.2, 1.2) + 1.2) / 2.4 * (LEVELS - 1)).round().astype(np.int32)


def text_windows(shared: Path, part: str, count: int, length: int, *, seed: int) -> npt.NDArray[np.int32]:
    """`[count, length]`, cut at random from the descriptions in a random order."""
    stream = token_stream(shared, part, seed=seed)
    starts = np.random.default_rng(seed).integers(0, len(stream) - length, count)
    return np.stack([stream[start : start + length] for start in starts])


def windows(kind: str, shared: Path, settings: PositionSettings, *, seed: int) -> tuple[Source, Source]:
    """To train on, and held out; the held-out ones are the same for all seeds."""
    short, long = settings.length + 1, LONGEST * settings.length + 1
    if kind == "text":
        train = text_windows(shared, "train", settings.sequences, short, seed=seed)
        held_out = text_windows(shared, "validation", settings.held_out, long, seed=12345)
    else:
        train = signal_windows(settings.sequences, short, seed=seed)
        held_out = signal_windows(settings.held_out, long, seed=12345)
    return Windows(kind, train), Windows(kind, held_out)


def network_config(kind: str, arm: str, settings: PositionSettings, *, without: str | None = None) -> ModelConfig:
    if arm == ROPE or without == "fope":
        rope = RopeConfig(theta=settings.theta, max_position_embeddings=settings.length, fope=False)
    else:
        rope = RopeConfig(
            max_position_embeddings=settings.length,
            fope=True,
            learnable=settings.learnable,
            init_factor=settings.init_factor,
        )
        if without == "mixing":
            rope = replace(rope, init_factor=0.0, learnable=False)
        if without == "floor":
            rope = replace(rope, num_inv_freq=16)
    text = TextConfig(
        vocab_size=VOCABULARY if kind == "text" else LEVELS,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        moe_intermediate_size=64,
        router=RouterConfig(num_experts=8, top_k=2, num_groups=2),
        rope=rope,
    )
    return ModelConfig(
        text=text, image_token_id=-1, video_token_id=-1, vision_start_token_id=-1, vision_end_token_id=-1
    )


@torch.no_grad()
def loss_by_position(network: Network, batches: Sequence[PackedBatch], length: int) -> list[float]:
    """Mean loss at every position of sequences of `length` rows."""
    total_S, count = torch.zeros(length, dtype=torch.float64), 0
    for batch in batches:
        context = PackedContext(cu_seqlens=batch.cu_seqlens)
        logits_TV = network(batch.input_ids_T, batch.position_ids_T, context).logits.float()
        nll_T = torch.nn.functional.cross_entropy(logits_TV, batch.targets_T, reduction="none", ignore_index=-100)
        for (start, stop), source in zip(itertools.pairwise(batch.cu_seqlens), batch.segment_sources, strict=True):
            if source >= 0:
                total_S += nll_T[start:stop].double()
                count += 1
    return (total_S / count).tolist()


def measure(unit: Unit) -> Measurement:
    settings: PositionSettings = unit.settings
    values, curves = {}, {}
    arm = ROPE if unit.without == "fope" else unit.arm
    for kind in KINDS:
        train, held_out = windows(kind, unit.shared, settings, seed=unit.seed)
        network = Network(network_config(kind, unit.arm, settings, without=unit.without), seed=unit.seed)
        config = DataConfig(tokens_per_batch=settings.tokens, max_length=settings.length)
        loader = build_loader([train], [1.0], config, seed=unit.seed)
        train_steps(network, loader, "muon", settings.lr[arm], settings.steps, 1e-2)
        longest = LONGEST * settings.length
        long = DataConfig(tokens_per_batch=4 * longest, max_length=longest, validation_batches=settings.held_out)
        losses = loss_by_position(network.eval(), validation_batches([held_out], long), longest)
        for times in (1, 2, LONGEST):
            part = losses[(times - 1) * settings.length : times * settings.length]
            values[f"{kind} at {times}×"] = sum(part) / len(part)
        values[f"{kind}, 4× − 1×"] = values[f"{kind} at 4×"] - values[f"{kind} at 1×"]
        curves[kind] = [(at, sum(losses[at : at + 8]) / 8) for at in range(0, longest, 8)]
    return Measurement(
        values=values, curves=curves, steps=2 * settings.steps, tokens=2 * settings.steps * settings.tokens
    )


def verdict(results: Results) -> Verdict:
    asked = [difference(results, ROPE, FOPE, f"{kind} at 4×") for kind in KINDS]
    told = [
        difference(results, ROPE, FOPE, f"{kind}{what}", above=None)
        for kind in KINDS
        for what in (" at 1×", " at 2×", ", 4× − 1×")
    ]
    if all(found.estimate.low == found.estimate.high == 0 for found in asked):
        return Verdict(differences=(*asked, *told), text="The arms are identical: every difference is exactly 0.")
    parts = [
        f"{kind}: "
        + ", ".join(
            f"{mean_of(results, arm, f'{kind} at 1×'):.3f} → {mean_of(results, arm, f'{kind} at 4×'):.3f} {arm}"
            for arm in (FOPE, ROPE)
        )
        for kind in KINDS
    ]
    return Verdict(differences=(*asked, *told), text=f"Loss at 1× and 4× the training length. {'; '.join(parts)}.")


def panels(results: Results) -> Sequence[Panel]:
    shown = []
    for kind in KINDS:
        curves = []
        for arm, by_seed in results.items():
            points = next(iter(by_seed.values())).curves[kind]
            curves.append(Curve(label=arm, x=[x for x, _ in points], y=[y for _, y in points]))
        shown.append(Panel(curves=curves, title=kind, x_label="position"))
    return shown


def prepare(settings: PositionSettings, seeds: Sequence[int], shared: Path) -> None:
    prepare_molecules(shared)


_LR = {FOPE: 8e-3, ROPE: 8e-3}

CLAIM = Claim(
    number=4,
    name="positions",
    statement="FoPE extrapolates further than RoPE.",
    criterion="At 4 times the training length the loss with FoPE is below that with RoPE, on text and on periodic "
    "signals (95 % intervals over seeds). Losses at 1 and 2 times, and the rise from 1 to 4 times, are reported.",
    arms=(FOPE, ROPE),
    mechanisms={
        "fope": Mechanism(removed="the FoPE arm has plain rotary positions", arms=(FOPE,)),
        "mixing": Mechanism(removed="the coefficients of FoPE are the identity", arms=(FOPE,)),
        "floor": Mechanism(removed="FoPE keeps all frequencies", arms=(FOPE,)),
    },
    tuning="Each arm: learning rate 4e-3 or 8e-3, and one of three variants (RoPE: theta 1e3, 1e4, 1e5; FoPE: "
    "coefficients frozen, trained, or trained from nearer the identity), by the loss within the training length, text "
    "plus signals, after 100 steps with seed 100: 8e-3 for both, theta 1e4, coefficients trained.",
    settings={
        "fast": PositionSettings(steps=40, tokens=256, held_out=8, lr=_LR),
        "full": PositionSettings(lr=_LR),
    },
    measure=measure,
    verdict=verdict,
    panels=panels,
    prepare=prepare,
)
