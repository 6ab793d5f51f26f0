"""SciReasoner: its nine groups as tasks; the formulas are in `scireasoner_groups`.

Data are lists in `{task}/test/data.json` with `input` (the prompt) and `output`; GUE has `meta_data.label`.

* GUE: positive or negative, Matthews correlation; unreadable replies are negative upstream ("all"); strict makes them a
  class of their own
* OPI: EC numbers, fold and location by equal strings; functions by ROUGE-L with stems; terms, keywords, cancer and
  tissue by the mean F1 of sets, split at semicolons and commas
* PEER: yes or no (`scireasoner_words`); upstream's second stage asks a model, and can never count a hit, so it is left
  out
* SmolInstruct in the original scorer's way: `scireasoner_smol`

* Bio_Instruction, Mol_Instructions, LLM4Mat: `scireasoner_biology`, `scireasoner_molecules`, `scireasoner_materials`
* Conditional_Generation, Unconditional_Generation: `scireasoner_generation`

Open questions are compared by BERTScore, if the user has the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks import scireasoner_biology as biology
from s1pro.tasks.benchmarks import scireasoner_generation as generation
from s1pro.tasks.benchmarks import scireasoner_groups as groups
from s1pro.tasks.benchmarks import scireasoner_materials as materials
from s1pro.tasks.benchmarks import scireasoner_molecules as molecules
from s1pro.tasks.benchmarks import scireasoner_smol as smol
from s1pro.tasks.benchmarks import scireasoner_words as words
from s1pro.tasks.benchmarks.biology_metrics import strict_mcc
from s1pro.tasks.benchmarks.extract import final_yes_no
from s1pro.tasks.benchmarks.metrics import accuracy, equality, matthews, mean_of
from s1pro.tasks.benchmarks.spec import Benchmark, Pair, Profile, Record, Subtask, user_prompt
from s1pro.tasks.benchmarks.text_metrics import rouge_l

FIELDS: Mapping[str, type | tuple[type, ...]] = {"input": str, "output": str}
ANY_FIELDS: Mapping[str, type | tuple[type, ...]] = {"input": str, "output": (str, float, int, bool)}
LABEL_FIELDS: Mapping[str, type | tuple[type, ...]] = {"input": str, "label": (str, float, int, dict)}
GUE = (
    "cpd-prom_core_all", "cpd-prom_core_notata", "cpd-prom_core_tata", "pd-prom_300_all", "pd-prom_300_notata",
    "pd-prom_300_tata", "tf-h-0", "tf-h-1", "tf-h-2", "tf-h-3", "tf-h-4",
)  # fmt: skip
OPI: Mapping[str, str] = {
    "EC_number_CLEAN_EC_number_new": "equal", "EC_number_CLEAN_EC_number_price": "equal", "Fold_type_fold_type":
    "equal", "Function_CASPSimilarSeq_function": "text", "Function_IDFilterSeq_function": "text",
    "Function_UniProtSeq_function": "text", "gName2Cancer_gene_name_to_cancer": "set", "GO_CASPSimilarSeq_go": "set",
    "GO_IDFilterSeq_go": "set", "GO_UniProtSeq_go": "set", "gSymbol2Cancer_gene_symbol_to_cancer": "set",
    "gSymbol2Tissue_gene_symbol_to_tissue": "set", "Keywords_CASPSimilarSeq_keywords": "set",
    "Keywords_IDFilterSeq_keywords": "set", "Keywords_UniProtSeq_keywords": "set",
    "Subcellular_localization_subcell_loc": "equal",
}  # fmt: skip
PEER = ("solubility", "stability", "human_ppi", "yeast_ppi")
SMOL = (
    "forward_synthesis", "retrosynthesis", "molecule_captioning", "molecule_generation", "name_conversion-i2f",
    "name_conversion-i2s", "name_conversion-s2f", "name_conversion-s2i", "property_prediction-esol",
    "property_prediction-lipo", "property_prediction-bbbp", "property_prediction-clintox", "property_prediction-hiv",
    "property_prediction-sider", "USPTO_50K",
)  # fmt: skip


def gold_label(record: Record) -> bool:
    label = str((record.get("meta_data") or {}).get("label", record["output"])).strip().lower()
    if label not in ("positive", "negative", "1", "0"):
        raise InputError(f"meta_data.label is {label!r:.60}, expected positive or negative")
    return label in ("positive", "1")


def all_matthews(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Unreadable replies are negative."""
    return {"score": 100.0 * matthews([p.gold for p in pairs], [bool(p.prediction) for p in pairs])}


