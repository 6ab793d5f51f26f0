"""Shards of expert weights that FSDP2 gathers in FP8, in place of their numbers.

FSDP2 asks a shard what to send, and what to make of what came. A shard of this kind quantises itself, sends bytes and
scales, and hands what came to the FP8 engine of its layer: products begin with the bytes, so a gathered weight is never
held in the dtype of the network, and each rank quantises its own part only.

| of a weight, per number         | plain | in FP8 |
|---------------------------------|-------|--------|
| travels to every rank           | 2 (bfloat16) or 4 | 1 |
| is held while the layer runs    | 2 or 4 | 1 |

Square blocks do not cross matrices and a stack is cut between matrices, so the bytes are those of quantising the whole
stack: losses stay the same bit for bit. Gradients travel as before.

What the network holds in the meantime under the parameter's name is a tensor without memory: it has the shape and gets
the gradient. Anything but the FP8 engine that reads it fails.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from s1pro.base.errors import InputError
from s1pro.kernels.experts_fp8 import SQUARE, Fp8Experts
from s1pro.kernels.fp8 import quantize_blocks
from s1pro.model.moe import Experts

KEEPS_ITS_KIND = frozenset(
    {
        "aten::_to_copy", "aten::alias", "aten::as_strided", "aten::clone", "aten::detach", "aten::new_zeros",
        "aten::slice", "aten::split", "aten::view",
    }
)  # fmt: skip
"""What FSDP2 does to a parameter before it has its shard."""


class Fp8Shard(Tensor):
    """A tensor `[n, out, in]` with the two methods that FSDP2 looks for; everything else makes plain tensors of it."""

    @staticmethod
    def of(tensor: Tensor) -> Fp8Shard:
        """The same memory."""
        shard: Fp8Shard = Tensor._make_subclass(Fp8Shard, tensor.detach())
        return shard

    def plain(self) -> Tensor:
        """The same memory, as an ordinary tensor."""
        with torch._C._DisableTorchDispatch():
            return self.detach().as_subclass(Tensor)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C._DisableTorchDispatch():
            result = func(*args, **(kwargs or {}))
        return tree_map_only(Tensor, _of_same_kind, result) if func.name().split(".")[0] in KEEPS_ITS_KIND else result

    __torch_function__ = torch._C._disabled_torch_function_impl

    def fsdp_pre_all_gather(
        self, mesh: Any, outer_size: torch.Size, outer_stride: tuple[int, ...], module: nn.Module, mp_policy: Any
    ) -> tuple[tuple[Tensor, ...], Any]:
        """What travels: values and scales of this shard, both as bytes."""
        assert isinstance(module, Experts) and isinstance(module.fp8, Fp8Experts)
        is_gate_up = outer_size == gate_up_size(module)
        shard = self.plain().unflatten(1, (2, -1)) if is_gate_up else self.plain()
        values, scale = quantize_blocks(shard, scale_format=module.fp8.scale_format, block=SQUARE, refuse=False)
        if module.fp8.statistics is not None:
            module.fp8.statistics.add("gate_up" if is_gate_up else "down", shard, values, scale, SQUARE)
        sent = (values.view(torch.uint8).flatten(1), scale.flatten(1).view(torch.uint8))
        return sent, (module.fp8, is_gate_up, values.shape[1:], scale.shape[1:], outer_size)

    def fsdp_post_all_gather(
        self, outputs: tuple[Tensor, ...], metadata: Any, param_dtype: torch.dtype, *, out: Tensor | None = None
    ) -> Any:
        """Hands values and scales to the engine of the layer."""
        engine, is_gate_up, values_tail, scale_tail, outer_size = metadata
        values = outputs[0].view(torch.float8_e4m3fn).unflatten(1, values_tail)
        scale = outputs[1].view(torch.float32).unflatten(1, scale_tail)
        engine.gathered["gate_up" if is_gate_up else "down"] = (values, scale)
        if out is not None:
            return None
        return Phantom.of(outer_size, param_dtype, values.device), ()


class Phantom(Tensor):
    """Shape, dtype and gradient of a weight whose numbers are elsewhere. Reading it is an error."""

    @staticmethod
    def of(size: torch.Size, dtype: torch.dtype, device: torch.device) -> Phantom:
        phantom: Phantom = Tensor._make_wrapper_subclass(Phantom, size, dtype=dtype, device=device)
        return phantom

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split(".")[0]
        first = args[0]
        if name in ("aten::as_strided", "aten::detach", "aten::alias"):
            return cls.of(first.shape, first.dtype, first.device)
        if name in ("aten::zeros_like", "aten::empty_like"):
            options = {"dtype": first.dtype, "device": first.device}
            return (torch.zeros if name == "aten::zeros_like" else torch.empty)(first.shape, **options)
        raise RuntimeError(f"{name} reads a weight that was gathered in FP8; only the FP8 engine of its layer can")

    __torch_function__ = torch._C._disabled_torch_function_impl


def _of_same_kind(tensor: Tensor) -> Tensor:
    return tensor if isinstance(tensor, Fp8Shard) else Tensor._make_subclass(Fp8Shard, tensor)


def gate_up_size(experts: Experts) -> torch.Size:
    """Size of the gate and up weights on this rank; FSDP2 keeps it as that of the parameter."""
    return experts.gate_up_proj.shape


def gather_experts_in_fp8(experts: Experts, num_shards: int) -> None:
    """Makes FSDP2 gather these experts in FP8; to be called before it cuts them. Layers kept out of FP8 stay plain.

    Raises:
        InputError: the experts of this rank cannot be divided among the ranks that share them.
    """
    if experts.fp8 is None:
        return
    count = experts.gate_up_proj.shape[0]
    if count % num_shards:
        raise InputError(
            f"fp8.gather=fp8: {count} experts per expert-parallel rank cannot be divided among {num_shards} shards; "
            "use other sizes of parallel.ep and dp_shard, or fp8.gather=network"
        )
    experts.fp8.gathered = {}
    for name, parameter in list(experts.named_parameters(recurse=False)):
        setattr(experts, name, nn.Parameter(Fp8Shard.of(parameter), requires_grad=parameter.requires_grad))
