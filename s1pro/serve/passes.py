"""What the scheduler chose, through the network and the sampler: one pass, and the memory that passes write to.

There are two kinds of passes. In most of them every request feeds the token it got last; their tensors live on from
step to step (`serve.steps.DecodeBatch`). On a CPU `model.decoding` computes them, on a GPU they are recorded and
replayed (`serve.decode_graphs`); where neither is possible the network does. All other passes are made anew
(`serve.steps.MixedBatch`): prompts and their chunks, tokens with guesses, and what decodes beside them.

The memory is the paged cache and, beside it, the record of experts (`serve.routing_record`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from s1pro.base.records import RoutingTrace, TopLogprobs
from s1pro.kernels.paged_cache import PagedKVCache
from s1pro.model.decoding import DecodingStep
from s1pro.model.network import Network, NetworkOutput
from s1pro.serve.decode_graphs import DecodeGraphs, StaticBatch
from s1pro.serve.lockstep import LockStep
from s1pro.serve.media_rows import embed_media
from s1pro.serve.prompt_logprobs import read_prompt
from s1pro.serve.recorders import RecordingFailed, choose_recorder
from s1pro.serve.request import Request
from s1pro.serve.routing_record import RoutingRecord
from s1pro.serve.sampler import Sampler
from s1pro.serve.scheduler import Scheduler, Share
from s1pro.serve.statistics import Counters
from s1pro.serve.steps import DecodeBatch, MixedBatch, slots_of


class Passed(NamedTuple):
    """Requests that gained tokens in a pass, and those that are finished now."""

    progressed: list[Request]
    finished: list[Request]


class Passes:
    """See the module docstring.

    Args:
        scheduler: is told what a pass has computed.
        record_routing: whether to write down the experts of every token.
        expert_group: as for the engine.
        max_context: most tokens of a request.
        cuda_graphs: as for the engine.

    Attributes:
        network: as it is now.
        lockstep: with whom every pass is run; None without other ranks.
    """

    def __init__(
        self,
        network: Network,
        scheduler: Scheduler,
        sampler: Sampler,
        counters: Counters,
        *,
        record_routing: bool,
        expert_group: dist.ProcessGroup | None,
        max_context: int,
        cuda_graphs: bool | None,
    ) -> None:
        self.lockstep: LockStep | None = None
        self._scheduler, self._sampler, self._counters = scheduler, sampler, counters
        self._record_routing, self._expert_group = record_routing, expert_group
        self._device = network.lm_head.weight.device
        self._max_context = max_context
        self._version = 0
        self.network = network
        self._batch: DecodeBatch | StaticBatch | None = None
        self._decoding, self._decodes_here = DecodingStep(network), False
        self._must_record = cuda_graphs is True
        self._recorder = None if expert_group is not None else choose_recorder(network, cuda_graphs)
        if self._must_record and self._recorder is None:
            raise ValueError("cuda_graphs=True: with experts on several ranks no step can be recorded; leave it out")
        self._graphs: DecodeGraphs | None = None
        self.allocate()

    @torch.inference_mode()
    def prepare(self) -> None:
        """Compiles what decoding steps call, so that nobody waits for it later."""
        self._decoding.is_ready()

    @property
    def num_graphs(self) -> int:
        """Decoding steps that are recorded."""
        return 0 if self._graphs is None else len(self._graphs.replay_of)

    def use(self, network: Network) -> None:
        """Takes another network of the same architecture; what is in the cache stays there."""
        self.network = network
        self._batch = None
        self._decoding, self._decodes_here = DecodingStep(network), False
        if self._graphs is not None:
            self._graphs = self._new_graphs()

    def allocate(self) -> None:
        """Takes the memory."""
        text = self.network.config.text
        blocks, block_size = self._scheduler.pool.num_blocks, self._scheduler.block_size
        with_spare = blocks + (self._expert_group is not None or self._recorder is not None)
        self._cache = PagedKVCache(
            num_layers=text.num_hidden_layers,
            num_blocks=with_spare,
            block_size=block_size,
            num_kv_heads=text.num_key_value_heads,
            head_dim=text.head_dim,
            dtype=self.network.model.language_model.layers[0].self_attn.k_proj.weight.dtype,
            device=self._device,
        )
        if self._expert_group is not None:
            self.lockstep = LockStep(self.network, self._expert_group, self._cache, blocks * block_size)
        self._routing: RoutingRecord | None = None
        if self._record_routing and text.moe_layers:
            shape = (with_spare * block_size, len(text.moe_layers), text.router.top_k)
            self._routing = RoutingRecord(*shape, self._device)
        self._graphs = self._new_graphs()

    def release(self) -> None:
        """Gives it back, until `allocate`."""
        self._batch = self._graphs = None
        del self._cache, self._routing

    def clear(self) -> None:
        """Zeros the cache. A masked token weighs nothing, but nothing times a value that is no number is no number."""
        for slots in self._cache.slots:
            slots.zero_()

    def weights_changed(self) -> None:
        """Drops what was computed from weights."""
        self._batch = None
        self._decoding.forget()

    def run(self, shares: list[Share], version: int) -> Passed:
        """One pass.

        Args:
            version: of the weights.

        Raises:
            ValueError: logits that are not numbers.
        """
        self._version = version
        self._copy_blocks()
        decodes = all(s.count == 1 and not s.draft and s.start >= len(s.request.prompt_ids) for s in shares)
        return self._decode(shares) if decodes else self._mixed(shares)

    def trace(self, request: Request, version: int) -> RoutingTrace | None:
        """The experts of what is computed of a request; before it loses its blocks."""
        if self._routing is None or not request.num_computed:
            return None
        slots_T = torch.from_numpy(slots_of(request, request.num_computed, self._scheduler.block_size)).to(self._device)
        return self._routing.trace(slots_T, version)

    def _copy_blocks(self) -> None:
        """Known prefixes into the rows of the requests that begin with them."""
        if not self._scheduler.copies:
            return
        lists = zip(*self._scheduler.copies, strict=True)
        source, target = (torch.tensor([b for blocks in x for b in blocks], device=self._device) for x in lists)
        for blocks in (*self._cache.key, *self._cache.value):
            blocks[target] = blocks[source]
        if self._routing is not None:
            self._routing.copy_blocks(source, target, self._scheduler.block_size)
        self._scheduler.copied()

    @property
    def _run(self) -> Callable[..., NetworkOutput]:
        return self.network if self.lockstep is None else self.lockstep

    def _decode(self, shares: list[Share]) -> Passed:
        batch = self._decode_batch(shares)
        try:
            logits_BV = self._logits(batch)
        except RecordingFailed as error:
            if self._must_record:
                raise
            warnings.warn(f"{error}; decoding goes on without", RuntimeWarning, stacklevel=2)
            self._recorder = self._graphs = self._batch = None
            batch = self._decode_batch(shares)
            logits_BV = self._logits(batch)
        tokens_B, logprobs_B = self._sampler.sample(logits_BV, batch.plan)
        tops = self._sampler.top_logprobs(logits_BV, batch.plan)
        batch.advance(tokens_B)
        finished = []
        for row, (request, token, logprob) in enumerate(
            zip(batch.requests, tokens_B.tolist(), logprobs_B.tolist(), strict=True)
        ):
            if self._push(request, token, logprob, tops.get(row, ())):
                finished.append(request)
        for share in shares:
            self._scheduler.computed(share, 1)
        return Passed(list(batch.requests), finished)

    def _logits(self, batch: DecodeBatch | StaticBatch) -> Tensor:
        if isinstance(batch, StaticBatch):
            return batch.logits()
        run = self._decoding if self._decodes_here else self._run
        output = run(batch.ids_B, batch.positions_B, batch.context())
        if self._routing is not None:
            self._routing.write_later(batch.slots_B, batch.ids_B, output.routers)
        assert output.logits is not None
        return output.logits

    def _decode_batch(self, shares: list[Share]) -> DecodeBatch | StaticBatch:
        """The batch of the step before, if it still is the same."""
        batch, changes = self._batch, self._scheduler.changes
        same = batch is not None and batch.changes == changes and len(shares) == len(batch.requests)
        if batch is not None and same and all(batch.grow(request) for request in self._scheduler.grown):
            return batch
        if self._routing is not None:
            self._routing.flush()
        requests = [share.request for share in shares]
        if self._graphs is not None and self._graphs.can_run(requests):
            batch = StaticBatch(requests, self._sampler.plan, self._graphs, changes)
        else:
            batch = DecodeBatch(requests, self._sampler.plan, self._cache, self._device, changes)
            here = self.lockstep is None and self._device.type == "cpu"
            self._decodes_here = here and self._decoding.is_ready()
        self._batch = batch
        return batch

    def _new_graphs(self) -> DecodeGraphs | None:
        if self._recorder is None:
            return None
        return DecodeGraphs(
            self.network,
            self._cache,
            self._routing,
            self._recorder,
            max_batch=self._scheduler.max_batch,
            max_blocks=-(-self._max_context // self._scheduler.block_size),
        )

    def _mixed(self, shares: list[Share]) -> Passed:
        self._batch = None
        batch = MixedBatch(shares, self._cache, self._device)
        output = self._run(
            batch.ids_T,
            batch.positions_T,
            batch.context,
            inputs_embeds_TD=embed_media(batch, self.network),
            logits_index=batch.logits_index if batch.rows else None,
            compute_logits=bool(batch.rows),
        )
        if self._routing is not None:
            self._routing.write(batch.slots_T, batch.ids_T, output.routers)
        for share, first in zip(batch.shares, batch.firsts, strict=True):
            if share.request.wants_prompt_logprobs:
                hidden_SD = output.hidden_TD[first : first + share.count]
                read_prompt(share, hidden_SD, self.network)
        kept: dict[int, int] = {}
        if batch.rows:
            assert output.logits is not None
            kept = self._sample(batch, output.logits)
        finished = []
        for share in batch.shares:
            request = share.request
            self._scheduler.computed(share, share.count + kept.get(id(share), 0))
            if request.limit == 0 and share.samples:
                request.finish("length")
            if request.finish_reason is not None:
                finished.append(request)
        return Passed([share.request for share, _ in batch.sampled], finished)

    def _sample(self, batch: MixedBatch, logits_NV: Tensor) -> dict[int, int]:
        """Draws the tokens of a pass; for shares with guesses, how many of these were right."""
        plan = self._sampler.plan(batch.rows)
        tokens_N, logprobs_N = self._sampler.sample(logits_NV, plan)
        tops = self._sampler.top_logprobs(logits_NV, plan)
        tokens, logprobs = tokens_N.tolist(), logprobs_N.tolist()
        kept: dict[int, int] = {}
        for share, first in batch.sampled:
            request, right = share.request, 0
            while not self._push(request, tokens[first + right], logprobs[first + right], tops.get(first + right, ())):
                if right == len(share.draft) or share.draft[right] != tokens[first + right]:
                    break
                right += 1
            if share.draft and request.lookup is not None:
                kept[id(share)] = right
                request.lookup.learn(len(share.draft), right)
                self._counters.drafted_tokens += len(share.draft)
                self._counters.accepted_tokens += right
        return kept

    def _push(self, request: Request, token: int, logprob: float, top: TopLogprobs) -> bool:
        if math.isnan(logprob):
            raise ValueError(f"the network gave logits that are not numbers after {len(request.token_ids)} tokens")
        request.note_version(self._version)
        self._counters.generated_tokens += 1
        return request.push(token, logprob, top)
