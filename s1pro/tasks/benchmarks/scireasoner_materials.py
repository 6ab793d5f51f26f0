"""The LLM4Mat group of SciReasoner: 5 properties that hold or not, 60 numbers, each asked for as a JSON object.

The object of a reply has one key, the property; upstream knows its name from the task, here the only key is taken.

* numbers: mean absolute deviation of the golds over the mean absolute error, both of readable replies. The ratio has no
  bound, and for no error at all upstream gives nothing, which counts 0. Strict counts an unreadable reply as the mean
  of the golds, and gives a perfect set of replies the ratio 1000
* yes or no, direct or indirect: area under the curve of hard labels over readable replies; strict counts an unreadable
  reply as wrong
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.extract import answer_part, number_in, upstream_visible
from s1pro.tasks.benchmarks.metrics import equality
from s1pro.tasks.benchmarks.scireasoner_groups import deviation_over_error
from s1pro.tasks.benchmarks.smolinstruct import nearness
from s1pro.tasks.benchmarks.spec import Pair, Profile, Record

LABELS = ("MP_IsStable", "MP_IsGapDirect", "SNUMAT_IsDirect", "SNUMAT_IsDirect_HSE", "SNUMAT_SOC")
_PROPERTIES: Mapping[str, str] = {
    "MP": "FEPA Bandgap EPA Ehull Efermi Density DensityAtomic Volume",
    "JARVISDFT": "FEPA Bandgap_OPT TotEn Ehull Bandgap_MBJ Kv Gv SLME Spillage Epsx_OPT Dielectric_DFPT Max_Piezo_dij "
    "Max_Piezo_eij MaxEFG ExfEn AvgMe nSeebeck nPF pSeebeck pPF",
    "SNUMAT": "Bandgap_GGA Bandgap_HSE Bandgap_GGA_Optical Bandgap_HSE_Optical",
    "GNoME": "FEPA DEPA Bandgap TotEn Volume Density",
    "hMOF": "MaxCO2 MinCO2 LCD PLD VoidFraction SA_m2g SA_m2cm3",
    "Cantor_HEA": "FEPA EPA Ehull VPA",
    "QMOF": "TotEn Bandgap LCD PLD",
    "JARVISQETB": "EPA IndirBandgap FEPA TotEn",
    "OQMD": "Bandgap FEPA",
    "OMDB": "Bandgap",
}
NUMBERS = tuple(f"{group}_{name}" for group, names in _PROPERTIES.items() for name in names.split())
ORDER = (*LABELS, *NUMBERS)
PERFECT = 1000.0
_WORDS: Mapping[str, bool] = {
    "direct": True, "true": True, "yes": True, "indirect": False, "false": False, "no": False,
}  # fmt: skip


def object_value(text: str) -> Any:
    """The value of the only key of the object that a reply is, or of the first "{key: value}" in it; None without."""
    bare = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip(), flags=re.IGNORECASE | re.MULTILINE)
    try:
        data = json.loads(bare)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict) and len(data) == 1:
        return next(iter(data.values()))
    found = re.search(r"\{[^{}:]*:\s*[\"']?(.*?)[\"']?\s*\}", bare, re.DOTALL)
    return found[1].strip().strip('"') if found else None


def upstream_value(response: str, record: Record) -> float | None:
    """What Python takes for a number."""
    value = object_value(upstream_visible(response))
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def strict_value(response: str, record: Record) -> float | None:
    """The object's value, unit and all, else the last number."""
    text = answer_part(response)
    value = object_value(text)
    return number_in(text if value is None else str(value))


def label(response: str, record: Record) -> bool | None:
    return _WORDS.get(str(object_value(upstream_visible(response))).strip().lower())


def gold_value(record: Record) -> float:
    number = number_in(str(record["output"])) if not isinstance(record["output"], bool) else None
    if number is None:
        raise InputError(f"the field 'output' is {record['output']!r:.60}, expected a number")
    return number


def gold_label(record: Record) -> bool:
    meant = _WORDS.get(str(record["output"]).strip().lower())
    if meant is None:
        raise InputError(f"the field 'output' is {record['output']!r:.60}, expected true, false, direct or indirect")
    return meant


def keep(record: Record) -> bool:
    """Without a gold there is nothing to score."""
    return str(record.get("output")) != "Null"


def upstream_ratio(pairs: Sequence[Pair]) -> Mapping[str, float]:
    ratio = deviation_over_error([p.gold for p in pairs], [p.prediction for p in pairs])
    return {"score": 0.0 if ratio is None else ratio}


def strict_ratio(pairs: Sequence[Pair]) -> Mapping[str, float]:
    golds = [p.gold for p in pairs]
    mean = sum(golds) / len(golds)
    ratio = deviation_over_error(golds, [mean if p.prediction is None else p.prediction for p in pairs])
    return {"score": PERFECT if ratio is None else min(ratio, PERFECT)}


def _area(golds: Sequence[bool], said: Sequence[bool]) -> float:
    """Of hard labels: the mean of the two recalls. NaN with one class."""
    positives, negatives = sum(golds), len(golds) - sum(golds)
    if not positives or not negatives:
        return float("nan")
    hits = sum(g and s for g, s in zip(golds, said, strict=True)) / positives
    rejections = sum(not g and not s for g, s in zip(golds, said, strict=True)) / negatives
    return (hits + rejections) / 2


def upstream_area(pairs: Sequence[Pair]) -> Mapping[str, float]:
    read = [p for p in pairs if p.prediction is not None]
    return {"score": _area([p.gold for p in read], [p.prediction for p in read])}


def strict_area(pairs: Sequence[Pair]) -> Mapping[str, float]:
    said = [(not p.gold) if p.prediction is None else p.prediction for p in pairs]
    return {"score": _area([p.gold for p in pairs], said)}


def profiles(task: str) -> tuple[tuple[Profile, Profile], Any]:
    """Of a task of `ORDER`, and its gold."""
    if task in LABELS:
        return (
            Profile(extract=label, value=equality, metric=upstream_area),
            Profile(extract=label, value=equality, metric=strict_area),
        ), gold_label
    return (
        Profile(extract=upstream_value, value=nearness(1.0), metric=upstream_ratio),
        Profile(extract=strict_value, value=nearness(1.0), metric=strict_ratio),
    ), gold_value
