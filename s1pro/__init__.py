"""s1pro: train, serve and evaluate scientific mixture-of-experts models in the layout of Intern-S1-Pro.

The names of everyday use can be taken from here, `from s1pro import load_network`. They are loaded when they are first
asked for (PEP 562): importing the package itself imports neither torch nor transformers, so that `s1pro --help` is
instant and the torch-free rooms stay so.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "S1ProConfig": "s1pro.checkpoint.hf_config",
    "S1ProForConditionalGeneration": "s1pro.checkpoint.huggingface",
    "ModelConfig": "s1pro.model.config",
    "Network": "s1pro.model.network",
    "PRESETS": "s1pro.model.presets",
    "Processor": "s1pro.inputs.processor",
    "Engine": "s1pro.serve.engine",
    "LocalClient": "s1pro.serve.client",
    "load_network": "s1pro.checkpoint.released",
    "save_network": "s1pro.checkpoint.released",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 's1pro' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
