"""The Mol_Instructions group of SciReasoner: molecules, proteins, biomedical texts; 16 of its 17 tasks.

Open questions are compared by BERTScore, which needs the weights of a language model; without them they are not
computed, and a group counts them 0, as upstream would.

* molecules: equal as InChI. compat reads the first `<SMILES>` tag, forgets stereochemistry on both sides, and divides
  by the replies that hold a molecule, so silence costs nothing; strict reads SELFIES and SMILES, and divides by all
* property: mean absolute error times 1000; compat takes the first number and loses the sign of a whole one
* descriptions: ROUGE-L; compat cuts what follows the last full stop
* proteins: ROUGE-L times 100; design: Smith-Waterman (BLOSUM45, gaps -10 and -0.5) divided by the root of both scores
  with themselves, times 100. The group takes the *maximum* over the test set, so one lucky protein is the score; strict
  takes the mean. compat wants the tag and capital letters
* relations: F1 of the groups in brackets; entities: F1 of the items between ", "
* choices: the first of A, B, C, D that occurs as "(X", "X)" or " X ", else the whole reply; yes or no: "yes" anywhere,
  else "no" anywhere
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from s1pro.base.errors import InputError, MissingExtraError
from s1pro.tasks.benchmarks.choices import strict_choice
from s1pro.tasks.benchmarks.extract import LARGEST, answer_part, final_number, number_in, tagged, upstream_visible
from s1pro.tasks.benchmarks.metrics import equality, errors_with_penalty, mean_of, upstream_mae
from s1pro.tasks.benchmarks.molecules import flat_inchi, flat_smiles, same_molecules, selfies_to_smiles
from s1pro.tasks.benchmarks.smolinstruct import nearness
from s1pro.tasks.benchmarks.spec import Metric, Pair, Profile, Record
from s1pro.tasks.benchmarks.text_metrics import rouge_l

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
ORDER = (
    "chemical_disease_interaction_extraction", "chemical_entity_recognition", "chemical_protein_interaction_extraction",
    "multi_choice_question", "open_question", "true_or_false_question", "property_prediction_str",
    "description_guided_molecule_design", "forward_reaction_prediction", "retrosynthesis", "reagent_prediction",
    "molecular_description_generation", "catalytic_activity", "domain_motif", "general_function", "protein_function",
    "protein_design",
)  # fmt: skip


def visible(response: str, record: Record) -> str:
    return upstream_visible(response)


def text_answer(response: str, record: Record) -> str:
    """Upstream's reading of biomedical answers: without lead-ins."""
    text = without_lead(upstream_visible(response)).rpartition("</think>")[2].lstrip()
    return re.sub(r"^(?:I would say that|I would like to say that)\s*", "", text, flags=re.IGNORECASE).strip()


def description(response: str, record: Record) -> str:
    """Up to the last full stop."""
    return f"{upstream_visible(response).rpartition('</think>')[2].rsplit('.', 1)[0]}."


def answer(response: str, record: Record) -> str | None:
    return answer_part(response) or None


def gold_text(record: Record) -> str:
    return str(record["output"]).strip()


def bracket_f1(gold: str, prediction: str) -> float:
    """Of the groups in brackets, in small letters; a prediction without brackets is one group."""
    wanted = set(re.findall(r"\(.*?\)", gold.lower()))
    said = {group.strip() for group in re.findall(r"\(.*?\)", prediction.lower()) or [f"({prediction.lower()})"]}
    return _f1(wanted, said)


def item_f1(gold: str, prediction: str) -> float:
    return _f1(set(gold.lower().split(", ")), set(prediction.lower().split(", ")))


def _f1(wanted: set[str], said: set[str]) -> float:
    hits = len(wanted & said)
    return 2 * hits / (len(wanted) + len(said)) if hits else 0.0


def upstream_option(response: str, record: Record) -> str | None:
    text = text_answer(response, record)
    for letter in "ABCD":
        if f"({letter}" in text or f"{letter})" in text or f" {letter} " in text:
            return letter
    return text or None


