"""OCRBench V2: what stands in pictures, 30 kinds of questions in two languages, by the scorers of VLMEvalKit.

Records are rows of `OCRBench_v2.tsv`: `question`, `category` (the kind), `answer` (a list, in Python's spelling),
`eval` ("without eval", or how it is scored), `bbox` and `content` (for words and their places), `image`. A kind belongs
to an ability; the number of a language is the mean over its abilities, that of an ability over its items.

Credit per item is in `ocr_credit`, `ocr_reading` and `ocr_tables`; here stands which kind uses which. A translation
whose answer is empty is left out, as upstream has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks import ocr_credit as credit
from s1pro.tasks.benchmarks import ocr_reading as reading
from s1pro.tasks.benchmarks import ocr_tables as tables
from s1pro.tasks.benchmarks.choices import LETTERS, strict_choice
from s1pro.tasks.benchmarks.extract import answer_part, upstream_visible
from s1pro.tasks.benchmarks.ocr_records import prepared
from s1pro.tasks.benchmarks.pictures import picture_prompt
from s1pro.tasks.benchmarks.spec import MEAN, Benchmark, Pair, Profile, Record, Subtask

Credit = Callable[[str, Record, bool], float]
"""Of a reply to a record; the last argument says whether it is the strict one."""
ABILITIES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "en": {
        "text_recognition": ("text recognition en", "fine-grained text recognition en", "full-page OCR en"),
        "text_detection": ("text grounding en", "VQA with position en"),
        "text_spotting": ("text spotting en",),
        "relationship_extraction": ("key information extraction en", "key information mapping en"),
        "element_parsing": (
            "document parsing en", "chart parsing en", "table parsing en", "formula recognition en",
        ),
        "mathematical_calculation": ("math QA en", "text counting en"),
        "visual_text_understanding": ("document classification en", "cognition VQA en", "diagram QA en"),
        "knowledge_reasoning": ("reasoning VQA en", "science QA en", "APP agent en", "ASCII art classification en"),
    },
    "zh": {
        "text_recognition": ("full-page OCR cn",),
        "relationship_extraction": ("key information extraction cn", "handwritten answer extraction cn"),
        "element_parsing": ("document parsing cn", "table parsing cn", "formula recognition cn"),
        "visual_text_understanding": ("cognition VQA cn",),
        "knowledge_reasoning": ("reasoning VQA cn", "text translation cn"),
    },
}  # fmt: skip
_SHORT_ANSWER = "\u7b80\u7b54"
"""Stands in questions that want a sentence, not signs."""


def _question(said: str, record: Record, strict: bool) -> float:
    """Questions, and recognition of words."""
    how, answers = record["eval"], record["answers"]
    if how == "multiple choice":
        letter = strict_choice(said, dict.fromkeys(LETTERS, "\0"))
        return float(letter == str(answers[0]).strip()) if strict else credit.letters_credit(said, answers)
    chinese = record["category"].endswith("cn") and how != "case sensitive"
    return credit.words_credit(said, answers, chinese=chinese, folded=how != "case sensitive", whole=strict)


def _count(said: str, record: Record, strict: bool) -> float:
    return credit.count_credit(said, record["answers"], near=record["eval"] == "regression", last=strict)


def _formula(said: str, record: Record, strict: bool) -> float:
    tags = strict or record["category"].endswith("cn")
    return credit.formula_credit(said, record["answers"], text_tags=tags, whole=strict)


def _handwritten(said: str, record: Record, strict: bool) -> float:
    if _SHORT_ANSWER in record["question"]:
        return _page(said, record, strict)
    return credit.handwritten_credit(said, str(record["answers"][0]), whole=strict)


def _page(said: str, record: Record, strict: bool) -> float:
    gold = str(record["answers"][0])
    return credit.text_similarity(said, gold) if strict else credit.page_credit(said, gold) if said else 0.0


def _translation(said: str, record: Record, strict: bool) -> float:
    return credit.page_credit(said, str(record["answers"][0]), list if strict else None) if said else 0.0


def _table(said: str, record: Record, strict: bool) -> float:
    gold = str(record["answers"][0])
    if record["category"].endswith("en") and "html" not in record["question"].lower():
        page = tables.strict_markdown if strict else tables.upstream_markdown
        return tables.similarity(page(said), page(gold))
    part = tables.html_part(said)
    if part is None:
        return 0.0
    return tables.similarity(tables.wrapped(part), tables.wrapped(gold), head_cells=strict)


def _chart(said: str, record: Record, strict: bool) -> float:
    found = reading.chart_in(said)
    pages = [tables.chart_page(chart, spread=not strict) for chart in (found, record["chart"])]
    return tables.similarity(pages[0], pages[1]) if found else 0.0


def _document(said: str, record: Record, strict: bool) -> float:
    return tables.document_similarity(said, str(record["answers"][0]), text=strict)


def _pairs(said: str, record: Record, strict: bool) -> float:
    return reading.pairs_credit(reading.pairs_in(said), record["pairs"], pooled=strict)


def _placed(said: str, record: Record, strict: bool) -> float:
    return reading.placed_credit(said, record["answers"], _gold_box(record["bbox"], strict), whole=strict)


def _place(said: str, record: Record, strict: bool) -> float:
    box = reading.box_in(said, decimals=strict)
    return reading.overlap(box, _gold_box(record["answers"], strict)) if box else 0.0


def _spots(said: str, record: Record, strict: bool) -> float:
    return reading.spots_credit(reading.spots_in(said), record["spots"], by_text=strict)


def _gold_box(numbers: Sequence[float], strict: bool) -> list[float]:
    return [float(number) if strict else int(number) for number in numbers]


CREDITS: Mapping[str, Credit] = {
    "text counting en": _count,
    "formula recognition en": _formula,
    "formula recognition cn": _formula,
    "handwritten answer extraction cn": _handwritten,
    "fine-grained text recognition en": _page,
    "full-page OCR en": _page,
    "full-page OCR cn": _page,
    "text translation cn": _translation,
    "table parsing en": _table,
    "table parsing cn": _table,
    "chart parsing en": _chart,
    "document parsing en": _document,
    "document parsing cn": _document,
    "key information extraction en": _pairs,
    "key information mapping en": _pairs,
    "key information extraction cn": _pairs,
    "VQA with position en": _placed,
    "text grounding en": _place,
    "text spotting en": _spots,
}
"""Kinds that are not here are questions."""
KINDS = frozenset(kind for some in ABILITIES.values() for kinds in some.values() for kind in kinds)


def by_kind(pairs: Sequence[Pair]) -> Mapping[str, float]:
    """Mean credit times 100, over all items and per kind."""
    kinds: dict[str, list[float]] = {}
    for pair in pairs:
        kinds.setdefault(pair.record.get("category", ""), []).append(float(pair.prediction or 0.0))
    everything = [value for values in kinds.values() for value in values]
    means = {kind: 100.0 * float(np.mean(values)) for kind, values in kinds.items()}
    return {"score": 100.0 * float(np.mean(everything)), **(means if len(means) > 1 else {})}


def _compat(response: str, record: Record) -> float:
    return CREDITS.get(record["category"], _question)(upstream_visible(response), record, False)


def _strict(response: str, record: Record) -> float | None:
    said = answer_part(response)
    return CREDITS.get(record["category"], _question)(said, record, True) if said else None


def _keeps(kinds: tuple[str, ...]) -> Callable[[Record], bool]:
    def keep(record: Record) -> bool:
        kind = record["category"]
        if kind not in KINDS:
            raise InputError(f"the field 'category' is {kind!r}, which is no kind of question of OCRBench V2")
        empty = kind == "text translation cn" and str(record["answer"]).strip() in ("['']", '[""]')
        return kind in kinds and not empty

    return keep


def _given(gold: Any, prediction: float) -> float:
    return prediction


_DEFECTS: Mapping[str, tuple[str, ...]] = {
    "text_recognition": ("METEOR without synonyms here: not above the published numbers",),
    "text_detection": ("an answer is looked for as a substring",),
    "text_spotting": ("a box with a wrong text takes the place away from one with the right text",),
    "relationship_extraction": ("called F1, is the share of keys with the right value",),
    "element_parsing": (
        "text of documents is not compared, only where lines stand, so that silence is worth something",
        "head cells of tables are not compared; values of charts are compared with blanks between their letters",
        "of Markdown the second line is dropped, and letters of the word markdown are cut off both ends",
        "a formula is looked for as a substring",
    ),
    "mathematical_calculation": ("a count is looked for as a substring, or the first number of the reply counts",),
    "visual_text_understanding": ("an answer is looked for as a substring",),
    "knowledge_reasoning": (
        "an answer is looked for as a substring",
        "all letters of a reply together must be the option, so that 'The answer is A' is wrong",
    ),
}


def _language(language: str, name: str, title: str, published: float) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        subtasks=tuple(
            Subtask(
                name=ability,
                files=("OCRBench_v2.tsv", "OCRBench_v2*.tsv"),
                fields={"question": str, "category": str, "answer": (str, list)},
                prompt=lambda record: picture_prompt(record, record["question"]),
                gold=lambda record: str(record["answer"])[:2000],
                compat=Profile(extract=_compat, value=_given, metric=by_kind),
                strict=Profile(extract=_strict, value=_given, metric=by_kind),
                keep=_keeps(kinds),
                prepare=prepared,
                slow=True,
                defects=_DEFECTS[ability],
            )
            for ability, kinds in ABILITIES[language].items()
        ),
        aggregate=MEAN,
        source="OCRBench_v2.tsv of VLMEvalKit (QYWH/ocrbench_v2 on the Hugging Face Hub)",
        licence="not verified",
        published=published,
        notes=("the number is the mean over the abilities of one language",),
    )


OCRBENCH_V2 = _language("en", "ocrbench-v2", "OCRBench V2 (English)", 60.1)
OCRBENCH_V2_ZH = _language("zh", "ocrbench-v2-zh", "OCRBench V2 (Chinese)", 60.6)
