"""Expert-parallel engines: every rank serves requests of its own, and its share of the experts serves all.

The dispatch of experts (`parallel.dispatch`) exchanges tokens in every layer, so all ranks must run every pass together
and with equally many rows. Before a pass they tell each other how many rows they have; who has fewer fills up with
dummy tokens, sequences of one token each, which read nothing and write into a slot that nobody reads. Who has no
request runs a pass of dummies alone. When nobody has a row there is no pass.

Attention, cache and scheduler stay a rank's own affair (data-parallel attention); weights other than experts are held
by every rank.

A rank that is done still lends its experts: `leave` runs passes with the others until all of them leave.

Left out: sending requests to the least busy rank, overlapping the exchange with computation.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn

from s1pro.kernels.attention import MixedContext, PagedContext
from s1pro.kernels.paged_cache import PagedKVCache
from s1pro.model.moe import Experts, MoE
from s1pro.model.network import Network, NetworkOutput
from s1pro.parallel.dispatch import DispatchName, build_dispatch


def spread_experts(network: Network, group: dist.ProcessGroup, dispatch: DispatchName = "auto") -> Network:
    """Keeps this rank's experts only, in place, and lets tokens travel. A network that is to be exact is switched
    before (`model.exact`), so that "auto" can choose.

    Raises:
        InputError: the experts or the router groups cannot be divided among the ranks.
    """
    exchange = build_dispatch(dispatch, network.config.text.router, group, exact=network.exact)
    for module in network.modules():
        if isinstance(module, MoE):
            module.dispatch = exchange
        if isinstance(module, Experts):
            for name, parameter in list(module.named_parameters(recurse=False)):
                local = parameter.detach().chunk(group.size())[group.rank()].clone()
                setattr(module, name, nn.Parameter(local, requires_grad=False))
    return network


class LockStep:
    """Passes of one network whose experts are spread over `group`.

    Args:
        scratch_slot: slot of the cache for the keys of dummy tokens.

    Attributes:
        all_idle: nobody had a row the last time.
        all_left: everybody wanted to leave the last time.
    """

    def __init__(self, network: Network, group: dist.ProcessGroup, cache: PagedKVCache, scratch_slot: int) -> None:
        self.all_idle = self.all_left = False
        self._leaving = False
        self._network, self._group = network, group
        self._cache, self._scratch_slot = cache, scratch_slot
        self._device = network.lm_head.weight.device

    @torch.inference_mode()
    def idle(self) -> None:
        """The pass of a rank that has nothing to do."""
        dummies = self._agree(0)
        if dummies:
            zeros_T = torch.zeros(dummies, dtype=torch.int64, device=self._device)
            self._network(zeros_T, zeros_T, self._dummies(dummies), compute_logits=False)

    def leave(self) -> None:
        """Lends this rank's experts until all ranks leave."""
        self._leaving = True
        while not self.all_left:
            self.idle()

    def __call__(
        self,
        ids_T: Tensor,
        positions_T: Tensor,
        context: PagedContext | MixedContext,
        *,
        inputs_embeds_TD: Tensor | None = None,
        logits_index: Tensor | None = None,
        compute_logits: bool = True,
    ) -> NetworkOutput:
        """The pass of a rank with rows; arguments and result are those of the network."""
        rows = len(ids_T)
        dummies = self._agree(rows) - rows
        if dummies:
            parts = context.parts if isinstance(context, MixedContext) else (context,)
            context = MixedContext((*parts, self._dummies(dummies)))
            ids_T, positions_T = (torch.cat((x, x.new_zeros(dummies))) for x in (ids_T, positions_T))
            if inputs_embeds_TD is not None:
                filler = inputs_embeds_TD.new_zeros(dummies, inputs_embeds_TD.shape[1])
                inputs_embeds_TD = torch.cat((inputs_embeds_TD, filler))
            if logits_index is None and compute_logits:
                logits_index = torch.arange(rows, device=self._device)
        output: NetworkOutput = self._network(
            ids_T,
            positions_T,
            context,
            inputs_embeds_TD=inputs_embeds_TD,
            logits_index=logits_index,
            compute_logits=compute_logits,
        )
        if not dummies:
            return output
        routers = tuple(router._replace(topk_ids_TK=router.topk_ids_TK[:rows]) for router in output.routers)
        return replace(output, hidden_TD=output.hidden_TD[:rows], routers=routers)

    def _agree(self, rows: int) -> int:
        """The largest number of rows of any rank."""
        largest = torch.tensor((rows, not self._leaving), device=self._device)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self._group)
        most, staying = largest.tolist()
        self.all_idle, self.all_left = most == 0, staying == 0
        return int(most)

    def _dummies(self, count: int) -> PagedContext:
        slots_T = torch.full((count,), self._scratch_slot, dtype=torch.int64, device=self._device)
        return PagedContext(
            cache=self._cache,
            cu_seqlens_q=tuple(range(count + 1)),
            block_table_BM=slots_T[:, None] // self._cache.block_size,
            context_lens=(1,) * count,
            slot_mapping_T=slots_T,
        )