def same_text(gold: str, prediction: str) -> float:
    return float(gold.strip().lower() == prediction.strip().lower())


def set_f1(gold: str, prediction: str) -> float:
    """Of the parts between semicolons and commas."""
    wanted, said = (
        {part.strip() for part in re.split("[;,\N{FULLWIDTH COMMA}\N{FULLWIDTH SEMICOLON}]", text) if part.strip()}
        for text in (gold, prediction)
    )
    return 2 * len(wanted & said) / (len(wanted) + len(said)) if wanted and said else 0.0


def stemmed_rouge(gold: str, prediction: str) -> float:
    return rouge_l(gold, prediction, stem=True)


def _profiles(kind: str) -> tuple[Profile, Profile]:
    value = {"equal": same_text, "text": stemmed_rouge, "set": set_f1}[kind]
    return (
        Profile(extract=molecules.visible, value=value, metric=mean_of(value)),
        Profile(extract=molecules.answer, value=value, metric=mean_of(value)),
    )


def _subtask(group: str, task: str, profiles: tuple[Profile, Profile], gold: Any, *defects: str) -> Subtask:
    return Subtask(
        name=f"{group}/{task}",
        files=materials.files(task)
        if group == "LLM4Mat"
        else (f"{group}/{task}/test/data.json", f"{task}/test/data.json"),
        fields={"LLM4Mat": ANY_FIELDS, "PEER": ANY_FIELDS, "Bio_Instruction": LABEL_FIELDS}.get(group, FIELDS),
        prompt=lambda record: user_prompt(record["input"] + ("." if group == "PEER" else "")),
        gold=gold,
        compat=profiles[0],
        strict=profiles[1],
        defects=defects,
        keep=materials.keep(task) if group == "LLM4Mat" else lambda record: str(record.get("output")) != "Null",
        weights=task == "open_question",
        slow=task == "open_question",
    )


def _generated(group: str, task: str, *, files: tuple[str, ...] = (), made: tuple[int, str] | None = None) -> Subtask:
    compat, strict = generation.PROFILES[task]
    return Subtask(
        name=f"{group}/{task}", files=files, fields=FIELDS, prompt=lambda record: user_prompt(record["input"]),
        gold=lambda record: "", compat=compat, strict=strict, defects=generation.DEFECTS[task],
        made=made,
    )  # fmt: skip


