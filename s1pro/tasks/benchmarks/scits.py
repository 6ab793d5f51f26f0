"""SciTS (time series of science, 43 tasks) by the rules of the TimeOmni scorer, and as it should be.

Records are lines of the `meta_data.jsonl` of a task folder: `id`, `task_id` (a list), `input_text`, `input_ts` with a
`path`, and `gt_result` with `answer` (a letter), a class by key, or `contain` (true or false) with times; forecasts have
`gt_ts`. Series lie beside the file.

| kind | compat | strict |
|---|---|---|
| classification, choice | a label is predicted if it occurs in the reply as a substring; several may be, and the gold among them is a hit; F1 leaves labels out that were never hit | whole words; exactly one label, else unread; macro F1 over all labels of the gold |
| detection | words of "no" first, as substrings ("no" is in "noise"), then those of "yes"; undecided replies are in the denominator of accuracy and not in F1 | one clear verdict |
| times of events | whole numbers in order of appearance against the gold's fields, relative error, correct positives only | numbers of any form, the same fields |
| forecast, imputation | mean absolute and relative error over points whose gold is not 0 | the same, and a forecast of the wrong length is unread |

All times 100 with two decimals upstream; here without rounding. The licence forbids passing samples on (CC-BY-NC-SA-4.0).

Source: OpenTSLab/TimeOmni `eval_benchmark.py` as described in the specification, section 6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.extract import answer_part, number_in
from s1pro.tasks.benchmarks.metrics import binary_f1, equality, macro_f1
from s1pro.tasks.benchmarks.spec import Benchmark, Pair, Profile, Record, Subtask
from s1pro.tasks.task import Prompt

FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "id": (str, int), "task_id": (list, str), "input_text": str, "input_ts": dict, "gt_result": dict,
}  # fmt: skip
CLASSIFICATION = (
    "ASU03", "BIU01", "BIU02", "BIU03", "NEU02", "NEU05", "NEU06", "PHU01", "PHU06", "MFU01_MFU02", "RAU01", "RAU02",
)  # fmt: skip
CHOICE = ("MEU04", "ECU03")
EVENTS = ("ASU01_ASG02", "EAU01_EAG02")
ANOMALY = ("MEU01", "MEU02", "NEU01", "PHU04", "PHU05", "URU04", "MFU03")
FORECAST = (
    "MEG03", "ECG01", "ECG02", "NEG03", "ENG02", "ENG03", "ENG04", "PHG02", "URG01", "URG02", "URG05", "MAG01", "NEG04",
    "ENG05", "PHG03", "URG03",
)  # fmt: skip
NO_WORDS: Mapping[str, tuple[str, ...]] = {
    "GWOSC GW Event": ("false", "no", "not"), "STEAD": ("false", "no", "not"), "TIMECAP": ("false", "not"),
    "MDD": ("healthy",), "MIMII Due": ("normal",), "TS_MQA": ("normal", "no anomalies"),
}  # fmt: skip
YES_WORDS: Mapping[str, tuple[str, ...]] = {
    "MDD": ("depressive",), "MIMII Due": ("anomaly",), "TS_MQA": ("anomaly", "anomalous"),
}  # fmt: skip


def prompt(record: Record) -> Prompt:
    """The series, then the question."""
    from s1pro.base.records import Message

    path = record["input_ts"].get("path")
    if not isinstance(path, str):
        raise InputError(f"record {record['id']!r}: input_ts.path is {path!r}, expected the name of a file")
    parts = ({"type": "time_series", "time_series": path}, {"type": "text", "text": record["input_text"]})
    return Prompt(messages=(Message(role="user", content=parts),))


# -- classes ------------------------------------------------------------------------------------------------------------


def gold_labels(record: Record) -> dict[str, list[str]]:
    """Labels by key; `answer` is the key of letters, `default` that of a bare class."""
    result = record["gt_result"]
    if "answer" in result:
        return {"answer": [str(result["answer"])]}
    classes = result.get("gt_class")
    if isinstance(classes, str):
        classes = {"default": classes}
    if not isinstance(classes, dict):
        raise InputError(f"record {record['id']!r}: gt_result has neither answer nor gt_class")
    return {key: [str(v) for v in value] if isinstance(value, list) else [str(value)] for key, value in classes.items()}


def whole_reply(response: str, record: Record) -> str:
    return response.lower()


def strict_reply(response: str, record: Record) -> str | None:
    return answer_part(response).lower() or None


def labels_of(pairs: Sequence[Pair], key: str) -> list[str]:
    return sorted({label for pair in pairs for label in pair.gold.get(key, ())})


def substring_labels(text: str, labels: Sequence[str]) -> set[str]:
    return {label for label in labels if label.lower() in text}


def whole_word_label(text: str, labels: Sequence[str]) -> str | None:
    """The only label that stands as a whole word; letters alone in capitals, brackets or as the whole reply."""
    found = set()
    for label in sorted(labels, key=len, reverse=True):
        text, times = re.subn(rf"(?<![\w-]){re.escape(label.lower())}(?![\w-])", " | ", text)
        if times:
            found.add(label)
    return found.pop() if len(found) == 1 else None


def upstream_classes(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Accuracy, unweighted average recall and F1 per key; the score is the F1 of the first key."""
    numbers: dict[str, float] = {}
    for key in sorted({key for pair in pairs for key in pair.gold}):
        labels = labels_of(pairs, key)
        hits, said = [], []
        for pair in pairs:
            found = substring_labels(pair.prediction or "", labels)
            gold = pair.gold.get(key, [])
            said.append(found)
            hits.append(sum(label in found for label in gold) / len(gold) if gold else 0.0)
        recalls, scores = [], []
        for label in labels:
            truth = [label in pair.gold.get(key, ()) for pair in pairs]
            tp = sum(t and label in s for t, s in zip(truth, said, strict=True))
            fn, fp = sum(truth) - tp, sum(not t and label in s for t, s in zip(truth, said, strict=True))
            if tp + fn:
                recalls.append(tp / (tp + fn))
            if tp:  # labels that were never hit are left out of the mean
                precision, recall = tp / (tp + fp), tp / (tp + fn)
                scores.append(2 * precision * recall / (precision + recall))
        suffix = "" if key in ("default", "answer") else f"_{key}"
        numbers |= {
            f"accuracy{suffix}": 100.0 * float(np.mean(hits)),
            f"uar{suffix}": 100.0 * float(np.mean(recalls)) if recalls else 0.0,
            f"f1{suffix}": 100.0 * float(np.mean(scores)) if scores else 0.0,
        }
    first = next(name for name in numbers if name.startswith("f1"))
    return {"score": numbers[first], **numbers}


