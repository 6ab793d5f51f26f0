"""Expert parallelism: `ExpertDispatch` for experts that are spread over P ranks.

Rank p of an expert-parallel group holds the experts p E/P … (p + 1) E/P - 1 and nothing of the others. Every rank has
T tokens of its own. There are three ways to bring tokens to experts and results back:

| dispatch | needs | rows moved per rank, forward | sizes known before the step |
|---|---|---|---|
| `AllGatherDispatch` | router groups divisible by P | 2 T (P - 1) | yes |
| `AllToAllDispatch` | the same | 2 T K (P - 1) / P | yes |
| `CountedDispatch` | nothing | 2 T K (P - 1) / P on average, uneven | no: counts are exchanged, the host waits |

Why the first two can be static (paper: grouped routing). A token takes K / G experts of each of G groups, and every
rank holds G / P whole groups, so each rank receives exactly T K / P rows from every rank, whatever the router says.
Every token is needed on every rank, so sending it once (all-gather) and adding up its rows before they travel back
(reduce-scatter) moves least; for K = P both move the same. `AllToAllDispatch` sends rows back unsummed and adds them
in the order of a single process: its output is that of one process bit for bit. `CountedDispatch` is for ordinary
top-k, whose ranks get unequal work.

**Overlap.** With `overlap=n` the static dispatches cut the tokens of a rank into n parts and work on them in a
pipeline: while one part is at the experts, the next one travels to them and the last one back, forward and backward
(`kernels.collectives_async`). Results agree to round-off: products have fewer rows, sums one term per part.
It pays where the backend moves data by itself (NCCL).

**Exact mode** (`model.exact`). Where results travel one by one they are added in the order of the router, and products
do not see which rows meet at an expert: the bits are those of a single process. Sums that are made on the way are not,
hence `AllGatherDispatch` is refused.

Routing weights travel with the rows and are applied where the expert is, as in a single process; their gradient comes
back through the same exchange, so the language-model loss reaches the router. The exchanges are in
`kernels.collectives`, the arithmetic in `kernels.experts`; the moves on one rank in `parallel.rows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from s1pro.base.errors import InputError
from s1pro.kernels.collectives import all_gather, all_to_all, reduce_scatter
from s1pro.kernels.collectives_async import finish, start_all_gather, start_all_to_all, start_reduce_scatter
from s1pro.kernels.experts import experts_forward
from s1pro.model.config import RouterConfig
from s1pro.model.dispatch import ExpertDispatch
from s1pro.parallel.rows import combine_rows, spread_rows

if TYPE_CHECKING:
    from s1pro.model.moe import Experts

DispatchName = Literal["auto", "all_gather", "all_to_all", "counted"]


def build_dispatch(
    name: DispatchName, router: RouterConfig, group: dist.ProcessGroup, overlap: int = 1, *, exact: bool = False
) -> ExpertDispatch:
    """The dispatch called `name`; "auto" moves least: all-gather where the router groups allow it, else counted.

    Args:
        overlap: parts in the pipeline of exchange and computation; 1 for none.
        exact: for a network in exact mode; "auto" is then all-to-all or counted.

    Raises:
        InputError: the experts or the router groups cannot be divided among the ranks of `group`, or a dispatch that
            cannot be exact.
    """
    ranks = group.size()
    if router.num_experts % ranks:
        raise InputError(f"parallel.ep={ranks}: {router.num_experts} experts cannot be divided among {ranks} ranks")
    is_static = router.num_groups % ranks == 0
    if name == "auto":
        name = ("all_to_all" if exact else "all_gather") if is_static else "counted"
    if exact and name == "all_gather":
        raise InputError(
            "parallel.dispatch='all_gather' adds the experts of a token in an order of its own, which exact mode "
            "cannot have; use all_to_all, or counted"
        )
    if name == "counted":
        if overlap > 1:
            raise InputError(
                f"parallel.overlap={overlap} needs exchanges whose sizes are known before the step, and those of "
                "dispatch=counted are not; use overlap=1"
            )
        return CountedDispatch(group)
    if not is_static:
        raise InputError(
            f"parallel.dispatch={name!r} needs whole router groups on every rank, but {router.num_groups} groups "
            f"cannot be divided among parallel.ep={ranks} ranks; use dispatch=counted, or an ep that divides them"
        )
    return AllGatherDispatch(group, overlap) if name == "all_gather" else AllToAllDispatch(group, overlap)


class AllGatherDispatch:
    """Every rank gets every token once, and sends back one sum per token."""

    can_be_exact = False

    def __init__(self, group: dist.ProcessGroup, overlap: int = 1) -> None:
        self.group, self.overlap = group, overlap

    def __call__(self, x_TD: Tensor, topk_ids_TK: Tensor, topk_weights_TK: Tensor, experts: Experts) -> Tensor:
        ids_TK, weights_TK, _ = _by_expert(topk_ids_TK, topk_weights_TK)
        ids_RX, weights_RX = _send_slots(ids_TK, weights_TK, experts, self.group)
        if self.overlap > 1:
            return self._pipeline(x_TD, ids_RX, weights_RX, experts)
        y_RD = _experts(all_gather(x_TD, self.group), ids_RX, weights_RX, experts)
        return reduce_scatter(y_RD, self.group)

    def _pipeline(self, x_TD: Tensor, ids_RX: Tensor, weights_RX: Tensor, experts: Experts) -> Tensor:
        parts = x_TD.tensor_split(self.overlap)
        slots = zip(*(_token_parts(t, self.group.size(), self.overlap) for t in (ids_RX, weights_RX)), strict=True)
        coming, going = start_all_gather(parts[0], self.group), []
        for i, (ids, weights) in enumerate(slots):
            following = start_all_gather(parts[i + 1], self.group) if i + 1 < len(parts) else None
            going.append(start_reduce_scatter(_experts(finish(coming), ids, weights, experts), self.group))
            coming = following or coming
        return torch.cat([finish(part) for part in going])


class AllToAllDispatch:
    """Equal splits: T K / P rows from every rank to every rank."""

    can_be_exact = True

    def __init__(self, group: dist.ProcessGroup, overlap: int = 1) -> None:
        self.group, self.overlap = group, overlap

    def __call__(self, x_TD: Tensor, topk_ids_TK: Tensor, topk_weights_TK: Tensor, experts: Experts) -> Tensor:
        ids_TK, weights_TK, columns_TK = _by_expert(topk_ids_TK, topk_weights_TK, routers_sum=experts.exact)
        ids_RX, weights_RX = _send_slots(ids_TK, weights_TK, experts, self.group)
        if self.overlap > 1:
            return self._pipeline(x_TD, columns_TK, ids_RX, weights_RX, experts)
        places_TK = _static_places(columns_TK, self.group.size())
        x_RD = all_to_all(spread_rows(x_TD, places_TK), self.group)
        y_RD = _experts(x_RD, ids_RX.reshape(-1, 1), weights_RX.reshape(-1, 1), experts)
        return combine_rows(all_to_all(y_RD, self.group), places_TK)

    def _pipeline(
        self, x_TD: Tensor, columns_TK: Tensor, ids_RX: Tensor, weights_RX: Tensor, experts: Experts
    ) -> Tensor:
        ranks, group = self.group.size(), self.group
        places = [_static_places(columns, ranks) for columns in columns_TK.tensor_split(self.overlap)]
        parts = [spread_rows(x, place) for x, place in zip(x_TD.tensor_split(self.overlap), places, strict=True)]
        slots = zip(*(_token_parts(t, ranks, self.overlap) for t in (ids_RX, weights_RX)), strict=True)
        coming, going = start_all_to_all(parts[0], group), []
        for i, (ids, weights) in enumerate(slots):
            following = start_all_to_all(parts[i + 1], group) if i + 1 < len(parts) else None
            y_RD = _experts(finish(coming), ids.reshape(-1, 1), weights.reshape(-1, 1), experts)
            going.append(start_all_to_all(y_RD, group))
            coming = following or coming
        return torch.cat([combine_rows(finish(y), place) for y, place in zip(going, places, strict=True)])


class CountedDispatch:
    """Uneven splits for any routing: rows sorted by expert, after an exchange of counts."""

    can_be_exact = True

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group

    def __call__(self, x_TD: Tensor, topk_ids_TK: Tensor, topk_weights_TK: Tensor, experts: Experts) -> Tensor:
        ids_TK, weights_TK, columns_TK = _by_expert(topk_ids_TK, topk_weights_TK, routers_sum=experts.exact)
        sorted_ids_R, order_R = ids_TK.reshape(-1).sort(stable=True)
        places_R = torch.empty_like(order_R)
        places_R[order_R] = torch.arange(order_R.numel(), device=order_R.device)
        places_TK = places_R.view(ids_TK.shape).gather(1, columns_TK)
        send, receive, ids_R = self._counts(sorted_ids_R, experts.gate_up_proj.shape[0])
        weights_R = all_to_all(weights_TK.reshape(-1).index_select(0, order_R), self.group, send, receive)
        x_RD = all_to_all(spread_rows(x_TD, places_TK), self.group, send, receive)
        y_RD = _experts(x_RD, ids_R[:, None], weights_R[:, None], experts)
        return combine_rows(all_to_all(y_RD, self.group, receive, send), places_TK)

    def _counts(self, sorted_ids_R: Tensor, num_local: int) -> tuple[list[int], list[int], Tensor]:
        """Rows to every rank and from every rank, and the local expert of each row that comes."""
        ranks, rows = self.group.size(), sorted_ids_R.numel()
        if isinstance(sorted_ids_R, FakeTensor):  # planning, without values: equal shares
            shares = [rows // ranks] * (ranks - 1) + [rows - rows // ranks * (ranks - 1)]
            return shares, shares, torch.zeros_like(sorted_ids_R)
        counts_E = torch.bincount(sorted_ids_R, minlength=ranks * num_local)
        counts_PE = all_to_all(counts_E, self.group).view(ranks, num_local)  # from every rank, for my experts
        send, receive = torch.stack((counts_E.view(ranks, -1).sum(1), counts_PE.sum(1))).tolist()  # the host waits
        local_E = torch.arange(num_local, device=sorted_ids_R.device)
        ids_R = torch.repeat_interleave(local_E.repeat(ranks), counts_PE.reshape(-1), output_size=sum(receive))
        return send, receive, ids_R


def _experts(x_RD: Tensor, ids_RX: Tensor, weights_RX: Tensor, experts: Experts) -> Tensor:
    """The experts of this rank on rows of all ranks."""
    weights = (experts.gate_up_proj, experts.down_proj)
    return experts_forward(x_RD, ids_RX, weights_RX, *weights, fp8=experts.fp8, exact=experts.exact)


def _token_parts(slots_RX: Tensor, ranks: int, num_parts: int) -> list[Tensor]:
    """Slots of the tokens of all ranks, `[P * T, X]`, cut as each rank cuts its tokens."""
    return [part.flatten(0, 1) for part in slots_RX.unflatten(0, (ranks, -1)).tensor_split(num_parts, dim=1)]


def _by_expert(ids_TK: Tensor, weights_TK: Tensor, *, routers_sum: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """The slots of every token in the order of expert ids, and so of ranks; replayed ids come in any order.

    Also in which order these slots are added up: as they stand, or (`routers_sum`) as the router named them.
    """
    ids_TK, order_TK = ids_TK.sort(dim=1)
    columns_TK = order_TK.argsort(dim=1) if routers_sum else _columns(ids_TK)
    return ids_TK, weights_TK.gather(1, order_TK), columns_TK


def _columns(ids_TK: Tensor) -> Tensor:
    return torch.arange(ids_TK.shape[1], device=ids_TK.device).expand(ids_TK.shape)


def _send_slots(
    ids_TK: Tensor, weights_TK: Tensor, experts: Experts, group: dist.ProcessGroup
) -> tuple[Tensor, Tensor]:
    """The slots that are mine, of the tokens of all ranks: local ids and weights, both `[P * T, K / P]`.

    Both travel in one message, ids as numbers of the weights' dtype: those below 2^24 are exact in float32.
    """
    tokens, top_k = ids_TK.shape
    ranks, num_local = group.size(), experts.gate_up_proj.shape[0]
    dtype = torch.promote_types(weights_TK.dtype, torch.float32)
    slots_TK2 = torch.stack(((ids_TK % num_local).to(dtype), weights_TK.to(dtype)), dim=-1)
    slots_R2 = slots_TK2.view(tokens, ranks, -1, 2).transpose(0, 1).reshape(-1, 2)
    ids_R, weights_R = all_to_all(slots_R2, group).unbind(1)
    shape = (ranks * tokens, top_k // ranks)
    return ids_R.detach().long().view(shape), weights_R.to(weights_TK.dtype).view(shape)


def _static_places(columns_TK: Tensor, ranks: int) -> Tensor:
    """Where slot k of token t lies: in the share of rank k // (K / P), tokens in order."""
    tokens, top_k = columns_TK.shape
    share = top_k // ranks
    starts_TK = columns_TK // share * (tokens * share) + columns_TK % share
    return torch.arange(tokens, device=columns_TK.device)[:, None] * share + starts_TK
