"""Generation: prompts in, tokens out, on the network of the trainer.

One step of the engine:

1. the scheduler admits waiting requests (first come, first served) and gives each one contiguous run of cache blocks;
2. newly admitted prompts run through the network packed in one pass, which fills the cache; or, if there are none,
   every running request feeds its last token and attends to its cache;
3. the sampler draws one token per request; finished requests leave, and others may enter before the next step.

What a decoding step costs on a CPU is mostly Python and memory traffic, so between two changes of the batch nothing is
rebuilt: the block table and sampling plan stay, positions and slots are counted up in place, sampled ids feed the next
step without leaving the device, and one small copy to Python per step finds the finished requests.

Routing. The experts every token used are stored per cache slot, beside its keys and values; a finished request reads
the slots of its run. A sequence of T tokens has T - 1 rows, because the last token was sampled but never fed.

Images, videos and signals of the admitted prompts go through their towers in the pass that fills the cache.

Left out here, for the serving part: prefix caching, chunked prefill, preemption, exact mode.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.base.media import Media, join_media
from s1pro.base.records import Completion, RoutingTrace, Sampling
from s1pro.kernels.attention import PagedContext
from s1pro.kernels.paged_cache import PagedKVCache
from s1pro.model.network import Network
from s1pro.model.placeholders import check_media
from s1pro.serve.request import OnText, Request
from s1pro.serve.sampler import Sampler, SamplingPlan
from s1pro.serve.scheduler import Scheduler
from s1pro.serve.statistics import Counters, EngineStats
from s1pro.serve.text import Decode


class _DecodeBatch:
    """Tensors of the running batch; valid until a request enters or leaves."""

    def __init__(
        self, requests: Sequence[Request], block_table_BM: Tensor, plan: SamplingPlan, block_size: int
    ) -> None:
        device = block_table_BM.device
        self.requests = tuple(requests)
        self.plan = plan
        self.block_table_BM = block_table_BM
        self.cu_seqlens = tuple(range(len(requests) + 1))
        # the tokens that are in the cache: all but the last one, which this batch will feed next
        self.cached = [len(request.prompt_ids) + len(request.token_ids) - 1 for request in requests]
        self.first_slots = tuple(request.blocks.start * block_size for request in requests)
        self.ids_B = torch.tensor([request.token_ids[-1] for request in requests], device=device)
        self.positions_B = torch.tensor(self.cached, device=device)
        self._one = torch.ones((), dtype=torch.int64, device=device)
        self.slots_B = self.positions_B + torch.tensor(self.first_slots, device=device)

    def advance(self, tokens_B: Tensor) -> None:
        self.ids_B = tokens_B
        self.cached = [count + 1 for count in self.cached]
        self.positions_B = self.positions_B + self._one
        self.slots_B = self.slots_B + self._one


class Engine:
    """Continuous batching over a paged cache. See the module docstring.

    Args:
        network: in evaluation mode; weights may be replaced in place between steps.
        eos_token_ids: ids that end a generation unless the request says `ignore_eos`.
        sampleable: bool mask over the vocabulary; ids without a piece are never sampled. None allows all ids.
        decode: tokens to text, for `Completion.text`, stop strings and streaming. None leaves the text empty.
        max_batch: most requests that run at once.
        cache_tokens: token slots of the cache (memory: `model.sizes` bytes per token times this).
        block_size: slots per block.
        max_context: most tokens of prompt and output together; None takes `max_position_embeddings`, or what the cache
            holds if that is less.
        max_prefill_tokens: prompt tokens per prefill step; one longer prompt goes alone.
        record_routing: return the experts of every token with the completion.
        policy_version: version of the weights, stamped on completions.
    """

    def __init__(
        self,
        network: Network,
        *,
        eos_token_ids: Collection[int] = (),
        sampleable: npt.NDArray[np.bool_] | Tensor | None = None,
        decode: Decode | None = None,
        max_batch: int = 32,
        cache_tokens: int = 32768,
        block_size: int = 16,
        max_context: int | None = None,
        max_prefill_tokens: int = 4096,
        record_routing: bool = True,
        policy_version: int = 0,
    ) -> None:
        text = network.config.text
        for name, value in (("max_batch", max_batch), ("cache_tokens", cache_tokens), ("block_size", block_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        weight = network.lm_head.weight
        self.network = network
        self.decode = decode
        self.policy_version = policy_version
        self._eos = frozenset(eos_token_ids)
        self._device = weight.device
        num_blocks = -(-cache_tokens // block_size)
        num_slots = num_blocks * block_size
        self.max_context = min(text.rope.max_position_embeddings, num_slots) if max_context is None else max_context
        if not 2 <= self.max_context <= num_slots:
            raise ValueError(
                f"max_context={self.max_context} must lie between 2 and the {num_slots} slots of the cache"
            )
        self._scheduler = Scheduler(
            num_blocks=num_blocks, block_size=block_size, max_batch=max_batch, max_prefill_tokens=max_prefill_tokens
        )
        self._cache = PagedKVCache(
            num_layers=text.num_hidden_layers,
            num_blocks=num_blocks,
            block_size=block_size,
            num_kv_heads=text.num_key_value_heads,
            head_dim=text.head_dim,
            dtype=network.model.language_model.layers[0].self_attn.k_proj.weight.dtype,
            device=weight.device,
        )
        mask = None if sampleable is None else torch.as_tensor(sampleable)
        self._sampler = Sampler(text.vocab_size, mask, weight.device)
        self._routing: Tensor | None = None
        if record_routing and text.moe_layers:
            shape = (num_slots, len(text.moe_layers), text.router.top_k)
            self._routing = torch.empty(shape, dtype=torch.int16, device=weight.device)  # bits of uint16
        self._batch: _DecodeBatch | None = None
        self.asleep = False
        self.progressed: Sequence[Request] = ()

    @property
    def has_work(self) -> bool:
        return self._scheduler.has_work

    @property
    def num_waiting(self) -> int:
        """Requests that are not in the batch yet; any thread."""
        return len(self._scheduler.waiting)

    def stats(self) -> EngineStats:
        """Numbers about the engine; any thread."""
        allocator = self._scheduler.allocator
        return EngineStats(
            running=len(self._scheduler.running),
            waiting=self.num_waiting,
            blocks=allocator.num_blocks,
            blocks_used=allocator.num_blocks - allocator.num_free,
            blocks_cached=0,
            policy_version=self.policy_version,
            asleep=self.asleep,
            counters=Counters(),
        )

    def reset(self) -> list[Request]:
        """Drops all requests, after an error; returns them."""
        dropped = [*self._scheduler.running, *self._scheduler.waiting]
        for request in dropped:
            request.aborted = True
        self._batch = None
        return self._scheduler.take_aborted()

    def update_weights(self, source: Mapping[str, Tensor] | str | Path, version: int) -> None:
        """Replaces weights in place, between two steps.

        Args:
            source: tensors by the names of our parameters, or a folder in the released layout.
            version: stamped on what is generated from now on.
        """
        raise NotImplementedError

    def sleep(self) -> None:
        """Gives the memory of the cache back."""
        self.asleep = True

    def wake(self) -> None:
        """Takes the memory of the cache again."""
        self.asleep = False

    def generate(self, prompts: Sequence[Sequence[int]], samplings: Sampling | Sequence[Sampling]) -> list[Completion]:
        """Completes all prompts, in their order. One `Sampling` may serve all of them.

        Raises:
            ValueError: an empty prompt, an id outside the vocabulary, or a prompt that leaves no room for an answer.
        """
        if isinstance(samplings, Sampling):
            samplings = [samplings] * len(prompts)
        if len(samplings) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts but {len(samplings)} sampling settings")
        requests = [self.prepare(prompt, sampling) for prompt, sampling in zip(prompts, samplings, strict=True)]
        for request in requests:
            self.submit(request)
        while any(request.finish_reason is None for request in requests):
            self.step()
        return [self.completion(request) for request in requests]

    def prepare(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        media: Media[Any] | None = None,
        streamed: bool = False,
        on_text: OnText | None = None,
    ) -> Request:
        """Checks a request without starting it; any thread. Raises `ValueError` as `generate` does.

        Args:
            media: of the prompt, as numpy arrays or tensors; their placeholders are in `prompt`.
            streamed: the caller will take deltas.
        """
        vocab_size = self.network.config.text.vocab_size
        if not prompt:
            raise InputError("the prompt is empty; give at least one token")
        if min(prompt) < 0 or max(prompt) >= vocab_size:
            raise InputError(f"prompt ids must lie in [0, {vocab_size}), got {min(prompt)} to {max(prompt)}")
        if sampling.stop and self.decode is None:
            raise InputError("stop strings need an engine with a tokenizer (`decode`)")
        room = self.max_context - len(prompt)
        if room < 1:
            raise InputError(f"the prompt has {len(prompt)} tokens, the context holds {self.max_context}")
        if media is not None:
            check_media(np.asarray(prompt), media, self.network.config)
        stop_ids = frozenset(sampling.stop_token_ids) | (frozenset() if sampling.ignore_eos else self._eos)
        return Request(
            prompt,
            sampling,
            limit=min(sampling.max_new_tokens, room),
            stop_ids=stop_ids,
            media=media,
            decode=self.decode,
            streamed=streamed,
            on_text=on_text,
        )

    def submit(self, request: Request) -> None:
        """Queues a prepared request. May be called from another thread than `step`."""
        self._scheduler.waiting.append(request)

    def abort(self, request: Request) -> None:
        """Ends a request before its next step. May be called from another thread than `step`."""
        request.aborted = True

    def completion(self, request: Request) -> Completion:
        """The record of a finished request."""
        assert request.finish_reason is not None
        text = request.stopped_text
        if text is None:
            text = self.decode(request.token_ids) if self.decode is not None else ""
        return Completion(
            text=text,
            finish_reason=request.finish_reason,
            stop_reason=request.stop_reason,
            prompt_token_ids=request.prompt_ids,
            token_ids=tuple(request.token_ids),
            logprobs=tuple(request.logprobs),
            routing=request.routing,
            policy_version=self.policy_version,
        )

    @torch.inference_mode()
    def step(self) -> list[Request]:
        """One prefill or one decoding step; returns the requests that are finished now."""
        finished = self._scheduler.take_aborted()
        if finished:
            self._batch = None
        admitted = self._scheduler.admit()
        if admitted:
            finished += self._prefill(admitted)
        elif self._scheduler.running:
            finished += self._decode_step()
        return finished

    def _prefill(self, requests: list[Request]) -> list[Request]:
        lengths = tuple(len(request.prompt_ids) for request in requests)
        cu_seqlens = (0, *np.cumsum(lengths).tolist())
        first_slots = [request.blocks.start * self._scheduler.block_size for request in requests]
        positions_T = torch.cat([torch.arange(length) for length in lengths])
        slots_T = positions_T + torch.tensor(first_slots).repeat_interleave(torch.tensor(lengths))
        ids_T = torch.tensor([token for request in requests for token in request.prompt_ids])
        last_B = torch.tensor(cu_seqlens[1:], device=self._device) - 1
        context = PagedContext(
            cache=self._cache,
            cu_seqlens_q=cu_seqlens,
            block_table_BM=self._block_table(requests),
            context_lens=lengths,
            slot_mapping_T=slots_T.to(self._device),
            first_slots=tuple(first_slots),
        )
        plan = self._sampler.plan(requests)
        tensors = [
            request.media.map(lambda array: torch.as_tensor(array, device=self._device))
            for request in requests
            if request.media is not None
        ]
        media = join_media(tensors, torch.cat)
        tokens_B, logprobs_B = self._forward(
            ids_T.to(self._device), positions_T.to(self._device), context, plan, last_B, media
        )
        for request in requests:
            request.media = None  # their keys and values are in the cache
        self._batch = None
        return self._collect(requests, tokens_B, logprobs_B)

    def _decode_step(self) -> list[Request]:
        batch = self._batch
        if batch is None:
            running = self._scheduler.running
            plan, table = self._sampler.plan(running), self._block_table(running)
            batch = self._batch = _DecodeBatch(running, table, plan, self._scheduler.block_size)
        context = PagedContext(
            cache=self._cache,
            cu_seqlens_q=batch.cu_seqlens,
            block_table_BM=batch.block_table_BM,
            context_lens=tuple(count + 1 for count in batch.cached),
            slot_mapping_T=batch.slots_B,
            first_slots=batch.first_slots,
        )
        tokens_B, logprobs_B = self._forward(batch.ids_B, batch.positions_B, context, batch.plan, None)
        batch.advance(tokens_B)
        return self._collect(batch.requests, tokens_B, logprobs_B)

    def _forward(
        self,
        ids_T: Tensor,
        positions_T: Tensor,
        context: PagedContext,
        plan: SamplingPlan,
        last_B: Tensor | None,
        media: Media[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        output = self.network(ids_T, positions_T, context, media=media, logits_index=last_B)
        if self._routing is not None:
            routing_TLK = torch.stack([router.topk_ids_TK for router in output.routers], dim=1)
            self._routing[context.slot_mapping_T] = routing_TLK.to(torch.int16)
        return self._sampler.sample(output.logits, plan)

    def _collect(self, requests: Sequence[Request], tokens_B: Tensor, logprobs_B: Tensor) -> list[Request]:
        """Hands the sampled tokens to their requests and takes the finished ones out of the batch."""
        finished = []
        self.progressed = requests
        for request, token, logprob in zip(requests, tokens_B.tolist(), logprobs_B.tolist(), strict=True):
            if math.isnan(logprob):
                raise ValueError(f"the network gave logits that are not numbers after {len(request.token_ids)} tokens")
            if request.push(token, logprob):
                request.routing = self._trace(request)
                finished.append(request)
        if finished:
            self._scheduler.leave(finished)
            self._batch = None
        return finished

    def _trace(self, request: Request) -> RoutingTrace | None:
        if self._routing is None:
            return None
        first = request.blocks.start * self._scheduler.block_size
        fed = len(request.prompt_ids) + len(request.token_ids) - 1
        experts_TLK = self._routing[first : first + fed].cpu().numpy().view(np.uint16).copy()
        return RoutingTrace(experts_TLK=experts_TLK, policy_version=self.policy_version)

    def _block_table(self, requests: Sequence[Request]) -> Tensor:
        """Block ids `[B, M]`; short rows are padded with their last block, which is never read beyond its length."""
        widest = max(len(request.blocks) for request in requests)
        rows = [[*request.blocks, *[request.blocks[-1]] * (widest - len(request.blocks))] for request in requests]
        return torch.tensor(rows, device=self._device)
