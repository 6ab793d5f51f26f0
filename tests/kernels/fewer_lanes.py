"""A plugin for pytest: vectors of as many lanes as the variable LANES says (8 or 4), on a processor with AVX2."""

from __future__ import annotations

import os
from collections.abc import Callable

from llvmlite import binding

ALL: Callable[[], dict[str, bool]] = binding.get_host_cpu_features
NEWER = ("avx512", "avx10", "amx")


def older_processor() -> dict[str, bool]:
    features = ALL()
    features.update({name: False for name in features if name.startswith(NEWER)})
    return features


binding.get_host_cpu_name = lambda: "haswell"
binding.get_host_cpu_features = older_processor
if os.environ["LANES"] == "4":
    binding.get_host_cpu_features = lambda: {"neon": True}

from s1pro.kernels.compiled import vectors  # noqa: E402

binding.get_host_cpu_features = older_processor
assert os.environ["LANES"] == str(vectors.LANES)
