"""The optimizer of a run: AdamW for everything, or Muon for matrices and AdamW for the rest.

Who gets what (a parameter is named by its path in the network):

| parameter                                       | adamw         | muon                                 |
|-------------------------------------------------|---------------|--------------------------------------|
| matrices of attention, MLPs and projectors      | AdamW, decay  | `torch.optim.Muon`                   |
| expert stacks; q, k and v in one matrix         | AdamW, decay  | `ExpertMuon`, every matrix by itself |
| router gates, head, kernels of convolutions     | AdamW, decay  | AdamW, decay                         |
| embeddings and position tables, norms, biases,  | AdamW         | AdamW                                |
| scalars, rotary coefficients                    |               |                                      |

Muon's update is scaled to the size of an AdamW update, so both use the same learning rate and decay. The patch
embedding of the vision tower is a convolution: its input are pixels, not hidden channels, and AdamW trains it.

`lr_multipliers` gives parts of the network another rate, for example a tenth for a vision tower that is trained
already; the first pattern that matches a parameter counts (`train.parts`).

State is created at once, as zeros, and named by parameter path, so that a checkpoint can be read into it in place and
does not depend on parameter order. A bfloat16 network gets float32 master weights: gradients of every micro-batch are
added up in float32, the update happens there, and the network receives the rounded result.

On several ranks the optimizers see plain tensors: the part of each parameter that this rank holds. AdamW works number
by number and needs no more. Experts lie whole on one rank, so `ExpertMuon` needs no more either. Other matrices are cut
by rows; `GatheredMuon` puts the update together before it is made orthogonal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from s1pro.model.inner_first import is_inner_first
from s1pro.parallel.mesh import Ranks
from s1pro.parallel.regions import Place, local_part, places
from s1pro.train.muon import ExpertMuon, GatheredMuon
from s1pro.train.parts import check_patterns, matches

Rule = Literal["adamw", "muon", "expert_muon"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """See the module docstring. `momentum` is Muon's, `betas` and `eps` are AdamW's.

    Attributes:
        lr_multipliers: pairs of a pattern of parameter names and a factor on `lr`.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    momentum: float = 0.95
    lr_multipliers: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {self.lr}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
        if not all(0 <= beta < 1 for beta in (*self.betas, self.momentum)):
            raise ValueError(f"betas and momentum must lie in [0, 1), got {self.betas}, {self.momentum}")
        for pattern, factor in self.lr_multipliers:
            if not factor > 0:
                raise ValueError(
                    f"lr_multipliers: {pattern!r} must have a positive factor, got {factor}; freeze parts "
                    "with trainable"
                )

    def multiplier(self, name: str) -> float:
        """The factor on the learning rate of one parameter."""
        return next((factor for pattern, factor in self.lr_multipliers if matches(name, [pattern])), 1.0)


@dataclass(frozen=True)
class Placement:
    """How one parameter is treated. `matrices` counts those that lie one below the other (per expert)."""

    rule: Rule
    decay: bool
    matrices: int = 1


def placement(name: str, param: Tensor, kind: Literal["adamw", "muon"]) -> Placement:
    """The row of the table above for one parameter."""
    module = name.split(".")[-2] if "." in name else ""
    is_table = "embed" in module and param.ndim == 2
    if param.ndim <= 1 or is_table or "rotary_emb" in name or name.endswith("bias"):
        return Placement("adamw", decay=False)
    is_head_or_gate = name.startswith("lm_head") or name.endswith("mlp.gate.weight")
    is_expert_stack = param.ndim == 3 and name.endswith(("gate_up_proj", "down_proj"))
    is_convolution = param.ndim > 2 and not is_expert_stack
    if kind == "adamw" or is_head_or_gate or is_convolution:
        return Placement("adamw", decay=True)
    if is_expert_stack:
        return Placement("expert_muon", decay=True, matrices=2 if name.endswith("gate_up_proj") else 1)
    if name.endswith(("attn.qkv.weight", "in_proj_weight")):
        return Placement("expert_muon", decay=True, matrices=3)
    return Placement("muon", decay=True)


