"""Biology-Instructions (21 tasks), as the paper's harness scores it, and as it should be.

Records come in one JSONL file per task: `prompt`, `ground_truth` and `meta_data` with `ans_type` (`cls`, `number`, `dict`,
`string`) and `task`. A system message names the biologist; behind the prompt stands how to answer: yes or no, a number,
a JSON object with given keys, or names, each in `\\boxed{}`.

What the upstream scorer does about answers that it cannot read decides much of its numbers:

| metric | tasks | unreadable | strict |
|---|---|---|---|
| MCC | 5 DNA, 3 pairs of molecules | the opposite of the gold | a class of its own |
| Pearson per key | enhancer activity | left out, then times valid / all | the same, undefined is 0 |
| Spearman | CRISPR, fluorescence, stability, thermostability | the same | the same |
| "R2": Pearson squared | isoform, ribosome loading, switches | the same | 1 - SSE/SST |
| AUC, 13 classes, hard labels | RNA modification | all 13 predicted | macro F1 beside, none predicted |
| accuracy | solubility, ncRNA family | wrong | wrong |
| Fmax | EC numbers | nothing predicted | the same |
| mixed | siRNA efficiency | 0.0, "below 30" | errs at worst |

Values are times 100; the mean of 21 may come out negative. Undefined values are 0 here, where upstream gives NaN, inf or
an exception.

Source: OpenCompass `datasets/biodata.py` as described in the specification, section 3.1.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.extract import after_think, answer_part, boxed, final_number, final_yes_no, upstream_numbers
from s1pro.tasks.benchmarks.metrics import binary_f1, correlation, equality, matthews, pearson, spearman
from s1pro.tasks.benchmarks.smolinstruct import nearness
from s1pro.tasks.benchmarks.spec import Benchmark, Pair, Profile, Record, Subtask, defined, user_prompt
from s1pro.tasks.task import Prompt

FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "prompt": str,
    "ground_truth": (str, float, int, dict),
    "meta_data": dict,
}
SYSTEM = "You are an expert in biology who reads sequences and answers questions about them."
EC_NUMBER = re.compile(r"\d+\.\d+\.\d+\.\-?\d*")
_YES, _NO = ("yes", "positive", "true", "1"), ("no", "negative", "false", "0")
MODIFICATIONS = ("Am", "Cm", "Gm", "Um", "m1A", "m5C", "m5U", "m6A", "m6Am", "m7G", "Psi", "AtoI", "none")
"""Labels of RNA modification; `classes_of` reads them longest first."""
HINTS: Mapping[str, str] = {
    "cls": "\nAnswer yes or no in \\boxed{}.",
    "number": "\nGive the number in \\boxed{}.",
    "string": "\nGive the names in \\boxed{}, separated by commas.",
}


def prompt(record: Record) -> Prompt:
    kind = record["meta_data"].get("ans_type", "number")
    if kind == "dict":
        keys = ", ".join(f'"{key}": xx' for key in record["ground_truth"])
        return user_prompt(f"{record['prompt']}Give a JSON object in \\boxed{{}}: {{{keys}}}", system=SYSTEM)
    if kind not in HINTS:
        raise InputError(f"meta_data.ans_type is {kind!r}, expected one of dict, {', '.join(HINTS)}")
    return user_prompt(record["prompt"] + HINTS[kind], system=SYSTEM)


# -- reading ------------------------------------------------------------------------------------------------------------


def last_box(response: str) -> str | None:
    """Content of the last box after the reasoning, `\\text{}` unwrapped, backslashes removed."""
    found = boxed(after_think(response))
    if not found:
        return None
    return re.sub(r"\\(?=.)", "", re.sub(r"\\text\{([^{}]*)\}", r"\1", found[-1])).strip()


def upstream_class(response: str, record: Record) -> bool | None:
    text = (last_box(response) or "").lower()
    if text in _YES:
        return True
    return False if text in _NO else None


def strict_class(response: str, record: Record) -> bool | None:
    text = (last_box(response) or answer_part(response)).strip().strip(".").lower()
    if text in _YES + _NO:
        return text in _YES
    return final_yes_no(response)


def upstream_number(response: str, record: Record) -> float | None:
    """The last number in a tag or box anywhere in the reply."""
    found = upstream_numbers(response)
    return found[-1] if found else None


def strict_number(response: str, record: Record) -> float | None:
    return final_number(response)


def upstream_dict(response: str, record: Record) -> dict[str, float] | None:
    """The last braces without inner ones, as JSON or as a Python literal; keys as in the gold."""
    found = re.findall(r"\{[^{}]*\}", response)
    return _numbers_of(found[-1], record) if found and "..." not in found[-1] else None


def strict_dict(response: str, record: Record) -> dict[str, float] | None:
    """The last braces after the reasoning that hold the keys of the gold."""
    for text in reversed(re.findall(r"\{[^{}]*\}", answer_part(response))):
        numbers = _numbers_of(text, record)
        if numbers is not None:
            return numbers
    return None


def _numbers_of(text: str, record: Record) -> dict[str, float] | None:
    value: Any = None
    for read in (json.loads, ast.literal_eval):  # literal_eval builds constants only, it runs nothing
        try:
            value = read(text)
            break
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    if not isinstance(value, dict) or set(value) != set(record["ground_truth"]):
        return None
    try:
        numbers = {str(key): float(item) for key, item in value.items()}
    except (TypeError, ValueError):
        return None
    return numbers if np.isfinite(list(numbers.values())).all() else None


def upstream_text(response: str, record: Record) -> str | None:
    return last_box(response)


def strict_text(response: str, record: Record) -> str | None:
    return last_box(response) or answer_part(response) or None


# -- golds --------------------------------------------------------------------------------------------------------------


def gold_class(record: Record) -> bool:
    text = str(record["ground_truth"]).strip().lower()
    if text not in _YES + _NO:
        raise InputError(f"ground_truth is {record['ground_truth']!r}, expected positive or negative, or yes or no")
    return text in _YES


def gold_number(record: Record) -> float:
    return float(record["ground_truth"])


def gold_dict(record: Record) -> dict[str, float]:
    return {str(key): float(value) for key, value in record["ground_truth"].items()}


def gold_text(record: Record) -> str:
    return str(record["ground_truth"]).strip()


# -- metrics ------------------------------------------------------------------------------------------------------------


def upstream_mcc(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Unreadable answers are taken for the opposite of the gold."""
    predictions = [(not p.gold) if p.prediction is None else p.prediction for p in pairs]
    return {"score": 100.0 * matthews([p.gold for p in pairs], predictions)}


