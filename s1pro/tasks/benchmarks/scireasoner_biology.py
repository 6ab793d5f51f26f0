"""The Bio_Instruction group of SciReasoner: 15 tasks whose answers are free text.

* numbers: all that do not follow a letter, at six digits ("5'" and "3'" are ends of strands, no numbers); exactly as
  many as asked for must be there (one; hk and dev; ON, OFF, ON/OFF), else the reply is unreadable. Isoform refuses
  values above 80. Spearman leaves out what is above 300, but counts it as read
* classes: whole words, those of "no" first, so "no doubt, yes" is negative. What no word decides goes to a zero-shot
  classifier upstream; here it is wrong, and counted (`unclassified`). The words are in `scireasoner_words`
* modifications: names as whole words; none and a negative word is the class "none"

Strict reads the same replies with the readers of Biology-Instructions, boxes and all.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks import biology_metrics as metrics
from s1pro.tasks.benchmarks.extract import LARGEST, answer_part, final_number, final_yes_no, number_in
from s1pro.tasks.benchmarks.metrics import correlation, equality, pearson, spearman
from s1pro.tasks.benchmarks.scireasoner_words import is_negative, keyword_class
from s1pro.tasks.benchmarks.smolinstruct import nearness
from s1pro.tasks.benchmarks.spec import Metric, Pair, Profile, Record

ORDER = (
    "antibody_antigen", "rna_protein_interaction", "emp", "enhancer_activity", "tf_m", "Isoform", "Modification",
    "MeanRibosomeLoading", "ProgrammableRNASwitches", "CRISPROnTarget", "promoter_enhancer_interaction",
    "sirnaEfficiency", "cpd", "pd", "tf_h",
)  # fmt: skip
KEYS: Mapping[str, tuple[str, ...]] = {
    "enhancer_activity": ("hk", "dev"), "ProgrammableRNASwitches": ("ON", "OFF", "ON_OFF"),
}  # fmt: skip
_HYPHEN = "\N{NON-BREAKING HYPHEN}"


def free_numbers(response: str) -> list[float]:
    """All numbers of a reply as upstream reads it where one is asked for: behind the last summary, none in reasoning
    that never ended there."""
    text = response.rpartition("<summary>")[2]
    if "<think>" in text and "</think>" not in text:
        return []
    return _numbers(text.rpartition("</think>")[2])


def _numbers(text: str) -> list[float]:
    """In upstream's way."""
    found = re.findall(rf"(?<![a-zA-Z])[-{_HYPHEN}]?\d+\.?\d*", text.replace("5'", "five'").replace("3'", "three"))
    values = [min(max(float(number.replace(_HYPHEN, "-")), -LARGEST), LARGEST) for number in found]
    return [float(f"{value:.6g}") for value in values]


def one_number(*, most: float = float("inf")) -> Callable[[str, Record], float | None]:
    """Of replies with one number that is not above `most`."""

    def read(response: str, record: Record) -> float | None:
        found = free_numbers(response)
        return found[0] if len(found) == 1 and found[0] <= most else None

    return read


def several_numbers(keys: Sequence[str]) -> Callable[[str, Record], dict[str, float] | None]:
    """Where several are asked for, upstream also reads summaries and reasoning that never ended."""

    def read(response: str, record: Record) -> dict[str, float] | None:
        return _by_key(keys, _numbers(response.rpartition("</think>")[2]))

    return read


def _by_key(keys: Sequence[str], found: Sequence[float]) -> dict[str, float] | None:
    return dict(zip(keys, found, strict=True)) if len(found) == len(keys) else None


def strict_numbers(keys: Sequence[str]) -> Callable[[str, Record], dict[str, float] | None]:
    """What stands behind each key, else as many numbers as there are keys."""

    def read(response: str, record: Record) -> dict[str, float] | None:
        text = answer_part(response)
        named = {}
        for key in sorted(keys, key=len, reverse=True):
            pattern = (
                rf"(?<![\w/]){re.escape(key).replace('_', '[_/]')}[\"']?\s*(?:is|=|:)\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)"
            )
            found = re.findall(pattern, text)
            number = number_in(found[-1].rstrip(".")) if found else None
            if number is not None:
                named[key] = number
        return {key: named[key] for key in keys} if len(named) == len(keys) else _by_key(keys, free_numbers(response))

    return read


def strict_class(response: str, record: Record) -> bool | None:
    """One clear word."""
    words = set(re.findall(r"\b(positive|negative)\b", answer_part(response).lower()))
    return words.pop() == "positive" if len(words) == 1 else final_yes_no(response)


