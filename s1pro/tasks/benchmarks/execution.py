"""LiveCodeBench: pass@k from a file of execution results, where something else ran the programs.

`benchmarks/livecodebench.py` runs them behind walls. Any other sandbox writes one line per problem,
`{"question_id": …, "passed": [true, false, …]}`, one verdict per attempt (all tests passed), and this computes

    pass@k = mean over problems of 1 - C(n - c, k) / C(n, k)

with n attempts of which c passed. Problems with fewer than k attempts are an error, not a guess.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.reading import located_records


def pass_at_k(verdicts: Sequence[bool], k: int) -> float:
    """Chance that at least one of k attempts, drawn without putting back, passed. Raises `ValueError` for too few."""
    n, passed = len(verdicts), sum(verdicts)
    if not 1 <= k <= n:
        raise ValueError(f"{n} attempts are not enough for pass@{k}")
    return 1.0 - math.comb(n - passed, k) / math.comb(n, k)


def execution_scores(path: Path, k: int = 1) -> dict[str, float]:
    """pass@k times 100 of a results file. Raises `InputError` for a wrong line, with its place."""
    seen: set[str] = set()
    values = []
    for where, record in located_records(path, {"question_id": (str, int), "passed": list}):
        name, verdicts = str(record["question_id"]), record["passed"]
        if name in seen:
            raise InputError(f"{path}, {where}: question_id {name!r} was there before")
        if not all(isinstance(verdict, bool) for verdict in verdicts):
            raise InputError(
                f"{path}, {where}: the field 'passed' is {verdicts!r:.60}, expected a list of true and false"
            )
        seen.add(name)
        try:
            values.append(pass_at_k(verdicts, k))
        except ValueError as error:
            raise InputError(f"{path}, {where}: the field 'passed': {error}") from error
    return {"score": 100.0 * sum(values) / len(values), "n_total": float(len(values))}
