"""Who records a decoding step and plays it again, and of which networks this can be done.

A decoding step of a large network on a GPU is thousands of small kernels, and calling them one by one from Python takes
longer than their work. A CUDA graph holds the calls; the whole step is then one call. It repeats the same kernels on
the same addresses, hence what is recorded must

* never read a number from the device: no lengths, no counts of rows per expert on the host;
* always compute the same: no hooks, no experts on other ranks (they wait for messages);
* find its weights where they were. New numbers *in* the same memory are fine: that is how weights are replaced.

`obstacle` tells what stands in the way, `fingerprint` whether a recording still holds.

`CudaGraphs` records. `CallAgain` does not, it calls; on a CPU it proves everything else about a recorded step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from functools import cache
from typing import Protocol

import torch
from torch import nn

from s1pro.kernels import experts_grouped
from s1pro.model.dispatch import LocalDispatch
from s1pro.model.moe import Experts, MoE
from s1pro.model.network import Network

WARM_UPS = 2
"""Calls before a recording, which find their kernels and make what is made once. On a stream of their own, as torch
asks."""


class RecordingFailed(RuntimeError):
    """A step could not be recorded, for the reason in `__cause__`."""


class Recorder(Protocol):
    """Makes of a step, which reads and writes fixed memory only, a function that repeats it."""

    def obstacle(self, network: Network) -> str | None:
        """Why this network cannot be recorded; None if it can."""

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """The step may be called a few times, and is not done when this returns.

        Raises:
            RecordingFailed: of the step, or of the memory that its recording needs.
        """


class CudaGraphs:
    """On one GPU. All graphs share one pool of memory: they run one after another, and what a graph leaves there is
    needed by nobody (inputs and results lie outside)."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def obstacle(self, network: Network) -> str | None:
        for module in network.modules():
            if isinstance(module, Experts) and not experts_grouped.can_be_recorded(module.down_proj):
                return f"experts in {module.down_proj.dtype} on this GPU are a loop that waits for it"
        return obstacle(network)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        try:
            with torch.cuda.device(self._device):
                return self._record(step)
        except RuntimeError as error:
            raise RecordingFailed(f"a decoding step could not be recorded as a CUDA graph: {error}") from error

    def _record(self, step: Callable[[], None]) -> Callable[[], None]:
        main, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(main)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                step()
        main.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            step()
        return graph.replay


class CallAgain:
    """On any device."""

    def obstacle(self, network: Network) -> str | None:
        return obstacle(network)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        for _ in range(WARM_UPS):
            step()
        return step


def recorder_for(device: torch.device) -> Recorder | None:
    """None where nothing is won."""
    return CudaGraphs(device) if device.type == "cuda" else None


def choose_recorder(network: Network, wanted: bool | None) -> Recorder | None:
    """The recorder of the network's device; None where nothing is won, or it is not wanted.

    Raises:
        ValueError: it must be recorded and cannot.
    """
    if wanted is False:
        return None
    device = network.lm_head.weight.device
    recorder = recorder_for(device)
    if wanted:
        why = f"the network is on {device}" if recorder is None else recorder.obstacle(network)
        if why is not None:
            raise ValueError(f"cuda_graphs=True: decoding cannot be recorded: {why}; leave it out")
    return recorder


def obstacle(network: Network) -> str | None:
    """What stands in the way on any device."""
    if network.exact:
        return "exact mode"
    for module in _modules(network):
        if module._forward_hooks or module._forward_pre_hooks:
            return f"a hook on {type(module).__name__}"
        if not _methods(type(module)).isdisjoint(vars(module)):  # type: ignore[arg-type]
            return f"a {type(module).__name__} with a method of its own"
        if isinstance(module, MoE) and type(module.dispatch) is not LocalDispatch:
            return "experts on other ranks"
        if isinstance(module, Experts) and module.fp8 is not None:
            return "experts in FP8, which are a loop over the experts in use"
    return None


def fingerprint(network: Network) -> tuple[Hashable, ...]:
    """Equal as long as a recording holds: modules, their settings, and where every number lies."""
    return tuple(part for module in _modules(network) for part in _facts(module))


def _facts(module: nn.Module) -> list[Hashable]:
    tensors = (*module._parameters.values(), *module._buffers.values())
    facts: list[Hashable] = [id(module), *(tensor.data_ptr() for tensor in tensors if tensor is not None)]
    for name in ("exact", "eps", "config"):  # what `rl.parity` and `model.exact` change
        value = vars(module).get(name)
        if value is not None:
            facts.append(value)
    return facts


def _modules(network: Network) -> list[nn.Module]:
    """Those that decode; towers of media do not."""
    return [network, network.model, network.lm_head, *network.model.language_model.modules()]


@cache
def _methods(kind: type[nn.Module]) -> frozenset[str]:
    return frozenset(name for name in dir(kind) if inspect.isfunction(getattr(kind, name)))
