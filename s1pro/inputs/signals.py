from __future__ import annotations
from dataclasses import dataclass
from typing import Any
import numpy as np
from s1pro.base.signal_tokens import *
from s1pro.base.errors import InputError
@dataclass(frozen=True, kw_only=True)
class SignalSettings:
    max_tokens: int = 4096
    strict: bool = False
    @classmethod
    def from_json(cls, data: Any, where: str) -> Any: return cls(**data)
    def as_json(self): return {}
@dataclass
class S:
    values: Any; sampling_rate: Any; unit: Any; tokens: int = 0
def load_signal(x, *, sampling_rate=None, unit=None, channels=None, base=None):
    from pathlib import Path
    if isinstance(x, (str, Path)):
        x = np.load((base or Path()) / x)
    a = np.asarray(x, dtype=np.float32)
    return S(a[:, None] if a.ndim == 1 else a, sampling_rate, unit)
def prepare_signal(s, settings):
    v = (s.values - s.values.mean(0)) / (s.values.std(0) + 1e-8)
    r = float(s.sampling_rate or assumed_sampling_rate(len(v)))
    return S(v.astype(np.float32), r, s.unit, signal_layout(len(v), r).tokens)
def signal_text(s, p):
    return f"{len(s.values)} points at {p.sampling_rate:g} Hz, {s.unit}:" if s.sampling_rate else ""
