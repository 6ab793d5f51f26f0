"""Types and ranges of the values in a `config.json`.

JSON gives strings, lists, 1.5 and NaN as readily as numbers, and a network built from them fails far away or, worse,
runs. The annotations of the dataclasses in `model.config` say what each field holds; what belongs together
(divisibility, heads and widths) is checked by the dataclasses themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from s1pro.base.errors import InputError
from s1pro.checkpoint.config_keys import ROPE_EXTRAS, ROUTER_EXTRAS, TOKENS, TS_TOKENS

LARGEST = 2**31 - 1
_KEYS = {  # where the key in the file differs from the field
    "top_k": "num_experts_per_tok",
    "num_groups": "router_n_groups",
    "theta": "rope_theta",
    "sep_head": "fope_sep_head",
    "init_factor": "fope_init_factor",
    **{field: key for key, field in {**ROUTER_EXTRAS, **ROPE_EXTRAS}.items()},
}
_MINIMUM = {
    "intermediate_size": 0,
    "pad_value": -math.inf,
    **dict.fromkeys((*TOKENS, *TS_TOKENS, "bos_token_id", "eos_token_id"), -1),
}
_MAXIMUM = dict.fromkeys(("in_channels", "patch_size", "temporal_patch_size", "spatial_merge_size"), 1024)


def check_values(where: str, config: type, values: Mapping[str, Any]) -> None:
    """Every value has the type of its field in the dataclass `config` and lies in its range.

    Raises:
        InputError: names the key of the file and the value.
    """
    types = {field.name: str(field.type) for field in fields(config)}
    for name, value in values.items():
        problem = _problem(name, types[name], value)
        if problem:
            raise InputError(f"{where}: {_KEYS.get(name, name)} must be {problem}, got {value!r:.60}")


def _problem(name: str, kind: str, value: object) -> str | None:
    """What the value should have been, or None if it is fine."""
    several_ends = name == "eos_token_id" and isinstance(value, list | tuple)  # as files of transformers may have it
    if kind.startswith("tuple") or several_ends:
        return None if all(type(item) is int for item in value) else "a list of integers"  # type: ignore[attr-defined]
    if kind.endswith("| None") and value is None:
        return None
    if kind == "bool":
        return None if isinstance(value, bool) else "true or false"
    if kind in ("str", "GateDtype"):
        return _text_problem(kind, value)
    whole = kind.startswith("int")
    return _number_problem(value, whole, _MINIMUM.get(name, 1 if whole else 0), _MAXIMUM.get(name, LARGEST))


def _text_problem(kind: str, value: object) -> str | None:
    if kind == "GateDtype":
        return None if value in ("float32", "model") else "'float32' or 'model'"
    return None if isinstance(value, str) else "a string"


def _number_problem(value: object, whole: bool, minimum: float, maximum: int) -> str | None:
    wanted = f"{'an integer' if whole else 'a number'} from {minimum} to {maximum}"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        return wanted
    return None if minimum <= value <= maximum and math.isfinite(value) else wanted