def strict_classes(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Macro F1 over all labels of the gold, with one label per reply."""
    numbers: dict[str, float] = {}
    for key in sorted({key for pair in pairs for key in pair.gold}):
        labels = labels_of(pairs, key)
        golds = [(pair.gold.get(key) or [""])[0] for pair in pairs]
        said = [whole_word_label(pair.prediction or "", labels) for pair in pairs]
        suffix = "" if key in ("default", "answer") else f"_{key}"
        numbers |= {
            f"accuracy{suffix}": 100.0 * float(np.mean([g == s for g, s in zip(golds, said, strict=True)])),
            f"f1{suffix}": 100.0 * macro_f1(golds, said, labels),
        }
    first = next(name for name in numbers if name.startswith("f1"))
    return {"score": numbers[first], **numbers}


def _has_label(gold: Mapping[str, Sequence[str]], prediction: str) -> float:
    """For rewards: all labels of the gold stand as whole words."""
    labels = [label for some in gold.values() for label in some]
    return float(all(re.search(rf"(?<![\w-]){re.escape(label.lower())}(?![\w-])", prediction) for label in labels))


# -- detection ----------------------------------------------------------------------------------------------------------


def gold_contains(record: Record) -> bool:
    value = record["gt_result"].get("contain")
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise InputError(f"record {record['id']!r}: gt_result.contain is {value!r}, expected true or false")
    return value


def upstream_verdict(response: str, record: Record) -> bool | None:
    """Words of "no" first, by substring."""
    text, dataset = response.lower(), str(record.get("dataset_name", "GWOSC GW Event"))
    if any(word in text for word in NO_WORDS.get(dataset, ("false", "no", "not"))):
        return False
    return True if any(word in text for word in YES_WORDS.get(dataset, ("true", "yes"))) else None


def strict_verdict(response: str, record: Record) -> bool | None:
    """One verdict in whole words; a reply with words of both kinds gives none, "no anomalies" is one word."""
    text, dataset = answer_part(response).lower(), str(record.get("dataset_name", ""))
    no = {*NO_WORDS.get(dataset, ()), "false", "no", "not"} - ({"no", "not"} if dataset in YES_WORDS else set())
    yes = {*YES_WORDS.get(dataset, ()), "true", "yes"}
    found = set()
    for word, verdict in sorted([*((w, False) for w in no), *((w, True) for w in yes)], key=lambda p: -len(p[0])):
        text, times = re.subn(rf"(?<![\w-]){re.escape(word)}(?![\w-])", " | ", text)
        if times:
            found.add(verdict)
    return found.pop() if len(found) == 1 else None


def detection(*, undecided_in_f1: bool) -> Any:
    """Accuracy over all, F1 of the positives, share of decided replies; errors of times beside (`event_times`).

    Args:
        undecided_in_f1: count them as negatives there, instead of leaving them out.
    """

    def metric(pairs: Sequence[Pair]) -> Mapping[str, float]:
        decided = [p for p in pairs if p.prediction is not None]
        used = pairs if undecided_in_f1 else decided
        f1 = binary_f1([p.gold for p in used], [bool(p.prediction) for p in used])
        return {
            "score": 100.0 * f1,
            "accuracy": 100.0 * sum(p.prediction == p.gold for p in pairs) / len(pairs),
            "success_rate": 100.0 * len(decided) / len(pairs),
        }

    return metric


def event_time_errors(record: Record, response: str, *, strict: bool = False) -> list[float]:
    """Relative errors of the numbers of a reply against the numeric fields of the gold, in their order.

    Upstream reads whole numbers only and divides by a gold of 0; here that field is left out.
    """
    golds = [float(v) for k, v in record["gt_result"].items() if k != "contain" and isinstance(v, (int, float))]
    if strict:
        text = answer_part(response)
        found = [number_in(piece) for piece in re.findall(r"[-+]?\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?", text)]
        numbers = [number for number in found if number is not None]
    else:
        numbers = [float(digits) for digits in re.findall(r"\d+", response)]
    return [abs(n - g) / abs(g) for n, g in zip(numbers, golds, strict=False) if g]


# -- numbers ------------------------------------------------------------------------------------------------------------


def gold_series(record: Record) -> list[float]:
    series = record.get("gt_ts", {}).get("values")
    if not isinstance(series, list) or not all(isinstance(v, (int, float)) for v in series):
        raise InputError(
            f"record {record['id']!r}: gt_ts.values is missing; write the numbers of gt_ts.path there when exporting"
        )
    return [float(value) for value in series]


def series_in(response: str, record: Record) -> list[float] | None:
    """All numbers after the reasoning, in order."""
    found = re.findall(r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?", answer_part(response))
    return [float(text) for text in found] or None


def strict_series(response: str, record: Record) -> list[float] | None:
    found = series_in(response, record)
    return found if found is not None and len(found) == len(gold_series(record)) else None


def series_errors(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Mean absolute error over all points of readable replies, and the relative one over points whose gold is not 0."""
    absolute: list[float] = []
    relative: list[float] = []
    for pair in pairs:
        for gold, said in zip(pair.gold, pair.prediction or (), strict=False):
            absolute.append(abs(gold - said))
            if gold:
                relative.append(abs(gold - said) / (abs(gold) + 1e-6))
    success = sum(pair.prediction is not None for pair in pairs) / len(pairs)
    mae = float(np.mean(absolute)) if absolute else float("nan")
    return {
        "score": mae,
        "relative_mae": float(np.mean(relative)) if relative else float("nan"),
        "success_rate": 100.0 * success,
    }


def _near_series(gold: Sequence[float], prediction: Sequence[float]) -> float:
    if not gold or len(gold) != len(prediction):
        return 0.0
    spread = float(np.std(gold)) or 1.0
    return max(0.0, 1.0 - float(np.mean(np.abs(np.subtract(gold, prediction)))) / spread)


# -- the tasks ----------------------------------------------------------------------------------------------------------


def _subtask(name: str, gold: Callable[[Record], Any], compat: Profile, strict: Profile, *defects: str) -> Subtask:
    wanted = frozenset(name.split("_"))

    def keep(record: Record) -> bool:
        ids = record["task_id"] if isinstance(record["task_id"], list) else [record["task_id"]]
        return bool(wanted & {part for id_ in ids for part in str(id_).split("_")})

    return Subtask(
        name=name, files=(f"{name}/meta_data.jsonl", f"{name}.jsonl", "*/meta_data.jsonl"), fields=FIELDS, prompt=prompt,
        gold=gold, compat=compat, strict=strict, keep=keep, defects=defects,
    )  # fmt: skip


def _classes(name: str) -> Subtask:
    return _subtask(
        name,
        gold_labels,
        Profile(extract=whole_reply, value=_has_label, metric=upstream_classes),
        Profile(extract=strict_reply, value=_has_label, metric=strict_classes),
        "labels are looked for as substrings, so a wordy reply contains nearly every letter",
        "labels that were never hit are left out of the mean of F1",
    )


def _detection(name: str) -> Subtask:
    return _subtask(
        name,
        gold_contains,
        Profile(extract=upstream_verdict, value=equality, metric=detection(undecided_in_f1=False)),
        Profile(extract=strict_verdict, value=equality, metric=detection(undecided_in_f1=True)),
        '"no" is looked for as a substring, also in "noise" and "know"; "normal" also in "abnormal"',
        "undecided replies are left out of F1",
    )


def _numbers(name: str) -> Subtask:
    return _subtask(
        name,
        gold_series,
        Profile(extract=series_in, value=_near_series, metric=series_errors),
        Profile(extract=strict_series, value=_near_series, metric=series_errors),
    )


SUBTASKS = (
    *map(_classes, (*CLASSIFICATION, *CHOICE)),
    *map(_detection, (*EVENTS, *ANOMALY)),
    *map(_numbers, FORECAST),
)


def mean_f1(scores: Mapping[str, float]) -> float:
    """Mean over the tasks with F1; errors of forecasts have units and are in no mean."""
    names = [*CLASSIFICATION, *CHOICE, *EVENTS, *ANOMALY]
    return sum(scores[name] for name in names) / len(names)


SCITS = Benchmark(
    name="scits",
    title="SciTS",
    subtasks=SUBTASKS,
    aggregate={"compat": mean_f1, "strict": mean_f1},
    source="OpenTSLab/SciTS on the Hugging Face Hub",
    licence="CC-BY-NC-SA-4.0: do not pass on",
    notes=("ENG01 (synthesis) is listed without a scorer: there is nothing to compare with",),
)
