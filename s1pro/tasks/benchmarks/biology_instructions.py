"""Biology-Instructions (21 tasks), as the paper's harness scores it, and as it should be.

Records come in one JSONL file per task: `prompt`, `ground_truth` and `meta_data` with `ans_type` (`cls`, `number`,
`dict`, `string`) and `task`. A system message names the biologist; behind the prompt stands how to answer: yes or no,
a number, a JSON object with given keys, or names, each in `\\boxed{}`.

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

Values are times 100; the mean of 21 may come out negative. Undefined values are 0 here, where upstream gives NaN, inf
or an exception.

Source: OpenCompass `datasets/biodata.py` as described in the specification, section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.biology_metrics import (
    MODIFICATIONS,
    classes_of,
    determination,
    ec_numbers,
    fmax,
    listed_classes,
    mixed,
    modification_auc,
    overlap,
    pearson_squared,
    per_key,
    same_class_name,
    strict_mcc,
    upstream_fmax,
    upstream_mcc,
    upstream_same_name,
)
from s1pro.tasks.benchmarks.biology_reading import (
    gold_class,
    gold_dict,
    gold_number,
    gold_text,
    last_box,
    strict_class,
    strict_dict,
    strict_number,
    strict_text,
    upstream_class,
    upstream_dict,
    upstream_number,
)
from s1pro.tasks.benchmarks.metrics import correlation, equality, mean_of, pearson, spearman
from s1pro.tasks.benchmarks.smolinstruct import nearness
from s1pro.tasks.benchmarks.spec import Benchmark, Profile, Record, Subtask, user_prompt
from s1pro.tasks.task import Prompt

FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "prompt": str,
    "ground_truth": (str, float, int, dict),
    "meta_data": dict,
}
SYSTEM = "You are an expert in biology who reads sequences and answers questions about them."
FAMILIES = (
    "leader", "tRNA", "5_8S_rRNA", "ribozyme", "CD-box", "Intron_gpII", "IRES", "5S_rRNA", "scaRNA", "miRNA",
    "riboswitch", "Intron_gpI", "HACA-box",
)  # fmt: skip
HINTS: Mapping[str, str] = {
    "cls": "Answer yes or no in \\boxed{}.",
    "number": "Give the number in \\boxed{}.",
    "Function EC": "Give the EC numbers in \\boxed{} as ECx.x.x.x, separated by commas.",
    "Non-coding RNA Function Classification": f"Choose one of {', '.join(FAMILIES)} and give it in \\boxed{{}}.",
    "Modification Prediction": (
        f"Choose from {', '.join(MODIFICATIONS)} and give what you chose in \\boxed{{}}, separated by commas."
    ),
}
"""By type of answer, or by `meta_data.task` where it is a string."""


def prompt(record: Record) -> Prompt:
    meta = record["meta_data"]
    kind = meta.get("ans_type")
    if kind == "dict":
        keys = ", ".join(f'"{key}": xx' for key in record["ground_truth"])
        return user_prompt(f"{record['prompt']}Give a JSON object in \\boxed{{}}: {{{keys}}}", system=SYSTEM)
    if kind not in ("cls", "number", "string"):
        raise InputError(f"meta_data.ans_type is {kind!r}, expected cls, number, dict or string")
    hint = HINTS.get(meta.get("task", "") if kind == "string" else kind)
    if hint is None:
        raise InputError(f"meta_data.task is {meta.get('task')!r}, expected one of {', '.join([*HINTS][2:])}")
    return user_prompt(f"{record['prompt']}\n{hint}", system=SYSTEM)


def _text(response: str, record: Record) -> str | None:
    return last_box(response)


def _near_keys(gold: Mapping[str, float], prediction: Mapping[str, float | None]) -> float:
    near = nearness(1.0)
    values = [(gold[key], prediction[key]) for key in gold]
    return float(np.mean([0.0 if said is None else near(right, said) for right, said in values]))


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
        Profile(extract=_text, value=upstream_same_name, metric=mean_of(upstream_same_name, scale=100.0)),
        Profile(extract=strict_text, value=same_class_name, metric=mean_of(same_class_name, scale=100.0)),
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
            extract=_text,
            value=overlap(listed_classes),
            metric=modification_auc(listed_classes, unread=frozenset(MODIFICATIONS)),
        ),
        Profile(
            extract=strict_text, value=overlap(classes_of), metric=modification_auc(classes_of, unread=frozenset())
        ),
        "an unreadable answer counts as all 13 classes predicted",
    ),
    _named("RNA-NoncodingRNAFamily"),
    _keyed("RNA-ProgrammableRNASwitches", pearson_squared, determination, _R2),
    _number("Protein-Fluorescence", spearman, spearman),
    _subtask(
        "Protein-FunctionEC",
        gold_text,
        Profile(extract=_text, value=overlap(ec_numbers), metric=upstream_fmax),
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
)