def strict_mcc(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Unreadable answers are a third class."""
    predictions = ["unread" if p.prediction is None else p.prediction for p in pairs]
    return {"score": 100.0 * matthews([p.gold for p in pairs], predictions)}


def pearson_squared(golds: Sequence[float], predictions: Sequence[float]) -> float:
    return pearson(golds, predictions) ** 2


def determination(golds: Sequence[float], predictions: Sequence[float]) -> float:
    """1 - SSE/SST; NaN for constant golds."""
    g, p = np.asarray(golds, dtype=float), np.asarray(predictions, dtype=float)
    total = float(((g - g.mean()) ** 2).sum())
    return float("nan") if total == 0 else 1.0 - float(((g - p) ** 2).sum()) / total


def per_key(measure: Callable[[Sequence[float], Sequence[float]], float]) -> Any:
    """Mean over the keys of the golds, times 100 and times the share that could be read."""
    one = correlation(measure)

    def metric(pairs: Sequence[Pair]) -> Mapping[str, float]:
        keys = sorted({key for pair in pairs for key in pair.gold})
        by_key = {}
        for key in keys:
            some = [
                Pair(gold=p.gold[key], prediction=None if p.prediction is None else p.prediction[key])
                for p in pairs
                if key in p.gold
            ]
            by_key[key] = defined(one(some)["score"])
        return {"score": float(np.mean(list(by_key.values()))) if by_key else 0.0, **by_key}

    return metric


def classes_of(text: str) -> frozenset[str]:
    """Modifications named in a text: longer names first, and what they cover is not read again."""
    found = set()
    for name in sorted(MODIFICATIONS, key=len, reverse=True):
        text, times = re.subn(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", " ", text)
        if times:
            found.add(name)
    return frozenset(found)


def modification_auc(*, unread: frozenset[str]) -> Any:
    """Macro mean of the area under the curve over the classes with both labels, for hard predictions; F1 beside."""

    def metric(pairs: Sequence[Pair]) -> Mapping[str, float]:
        golds = [classes_of(p.gold) for p in pairs]
        predictions = [unread if p.prediction is None else classes_of(p.prediction) for p in pairs]
        areas, scores = [], []
        for name in MODIFICATIONS:
            truth, said = [name in g for g in golds], [name in p for p in predictions]
            if any(truth) and not all(truth):
                sensitivity = sum(t and s for t, s in zip(truth, said, strict=True)) / sum(truth)
                specificity = sum(not t and not s for t, s in zip(truth, said, strict=True)) / (len(truth) - sum(truth))
                areas.append((sensitivity + specificity) / 2)
            if any(truth):
                scores.append(binary_f1(truth, said))
        return {
            "score": 100.0 * float(np.mean(areas)) if areas else 0.0,
            "macro_f1": 100.0 * float(np.mean(scores)) if scores else 0.0,
        }

    return metric


def ec_numbers(text: str) -> frozenset[str]:
    return frozenset(EC_NUMBER.findall(text))


def fmax(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Protein-centric maximum of F1. Predictions are sets without confidences, so there is one threshold that matters:
    precision is the mean over proteins with a prediction, recall over all."""
    precisions, recalls = [], []
    for pair in pairs:
        gold = ec_numbers(pair.gold)
        said = frozenset() if pair.prediction is None else ec_numbers(pair.prediction)
        if said:
            precisions.append(len(gold & said) / len(said))
        recalls.append(len(gold & said) / len(gold) if gold else 0.0)
    precision = float(np.mean(precisions)) if precisions else 0.0
    recall = float(np.mean(recalls)) if recalls else 0.0
    total = precision + recall
    return {"score": 200.0 * precision * recall / total if total else 0.0, "precision": precision, "recall": recall}


def mixed(*, unread: float | None) -> Any:
    """siRNA efficiency: half the mean error, half F1 of "below 30" times the error inside that range.

    Args:
        unread: what an unreadable answer is taken for; None lets it err by 100 and predict nothing.
    """

    def metric(pairs: Sequence[Pair]) -> Mapping[str, float]:
        kept = [p for p in pairs if p.prediction is None or abs(p.prediction) <= 1000]
        if not kept:
            return {"score": 0.0}
        golds = np.array([p.gold for p in kept], dtype=float)
        said = np.array([np.nan if p.prediction is None else p.prediction for p in kept], dtype=float)
        if unread is not None:
            said = np.where(np.isnan(said), unread, said)
        errors = np.where(np.isnan(said), 100.0, np.abs(said - golds))
        mae = min(float(errors.mean()), 100.0)
        below = binary_f1((golds < 30).tolist(), (said < 30).tolist())
        inside = (said >= 0) & (said <= 30)
        range_mae = min(float(np.abs(said - golds)[inside].mean()), 100.0) if inside.any() else 100.0
        value = 0.5 * (1 - mae / 100) + 0.5 * below * (1 - range_mae / 100)
        return {
            "score": 100.0 * value * len(kept) / len(pairs),
            "mae": mae,
            "f1_below_30": below,
            "range_mae": range_mae,
        }

    return metric


def same_class_name(gold: str, prediction: str) -> float:
    """Equal names, case apart; positive is yes and negative is no."""
    return float(_class_name(gold) == _class_name(prediction))


def _class_name(text: str) -> str:
    text = text.strip().strip(".").lower()
    return {"positive": "yes", "negative": "no"}.get(text, text)


def name_accuracy(pairs: Sequence[Pair]) -> Mapping[str, float]:
    hits = [0.0 if p.prediction is None else same_class_name(p.gold, p.prediction) for p in pairs]
    return {"score": 100.0 * float(np.mean(hits))}


# -- the tasks ----------------------------------------------------------------------------------------------------------


def overlap(read: Callable[[str], frozenset[str]]) -> Callable[[str, str], float]:
    """F1 of two sets of names."""

    def value(gold: str, prediction: str) -> float:
        wanted, said = read(gold), read(prediction)
        return 2 * len(wanted & said) / (len(wanted) + len(said)) if wanted or said else 1.0

    return value


def _near_keys(gold: Mapping[str, float], prediction: Mapping[str, float]) -> float:
    return float(np.mean([nearness(1.0)(gold[key], prediction[key]) for key in gold]))


def _subtask(name: str, gold: Any, compat: Profile, strict: Profile, *defects: str) -> Subtask:
    return Subtask(
        name=name,
        files=(f"{name}.jsonl", f"{name}-sample_1k.jsonl"),
        fields=FIELDS,
        prompt=prompt,
        gold=gold,
        compat=compat,
        strict=strict,
        defects=defects,
        needs=("eval",),
    )


def _matthews(name: str) -> Subtask:
    return _subtask(
        name,
        gold_class,
        Profile(extract=upstream_class, value=equality, metric=upstream_mcc),
        Profile(extract=strict_class, value=equality, metric=strict_mcc),
        "an unreadable answer counts as the opposite of the gold",
    )


def _number(name: str, measure: Any, strict_measure: Any, *defects: str) -> Subtask:
    return _subtask(
        name,
        gold_number,
        Profile(extract=upstream_number, value=nearness(1.0), metric=correlation(measure)),
        Profile(extract=strict_number, value=nearness(1.0), metric=correlation(strict_measure)),
        "unreadable answers are left out, and the result is multiplied by the share of readable ones",
        *defects,
    )


def _keyed(name: str, measure: Any, strict_measure: Any, *defects: str) -> Subtask:
    return _subtask(
        name,
        gold_dict,
        Profile(extract=upstream_dict, value=_near_keys, metric=per_key(measure)),
        Profile(extract=strict_dict, value=_near_keys, metric=per_key(strict_measure)),
        "unreadable answers are left out, and the result is multiplied by the share of readable ones",
        *defects,
    )


def _named(name: str) -> Subtask:
    return _subtask(
        name,
        gold_text,
        Profile(extract=upstream_text, value=same_class_name, metric=name_accuracy),
        Profile(extract=strict_text, value=same_class_name, metric=name_accuracy),
    )


_R2 = "called R2, is the square of Pearson's correlation: an answer that is always ten times too large is perfect"
SUBTASKS = (
    *map(_matthews, ("DNA-cpd", "DNA-emp", "DNA-pd", "DNA-tf-h", "DNA-tf-m")),
    _keyed("DNA-enhancer_activity", pearson, pearson),
    *map(
        _matthews,
        (
            "Multi_sequence-antibody_antigen",
            "Multi_sequence-promoter_enhancer_interaction",
            "Multi_sequence-rna_protein_interaction",
        ),
    ),
    _subtask(
        "Multi_sequence-sirnaEfficiency",
        gold_number,
        Profile(extract=upstream_number, value=nearness(100.0), metric=mixed(unread=0.0)),
        Profile(extract=strict_number, value=nearness(100.0), metric=mixed(unread=None)),
        "an unreadable answer is 0.0, that is below 30",
    ),
    _number("RNA-CRISPROnTarget", spearman, spearman),
    _number("RNA-Isoform", pearson_squared, determination, _R2),
    _number("RNA-MeanRibosomeLoading", pearson_squared, determination, _R2),
    _subtask(
        "RNA-Modification",
        gold_text,
        Profile(
            extract=upstream_text, value=overlap(classes_of), metric=modification_auc(unread=frozenset(MODIFICATIONS))
        ),
        Profile(extract=strict_text, value=overlap(classes_of), metric=modification_auc(unread=frozenset())),
        "an unreadable answer counts as all 13 classes predicted",
    ),
    _named("RNA-NoncodingRNAFamily"),
    _keyed("RNA-ProgrammableRNASwitches", pearson_squared, determination, _R2),
    _number("Protein-Fluorescence", spearman, spearman),
    _subtask(
        "Protein-FunctionEC",
        gold_text,
        Profile(extract=upstream_text, value=overlap(ec_numbers), metric=fmax),
        Profile(extract=strict_text, value=overlap(ec_numbers), metric=fmax),
        "upstream drops numbers outside a fixed list, of the gold too; the list is not here, so all numbers count",
    ),
    _named("Protein-Solubility"),
    _number("Protein-Stability", spearman, spearman),
    _number("Protein-Thermostability", spearman, spearman),
)


def aggregate(scores: Mapping[str, float]) -> float:
    """Plain mean of the 21."""
    return sum(scores[subtask.name] for subtask in SUBTASKS) / len(SUBTASKS)


BIOLOGY_INSTRUCTIONS = Benchmark(
    name="biology-instructions",
    title="Biology-Instructions",
    subtasks=SUBTASKS,
    aggregate={"compat": aggregate, "strict": aggregate},
    source="the archive biology-instruction-fixed of OpenCompass (one JSONL file per task)",
    licence="none stated: do not pass on",
    published=52.5,
    notes=("names of the modification classes are ours where the record does not spell them",),
)
