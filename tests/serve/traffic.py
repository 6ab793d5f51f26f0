"""Random traffic for an engine, and the trainer's forward as its judge."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s1pro.base.media import Media
from s1pro.base.records import Completion, Message, Sampling
from s1pro.inputs.images import ImageSettings
from s1pro.inputs.media_parts import Preparation
from s1pro.inputs.pixel_settings import VideoSettings
from s1pro.inputs.processor import Processor
from s1pro.inputs.tokenizer_training import train_tokenizer
from s1pro.kernels.attention import PackedContext
from s1pro.model import presets
from s1pro.model.network import Network, NetworkOutput
from s1pro.serve.engine import Engine
from s1pro.serve.request import Request

VOCAB = 320
CLOSE = 1e-4
"""Two logits of a head or a router that are closer may be swapped by rounding."""


def make_processor() -> Processor:
    tokenizer = train_tokenizer(["what is this picture, this signal?"] * 4, vocab_size=260)
    videos = VideoSettings(min_pixels=2048, max_pixels=8192)
    images = ImageSettings(min_pixels=1024, max_pixels=8192)
    return Processor(tokenizer, preparation=Preparation(images=images, videos=videos))


def make_network(processor: Processor, seed: int = 2) -> Network:
    """Small towers; larger gates and head, so that choices have a margin."""
    names = {"image": "<|image_pad|>", "video": "<|video_pad|>", "ts": "<TS_CONTEXT>"}
    ids = {f"{kind}_token_id": processor.tokenizer.token_to_id(token) for kind, token in names.items()}
    network = Network(presets.with_media(presets.tiny(VOCAB), **ids), seed=seed).eval()
    with torch.no_grad():
        network.lm_head.weight *= 20
        for layer in network.model.language_model.layers:
            layer.mlp.gate.weight *= 20
    return network


@dataclass
class Asked:
    """One request of the traffic."""

    prompt: list[int]
    sampling: Sampling
    media: Media[Any] | None = None
    arrives: int = 0
    leaves: int | None = None
    request: Request | None = None


def make_traffic(processor: Processor, count: int, seed: int, *, longest_answer: int = 20) -> list[Asked]:
    """Text and media, shared and equal beginnings, random arrival, some that are cancelled; all greedy."""
    rng = random.Random(seed)
    openings = [[rng.randrange(250) for _ in range(rng.randint(5, 60))] for _ in range(4)]
    asked: list[Asked] = []
    for i in range(count):
        media = None
        if rng.random() < 0.4:
            encoded = processor.encode(_question(rng), add_generation_prompt=True, enable_thinking=False)
            prompt, media = list(encoded.token_ids), encoded.media
        else:
            opening = rng.choice(openings)[: rng.randint(1, 60)]
            prompt = opening + [rng.randrange(250) for _ in range(rng.randint(0, 30))]
        if rng.random() < 0.2 and asked:  # the same again, at another time
            other = rng.choice(asked)
            prompt, media = other.prompt, other.media
        sampling = Sampling(
            max_new_tokens=rng.randint(1, longest_answer),
            ignore_eos=True,
            prompt_logprobs=rng.choice([0, 2]) if rng.random() < 0.15 else None,
            logprobs=rng.choice([0, 0, 3]),
        )
        leaves = i + rng.randint(1, 12) if rng.random() < 0.1 else None
        asked.append(Asked(list(prompt), sampling, media, arrives=rng.randint(0, count // 3), leaves=leaves))
    return asked


def _question(rng: random.Random) -> list[Message]:
    data = np.random.default_rng(rng.randrange(4))
    parts: list[dict[str, Any]] = [{"type": "text", "text": rng.choice(["what?", "this signal?", "is it?"])}]
    kind = rng.randrange(4)
    if kind == 3:
        frames = list(data.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8))
        return [Message(role="user", content=[{"type": "video", "video": frames, "fps": 2.0}, *parts])]
    if kind != 1:
        parts.insert(
            0, {"type": "image", "image": data.integers(0, 256, (32, 32 * rng.randint(1, 2), 3), dtype=np.uint8)}
        )
    if kind != 2:
        parts.insert(0, {"type": "time_series", "time_series": data.normal(size=60), "sampling_rate": 10.0})
    return [Message(role="user", content=parts)]


def run(engine: Engine, traffic: list[Asked]) -> list[tuple[Asked, Completion]]:
    """Steps the engine while requests come and go; checks that it ends empty."""
    waiting = sorted(traffic, key=lambda asked: asked.arrives)
    answers, step = [], 0
    while waiting or engine.has_work:
        while waiting and waiting[0].arrives <= step:
            asked = waiting.pop(0)
            asked.request = engine.prepare(asked.prompt, asked.sampling, media=asked.media)
            engine.submit(asked.request)
        for asked in traffic:
            if asked.request is not None and asked.leaves is not None and step >= asked.leaves + asked.arrives:
                engine.abort(asked.request)
        engine.step()
        step += 1
        assert step < 100_000
    for asked in traffic:
        assert asked.request is not None
        answers.append((asked, engine.completion(asked.request)))
    stats = engine.stats()
    assert stats.blocks_used == stats.running == stats.waiting == 0
    return answers


@dataclass
class Judge:
    """Compares completions with the packed forward of the trainer, everything in one pass per sequence.

    Attributes:
        noise: largest difference of a log-prob between float32 and float64 on these sequences.
        worst: largest difference between engine and trainer.
        tokens, excused: compared tokens, and those that differ where two logits of head or router are close.
    """

    network: Network
    noise: float = 0.0
    worst: float = 0.0
    tokens: int = 0
    rows: int = 0
    excused: int = 0
    excused_rows: int = 0
    doubles: Network | None = field(default=None)

    @torch.inference_mode()
    def forward(self, network: Network, ids: list[int], media: Media[Any] | None) -> NetworkOutput:
        dtype = network.lm_head.weight.dtype
        tensors = None if media is None else media.map(lambda array: torch.as_tensor(np.asarray(array)).to(dtype))
        packed = PackedContext.from_lengths([len(ids)])
        output: NetworkOutput = network(torch.tensor(ids), torch.arange(len(ids)), packed, media=tensors)
        return output

    def check(self, asked: Asked, answer: Completion) -> None:
        fed = [*asked.prompt, *answer.token_ids[:-1]]
        output = self.forward(self.network, fed, asked.media)
        assert output.logits is not None
        logits_TV = output.logits
        logprobs_TV = logits_TV.log_softmax(-1)
        if self.doubles is not None:
            exact = self.forward(self.doubles, fed, asked.media)
            assert exact.logits is not None
            ids = torch.tensor([*fed[1:], *answer.token_ids[-1:]])[: len(fed), None]
            gap = (exact.logits.log_softmax(-1).gather(1, ids) - logprobs_TV[: len(ids)].gather(1, ids)).abs()
            self.noise = max(self.noise, float(gap.max()))
        close_T = router_margin(output, self.network) < CLOSE
        first_close = int(close_T.nonzero()[0]) if close_T.any() else len(fed)
        self._tokens(logits_TV, logprobs_TV, asked, answer, first_close)
        self._routing(output, answer, close_T)
        if asked.sampling.prompt_logprobs is not None and answer.finish_reason != "abort":
            self._prompt(logprobs_TV, asked, answer, first_close)

    def _tokens(
        self, logits_TV: Tensor, logprobs_TV: Tensor, asked: Asked, answer: Completion, first_close: int
    ) -> None:
        assert answer.logprobs is not None
        for i, (token, logprob) in enumerate(zip(answer.token_ids, answer.logprobs, strict=True)):
            row = len(asked.prompt) - 1 + i
            self.tokens += 1
            best = int(logits_TV[row].argmax())
            margin = float(logits_TV[row, best] - logits_TV[row, token])
            if token != best:
                assert margin < CLOSE or row >= first_close, f"token {i}: {token} instead of {best}, margin {margin}"
                self.excused += 1
            elif row < first_close:
                self.worst = max(self.worst, abs(float(logprobs_TV[row, token]) - logprob))
            if asked.sampling.logprobs and row < first_close:
                assert answer.top_logprobs is not None
                top = answer.top_logprobs[i]
                assert len(top) == asked.sampling.logprobs
                values = logprobs_TV[row, torch.tensor([t for t, _ in top])]
                self.worst = max(self.worst, float((values - torch.tensor([v for _, v in top])).abs().max()))
                assert abs(top[0][1] - float(logprobs_TV[row].max())) < 1e-3

    def _routing(self, output: NetworkOutput, answer: Completion, close_T: Tensor) -> None:
        assert answer.routing is not None or answer.finish_reason == "abort"
        if answer.routing is None:
            return
        expected_TLK = output.routing_LTK.transpose(0, 1).numpy()
        got_TLK = answer.routing.experts_TLK
        if answer.finish_reason != "abort":
            assert len(got_TLK) == len(expected_TLK)
        expected_TLK = expected_TLK[: len(got_TLK)]
        differs_T = (got_TLK != expected_TLK).any(axis=(1, 2))
        self.rows += len(differs_T)
        if differs_T.any():
            first = int(differs_T.nonzero()[0][0])
            assert bool(close_T[: first + 1].any()), f"row {first} of {len(differs_T)} is routed differently"
            self.excused_rows += int(differs_T.sum())

    def _prompt(self, logprobs_TV: Tensor, asked: Asked, answer: Completion, first_close: int) -> None:
        assert answer.prompt_logprobs is not None and answer.prompt_top_logprobs is not None
        assert len(answer.prompt_logprobs) == len(answer.prompt_top_logprobs) == len(asked.prompt)
        assert answer.prompt_logprobs[0] is answer.prompt_top_logprobs[0] is None
        for row, token in enumerate(asked.prompt[1 : first_close + 1]):
            value, top = answer.prompt_logprobs[row + 1], answer.prompt_top_logprobs[row + 1]
            assert value is not None and top is not None and len(top) == asked.sampling.prompt_logprobs
            self.worst = max(self.worst, abs(value - float(logprobs_TV[row, token])))


def router_margin(output: NetworkOutput, network: Network) -> Tensor:
    """How far the choice of each row is from another one: the smallest gap of router logits in any layer and group."""
    router = network.config.text.router
    gaps = []
    for layer in output.routers:
        grouped_TGX = layer.logits_TE.view(len(layer.logits_TE), router.num_groups, -1)
        best = grouped_TGX.topk(router.top_k_per_group + 1, dim=-1).values
        gaps.append((best[..., :-1] - best[..., 1:]).amin(dim=(1, 2)))
    return torch.stack(gaps).amin(0)
