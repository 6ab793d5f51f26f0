"""Questions about pictures, videos and signals: one task per family of `science.media_families`.

| answer of the family | scored 1 if | beside it |
|---|---|---|
| one of a few labels | it is the right one, and the only one named | accuracy, macro F1, MCC |
| count | the number is right | off by at most one |
| formula | every count is right | share of elements that are right |
| reading from an axis | within the tolerance of the family | within a quarter of it |

Items are the first examples of the test split. Their media are written to a folder (`MediaFolder`; content decides the
name, so two tasks or two runs share it), and prompts hold absolute paths.

Baselines, both chosen on training examples: the best constant answer, and the best one for each thing that is asked,
where the question says what (`MediaFamily.kind`). Copying is no baseline: no question contains its answer.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.records import Message
from s1pro.science.formula import element_accuracy, hill, parse_formula
from s1pro.science.media import Choice, Count, Example, Formula, MediaFamily, Reading
from s1pro.science.media_files import MediaFolder
from s1pro.science.split import Split
from s1pro.science.system_prompts import SYSTEM_PROMPTS, group_of_domain
from s1pro.tasks import extraction
from s1pro.tasks.classification import UNREADABLE, accuracy, macro_f1, matthews
from s1pro.tasks.task import Item, Prompt, Score, mean_parts

# Training examples that baselines are chosen on, and most frequent answers that are tried.
_NUM_TRAINING = 1000
_NUM_CANDIDATES = 60


class MediaTask:
    """One family. Implements `tasks.task.Task` and `HasBaselines`.

    Args:
        folder: where the media of the items go.
        split: whose examples are asked.
        num_items: at most so many; fewer where the split has no more different ones.
        held_out_wordings: ask in wordings that training data never uses.
        for_learning: the task is a reward of reinforcement learning and may ask about training examples.

    Raises:
        InputError: the training split without `for_learning`.
        MissingExtraError: the data of the family come with a package that is not installed.
    """

    def __init__(
        self,
        family: MediaFamily,
        folder: Path,
        *,
        split: Split = "test",
        num_items: int = 200,
        seed: int = 0,
        held_out_wordings: bool = False,
        for_learning: bool = False,
    ) -> None:
        if split == "train" and not for_learning:
            raise InputError("tasks ask about held-out examples; choose the split 'validation' or 'test'")
        self.name, self.family, self.seed = family.name, family, seed
        self.held_out_wordings = held_out_wordings
        media = MediaFolder(folder)
        examples = family.examples(split, family.different(split, num_items), seed=seed)
        self._items = tuple(
            Item(
                id=f"{family.name}-{number:04}",
                asked={**example.asked, "medium": media.write(example.render())},
                answer=example.answer,
            )
            for number, example in enumerate(examples)
        )

    def __getstate__(self) -> dict[str, Any]:
        """For judges in other processes: items are there with their media, and no more examples are drawn."""
        family = dataclasses.replace(self.family, draw=_drawn_already, limits=None)
        return {**self.__dict__, "family": family}

    def items(self) -> Sequence[Item]:
        return self._items

    def prompt(self, item: Item) -> Prompt:
        """The system prompt of the domain, the medium, and the question in one of its wordings."""
        asked = {slot: value for slot, value in item.asked.items() if slot != "medium"}
        wording = random.Random(f"{self.seed} {item.id}")
        question = self.family.questions.render(asked, wording, held_out=self.held_out_wordings)
        system = SYSTEM_PROMPTS[group_of_domain(self.family.domain)]
        content = [item.asked["medium"], {"type": "text", "text": question}]
        return Prompt(messages=(Message(role="system", content=system), Message(role="user", content=content)))

    def expected(self, item: Item) -> str:
        """The right answer in the form of the family."""
        return str(item.answer["text"])

    async def score(self, item: Item, response: str) -> Score:
        return self.grade(item.answer, response)

    def grade(self, answer: Mapping[str, Any], response: str) -> Score:
        """`score` without waiting, of the answer of an item or an example."""
        kind = self.family.answer
        if isinstance(kind, Choice):
            return _grade_choice(kind, answer, response)
        return _GRADERS[type(kind)](answer, response)

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        """For labels accuracy, macro F1 and MCC; the means of the parts otherwise."""
        means = mean_parts(scores)
        if not isinstance(self.family.answer, Choice):
            return means
        truth = [int(score.parts["true class"]) for score in scores]
        answers = [int(score.parts["class"]) for score in scores]
        return {
            "valid": means["valid"],
            "accuracy": accuracy(truth, answers),
            "macro F1": macro_f1(truth, answers),
            "MCC": matthews(truth, answers),
        }

    def baselines(self) -> Mapping[str, Mapping[str, str]]:
        """See the module docstring."""
        count = self.family.different("train", _NUM_TRAINING)
        training = [
            (example.asked, example.answer) for example in self.family.examples("train", count, seed=self.seed + 1)
        ]
        constant = self._best([answer for _, answer in training])
        answers = {"constant": dict.fromkeys((item.id for item in self._items), constant)}
        kind = self.family.kind
        if kind is not None:
            by_kind: dict[Any, list[Mapping[str, Any]]] = {}
            for asked, answer in training:
                by_kind.setdefault(asked[kind], []).append(answer)
            best = {value: self._best(having) for value, having in by_kind.items()}
            answers["constant by kind"] = {item.id: best.get(item.asked[kind], constant) for item in self._items}
        return answers

    def _best(self, answers: Sequence[Mapping[str, Any]]) -> str:
        """The answer that would score most on all of them: the most frequent, or, of readings, one of the frequent."""
        if not isinstance(self.family.answer, Reading):
            return str(Counter(answer["text"] for answer in answers).most_common(1)[0][0])
        candidates = [text for text, _ in Counter(answer["text"] for answer in answers).most_common(_NUM_CANDIDATES)]
        return max(candidates, key=lambda text: sum(self.grade(answer, text).value for answer in answers))


def _drawn_already(split: Split, number: int, seed: int) -> Example:
    raise AssertionError("a task that was sent to another process draws no examples")


def _grade_choice(kind: Choice, answer: Mapping[str, Any], response: str) -> Score:
    """`parts` hold the numbers of the two classes, for metrics that need all scores."""
    label, truth = extraction.label_in(response, kind.labels), answer["text"]
    number = UNREADABLE if label is None else kind.labels.index(label)
    return Score(
        value=float(label == truth),
        extraction=label,
        valid=label is not None,
        parts={"true class": float(kind.labels.index(truth)), "class": float(number)},
    )


def _grade_count(answer: Mapping[str, Any], response: str) -> Score:
    count, truth = extraction.whole_number_in(response), int(answer["text"])
    if count is None:
        return Score(value=0.0, valid=False, parts={"within one": 0.0})
    return Score(value=float(count == truth), extraction=count, parts={"within one": float(abs(count - truth) <= 1)})


def _grade_formula(answer: Mapping[str, Any], response: str) -> Score:
    atoms, truth = extraction.formula_in(response), parse_formula(answer["text"])
    assert truth is not None, answer
    if atoms is None:
        return Score(value=0.0, valid=False, parts={"elements": 0.0})
    return Score(
        value=float(atoms == truth), extraction=hill(atoms), parts={"elements": element_accuracy(atoms, truth)}
    )


def _grade_reading(answer: Mapping[str, Any], response: str) -> Score:
    reading = extraction.reading_in(response)
    if reading is None:
        return Score(value=0.0, valid=False, parts={"close": 0.0})
    error, tolerance = abs(reading - answer["value"]), answer["tolerance"]
    return Score(value=float(error <= tolerance), extraction=reading, parts={"close": float(error <= tolerance / 4)})


_GRADERS: Mapping[type, Callable[[Mapping[str, Any], str], Score]] = {
    Count: _grade_count,
    Formula: _grade_formula,
    Reading: _grade_reading,
}
