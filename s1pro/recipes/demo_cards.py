"""Questions and answers of the demo as cards: what was shown, what was asked, what the model said, what was right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s1pro.corpus.write import read_molecules
from s1pro.eval.answers import AnswerFile
from s1pro.recipes.demo_training import DemoSettings
from s1pro.report.blocks import Answer
from s1pro.report.media import film, picture, signal
from s1pro.tasks import registry

QUESTIONS_PER_TASK = 2


def answer_cards(folder: Path, settings: DemoSettings) -> list[Answer]:
    """The first questions of every task, right and wrong as they come."""
    return [card for name in settings.tasks for card in _cards(folder, settings, name)]


def _cards(folder: Path, settings: DemoSettings, name: str) -> Iterator[Answer]:
    task = registry.get(
        name,
        molecules=read_molecules(folder / "data" / "molecules.parquet"),
        num_items=settings.items,
        folder=folder / "eval" / "media",
        media=settings.sizes,
    )
    answers = AnswerFile(folder / "eval" / "answers" / f"{name}.jsonl").answers
    for item in task.items()[:QUESTIONS_PER_TASK]:
        found, expected = answers[item.id], task.expected(item)
        content = task.prompt(item).messages[-1].content
        parts: Sequence[Mapping[str, Any]] = (
            [{"type": "text", "text": content}] if isinstance(content, str) else content
        )
        yield Answer(
            task=name,
            question="".join(str(part["text"]) for part in parts if part["type"] == "text"),
            answer=found.response,
            expected=f"for example {expected}" if name == "smiles_with_group" else expected,
            correct=found.score == 1,
            note="within 5 % counts" if name == "mass_from_smiles" else "",
            picture_svg=next((_drawing(part) for part in parts if part["type"] != "text"), ""),
        )


def _drawing(part: Mapping[str, Any]) -> str:
    """What a part of a message shows."""
    path = part[part["type"]]
    if part["type"] == "image":
        from PIL import Image

        with Image.open(path) as image:
            return picture(np.asarray(image.convert("RGB")))
    values = np.load(path, allow_pickle=False)
    if part["type"] == "video":
        return film(values)
    return signal(values, part.get("sampling_rate"), str(part.get("unit") or ""))
