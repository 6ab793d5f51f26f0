"""From a network for one device to one that is spread over ranks, in a fixed order:

1. expert parallelism   every rank keeps its E / P experts of each layer, and `MoE.dispatch` exchanges tokens
2. recomputation        each block keeps its input only and runs again in the backward pass
3. compilation          each block; on several ranks its attention (exchanges of tokens would break the graph)
4. FSDP2                parameters are cut into shards; each unit gathers its own when it runs

The order matters: sharding must see the local experts, and gather *outside* of what is recomputed or compiled.

Units of FSDP2 are chosen such that every rank runs the same collectives in the same order, and no unit mixes dtypes:

| unit | over | gathered |
|---|---|---|
| experts of a layer (the module `mlp`) | ranks that hold the same experts | while the layer runs |
| router gate; rest of the block; embedding; final norm (what is left of the decoder) | all ranks | while they run |
| head (the root); rotary coefficients that are trained | all ranks | during the whole step |
| every module beside the decoder (vision tower, time series) | all ranks | during the whole step |

**Gradients are summed, not averaged**: the loss is already divided by the token count of all ranks.

**Towers.** A rank whose batch has no image does not run the vision tower, and would miss the collectives of the others.
Therefore the towers are gathered at the start of every forward pass on all ranks, and `_Touch` puts a zero gradient
on each of their parameters: all ranks reduce the same tensors, whatever media they have. No dummy image is needed, and
nothing must be known about the tower.

A network on the meta device can be spread too (planning); memory is taken afterwards.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

from s1pro.base.errors import InputError
from s1pro.model.moe import Experts, MoE
from s1pro.model.network import Network
from s1pro.parallel.config import ParallelConfig
from s1pro.parallel.dispatch import build_dispatch
from s1pro.parallel.fp8_shards import gather_experts_in_fp8
from s1pro.parallel.mesh import DENSE_AXES, EXPERT_AXES, Ranks


def parallelize(
    network: Network,
    ranks: Ranks,
    config: ParallelConfig,
    *,
    activation_checkpointing: bool = False,
    compile_blocks: bool = False,
    gather_fp8: bool = False,
) -> Network:
    """Spreads `network`, in place. In a single process only steps 2 and 3 have something to do.

    Args:
        gather_fp8: experts that compute in FP8 are gathered in FP8 (`parallel.fp8_shards`).

    Raises:
        InputError: the experts or router groups cannot be divided among the ranks.
    """
    if ranks.sizes.ep > 1:
        _spread_experts(network, ranks, config)
    for block in network.model.language_model.layers:
        if activation_checkpointing:
            block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
        if compile_blocks:
            (block.self_attn if ranks.is_distributed else block).compile()
    if ranks.is_distributed:
        _shard(network, ranks, gather_fp8)
    return network


def release_gathered(network: nn.Module) -> None:
    """Frees what a forward pass without a backward pass left gathered."""
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _spread_experts(network: Network, ranks: Ranks, config: ParallelConfig) -> None:
    assert ranks.expert_mesh is not None
    if not network.config.text.moe_layers:
        raise InputError(f"parallel.ep={ranks.sizes.ep}, but this model has no experts; use ep=1")
    dispatch = build_dispatch(
        config.dispatch, network.config.text.router, ranks.expert_group, config.overlap, exact=network.exact
    )
    _, _, mine = ranks.coordinates(ranks.rank, experts=True)
    for module in network.modules():
        if isinstance(module, MoE):
            module.dispatch = dispatch
        if isinstance(module, Experts):
            for name, parameter in list(module.named_parameters(recurse=False)):
                local = parameter.detach().chunk(ranks.sizes.ep)[mine].clone()
                setattr(module, name, nn.Parameter(local, requires_grad=parameter.requires_grad))


def _shard(network: Network, ranks: Ranks, gather_fp8: bool) -> None:
    assert ranks.dense_mesh is not None and ranks.expert_mesh is not None
    dense = _data_parallel(ranks.dense_mesh, *DENSE_AXES)
    experts = _data_parallel(ranks.expert_mesh, *EXPERT_AXES[:2])
    shard = functools.partial(fully_shard, mesh=dense, mp_policy=_precision())
    decoder = network.model.language_model
    for block in decoder.layers:
        if isinstance(block.mlp, MoE):
            shard(block.mlp.gate)
            if gather_fp8:
                gather_experts_in_fp8(block.mlp.experts, ranks.sizes.expert_shard)
            shard(block.mlp, mesh=experts)  # the gate is a unit of its own: what is left are the experts
        shard(block)
    shard(decoder.embed_tokens)
    decoder.embed_tokens.set_unshard_in_backward(False)  # not needed there, and who has pictures would gather it later
    if any(True for _ in decoder.rotary_emb.parameters()):
        shard(decoder.rotary_emb, reshard_after_forward=False)
    shard(decoder)
    towers = [module for name, module in network.model.named_children() if name != "language_model"]
    for tower in towers:
        shard(tower, reshard_after_forward=False)
    shard(network)
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    if towers:
        network.register_forward_pre_hook(functools.partial(_gather_towers, towers))
        decoder.register_forward_pre_hook(functools.partial(_touch_towers, towers))


def _precision() -> MixedPrecisionPolicy:
    """Parameters keep their dtypes; gradients of bfloat16 parameters are added up in float32."""
    return MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)


def _data_parallel(mesh: DeviceMesh, replicate: str, shard: str) -> DeviceMesh:
    """Copies of shards, or shards alone where there is one copy."""
    return mesh[shard] if mesh[replicate].size() == 1 else mesh[replicate, shard]


def _gather_towers(towers: list[Any], network: nn.Module, args: Any) -> None:
    for tower in towers:
        tower.unshard()


def _touch_towers(towers: list[nn.Module], decoder: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    parameters = [p for tower in towers for p in tower.parameters() if p.requires_grad]
    if not parameters or not torch.is_grad_enabled():
        return args
    return _Touch.apply(args[0], *parameters), *args[1:]


class _Touch(torch.autograd.Function):
    """Hands the first argument on; the others get a zero gradient."""

    @staticmethod
    def forward(ctx: Any, h_TD: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return h_TD.view_as(h_TD)

    @staticmethod
    def backward(ctx: Any, grad_TD: Tensor) -> tuple[Tensor, ...]:
        return grad_TD, *(torch.zeros_like(parameter) for parameter in ctx.saved_tensors)