class Optimizer:
    """All optimizers of a network behind one interface.

    Call `collect_gradients()` after every backward pass; `step(scale)` uses `scale` times the configured rate.
    """

    def __init__(self, network: nn.Module, config: OptimizerConfig, ranks: Ranks | None = None) -> None:
        self.config = config
        self._ranks = ranks or Ranks()
        self._network_params = {name: p for name, p in network.named_parameters() if p.requires_grad}
        if not self._network_params:
            raise ValueError("nothing to train: every parameter is frozen")
        every_name = [name for name, _ in network.named_parameters()]
        check_patterns(every_name, [pattern for pattern, _ in config.lr_multipliers], "optimizer.lr_multipliers")
        self._check_order()
        self._params = {name: _owned(p) for name, p in self._network_params.items()}
        self._places = places(network, self._ranks)
        self._parts = self._build()
        self._create_state()

    @property
    def gradients(self) -> list[Tensor]:
        """Gradients of the step so far (float32 ones of the master weights, if there are any), of this rank's part."""
        return [p.grad for p in self._params.values() if p.grad is not None]

    @property
    def primary_gradients(self) -> list[Tensor]:
        """Those that this rank answers for: over all ranks, every number of the network once."""
        ranks = self._ranks
        primary = (p for name, p in self._params.items() if self._places[name].is_primary(ranks, ranks.rank))
        return [p.grad for p in primary if p.grad is not None]

    @property
    def places(self) -> dict[str, Place]:
        """How the tensors of the network are spread."""
        return self._places

    @torch.no_grad()
    def collect_gradients(self) -> None:
        """Adds the gradients of a low-precision or sharded network to those of what is updated; else nothing to do."""
        for name, param in self._network_params.items():
            if param.grad is None or (owned := self._params[name]) is param:
                continue
            grad = local_part(param.grad)
            if owned.grad is None:
                owned.grad = grad.to(owned.dtype)
            else:
                owned.grad.add_(grad)
            param.grad = None

    @torch.no_grad()
    def share_gradients(self) -> None:
        """Adds the gradients of parameters that every rank has whole over all ranks; once per step, behind all backward
        passes. Shards have been added up by what spread them.
        """
        if not self._ranks.is_distributed:
            return
        whole = (param for name, param in self._params.items() if self._places[name].kind == "copied")
        self._ranks.add_tensors([param.grad for param in whole if param.grad is not None])

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Updates the weights."""
        self._check_order()
        self._follow_moved_memory()
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = self.config.lr * scale * group["multiplier"]
            part.step()
        masters = [name for name in self._params if self._is_master(name)]
        if masters:
            targets = [local_part(self._network_params[name]) for name in masters]
            torch._foreach_copy_(targets, [self._params[name] for name in masters])

    def zero_grad(self) -> None:
        for param in (*self._params.values(), *self._network_params.values()):
            param.grad = None

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Per parameter path: its optimizer tensors (the live ones), and `master` where there is one."""
        state: dict[str, dict[str, Tensor]] = {}
        for name, param in self._params.items():
            part = next(part for part in self._parts if param in part.state)
            state[name] = dict(part.state[param])
            if self._is_master(name):
                state[name]["master"] = param.detach()
        return state

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Copies saved tensors into the live ones.

        Raises:
            ValueError: the saved state belongs to other parameters or to another optimizer.
        """
        mine = self.state_dict()
        if mine.keys() != state.keys():
            raise ValueError(f"optimizer state differs in parameters {sorted(mine.keys() ^ state.keys())[:5]}")
        for name, tensors in mine.items():
            if tensors.keys() != state[name].keys():
                raise ValueError(f"optimizer state of {name} has {sorted(state[name])}, expected {sorted(tensors)}")
            for key, tensor in tensors.items():
                tensor.copy_(state[name][key])

    def _is_master(self, name: str) -> bool:
        """Whether what is updated is a wider copy of the weights of the network, not these themselves."""
        return self._params[name].dtype != self._network_params[name].dtype

    def _check_order(self) -> None:
        """Fused updates go through memory without looking at strides."""
        for name, param in self._network_params.items():
            if param.dim() > 1 and is_inner_first(param):
                raise ValueError(
                    f"{name} is laid out for an engine that only serves (serves_only=True) and cannot be trained: "
                    "load the network anew, or give the engine a network of its own"
                )

    def _follow_moved_memory(self) -> None:
        """FSDP may move a shard to padded memory when it first runs."""
        for name, param in self._network_params.items():
            if (owned := self._params[name]) is not param and not self._is_master(name):
                owned.data = local_part(param)

    def _build(self) -> list[torch.optim.Optimizer]:
        groups: dict[tuple[Placement, float], list[Tensor]] = {}
        for name, param in self._params.items():
            key = placement(name, param, self.config.kind), self.config.multiplier(name)
            groups.setdefault(key, []).append(param)
        by_rule: dict[Rule, list[dict[str, Any]]] = {}
        for (place, multiplier), params in groups.items():
            group: dict[str, Any] = {"params": params, "weight_decay": self.config.weight_decay if place.decay else 0.0}
            group["multiplier"] = multiplier
            if place.rule == "expert_muon":
                group["matrices"] = place.matrices
            by_rule.setdefault(place.rule, []).append(group)
        return [self._part(rule, by_rule[rule]) for rule in by_rule]

    def _part(self, rule: Rule, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        config = self.config
        if rule == "adamw":
            return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
        if self._ranks.is_distributed and self._ranks.sizes.dp_shard > 1:
            rows = {p: self._places[n].shape[0] for n, p in self._params.items() if self._places[n].kind == "sharded"}
            group = self._ranks.shard_group
            return GatheredMuon(groups, lr=config.lr, momentum=config.momentum, group=group, rows=rows)
        if rule == "muon":
            return torch.optim.Muon(groups, lr=config.lr, momentum=config.momentum, adjust_lr_fn="match_rms_adamw")
        return ExpertMuon(groups, lr=config.lr, momentum=config.momentum)

    def _create_state(self) -> None:
        """The zeros that torch would create at the first step."""
        for part in self._parts:
            names = ("exp_avg", "exp_avg_sq") if isinstance(part, torch.optim.AdamW) else ("momentum_buffer",)
            for group in part.param_groups:
                for param in group["params"]:
                    part.state[param] = {name: torch.zeros_like(param) for name in names}
                    if isinstance(part, torch.optim.AdamW):
                        part.state[param]["step"] = torch.zeros((), dtype=torch.float32, device=param.device)


def _owned(param: Tensor) -> Tensor:
    """What is updated for a parameter: itself, its part on this rank (the same memory), or a float32 copy of either."""
    local = local_part(param)
    if param.dtype not in (torch.float32, torch.float64):
        return nn.Parameter(local.float())
    return param if type(param.data) is Tensor else nn.Parameter(local)


def gradient_norm(gradients: list[Tensor]) -> Tensor:
    """Euclidean norm over all gradients, a scalar on their device."""
    return torch.nn.utils.get_total_norm(gradients, foreach=True)


@torch.no_grad()
def scale_gradients(gradients: list[Tensor], factor: float) -> None:
    """Multiplies in place."""
    torch._foreach_mul_(gradients, factor)