def strict_option(response: str, record: Record) -> str | None:
    return strict_choice(response, dict.fromkeys("ABCD", "\0"))


def gold_option(record: Record) -> str:
    found = re.search(r"\(([A-D])\)", str(record["output"]))
    if not found:
        raise InputError(f"the field 'output' is {record['output']!r:.60}, expected a letter in brackets")
    return found[1]


def upstream_truth(response: str, record: Record) -> str:
    text = text_answer(response, record).lower()
    for word, parts in (("yes", ("yes",)), ("no", ("no",)), ("maybe", ("maybe", "may be", "might"))):
        if any(part in text for part in parts):
            return word
    return "other"


def strict_truth(response: str, record: Record) -> str | None:
    """The only one of the words that stands alone, of the whole reply or of its first sentence."""
    text = answer_part(response).lower()
    for place in (text, re.split(r"[.,\n]", text)[0]):
        words = set(re.findall(r"\b(yes|no|maybe)\b", place))
        if len(words) == 1:
            return str(words.pop())
    return None


def gold_truth(record: Record) -> str:
    word = str(record["output"]).split(",")[0].strip().strip(".").lower()
    if word not in ("yes", "no", "maybe"):
        raise InputError(f"the field 'output' begins with {word!r:.60}, expected yes, no or maybe")
    return word


def molecule_text(response: str, record: Record) -> str | None:
    """The last tag, else a reply that is one word; SELFIES become SMILES."""
    content = tagged_smiles(answer_part(response))
    return None if not content or re.search(r"\s", content) else content


def upstream_smiles(response: str, record: Record) -> str | None:
    """The first tag, without stereochemistry; None without a molecule."""
    text = upstream_visible(response).rpartition("</think>")[2]
    found = re.search(r"<SMILES>(.*?)</SMILES>", text)
    return flat_smiles(found[1].strip()) if found else None


def flat_equal(gold: str, prediction: str) -> float:
    """1 if both have one InChI once stereochemistry is forgotten."""
    return float(flat_inchi(flat_smiles(gold) or "") == flat_inchi(prediction))


