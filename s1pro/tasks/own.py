"""Your own questions: a CSV, TSV, JSONL, JSON or Parquet file becomes a task.

    question                 required
    answer                   required; in JSON a list means that any of them is right
    image, video, time_series, optional: a path, relative to the file, or an address
    A, B, C, ...             optional: the options of a question; they are shown below it
    id                       optional, unique

    metric     reads                                          right if
    exact      the whole answer                               equal, white space and a final full stop aside
    letter     the last clear statement of an option letter   equal; an answer that is the text of one option counts
    number     the last number, boxed ones first              within the tolerance (relative, or absolute at 0)
    contains   the whole answer                               it contains the expected text as a word, any case
    yes_no     the last clear yes or no                       equal
    smiles     the last SMILES tag, box or word               the same molecule (by RDKit)
    f1         the words of the answer                        graded: F1 over words
    judge      the whole answer                               a judge model says that it agrees (tasks/judging.py)

Reasoning is cut off before anything is read. Nothing here raises for any response.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.records import Message
from s1pro.tasks.benchmarks.choices import options_of, strict_choice
from s1pro.tasks.benchmarks.extract import answer_part, boxed, final_number, final_yes_no, number_in, tagged
from s1pro.tasks.benchmarks.judged import agreement_question, plain_verdict
from s1pro.tasks.benchmarks.molecules import strict_molecule
from s1pro.tasks.benchmarks.reading import Fields, read_records
from s1pro.tasks.judging import Judge
from s1pro.tasks.task import Item, Prompt, Score, mean_parts

MEDIA = ("image", "video", "time_series")
DEFAULT_TOLERANCE = 0.01
METRICS = ("exact", "letter", "number", "contains", "yes_no", "smiles", "f1", "judge")
Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class OwnMetric:
    """How a file is scored.

    Attributes:
        read: the prediction in a response; None if there is none.
        grade: 0 to 1 for a prediction and one expected answer.
        check: an expected answer that can never be met is refused; says what is wrong with it.
    """

    read: Callable[[str, Record], Any]
    grade: Callable[[Any, str, Record], float]
    check: Callable[[str, Record], str] = lambda expected, record: ""


class OwnTask:
    """A file as a `Task`.

    Args:
        metric: a name of `METRICS`.
        tolerance: of the metric "number".
        question, answer: names of the columns.
        system: a system message before every question.

    Raises:
        InputError: an unknown metric, a file that cannot be read, a missing column, an expected answer that the metric
            cannot read, a medium that is not there.

    Attributes:
        judge: who is asked by the metric "judge"; without one nothing is right.
    """

    judge: Judge | None = None

    def __init__(
        self,
        path: Path,
        metric: str,
        *,
        name: str | None = None,
        tolerance: float = DEFAULT_TOLERANCE,
        question: str = "question",
        answer: str = "answer",
        system: str | None = None,
    ) -> None:
        if not 0 <= tolerance < 1:
            raise InputError(f"the tolerance is a share from 0 to below 1, got {tolerance}")
        known = metrics(tolerance)
        if metric not in known:
            raise InputError(f"no such metric: {metric!r}; known: {', '.join(known)}")
        self.name, self.path, self.system = name or path.stem, path, system
        self.metric_name, self.metric = metric, known[metric]
        self._question, self._answer = question, answer
        fields: Fields = {question: str, answer: (str, list, int, float, bool)}
        self._records = read_records(path, fields)
        self._golds = [self._gold(record, number) for number, record in enumerate(self._records, start=1)]
        for number, record in enumerate(self._records, start=1):
            self._check_media(record, number)
        self._items = [Item(id=name, asked={"record": i}) for i, name in enumerate(self._ids())]

    def items(self) -> Sequence[Item]:
        return self._items

    def prompt(self, item: Item) -> Prompt:
        record = self._records[item.asked["record"]]
        text = record[self._question]
        options = options_of(record)
        if options:
            text = "\n".join([text, *(f"{letter}. {option}" for letter, option in options.items())])
        media = [{"type": kind, kind: self._source(record[kind])} for kind in MEDIA if record.get(kind)]
        content = [*media, {"type": "text", "text": text}] if media else text
        before = () if self.system is None else (Message(role="system", content=self.system),)
        return Prompt(messages=(*before, Message(role="user", content=content)))

    def needs_judge(self) -> bool:
        """Whether its metric is a judge."""
        return self.metric_name == "judge"

    async def score(self, item: Item, response: str) -> Score:
        record, golds = self._records[item.asked["record"]], self._golds[item.asked["record"]]
        found = self.metric.read(response, record)
        if self.metric_name == "judge":
            return await self._judged(record, golds, found)
        value = 0.0 if found is None else max(self.metric.grade(found, gold, record) for gold in golds)
        return Score(value=value, extraction={"gold": golds, "found": found}, valid=found is not None)

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        numbers = {**mean_parts(scores), "score": sum(score.value for score in scores) / len(scores)}
        if self.metric_name == "judge":
            said = [score.extraction["judge"]["status"] for score in scores if "judge" in score.extraction]
            numbers |= {"judge.asked": len(said)}
            numbers |= {f"judge.{status}": said.count(status) for status in ("unreadable", "failed")}
        return numbers

    async def _judged(self, record: Record, golds: Sequence[str], found: str | None) -> Score:
        """A is right. What could not be judged is wrong, not valid, and counted."""
        extraction: dict[str, Any] = {"gold": list(golds), "found": found}
        if found is None or self.judge is None:
            return Score(value=0.0, extraction=extraction, valid=False)
        prompt = agreement_question(str(record[self._question]), " or: ".join(golds), found)
        verdict = await self.judge.ask(prompt, plain_verdict, (0.0,))
        extraction["judge"] = {"status": verdict.status, "reply": verdict.reply}
        right = verdict.status == "read" and verdict.reading == "A"
        return Score(value=float(right), extraction=extraction, valid=verdict.status == "read")

    def _gold(self, record: Record, number: int) -> list[str]:
        value = record[self._answer]
        golds = [_text(one) for one in value] if isinstance(value, list) else [_text(value)]
        where = f"{self.path}, record {number}, field {self._answer!r}"
        if not golds or not all(golds):
            raise InputError(f"{where}: there is no expected answer")
        for gold in golds:
            if problem := self.metric.check(gold, record):
                raise InputError(f"{where}: {gold!r:.80} {problem}")
        return golds

    def _check_media(self, record: Record, number: int) -> None:
        for kind in MEDIA:
            source = record.get(kind)
            if source and not _is_address(str(source)) and not (self.path.parent / str(source)).is_file():
                raise InputError(f"{self.path}, record {number}, field {kind!r}: there is no file {source!r}")

    def _source(self, source: Any) -> str:
        return str(source) if _is_address(str(source)) else str((self.path.parent / str(source)).resolve())

    def _ids(self) -> list[str]:
        names = [str(record.get("id", "")) for record in self._records]
        if not any(names):
            return [str(number) for number in range(len(names))]
        twice = [name for name, count in Counter(names).items() if count > 1 or not name]
        if twice:
            raise InputError(f"{self.path}: the id {twice[0]!r} is empty or not unique; repair or remove the column")
        return names


def metrics(tolerance: float = DEFAULT_TOLERANCE) -> dict[str, OwnMetric]:
    """The table of the module docstring."""

    def near(found: Any, gold: str, record: Record) -> float:
        expected = float(number_in(gold) or 0.0)
        allowed = tolerance * abs(expected) if expected else tolerance
        return float(abs(found - expected) <= allowed + 1e-12 * abs(expected))

    return {
        "exact": OwnMetric(read=_whole, grade=lambda found, gold, record: float(_plain(found) == _plain(gold))),
        "letter": OwnMetric(
            read=lambda response, record: strict_choice(response, options_of(record) or _ALL_LETTERS),
            grade=lambda found, gold, record: float(found == gold.strip().upper()),
            check=_letter_problem,
        ),
        "number": OwnMetric(
            read=lambda response, record: final_number(response),
            grade=near,
            check=lambda gold, record: "" if number_in(gold) is not None else "is no number",
        ),
        "contains": OwnMetric(read=_whole, grade=_contains),
        "yes_no": OwnMetric(
            read=lambda response, record: final_yes_no(response),
            grade=lambda found, gold, record: float(found == final_yes_no(gold)),
            check=lambda gold, record: "" if final_yes_no(gold) is not None else "is neither yes nor no",
        ),
        "smiles": OwnMetric(
            read=_smiles,
            grade=lambda found, gold, record: float(found == canonical(gold)),
            check=lambda gold, record: "" if canonical(gold) is not None else "is no SMILES of a molecule",
        ),
        "f1": OwnMetric(read=_whole, grade=lambda found, gold, record: word_f1(gold, found)),
        "judge": OwnMetric(read=_whole, grade=lambda found, gold, record: 0.0),
    }


_ALL_LETTERS = {letter: f"option {letter}" for letter in "ABCDEFGHIJ"}


def canonical(smiles: str) -> str | None:
    """The SMILES that RDKit writes for every way of writing a molecule."""
    from s1pro.science.rdkit_access import chem

    molecule = strict_molecule(smiles)
    return None if molecule is None else str(chem().MolToSmiles(molecule))


def word_f1(gold: str, found: str) -> float:
    """Harmonic mean of precision and recall over words, each counted as often as it stands there."""
    expected, said = _words(gold), _words(found)
    common = sum((Counter(expected) & Counter(said)).values())
    return 2 * common / (len(expected) + len(said)) if common else 0.0


def _whole(response: str, record: Record) -> str | None:
    return answer_part(response) or None


def _smiles(response: str, record: Record) -> str | None:
    text = answer_part(response)
    marked = [content for _, content in tagged(text, ("SMILES",))] + boxed(text)
    candidates = marked[-1:] if marked else text.split()[-1:]
    return canonical(candidates[0].strip("`*.,;\"'")) if candidates else None


def _contains(found: str, gold: str, record: Record) -> float:
    words = re.escape(_plain(gold).lower())
    return float(re.search(rf"(?<!\w){words}(?!\w)", _plain(found).lower()) is not None)


def _letter_problem(gold: str, record: Record) -> str:
    letters = options_of(record) or _ALL_LETTERS
    return "" if gold.strip().upper() in letters else f"is none of the letters {', '.join(letters)}"


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split()).rstrip(".")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFC", text).lower())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).strip()


def _is_address(source: str) -> bool:
    return source[:5] == "data:" or "://" in source[:12]