_GUE = (
    Profile(extract=words.gue_label, value=equality, metric=all_matthews),
    Profile(extract=words.strict_gue_label, value=equality, metric=strict_mcc),
)
_PEER = (
    Profile(extract=words.peer_answer, value=equality, metric=accuracy()),
    Profile(extract=lambda response, record: final_yes_no(response), value=equality, metric=accuracy()),
)
_STABILITY = (
    Profile(extract=words.peer_stability, value=equality, metric=accuracy()),
    Profile(extract=words.strict_stability, value=equality, metric=accuracy()),
)
_BIO_DEFECTS = (
    "replies with more numbers than asked for are unreadable; a word of 'no' anywhere makes a class negative",
)
_MOL_DEFECTS: Mapping[str, tuple[str, ...]] = {
    "protein_design": ("the best protein of the whole set is the score", "without the tag there is no protein"),
    **dict.fromkeys(
        molecules.ORDER[7:11],
        ("replies without a molecule in the SMILES tag are left out of the share", "stereochemistry is forgotten"),
    ),
    "property_prediction_str": ("the first number counts, the sign of a whole one is lost, and no number is 0",),
    "molecular_description_generation": ("what follows the last full stop is cut off",),
    "true_or_false_question": ("'no' anywhere, also in 'know', is a no",),
    "multi_choice_question": ("an A in brackets or between blanks wins over the other letters",),
    "chemical_protein_interaction_extraction": ("its F1 is never added to the group",),
}
SUBTASKS = (
    *(_subtask("Bio_Instruction", task, *biology.profiles(task), *_BIO_DEFECTS) for task in biology.ORDER),
    *(
        _subtask("GUE", task, _GUE, gold_label, "unreadable is negative", "'no' or 'not' anywhere is a no")
        for task in GUE
    ),
    *(
        _subtask("OPI", task, _profiles(kind), molecules.gold_text, "the whole reply is the answer")
        for task, kind in OPI.items()
    ),
    *(
        _subtask("PEER", task, _STABILITY, words.gold_yes, "the first number counts: above 1 is a yes")
        if task == "stability"
        else _subtask("PEER", task, _PEER, words.gold_yes, "'incorrect' holds 'correct' and is a yes, 'know' is a no")
        for task in PEER
    ),
    *(_subtask("SmolInstruct", task, *smol.profiles(task), smol.DEFECT) for task in SMOL),
    *(
        _subtask("Mol_Instructions", task, *molecules.profiles(task), *_MOL_DEFECTS.get(task, ()))
        for task in molecules.ORDER
    ),
    *(
        _subtask(
            "LLM4Mat",
            task,
            *materials.profiles(task),
            "unreadable replies are left out",
            *(("a ratio without a bound, and 0 for perfection",) if task in materials.NUMBERS else ()),
        )
        for task in materials.ORDER
    ),
)
SUBTASKS = (
    *SUBTASKS,
    *(_generated("Conditional_Generation", task, files=files) for task, files in generation.CONDITIONAL.items()),
    *(_generated("Unconditional_Generation", task, made=made) for task, made in generation.UNCONDITIONAL.items()),
)
ORDER: Mapping[str, tuple[str, ...]] = {
    "Bio_Instruction": biology.ORDER, "GUE": GUE, "OPI": tuple(OPI), "PEER": PEER, "SmolInstruct": SMOL,
    "Mol_Instructions": molecules.ORDER,
    "LLM4Mat": materials.ORDER,
    "Conditional_Generation": tuple(generation.CONDITIONAL),
    "Unconditional_Generation": tuple(generation.UNCONDITIONAL),
}  # fmt: skip
"""Tasks of the groups, in the order of the formulas."""


def group_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """The numbers of the nine groups."""
    return {
        group: groups.GROUPS[group][1]([scores.get(f"{group}/{task}") for task in tasks])
        for group, tasks in ORDER.items()
    }


def aggregate(scores: Mapping[str, float]) -> float:
    """Mean of the groups."""
    return groups.overall(group_scores(scores))


SCIREASONER = Benchmark(
    name="scireasoner",
    title="SciReasoner",
    subtasks=SUBTASKS,
    aggregate={"compat": aggregate, "strict": aggregate},
    source="SciReasoner data of OpenCompass (open-sciencelab/SciReason)",
    licence="not verified",
    published=55.5,
    notes=(
        "how the published number is formed is not known; the mean of the nine groups here is a guess",
        "Mol_Instructions/open_question needs the weights for BERTScore (--bert-score FOLDER); without them it is not "
        "computed, and 0 in its group, as upstream counts what is missing",
        "generation without a condition has one prompt and no data: give a temperature; materials need smact and RNA "
        "ViennaRNA (the extra 'generation')",
    ),
)
