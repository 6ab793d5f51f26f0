"""SciTS (time series of science, 43 tasks) by the rules of the TimeOmni scorer, and as it should be.

Records are lines of the `meta_data.jsonl` of a task folder: `id`, `task_id` (a list), `input_text`, `input_ts` with a
`path`, and `gt_result` with `answer` (a letter), a class by key, or `contain` (true or false) with times; forecasts
have `gt_ts` with a `path`. Series lie beside the file: csv (the letter X is a missing value), npy.

* classification, choice: compat predicts every label that occurs in the reply as a substring, the gold among them is a
  hit, and F1 leaves labels out that were never hit; strict reads whole words, wants exactly one label (the letter that
  a reply chose), and takes the macro F1 over all labels of the gold
* detection: compat looks for words of "no" first, as substrings ("no" is in "noise"), then for those of "yes" if the
  data set has any, else it is a yes; undecided replies are in the denominator of accuracy and not in F1; strict wants
  one clear verdict
* times of events: whole numbers in order of appearance against the gold's fields, relative error, right positives only;
  strict reads numbers of any form
* forecast, imputation, synthesis: mean absolute and relative error; points without an answer err at worst, in both;
  strict does not read a reply of the wrong length. Synthesis (ENG01) makes a series of a description: records may
  have no `input_ts`

All times 100 with two decimals upstream; here without rounding. The licence forbids passing samples on
(CC-BY-NC-SA-4.0).

Source: OpenTSLab/TimeOmni `eval_benchmark.py` as described in the specification, section 6.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.base.records import Message
from s1pro.tasks.benchmarks.choices import LETTERS, strict_choice
from s1pro.tasks.benchmarks.extract import answer_part, number_in, upstream_visible
from s1pro.tasks.benchmarks.scits_metrics import (
    detection,
    has_all_labels,
    near_series,
    right_verdict,
    series_errors,
    strict_classes,
    upstream_classes,
)
from s1pro.tasks.benchmarks.spec import Benchmark, Profile, Record, Subtask, user_prompt
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
SYNTHESIS = ("ENG01",)
NO_WORDS: Mapping[str, tuple[str, ...]] = {
    "GWOSC GW Event": ("no", "not"), "STEAD": ("no", "not"), "TIMECAP": ("not",), "MDD": ("healthy",),
    "MIMII Due": ("normal",), "TS_MQA": ("normal", "no anomalies"),
}  # fmt: skip
YES_WORDS: Mapping[str, tuple[str, ...]] = {
    "MDD": ("depressive",), "MIMII Due": ("anomaly",), "TS_MQA": ("anomaly", "anomalous"),
}  # fmt: skip
"""Data sets that are not here say yes with whatever does not say no."""
MAX_POINTS = 240_000


def prompt(record: Record) -> Prompt:
    """The series, then the question."""
    path = (record["input_ts"] or {}).get("path")
    if path is None and SYNTHESIS[0] in str(record["task_id"]):
        return user_prompt(record["input_text"])
    if not isinstance(path, str):
        raise InputError(f"input_ts.path is {path!r}, expected the name of a file")
    parts = (
        {"type": "time_series", "time_series": str(_beside(record, path))},
        {"type": "text", "text": record["input_text"]},
    )
    return Prompt(messages=(Message(role="user", content=parts),))


def _beside(record: Record, path: str) -> Path:
    return Path(record.get("_folder", "")) / path


def gold_labels(record: Record) -> dict[str, list[str]]:
    """Labels by key; `answer` is the key of letters, `default` that of a bare class."""
    result = record["gt_result"]
    if "answer" in result:
        return {"answer": [str(result["answer"])]}
    classes = result.get("gt_class")
    if isinstance(classes, str):
        classes = {"default": classes}
    if not isinstance(classes, dict) or not classes:
        raise InputError("gt_result has neither answer nor gt_class")
    return {key: [str(v) for v in value] if isinstance(value, list) else [str(value)] for key, value in classes.items()}


def whole_reply(response: str, record: Record) -> str:
    return upstream_visible(response)


def strict_reply(response: str, record: Record) -> str | None:
    return answer_part(response) or None


def strict_letter(response: str, record: Record) -> str | None:
    return strict_choice(response, dict.fromkeys(LETTERS, "\0"))


def gold_event(record: Record) -> dict[str, Any]:
    """Whether there is one, and the numeric fields beside it in their order."""
    result = record["gt_result"]
    value = result.get("contain")
    if isinstance(value, str) and value.lower() in ("true", "false"):
        value = value.lower() == "true"
    if not isinstance(value, bool):
        raise InputError(f"gt_result.contain is {value!r}, expected true or false")
    times = [float(v) for k, v in result.items() if k != "contain" and isinstance(v, (int, float))]
    return {"contain": value, "times": times}


def dataset_of(record: Record) -> str:
    """Name of the data set, which decides the words of a verdict."""
    named = record.get("dataset_name") or record.get("meta_data", {}).get("dataset_name")
    return str(named or "GWOSC GW Event")


def upstream_verdict(response: str, record: Record) -> dict[str, Any] | None:
    """Words of "no" first, by substring; whole numbers are the times."""
    visible = upstream_visible(response)
    text, dataset = visible.lower(), dataset_of(record)
    times = [min(float(digits), 1e100) for digits in re.findall(r"\d+", visible)]
    if any(word in text for word in NO_WORDS.get(dataset, ("no", "not"))):
        return {"contain": False, "times": times}
    words = YES_WORDS.get(dataset)
    return {"contain": True, "times": times} if words is None or any(word in text for word in words) else None


def strict_verdict(response: str, record: Record) -> dict[str, Any] | None:
    """One verdict in whole words; a reply with words of both kinds gives none, "no anomalies" is one word."""
    text, dataset = answer_part(response).lower(), dataset_of(record)
    no = {*NO_WORDS.get(dataset, ()), "false", "no", "not"}
    yes = {*YES_WORDS.get(dataset, ()), "true", "yes"}
    found = set()
    rest = text
    for word, verdict in sorted([*((w, False) for w in no), *((w, True) for w in yes)], key=lambda p: -len(p[0])):
        rest, times = re.subn(rf"(?<![\w-]){re.escape(word)}(?![\w-])", " | ", rest)
        if times:
            found.add(verdict)
    return {"contain": found.pop(), "times": _numbers_in(text)} if len(found) == 1 else None


def _numbers_in(text: str) -> list[float]:
    pieces = re.findall(r"(?<![\w.])[-+]?\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?", text)
    numbers = [number_in(piece.rstrip(",")) for piece in pieces]
    return [number for number in numbers if number is not None]


def gold_series(record: Record) -> list[float | None]:
    """Numbers of `gt_ts.path`, or `gt_ts.values` if an export has them in place; None for missing ones."""
    series = record.get("gt_ts") or {}
    values = series.get("values")
    if values is None:
        if not isinstance(series.get("path"), str):
            raise InputError("gt_ts.path is missing, expected the name of a file with the numbers")
        values = _read_series(_beside(record, series["path"]))
    try:
        numbers = [None if value is None or value == "X" else float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise InputError(f"gt_ts holds something that is no number ({error})") from error
    known = [number if number is not None and math.isfinite(number) else None for number in numbers]
    if all(number is None for number in known):
        raise InputError("gt_ts holds no numbers")
    return known[:MAX_POINTS]


def _read_series(path: Path) -> list[Any]:
    try:
        if path.suffix == ".npy":
            return [float(value) for value in np.load(path, allow_pickle=False).ravel()]
        with path.open(encoding="utf-8", newline="") as file:
            return [cell.strip() for row in csv.reader(file) for cell in row if cell.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a series, csv or npy ({error})") from error


def series_in(response: str, record: Record) -> list[float] | None:
    """All numbers after the reasoning, in order."""
    return _numbers_in(answer_part(response)) or None


def strict_series(response: str, record: Record) -> list[float] | None:
    found = series_in(response, record)
    return found if found is not None and len(found) == len(gold_series(record)) else None


def _with_series(record: Record) -> Record:
    return {"input_ts": None, "gt_result": None, **record}


def _subtask(name: str, gold: Callable[[Record], Any], compat: Profile, strict: Profile, *defects: str) -> Subtask:
    wanted = frozenset(name.split("_"))

    def keep(record: Record) -> bool:
        ids = record["task_id"] if isinstance(record["task_id"], list) else [record["task_id"]]
        return bool(wanted & {part for id_ in ids for part in str(id_).split("_")})

    return Subtask(
        name=name,
        files=(f"{name}/meta_data.jsonl", f"{name}.jsonl", "*/meta_data.jsonl"),
        fields=FIELDS,
        prompt=prompt,
        gold=gold,
        compat=compat,
        strict=strict,
        keep=keep,
        defects=defects,
    )


def _classes(name: str) -> Subtask:
    read = strict_letter if name in CHOICE else strict_reply
    return _subtask(
        name,
        gold_labels,
        Profile(extract=whole_reply, value=has_all_labels, metric=upstream_classes),
        Profile(extract=read, value=has_all_labels, metric=strict_classes),
        "labels are looked for as substrings, so a wordy reply contains nearly every letter",
        "labels that were never hit are left out of the mean of F1",
    )


def _detection(name: str) -> Subtask:
    return _subtask(
        name,
        gold_event,
        Profile(extract=upstream_verdict, value=right_verdict, metric=detection(undecided_in_f1=False)),
        Profile(extract=strict_verdict, value=right_verdict, metric=detection(undecided_in_f1=True)),
        '"no" is looked for as a substring, also in "noise" and "know"; "normal" also in "abnormal"',
        "undecided replies are left out of F1",
    )


def _numbers(name: str) -> Subtask:
    found = _subtask(
        name,
        gold_series,
        Profile(extract=series_in, value=near_series, metric=series_errors),
        Profile(extract=strict_series, value=near_series, metric=series_errors),
        "the error of one reply is in units of its series, the mean mixes them",
        *(("the error against one of many series that fit the description",) if name in SYNTHESIS else ()),
    )
    if name not in SYNTHESIS:
        return found
    fields = {field: FIELDS[field] for field in ("id", "task_id", "input_text")} | {"gt_ts": dict}
    return replace(found, fields=fields, prepare=_with_series)


SUBTASKS = (
    *map(_classes, (*CLASSIFICATION, *CHOICE)),
    *map(_detection, (*EVENTS, *ANOMALY)),
    *map(_numbers, (*FORECAST, *SYNTHESIS)),
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
    notes=("upstream's scorer has no forecasts, imputation and synthesis: their errors are those of its training",),
)
