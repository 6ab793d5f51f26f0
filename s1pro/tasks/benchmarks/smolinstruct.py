"""SmolInstruct (SMolInstruct, 14 tasks), as the paper's harness scores it, and as it should be.

Records are those of the Hub data set, exported once to JSONL or Parquet: `input` and `output` with core tags,
`raw_input`, `raw_output`, `task`, `sample_id`. The question is one user message: what the task is and in which form to
answer, then `Question:` and `Answer:`. The wording is ours; what it asks for is upstream's.

compat and strict, by task:

* I2F, S2F: atoms per element equal, no brackets in formulas; strict reads brackets and charges
* I2S, S2I: strings equal; strict takes the same molecule (InChI) for I2S, and for S2I equal names without case and
  white space, parts in any order
* ESOL, Lipo: "RMSE" is the mean of absolute errors, unreadable is 0.0 (a good guess); strict is the root of the mean
  square, and unreadable errs at worst
* BBBP, ClinTox, HIV, SIDER: accuracy by a list of patterns, "no" at either end of a text counts; strict wants one clear
  yes or no
* captions: METEOR on words split at blanks, in both
* generation, synthesis: Tanimoto of Morgan 2/2048 over all, invalid 0, any text after a blank is a name; strict takes
  strings without blanks

Source: OpenCompass `datasets/smolinstruct.py` as described in the specification, section 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.extract import (
    after_think,
    answer_part,
    final_number,
    final_yes_no,
    number_in,
    tagged,
    upstream_numbers,
    upstream_visible,
)
from s1pro.tasks.benchmarks.formulas import (
    formula_counts,
    strict_formula_match,
    upstream_element_counts,
    upstream_formula_match,
)
from s1pro.tasks.benchmarks.metrics import accuracy, equality, errors_with_penalty, mean_of, upstream_mae
from s1pro.tasks.benchmarks.molecules import (
    same_molecules,
    strict_molecule,
    tanimoto,
    upstream_molecule,
)
from s1pro.tasks.benchmarks.spec import Benchmark, Pair, Profile, Record, Subtask, user_prompt
from s1pro.tasks.benchmarks.text_metrics import meteor
from s1pro.tasks.task import Prompt

CORE_TAGS = ("MOLFORMULA", "SMILES", "IUPAC")
FIELDS: Mapping[str, type | tuple[type, ...]] = {"input": str, "output": str, "task": str}
_LEAD_INS = (
    "reactants and reagents are:\n```\n",
    "reactants and reagents:\n```\n",
    "Reactants and Reagents:**\n```\n",
    "Reactants and Reagents SMILES:**\n```\n",
    "Reactants and Reagents:**  \n`",
)
"""Where upstream looks for an untagged answer: what follows, up to the end of the line."""
_QUOTE = "'\"\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT DOUBLE QUOTATION MARK}"
_YES_NO = (
    r"\\boxed\{\s*(yes|no)\s*\}",
    rf"the\s+answer\s+is\s*[.:\-{_QUOTE}]*\s*(yes|no)",
    r"answer:\s*(yes|no)\b",
    r"\*\*answer:\*\*\s*(yes|no)\b",
    r"\*\*answer\*\*:\s*(yes|no)\b",
    r"<boolean>\s*(yes|no)\s*</boolean>",
    r"^\s*(yes|no)[.?!]?\s*$",
    r"<\|begin_of_box\|>\s*(yes|no)\s*<\|end_of_box\|>",
)
ASKED: Mapping[str, tuple[str, str]] = {
    "forward_synthesis": ("predict the product of a reaction", "Give the product in <SMILES> and </SMILES> tags."),
    "retrosynthesis": (
        "propose what a molecule can be made from",
        'Give all reactants and reagents in one pair of <SMILES> and </SMILES> tags, separated by ".".',
    ),
    "molecule_captioning": ("describe a molecule", "Answer in plain sentences."),
    "molecule_generation": ("find a molecule for a description", "Give it in <SMILES> and </SMILES> tags."),
    "name_conversion-i2f": ("turn an IUPAC name into a formula", "Give it in <MOLFORMULA> and </MOLFORMULA> tags."),
    "name_conversion-i2s": ("turn an IUPAC name into a SMILES", "Give it in <SMILES> and </SMILES> tags."),
    "name_conversion-s2f": ("turn a SMILES into a formula", "Give it in <MOLFORMULA> and </MOLFORMULA> tags."),
    "name_conversion-s2i": ("turn a SMILES into an IUPAC name", "Give it in <IUPAC> and </IUPAC> tags."),
    "property_prediction-esol": ("estimate the solubility in water", "Give the number in \\boxed{}."),
    "property_prediction-lipo": ("estimate the partition between octanol and water", "Give the number in \\boxed{}."),
    "property_prediction-bbbp": ("judge whether a molecule enters the brain", "Answer Yes or No, nothing else."),
    "property_prediction-clintox": ("judge whether a molecule is toxic", "Answer Yes or No, nothing else."),
    "property_prediction-hiv": ("judge whether a molecule inhibits HIV", "Answer Yes or No, nothing else."),
    "property_prediction-sider": ("judge whether a drug has a side effect", "Answer Yes or No, nothing else."),
}


def prompt_of(task: str) -> Callable[[Record], Prompt]:
    aim, form = ASKED[task]

    def prompt(record: Record) -> Prompt:
        return user_prompt(f"You are a chemist. Your task is to {aim}. {form}\nQuestion: {record['input']}\nAnswer: ")

    return prompt


def upstream_tag(response: str, record: Record) -> str:
    """Content of the last core tag; without one the line behind the first lead-in that occurs, else the whole text."""
    text = upstream_visible(response)
    found = tagged(text, CORE_TAGS)
    if found:
        return found[-1][1]
    for lead_in in _LEAD_INS:
        if lead_in in text:
            return text.split(lead_in)[-1].split("\n")[0]
    return text


def strict_tag(response: str, record: Record) -> str | None:
    """Content of the last core tag after the reasoning; without one the text, if it is a single word."""
    text = answer_part(response)
    found = tagged(text, CORE_TAGS, ignore_case=True)
    if found:
        return found[-1][1] or None
    return text.strip("`. ") if text and not re.search(r"\s", text) else None


def upstream_number(response: str, record: Record) -> float | None:
    """The first number in a tag or box."""
    found = upstream_numbers(upstream_visible(response))
    return found[0] if found else None


def upstream_boolean(response: str, record: Record) -> bool | None:
    """Patterns in order; at last the ends of the text, where "note" begins with no."""
    text = after_think(upstream_visible(response)).strip().lower()
    if text in ("yes", "no"):
        return text == "yes"
    for pattern in _YES_NO:
        match = re.search(pattern, text)
        if match:
            return match[1] == "yes"
    for word in ("yes", "no"):
        if text.startswith(word) or text.endswith(word):
            return word == "yes"
    return None


def strict_number(response: str, record: Record) -> float | None:
    return final_number(response)


def strict_boolean(response: str, record: Record) -> bool | None:
    return final_yes_no(response)


def gold_tag(record: Record) -> str:
    found = tagged(str(record["output"]), (*CORE_TAGS, "NUMBER", "BOOLEAN"))
    return found[-1][1] if found else str(record["output"]).strip()


def gold_number(record: Record) -> float:
    number = number_in(gold_tag(record))
    if number is None:
        raise InputError(f"the field 'output' is {record['output']!r:.60}, expected a number in a NUMBER tag")
    return number


def gold_boolean(record: Record) -> bool:
    text = gold_tag(record).lower()
    if text not in ("yes", "no"):
        raise InputError(f"the field 'output' is {record['output']!r:.60}, expected Yes or No in a BOOLEAN tag")
    return text == "yes"


def upstream_tanimoto(gold: str, prediction: str) -> float:
    a, b = upstream_molecule(gold), upstream_molecule(prediction)
    return 0.0 if a is None or b is None else tanimoto(a, b)


def strict_tanimoto(gold: str, prediction: str) -> float:
    a, b = strict_molecule(gold), strict_molecule(prediction)
    return 0.0 if a is None or b is None else tanimoto(a, b)


def same_name(gold: str, prediction: str) -> float:
    """Parts of a name in any order, case and white space apart."""
    return float(_name_parts(gold) == _name_parts(prediction))


def _name_parts(name: str) -> list[str]:
    return sorted(re.sub(r"\s", "", part).lower() for part in name.split(";"))


def words_meteor(gold: str, prediction: str) -> float:
    return meteor(gold.split(), prediction.split())


def _with_validity(value: Callable[[Any, Any], float], is_valid: Callable[[Any], bool]) -> Any:
    """Mean of 100 times a value, and the share of predictions that are of the right kind."""
    mean = mean_of(value, scale=100.0)

    def metric(pairs: Sequence[Pair]) -> Mapping[str, float]:
        valid = sum(p.prediction is not None and is_valid(p.prediction) for p in pairs) / len(pairs)
        return {**mean(pairs), "valid_score": 100.0 * valid}

    return metric


def _profile(extract: Any, value: Any, metric: Any = None) -> Profile:
    return Profile(extract=extract, value=value, metric=metric or mean_of(value, scale=100.0))


FORMULA = (
    _profile(
        upstream_tag,
        upstream_formula_match,
        _with_validity(upstream_formula_match, lambda p: not p or upstream_element_counts(p) is not None),
    ),
    _profile(
        strict_tag,
        strict_formula_match,
        _with_validity(strict_formula_match, lambda p: formula_counts(p) is not None),
    ),
)
SIMILAR = (
    _profile(
        upstream_tag, upstream_tanimoto, _with_validity(upstream_tanimoto, lambda p: upstream_molecule(p) is not None)
    ),
    _profile(strict_tag, strict_tanimoto, _with_validity(strict_tanimoto, lambda p: strict_molecule(p) is not None)),
)
BOOLEAN = (_profile(upstream_boolean, equality, accuracy()), _profile(strict_boolean, equality, accuracy()))


def nearness(scale: float) -> Callable[[float, float], float]:
    """1 for the gold, 0 at a distance of `scale`."""
    return lambda gold, prediction: max(0.0, 1.0 - abs(gold - prediction) / scale)


def _regression(scale: float) -> tuple[Profile, Profile]:
    return (
        Profile(extract=upstream_number, value=nearness(scale), metric=upstream_mae()),
        Profile(extract=strict_number, value=nearness(scale), metric=errors_with_penalty(root=True)),
    )


def _subtask(task: str, profiles: tuple[Profile, Profile], gold: Any, *defects: str) -> Subtask:
    short = task.replace("name_conversion-", "").replace("property_prediction-", "")
    return Subtask(
        name=short,
        files=(f"{task}.jsonl", f"{task}.parquet", "test.jsonl", "test.parquet", "*test*.jsonl"),
        fields=FIELDS,
        prompt=prompt_of(task),
        gold=gold,
        compat=profiles[0],
        strict=profiles[1],
        keep=lambda record: record["task"] == task,
        defects=defects,
    )


_BRACKETS = "formulas with brackets count as invalid"
_IODINE = "text after the first blank is taken for the name of a molecule: 'I cannot tell' is iodine, and valid"
_MAE = "called RMSE, is the mean absolute error; an unreadable answer is taken for 0.0"
SUBTASKS = (
    _subtask("forward_synthesis", SIMILAR, gold_tag, _IODINE),
    _subtask("retrosynthesis", SIMILAR, gold_tag, _IODINE),
    _subtask(
        "molecule_captioning",
        (
            Profile(extract=lambda r, _: upstream_visible(r), value=words_meteor, metric=mean_of(words_meteor)),
            Profile(extract=lambda r, _: answer_part(r) or None, value=words_meteor, metric=mean_of(words_meteor)),
        ),
        gold_tag,
        "METEOR without synonyms here: not above the published numbers",
    ),
    _subtask("molecule_generation", SIMILAR, gold_tag, _IODINE),
    _subtask("name_conversion-i2f", FORMULA, gold_tag, _BRACKETS),
    _subtask(
        "name_conversion-i2s",
        (_profile(upstream_tag, equality), _profile(strict_tag, same_molecules)),
        gold_tag,
        "strings are compared: OCC is not CCO",
    ),
    _subtask("name_conversion-s2f", FORMULA, gold_tag, _BRACKETS),
    _subtask(
        "name_conversion-s2i",
        (_profile(upstream_tag, equality), _profile(strict_tag, same_name)),
        gold_tag,
    ),
    _subtask("property_prediction-esol", _regression(2.0), gold_number, _MAE),
    _subtask("property_prediction-lipo", _regression(1.2), gold_number, _MAE),
    *(
        _subtask(
            f"property_prediction-{name}",
            BOOLEAN,
            gold_boolean,
            "a text that begins or ends with the letters 'no' is a No",
        )
        for name in ("bbbp", "clintox", "hiv", "sider")
    ),
)


def aggregate(scores: Mapping[str, float]) -> float:
    """Mean of the 14: METEOR times 100, errors turned into points below a limit."""
    points = {
        **scores,
        "molecule_captioning": 100.0 * scores["molecule_captioning"],
        "esol": 100.0 * max((2.0 - scores["esol"]) / 2.0, 0.0),
        "lipo": 100.0 * max((1.2 - scores["lipo"]) / 1.2, 0.0),
    }
    return sum(points[subtask.name] for subtask in SUBTASKS) / len(SUBTASKS)


SMOLINSTRUCT = Benchmark(
    name="smolinstruct",
    title="SmolInstruct",
    subtasks=SUBTASKS,
    aggregate={"compat": aggregate, "strict": aggregate},
    source="osunlp/SMolInstruct on the Hugging Face Hub, exported to JSONL or Parquet",
    licence="CC-BY-4.0",
    published=74.8,
)