def exact_of_valid(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Over the replies that hold a molecule; 0 if none does."""
    read = [p for p in pairs if p.prediction is not None]
    return {"score": float(np.mean([flat_equal(p.gold, p.prediction) for p in read])) if read else 0.0}


def upstream_property(response: str, record: Record) -> float | None:
    """The first number, once blanks between digits are gone; a sign counts only before a point."""
    text = re.sub(r"(?<=\d) +(?=\d)|(?<=\.) +(?=\d)", "", upstream_visible(response).rpartition("</think>")[2])
    found = re.search(r"[-+]?\d*\.\d+|\d+", text)
    return None if found is None else min(max(float(found[0]), -LARGEST), LARGEST)


def as_smiles(text: str) -> str:
    if re.fullmatch(r"(?:\[[^\[\]\s]+\]|\.)+", text):
        return selfies_to_smiles(text) or ""
    return text


def gold_molecule(record: Record) -> str:
    return tagged_smiles(gold_text(record))


def tagged_smiles(text: str) -> str:
    """Of the last tag, which says the notation, else of the whole text by its looks."""
    found = tagged(text, ("SELFIES", "SMILES"), ignore_case=True)
    if found and found[-1][0].upper() == "SMILES":
        return found[-1][1]
    return as_smiles(found[-1][1] if found else text)


def gold_number(record: Record) -> float:
    number = number_in(str(record["output"]))
    if number is None:
        raise InputError(f"the field 'output' is {record['output']!r:.60}, expected a number")
    return number


def thousandfold(metric: Metric) -> Metric:
    """Errors in thousandths."""
    return lambda pairs: {name: 1000.0 * value for name, value in metric(pairs).items()}


@lru_cache(maxsize=1)
def _aligner() -> Any:
    try:
        from Bio import Align
        from Bio.Align import substitution_matrices
    except ImportError as error:
        raise MissingExtraError("biopython", "science") from error
    aligner = Align.PairwiseAligner(mode="local")
    aligner.substitution_matrix = substitution_matrices.load("BLOSUM45")
    aligner.open_gap_score, aligner.extend_gap_score = -10.0, -0.5
    return aligner


def smith_waterman(gold: str, prediction: str) -> float:
    """0 to 1; letters that are no residues are dropped first."""
    a, b = ("".join(c for c in text.upper() if c in RESIDUES)[:5000] for text in (gold, prediction))
    if not a or not b:
        return 0.0
    score = _aligner().score
    return float(score(a, b) / (score(a, a) * score(b, b)) ** 0.5)


def upstream_protein(response: str, record: Record) -> str | None:
    """The capital letters of residues in the first tag."""
    found = re.search(r"<protein>(.*?)</protein>", upstream_visible(response).rpartition("</think>")[2])
    return "".join(c for c in found[1] if c in RESIDUES) or None if found else None


def gold_protein(record: Record) -> str:
    found = tagged(gold_text(record), ("protein",), ignore_case=True)
    return found[-1][1] if found else gold_text(record)


def protein(response: str, record: Record) -> str | None:
    text = answer_part(response)
    found = tagged(text, ("protein",), ignore_case=True)
    return (found[-1][1] if found else text) or None


def best_alignment(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """The maximum over the test set."""
    values = [0.0 if p.prediction is None else smith_waterman(p.gold, p.prediction) for p in pairs]
    return {"score": 100.0 * max(values), "mean": 100.0 * float(np.mean(values))}


def _same(value: Any, *, scale: float = 1.0, compat: Any = visible, strict: Any = answer) -> tuple[Profile, Profile]:
    metric = mean_of(value, scale=scale)
    return Profile(extract=compat, value=value, metric=metric), Profile(extract=strict, value=value, metric=metric)


def without_lead(text: str) -> str:
    """Without a first word that says that the answer comes."""
    return re.sub(r"^(?:Response:|Answer:)\s*", "", text, flags=re.IGNORECASE)


def _given(gold: str, prediction: float) -> float:
    """The similarity is computed before (`Subtask.weights`)."""
    return prediction


def _rouge(gold: str, prediction: str) -> float:
    return rouge_l(gold, prediction)


def profiles(task: str) -> tuple[tuple[Profile, Profile], Any]:
    """Of a task of `ORDER`, and its gold."""
    if task == "open_question":
        return _same(
            _given,
            compat=text_answer,
            strict=lambda response, record: without_lead(answer_part(response)) or None,
        ), gold_text
    if task == "multi_choice_question":
        return _same(equality, scale=100.0, compat=upstream_option, strict=strict_option), gold_option
    if task == "true_or_false_question":
        return _same(equality, scale=100.0, compat=upstream_truth, strict=strict_truth), gold_truth
    if task == "property_prediction_str":
        near, read = nearness(0.01), lambda response, _: final_number(response)
        return (
            Profile(extract=upstream_property, value=near, metric=thousandfold(upstream_mae())),
            Profile(extract=read, value=near, metric=thousandfold(errors_with_penalty())),
        ), gold_number
    if task == "protein_design":
        return (
            Profile(extract=upstream_protein, value=smith_waterman, metric=best_alignment),
            Profile(extract=protein, value=smith_waterman, metric=mean_of(smith_waterman, scale=100.0)),
        ), gold_protein
    if task in ORDER[7:11]:
        return (
            Profile(extract=upstream_smiles, value=flat_equal, metric=exact_of_valid),
            Profile(extract=molecule_text, value=same_molecules, metric=mean_of(same_molecules)),
        ), gold_molecule
    value = {ORDER[0]: bracket_f1, ORDER[1]: item_f1, ORDER[2]: bracket_f1}.get(task, _rouge)
    compat = {"molecular_description_generation": description}.get(task, text_answer if task in ORDER[:3] else visible)
    return _same(value, scale=100.0 if task in ORDER[12:16] else 1.0, compat=compat), gold_text