def modifications(response: str, record: Record) -> str | None:
    """Names as whole words, joined by commas; "none" for a negative reply, empty for any other."""
    text = response.rpartition("</think>")[2].rpartition("<summary>")[2]
    found = [name for name in metrics.MODIFICATIONS if re.search(rf"\b{name}\b", text)]
    return ",".join(found) if found else "none" if is_negative(text) else ""


def strict_modifications(response: str, record: Record) -> str | None:
    return ",".join(sorted(metrics.classes_of(answer_part(response)))) or None


def gold_class(record: Record) -> bool:
    label = str(record["label"]).strip().lower()
    if label not in ("positive", "negative"):
        raise InputError(f"the field 'label' is {label!r:.60}, expected positive or negative")
    return label == "positive"


def gold_number(record: Record) -> float:
    number = number_in(str(record["label"]))
    if number is None:
        raise InputError(f"the field 'label' is {record['label']!r:.60}, expected a number")
    return number


def gold_numbers(keys: Sequence[str]) -> Callable[[Record], dict[str, float]]:
    def gold(record: Record) -> dict[str, float]:
        label = record["label"]
        try:
            values = ast.literal_eval(label) if isinstance(label, str) else label  # constants only
            return {key: float(values[key]) for key in keys}
        except (ValueError, SyntaxError, TypeError, KeyError) as error:
            raise InputError(f"the field 'label' is {label!r:.60}, expected numbers for {', '.join(keys)}") from error

    return gold


def upstream_spearman(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Over predictions up to 300, times the share of all that were read."""
    read = [p for p in pairs if p.prediction is not None]
    kept = [p for p in read if p.prediction <= 300]
    value = spearman([p.gold for p in kept], [p.prediction for p in kept]) if len(kept) > 1 else 0.0
    return {"score": 100.0 * value * len(read) / len(pairs)}


def excluding_unread(metric: Metric) -> Metric:
    """The unreadable is infinite upstream: left out, and weighed 0."""
    return lambda pairs: metric([p if p.prediction is not None else replace(p, prediction=LARGEST) for p in pairs])


def counting_unclassified(metric: Metric) -> Metric:
    return lambda pairs: {**metric(pairs), "unclassified": float(sum(p.prediction is None for p in pairs))}


def _near(gold: Mapping[str, float], prediction: Mapping[str, float]) -> float:
    return float(np.mean([nearness(1.0)(gold[key], prediction[key]) for key in gold]))


def profiles(task: str) -> tuple[tuple[Profile, Profile], Any]:
    """Of a task of `ORDER`, and its gold."""
    if task in KEYS:
        keys = KEYS[task]
        first, second = (
            (pearson, pearson) if task == "enhancer_activity" else (metrics.pearson_squared, metrics.determination)
        )
        return (
            Profile(extract=several_numbers(keys), value=_near, metric=metrics.per_key(first)),
            Profile(extract=strict_numbers(keys), value=_near, metric=metrics.per_key(second)),
        ), gold_numbers(keys)
    if task == "Modification":
        value = metrics.overlap(metrics.listed_classes)
        area = metrics.modification_auc(metrics.listed_classes, unread=frozenset())
        return (
            Profile(extract=modifications, value=value, metric=area),
            Profile(extract=strict_modifications, value=value, metric=area),
        ), lambda record: str(record["label"])
    measures: Mapping[str, tuple[Metric, Metric]] = {
        "CRISPROnTarget": (upstream_spearman, correlation(spearman)),
        "sirnaEfficiency": (excluding_unread(metrics.mixed(unread=0.0)), metrics.mixed(unread=None)),
        "Isoform": (correlation(metrics.pearson_squared), correlation(metrics.determination)),
        "MeanRibosomeLoading": (correlation(metrics.pearson_squared), correlation(metrics.determination)),
    }
    if task in measures:
        read = one_number(most=80.0 if task == "Isoform" else float("inf"))
        near = nearness(100.0 if task == "sirnaEfficiency" else 1.0)
        return (
            Profile(extract=read, value=near, metric=measures[task][0]),
            Profile(extract=lambda response, _: final_number(response), value=near, metric=measures[task][1]),
        ), gold_number
    return (
        Profile(extract=keyword_class, value=equality, metric=counting_unclassified(metrics.upstream_mcc)),
        Profile(extract=strict_class, value=equality, metric=metrics.strict_mcc),
    ), gold_class
