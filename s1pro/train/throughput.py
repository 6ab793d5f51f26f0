"""Model FLOPs utilisation: arithmetic that the model needs per second, over what the machine can do.

Needed is 3 times the forward pass (forward, gradients of inputs, gradients of weights) of the active parameters, plus
attention over the actual length of each packed sequence; recomputation does not count. The peak is given, or
measured with one square matrix product in the dtype of the run: MFU then says which share of the machine's *own* GEMM
speed training reaches, on this number of threads.
"""

from __future__ import annotations

import itertools
import time

import torch

from s1pro.data.batch import PackedBatch
from s1pro.model.config import ModelConfig
from s1pro.model.sizes import forward_flops_per_token

TRAINING_PASSES = 3


def training_flops(config: ModelConfig, batch: PackedBatch) -> float:
    """Floating-point operations of forward and backward over the real rows of `batch`."""
    real = batch.cu_seqlens[: batch.num_real_segments + 1]
    lengths = [b - a for a, b in itertools.pairwise(real)]
    rows = sum(lengths)
    if rows == 0:
        return 0.0
    mean_context = sum(n * (n + 1) / 2 for n in lengths) / rows
    return TRAINING_PASSES * rows * forward_flops_per_token(config, mean_context)


def measure_peak_flops(device: torch.device, dtype: torch.dtype, *, size: int | None = None, repeats: int = 3) -> float:
    """Best speed of a square matrix product: a few hundredths of a second on a CPU core."""
    size = size or (8192 if device.type == "cuda" else 512)
    a = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(repeats + 1):
        _wait(device)
        start = time.perf_counter()
        a @ a
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
