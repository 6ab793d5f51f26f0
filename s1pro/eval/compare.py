"""Two runs of the same tasks, item by item.

Items that both runs answered are paired by task and id; an item whose prompt differs between the runs is an error,
since then the models were not asked the same thing. With repeats, an item's value is its mean. A benchmark is compared
under both profiles. All comparisons of one call are adjusted together (Holm).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s1pro.base.errors import InputError
from s1pro.eval.answers import Answer, AnswerFile
from s1pro.eval.prompts import without_folders
from s1pro.eval.results import PROFILES
from s1pro.eval.statistics import PairedDifference, holm, paired_difference, paired_p

_REPEAT = re.compile(r"\.repeat-\d+$")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One task under one profile; `first` and `second` are means over the common items."""

    task: str
    profile: str
    num_items: int
    first: float
    second: float
    difference: PairedDifference
    p: float
    p_holm: float = 1.0
    left_out: int = 0

    @property
    def label(self) -> str:
        return f"{self.task} ({self.profile})" if self.profile else self.task


def read_answers(folder: Path) -> dict[str, list[Mapping[str, Answer]]]:
    """Answers by task, one mapping per repeat. Those of reference models are left out.

    Raises:
        InputError: the folder is no evaluation.
    """
    root = folder / "answers"
    if not (folder / "settings.json").is_file() or not root.is_dir():
        raise InputError(f"{folder} is no evaluation: it has no settings.json with answers/")
    names = {path: str(path.relative_to(root).with_suffix("")) for path in sorted(root.rglob("*.jsonl"))}
    found: dict[str, list[Mapping[str, Answer]]] = {}
    for path, name in names.items():
        if not _REPEAT.search(name) and _is_reference(name, names.values()):
            continue
        found.setdefault(_REPEAT.sub("", name), []).append(AnswerFile(path).answers)
    return found


def compare(first: Path, second: Path) -> list[Comparison]:
    """All tasks that both runs have.

    Raises:
        InputError: no common task or item, or an item that was asked in two ways.
    """
    ours, theirs = read_answers(first), read_answers(second)
    common = [task for task in ours if task in theirs]
    if not common:
        raise InputError(f"{first} and {second} have no task in common: {', '.join(ours)}; {', '.join(theirs)}")
    found = [one for task in common for one in _task(task, ours[task], theirs[task])]
    adjusted = holm([one.p for one in found])
    return [dataclasses.replace(one, p_holm=p) for one, p in zip(found, adjusted, strict=True)]


def _task(task: str, ours: Sequence[Mapping[str, Answer]], theirs: Sequence[Mapping[str, Answer]]) -> list[Comparison]:
    names = [name for name in ours[0] if name in theirs[0]]
    if not names:
        raise InputError(f"{task}: the two runs have no item in common")
    for name in names:
        if without_folders(ours[0][name].prompt) != without_folders(theirs[0][name].prompt):
            raise InputError(f"{task}: item {name!r} was asked with another prompt in each run")
    left_out = len(ours[0]) + len(theirs[0]) - 2 * len(names)
    has_profiles = all(name in answer.parts for answer in ours[0].values() for name in PROFILES)
    found = []
    for profile in PROFILES if has_profiles else ("",):
        a, b = (_values(run, names, profile) for run in (ours, theirs))
        found.append(
            Comparison(
                task=task,
                profile=profile,
                num_items=len(names),
                first=float(np.mean(a)),
                second=float(np.mean(b)),
                difference=paired_difference(a, b),
                p=paired_p(a, b),
                left_out=left_out,
            )
        )
    return found


def _values(repeats: Sequence[Mapping[str, Answer]], names: Sequence[str], profile: str) -> list[float]:
    return [float(np.mean([_value(run[name], profile) for run in repeats if name in run])) for name in names]


def _value(answer: Answer, profile: str) -> float:
    if answer.status == "failed" or not profile:
        return answer.score
    return float(answer.parts.get(profile, 0.0))


def _is_reference(name: str, names: Iterable[str]) -> bool:
    """`task.reference`, where `task` is there as well."""
    head, dot, _ = name.rpartition(".")
    return bool(dot) and head in set(names)
