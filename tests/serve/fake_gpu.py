"""A GPU without one: fake CUDA tensors, and rules for what a recorded step may do.

Fake tensors have shapes, dtypes and devices, and no numbers. Whoever reads a number of one (`item`, `tolist`, a shape
that depends on values) gets an error, and so does who mixes devices. `Recorded` forbids what a CUDA graph cannot hold
besides: copies between host and device, and any other work on the host.

A build of torch without CUDA refuses to index or copy a tensor that claims to be on a GPU, because these calls look for
the device first. `Unguarded` says the same by operations that do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from s1pro.model.config import ModelConfig
from s1pro.model.network import Network
from s1pro.model.rope import RotaryEmbedding

aten = torch.ops.aten


class HostWork(AssertionError):
    """A step that is to be recorded works on the host."""


@contextmanager
def fake_gpu() -> Iterator[None]:
    with FakeTensorMode(), torch.no_grad(), Unguarded():
        yield


def fake_network(config: ModelConfig, dtype: torch.dtype = torch.bfloat16) -> Network:
    """On the fake GPU. As in a network that is cast, coefficients of positions stay float32."""
    network = Network(config).eval()
    for module in network.modules():
        own = torch.float32 if isinstance(module, RotaryEmbedding) else dtype
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    moved = torch.empty(tensor.shape, dtype=own, device="cuda")
                    tensors[name] = torch.nn.Parameter(moved, requires_grad=False)
    return network


class Recorded(TorchDispatchMode):
    """Raises `HostWork` for operations that a CUDA graph cannot hold.

    Attributes:
        calls: how many operations, views left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            if isinstance(leaf, Tensor) and leaf.device.type == "cpu":
                raise HostWork(f"{func} on the host")
        self.calls += not func.is_view
        return result


class Unguarded(TorchFunctionMode):
    """`x[...]`, `x[...] = y`, `x.copy_(y)` and `x.to(device)` without a device guard."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__:
            return _take(*args)
        if func is Tensor.__setitem__:
            return _put(*args)
        if func is Tensor.copy_:
            return aten.copy_(*args)
        if func is Tensor.to and len(args) == 2 and isinstance(args[1], torch.device):
            return args[0] if args[0].device == args[1] else aten._to_copy(args[0], device=args[1])
        return func(*args, **(kwargs or {}))


def _parts(x: Tensor, index: Any) -> list[Any]:
    parts = list(index) if isinstance(index, tuple) else [index]
    for place, part in enumerate(parts):
        if part is Ellipsis:
            missing = x.dim() - sum(p is not None and p is not Ellipsis for p in parts)
            return [*parts[:place], *[slice(None)] * missing, *parts[place + 1 :]]
    return parts


def _take(x: Tensor, index: Any) -> Tensor:
    dim, tensors = 0, []
    for part in _parts(x, index):
        if part is None:
            x = x.unsqueeze(dim)
        elif isinstance(part, slice):
            if part != slice(None):
                x = aten.slice.Tensor(x, dim, part.start, part.stop, part.step or 1)
        elif isinstance(part, int):
            x = x.select(dim, part)
            continue
        tensors.append(_as_tensor(part, x) if isinstance(part, list | Tensor) else None)
        dim += 1
    return x if all(tensor is None for tensor in tensors) else aten.index.Tensor(x, tensors)


def _put(x: Tensor, index: Any, value: Any) -> None:
    parts = _parts(x, index)
    if any(isinstance(part, list | Tensor) for part in parts):
        rows = [_as_tensor(part, x) for part in parts]
        aten.index_put_(x, rows, torch.as_tensor(value, dtype=x.dtype, device=x.device))
    elif isinstance(value, Tensor):
        _take(x, index).copy_(value)
    else:
        _take(x, index).fill_(value)


def _as_tensor(part: Any, x: Tensor) -> Tensor:
    return part if isinstance(part, Tensor) else torch.tensor(part, device=x.device)
