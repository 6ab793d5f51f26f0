"""Benchmarks about pictures: MicroVQA, MSEarth-MCQ, XLRS-Bench-lite, MMMU-Pro, RefCOCO, ScreenSpot V2.

Tables are those of VLMEvalKit. Pictures come first, then one text. Multiple choice is read by `choices`, boxes and
clicks by `grounding`. Upstream doubles the size of the first picture of MMMU; here pictures stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.choices import (
    after_answer_line,
    by_category,
    choice_accuracy,
    choice_profiles,
    gold_letter,
    gold_letter_set,
    letter_set_profiles,
    options_of,
    strict_choice,
    upstream_choice,
)
from s1pro.tasks.benchmarks.extract import upstream_visible
from s1pro.tasks.benchmarks.grounding import (
    box_gold,
    box_hit,
    click_accuracy,
    click_gold,
    click_hit,
    hits_by,
    strict_box,
    strict_click,
    upstream_box,
    upstream_click,
)
from s1pro.tasks.benchmarks.judged import which_option
from s1pro.tasks.benchmarks.metrics import equality
from s1pro.tasks.benchmarks.pictures import picture_prompt, with_size
from s1pro.tasks.benchmarks.spec import MEAN, Benchmark, Profile, Record, Subtask
from s1pro.tasks.task import Prompt

CELL = (str, int)
CHOICE_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "index": CELL, "question": str, "A": (str, int, float), "B": (str, int, float), "answer": str,
}  # fmt: skip
_DIRECT = "Answer with the letter of the right option, nothing else."
_CHAIN = "Think step by step, and let the last line of your reply be 'Answer: X', where X is the letter of one option."
_NO_JUDGE = "upstream asks a judge where no letter is found; without one such replies are wrong, and counted"


def choice_text(record: Record, rule: str = _DIRECT) -> str:
    """Hint, question, options, how to answer."""
    hint = str(record.get("hint") or "").strip()
    lines = [f"Hint: {hint}"] if hint and hint != "nan" else []
    lines += [str(record["question"]), *(f"{letter}. {text}" for letter, text in options_of(record).items()), rule]
    return "\n".join(lines)


def choice_prompt(record: Record) -> Prompt:
    return picture_prompt(record, choice_text(record))


def reasoned_prompt(record: Record) -> Prompt:
    return picture_prompt(record, choice_text(record, _CHAIN))


def in_picture_prompt(record: Record) -> Prompt:
    return picture_prompt(record, f"Answer the multiple-choice question in the picture. {_CHAIN}")


def _vision_options(record: Record) -> dict[str, str]:
    """Options of MMMU-Pro, whose vision table has none: they are in the picture, A to J."""
    return options_of(record) or dict.fromkeys("ABCDEFGHIJ", "\x00")


def upstream_reasoned(response: str, record: Record) -> str | None:
    return upstream_choice(after_answer_line(upstream_visible(response)), _vision_options(record))


def vision_letter(record: Record) -> str:
    letter = str(record["answer"]).strip().upper()
    if letter not in _vision_options(record):
        raise InputError(f"the field 'answer' is {record['answer']!r:.60}, expected a letter of an option")
    return letter


def xlrs_prompt(record: Record) -> Prompt:
    return picture_prompt(record, f"{record['question']}{record['multi-choice options']}")


def screen_record(record: Record) -> Record:
    """With the path and the size of the screenshot; pictures lie in `screenspotv2_image` or beside the table."""
    path = record.get("image_path") or f"screenspotv2_image/{record['img_filename']}"
    return with_size({**record, "image_path": path})


def screen_prompt(record: Record) -> Prompt:
    system = (
        "You operate a graphical user interface. Answer with the one action that carries out the instruction: "
        "pyautogui.click(x=?, y=?), where x and y are fractions of the width and height of the screen."
    )
    return picture_prompt(record, record["instruction"], system=system)


def refcoco_record(record: Record) -> Record:
    """Sizes that are missing are 1, as upstream has it."""
    return {**record, "width": record.get("width") or 1.0, "height": record.get("height") or 1.0}


def _choices(name: str, title: str, *, files: tuple[str, ...], source: str, licence: str, published: float,
             notes: tuple[str, ...] = ()) -> Benchmark:  # fmt: skip
    compat, strict = choice_profiles(choice_accuracy)
    subtask = Subtask(
        name="test", files=files, fields=CHOICE_FIELDS, prompt=choice_prompt, gold=gold_letter, compat=compat,
        strict=strict, defects=(_NO_JUDGE,), judged=which_option(options_of, upstream_choice, (_NO_JUDGE,)),
    )  # fmt: skip
    return Benchmark(
        name=name, title=title, subtasks=(subtask,), aggregate=MEAN, source=source, licence=licence,
        published=published, notes=notes,
    )  # fmt: skip


def _mmmu(name: str, files: tuple[str, ...], prompt: Any) -> Subtask:
    return Subtask(
        name=name, files=files, fields={"index": CELL, "answer": str}, prompt=prompt, gold=vision_letter,
        compat=Profile(extract=upstream_reasoned, value=equality, metric=choice_accuracy),
        strict=Profile(
            extract=lambda response, record: strict_choice(response, _vision_options(record)),
            value=equality, metric=choice_accuracy,
        ),
        defects=(_NO_JUDGE, "upstream doubles the first picture"),
        judged=which_option(_vision_options, upstream_choice, (_NO_JUDGE,)),
    )  # fmt: skip


MICROVQA = _choices(
    "microvqa", "MicroVQA", files=("MicroVQA.tsv",), source="jmhb/microvqa on the Hugging Face Hub, VLMEvalKit's table",
    licence="CC-BY-SA-4.0", published=63.3,
)  # fmt: skip
MSEARTH_MCQ = _choices(
    "msearth-mcq", "MSEarth-MCQ", files=("MSEarthMCQ.tsv",), source="MSEarthMCQ.tsv of VLMEvalKit",
    licence="not verified", published=65.2,
    notes=("the official adapter for this model bypasses the data set's own prompt, as here",),
)  # fmt: skip
_XLRS = letter_set_profiles(by_category("category", "l2-category"))
XLRS_BENCH = Benchmark(
    name="xlrs-bench",
    title="XLRS-Bench-lite",
    subtasks=(
        Subtask(
            name="lite",
            files=("XLRS-Bench-lite_part*.jsonl", "XLRS-Bench-lite.tsv"),
            fields={
                "question": str,
                "multi-choice options": str,
                "answer": str,
                "category": str,
                "l2-category": str,
            },
            prompt=xlrs_prompt,
            gold=gold_letter_set,
            compat=_XLRS[0],
            strict=_XLRS[1],
            defects=("without brackets every letter from a to e anywhere in the reply is chosen",),
        ),
    ),
    aggregate=MEAN,
    source="initiacms/XLRS-Bench-lite_VLM on the Hugging Face Hub",
    licence="CC-BY-NC-SA-4.0: do not pass on",
    published=52.8,
)
MMMU_PRO = Benchmark(
    name="mmmu-pro",
    title="MMMU-Pro",
    subtasks=(
        _mmmu("standard", ("MMMU_Pro_10c.tsv",), reasoned_prompt),
        _mmmu("vision", ("MMMU_Pro_V.tsv",), in_picture_prompt),
    ),
    aggregate=MEAN,
    source="MMMU_Pro_10c.tsv and MMMU_Pro_V.tsv of VLMEvalKit",
    licence="Apache-2.0 (not verified)",
    published=72.8,
)
REFCOCO = Benchmark(
    name="refcoco",
    title="RefCOCO, RefCOCO+, RefCOCOg",
    subtasks=(
        Subtask(
            name="test",
            files=("RefCOCO.tsv",),
            fields={"index": CELL, "question": str, "split": str, "width": (float, int), "height": (float, int)},
            prompt=lambda record: picture_prompt(record, record["question"]),
            gold=lambda record: list(box_gold(record)),
            compat=Profile(extract=upstream_box, value=box_hit, metric=hits_by("split")),
            strict=Profile(extract=strict_box, value=box_hit, metric=hits_by("split")),
            prepare=refcoco_record,
            defects=("the scale of a box is guessed: pixels up to 1000 are taken for per-mille",),
        ),
    ),
    aggregate=MEAN,
    source="mjuicem/RefCOCO-VLMEvalKit on the Hugging Face Hub",
    licence="not verified",
    published=91.9,
)
SCREENSPOT_V2 = Benchmark(
    name="screenspot-v2",
    title="ScreenSpot V2",
    subtasks=tuple(
        Subtask(
            name=name,
            files=(f"screenspot_{name}_v2.json", f"ScreenSpot_v2_{name.title()}.tsv"),
            fields={"img_filename": str, "bbox": list, "instruction": str, "data_type": str, "data_source": str},
            prompt=screen_prompt,
            gold=lambda record: list(click_gold(record)),
            compat=Profile(extract=upstream_click, value=click_hit, metric=click_accuracy),
            strict=Profile(extract=strict_click, value=click_hit, metric=click_accuracy),
            prepare=screen_record,
            defects=(
                "an unreadable reply is a click at (0, 0)",
                "per-mille answers are taken for pixels",
                "upstream weighs the categories of text and icons by the square of their size; here by size",
            ),
        )
        for name in ("mobile", "desktop", "web")
    ),
    aggregate=MEAN,
    source="OS-Copilot/ScreenSpot-v2 on the Hugging Face Hub",
    licence="Apache-2.0",
    published=93.6,
)
