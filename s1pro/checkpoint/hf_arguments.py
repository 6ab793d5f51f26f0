"""What transformers' callers pass to `from_pretrained` and `save_pretrained`, read into our terms."""

from __future__ import annotations

from typing import Any

import torch

HUB_ARGUMENTS = frozenset(
    {
        *("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "trust_remote_code"),
        *(
            "attn_implementation",
            "low_cpu_mem_usage",
            "use_safetensors",
            "weights_only",
            "_from_auto",
            "adapter_kwargs",
        ),
        *("code_revision", "_commit_hash", "proxies", "key_mapping"),
    }
)
"""Arguments of `from_pretrained` that have no effect on a local folder of safetensors."""


def parse_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """None for "auto": what `config.json` says."""
    if dtype is None or dtype == "auto" or isinstance(dtype, torch.dtype):
        return None if isinstance(dtype, str) else dtype
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"dtype is {dtype!r}; expected a torch.dtype, its name, or 'auto'")
    return found


def parse_device(device_map: Any) -> torch.device:
    """The one device that a `device_map` names."""
    if device_map is None:
        return torch.device("cpu")
    if device_map == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(device_map, dict):
        if len(set(map(str, device_map.values()))) > 1:
            raise ValueError("device_map spreads the model over several devices, which is not supported")
        device_map = next(iter(device_map.values()))
    return torch.device(device_map)


def parse_num_bytes(size: int | str) -> int:
    """Bytes, from a number or a string such as "5GB"."""
    if isinstance(size, int):
        return size
    units = {"GB": 10**9, "MB": 10**6, "KB": 10**3}
    number, unit = size[:-2].strip(), size[-2:].upper()
    if unit not in units or not number.replace(".", "", 1).isdigit():
        raise ValueError(f"max_shard_size is {size!r}; expected bytes or a string such as '5GB'")
    return int(float(number) * units[unit])
