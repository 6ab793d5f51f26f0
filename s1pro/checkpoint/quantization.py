"""FP8 tensors of a model folder: `X.weight` in float8 e4m3 and `X.weight_scale_inv`, one float32 scale per block.

A weight that came from an FP8 folder is a product `q * scale`, and the scale cannot always be found again from it (the
largest number of a block may have been rounded to a power of two). `Fp8Weights` therefore remembers the scales it read,
and a block that is still exactly what it was keeps its scale. So FP8 -> load -> FP8 gives the same bytes, whatever
rule made the file, and training changes only the blocks it changed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from s1pro.base.errors import InputError
from s1pro.kernels.fp8 import FP8_MAX, ScaleFormat, dequantize_blocks, expand_scale, is_power_of_two, quantize_blocks

BLOCK = (128, 128)
SCALE_SUFFIX = "_scale_inv"
FP8_DTYPE = "F8_E4M3"
SCALE_FORMATS: Mapping[Any, ScaleFormat] = {"float": "fp32", "fp32": "fp32", "ue8m0": "ue8m0"}
"""By the name in a `config.json`."""


@dataclass
class Fp8Weights:
    """What a folder said about its FP8 tensors.

    Attributes:
        scale_format: as declared.
        scales: by name of the weight.
    """

    scale_format: ScaleFormat = "fp32"
    scales: dict[str, Tensor] = field(default_factory=dict)


def declared_format(where: str, data: Mapping[str, Any]) -> ScaleFormat | None:
    """The scale format in `quantization_config`, None without one.

    Raises:
        InputError: another method, number format or block size than FP8 in blocks of 128 x 128.
    """
    quantization = data.get("quantization_config")
    if quantization is None:
        return None
    if not isinstance(quantization, Mapping):
        raise InputError(f"{where}: quantization_config must be an object, got {quantization!r:.60}")
    expected = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": list(BLOCK)}
    for key, value in expected.items():
        if quantization.get(key, value) != value:
            raise InputError(
                f"{where}: quantization_config.{key} is {quantization[key]!r}; only {value!r} is supported"
            )
    written = quantization.get("scale_fmt", "float")
    if not isinstance(written, str) or written not in SCALE_FORMATS:
        expected_names = ", ".join(map(repr, SCALE_FORMATS))
        raise InputError(f"{where}: quantization_config.scale_fmt is {written!r:.60}, expected one of {expected_names}")
    return SCALE_FORMATS[written]


def quantization_config(scale_format: ScaleFormat, modules_to_not_convert: list[str]) -> dict[str, Any]:
    """The released fields. transformers calls scales of any size "float"."""
    return {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "modules_to_not_convert": modules_to_not_convert,
        "quant_method": "fp8",
        "scale_fmt": "float" if scale_format == "fp32" else scale_format,
        "weight_block_size": list(BLOCK),
    }


def checked_scale(where: str, name: str, scale: Tensor) -> Tensor:
    """float32 scales, all finite and positive."""
    scale = scale.to(torch.float32)
    if not bool((scale.isfinite() & (scale > 0)).all()):
        raise InputError(f"{where}: {name} has scales that are not finite and positive; the file is damaged")
    return scale


def dequantize(where: str, name: str, quantized: Tensor, scale: Tensor) -> Tensor:
    """The float32 weight.

    Raises:
        InputError: scales of the wrong shape.
    """
    try:
        return dequantize_blocks(quantized, scale, block=BLOCK)
    except ValueError as error:
        raise InputError(f"{where}: {name}: {error}") from error


def quantize(weight: Tensor, scale_format: ScaleFormat, known: Tensor | None) -> tuple[Tensor, Tensor]:
    """FP8 values and scales; blocks of which `known` still is the exact scale keep it."""
    quantized, scale = quantize_blocks(weight, scale_format=scale_format, block=BLOCK)
    if known is None or known.shape != scale.shape:
        return quantized, scale
    wide = weight.to(torch.float32)
    spread = expand_scale(known, weight.shape, BLOCK)
    again = (wide / spread).clamp_(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn)
    same = (again.to(torch.float32) * spread).to(weight.dtype) == weight  # compared as loading rounded it
    keeps = _all_of_block(same, scale.shape)
    scale = torch.where(keeps, known, scale)
    kept_values = expand_scale(keeps, weight.shape, BLOCK)
    values = torch.where(kept_values, again.view(torch.uint8), quantized.view(torch.uint8))
    return values.view(torch.float8_e4m3fn), scale


def _all_of_block(flags: Tensor, blocks: torch.Size) -> Tensor:
    """Whether all flags of a block are true, `[out blocks, in blocks]`."""
    padded = torch.ones(blocks[0] * BLOCK[0], blocks[1] * BLOCK[1], dtype=torch.bool)
    padded[: flags.shape[0], : flags.shape[1]] = flags
    return padded.view(blocks[0], BLOCK[0], blocks[1], BLOCK[1]).all(dim=3).all(dim=1)


def warn_if_not_powers(where: str, weights: Fp8Weights) -> None:
    """Released files declare ue8m0 and hold other scales: harmless for reading, but worth knowing."""
    if weights.scale_format != "ue8m0":
        return
    odd = sum(1 for scale in weights.scales.values() if not bool(is_power_of_two(scale).all()))
    if odd:
        warnings.warn(
            f"{where}: scale_fmt says ue8m0, but {odd} of {len(weights.scales)} tensors have scales that are no powers "
            "of two; they are used as they are",
            stacklevel=3,
        )
