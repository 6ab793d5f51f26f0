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
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from s1pro.train.muon import ExpertMuon
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
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
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

    def __init__(self, network: nn.Module, config: OptimizerConfig) -> None:
        self.config = config
        self._network_params = {name: p for name, p in network.named_parameters() if p.requires_grad}
        if not self._network_params:
            raise ValueError("nothing to train: every parameter is frozen")
        every_name = [name for name, _ in network.named_parameters()]
        check_patterns(every_name, [pattern for pattern, _ in config.lr_multipliers], "optimizer.lr_multipliers")
        self._has_master = any(
            p.dtype != torch.float32 and p.dtype != torch.float64 for p in self._network_params.values()
        )
        self._params = self._masters() if self._has_master else self._network_params
        self._parts = self._build()
        self._create_state()

    @property
    def gradients(self) -> list[Tensor]:
        """Gradients of the step so far (float32 ones of the master weights, if there are any)."""
        return [p.grad for p in self._params.values() if p.grad is not None]

    @torch.no_grad()
    def collect_gradients(self) -> None:
        """Adds the gradients of a low-precision network to those of the master weights; otherwise nothing to do."""
        if not self._has_master:
            return
        for name, param in self._network_params.items():
            if param.grad is None or (master := self._params[name]) is param:
                continue
            if master.grad is None:
                master.grad = param.grad.float()
            else:
                master.grad.add_(param.grad)
            param.grad = None

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Updates the weights."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = self.config.lr * scale * group["multiplier"]
            part.step()
        if self._has_master:
            pairs = [(p, self._params[n]) for n, p in self._network_params.items() if self._params[n] is not p]
            torch._foreach_copy_([p for p, _ in pairs], [master for _, master in pairs])

    def zero_grad(self) -> None:
        for param in (*self._params.values(), *self._network_params.values()):
            param.grad = None

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Per parameter path: its optimizer tensors (the live ones), and `master` where there is one."""
        state: dict[str, dict[str, Tensor]] = {}
        for name, param in self._params.items():
            part = next(part for part in self._parts if param in part.state)
            state[name] = dict(part.state[param])
            if param is not self._network_params[name]:
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

    def _masters(self) -> dict[str, Tensor]:
        return {
            name: p if p.dtype == torch.float32 else nn.Parameter(p.detach().float())
            for name, p in self._network_params.items()
        }

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


def gradient_norm(gradients: list[Tensor]) -> Tensor:
    """Euclidean norm over all gradients, a scalar on their device."""
    return torch.nn.utils.get_total_norm(gradients, foreach=True)


@torch.no_grad()
def scale_gradients(gradients: list[Tensor], factor: float) -> None:
    """Multiplies in place."""
    torch._foreach_mul_(gradients, factor)
