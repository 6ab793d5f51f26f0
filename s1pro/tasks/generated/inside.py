"""What runs behind the walls for an environment of others: it makes cases, words them, and checks answers.

Random numbers of Python and numpy are set before cases are made, since such environments draw from the global ones. An
environment may subtract for length and form on its own; it is told not to where it takes `short_penalty` and
`format_penalty` (InternBootcamp does), because here these are terms of the reward (`rl.rewards`).
"""

from __future__ import annotations

import importlib
import inspect
import math
import random
import sys
from contextlib import suppress
from typing import Any

from s1pro.tasks.generated.environment import different_cases

_OFF = {"short_penalty": False, "format_penalty": False}


def make(target: str, split: Any, count: int, seed: int) -> list[dict[str, Any]]:
    """`[{case, prompt}]` of the environment `module:attribute`."""
    environment = _environment(target)
    random.seed(f"{target} {split} {seed}")
    with suppress(ImportError):
        import numpy as np

        np.random.seed(random.getrandbits(32))
    cases = different_cases(environment.case_generator, split, count)
    return [{"case": case, "prompt": str(environment.prompt_func(case))} for case in cases]


def verify(target: str, output: str, case: Any) -> dict[str, Any]:
    """`{value, valid}` of an answer; values beyond 0 and 1 are cut."""
    environment = _environment(target)
    accepted = inspect.signature(environment.verify_score).parameters
    options = {name: value for name, value in _OFF.items() if name in accepted}
    value = float(environment.verify_score(output, case, **options))
    valid = True
    if hasattr(environment, "extract_output"):
        valid = environment.extract_output(output) is not None
    return {"value": min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0, "valid": valid}


def _environment(target: str) -> Any:
    """A fresh one: the attribute is a class, or a function that makes one, without arguments."""
    module, _, attribute = target.partition(":")
    sys.argv = [module]
    return getattr(importlib.import_module(module), attribute)()
