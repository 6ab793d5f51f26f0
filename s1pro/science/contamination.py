"""Is a question of an evaluation in the training data? An index of questions, asked about texts.

Two levels:

* **words**: runs of `n` words (case and punctuation aside), hashed. A question that is shorter than `n` words, but has
  at least `SHORTEST`, is one run. A molecule in `<SMILES>` tags is one word, the same for every way of writing it, and
  so is a Chinese or Japanese character, because nothing separates words there. Two kinds of runs are wording, not
  content, and are left out: those that stand in more than a tenth of the questions (and in at least three), and those
  without a molecule that stand beside different molecules in two questions, or in a question and the text.
* **molecules**: InChIKeys of what stands in `<SMILES>` tags, so that another way of writing a molecule is the same.

    index = ContaminationIndex.of_questions(questions)         (of tasks: tasks/contamination.py)
    index.write(path); ContaminationIndex.read(path)
    index.check(text) -> Overlap: which questions share what with the text

A shared molecule is a hint, not a proof: benzene is in every corpus. Shared runs of 13 words seldom are an accident.
So a `Decontaminator`, which stands where samples become training data, goes by words unless it is told otherwise. It
drops samples or marks them (`meta["contamination"]`), and counts both.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from s1pro.base.errors import InputError
from s1pro.base.records import Sample
from s1pro.science.rdkit_access import chem

WORDS, SHORTEST = 13, 6
MARK, MOST_NAMED = "contamination", 8
"""Field of `Sample.meta` with the names of questions, of at most so many."""
_HAN_AND_KANA = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"(?=\w)[{_HAN_AND_KANA}]|[^\W{_HAN_AND_KANA}]+")
_SMILES = re.compile(r"<SMILES>\s*([^<>\s]{1,400})\s*</SMILES>")
_FORMAT = "s1pro contamination index 2"


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What one text shares with the questions: names of questions, by words and by molecule."""

    words: tuple[str, ...] = ()
    molecules: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ContaminationIndex:
    """See the module docstring.

    Attributes:
        names: of the questions, `task#item`.
        runs, molecules: digest of a run, or InChIKey, to the positions of its questions in `names`.
        lengths: of runs, in words: `n`, and those of short questions. Texts are cut into these only.
    """

    names: tuple[str, ...]
    runs: Mapping[str, tuple[int, ...]]
    molecules: Mapping[str, tuple[int, ...]]
    n: int = WORDS
    lengths: tuple[int, ...] = tuple(range(SHORTEST, WORDS + 1))

    @classmethod
    def of_questions(cls, questions: Mapping[str, str], n: int = WORDS) -> ContaminationIndex:
        """Of texts by name."""
        if n < SHORTEST:
            raise InputError(f"runs of words have at least {SHORTEST}, got {n}")
        runs: dict[str, list[int]] = {}
        beside: dict[str, set[tuple[str, ...]]] = {}
        molecules: dict[str, list[int]] = {}
        short: set[int] = set()
        for number, text in enumerate(questions.values()):
            words, keys = _read(text)
            length = len(words) if SHORTEST <= len(words) < n else n
            short |= {length} - {n}
            there = tuple(filter(_is_molecule, words))
            for window in set(_windows(words, length)):
                run = _digest(window)
                runs.setdefault(run, []).append(number)
                if there and not any(map(_is_molecule, window)):
                    beside.setdefault(run, set()).add(there)
            for key in keys:
                molecules.setdefault(key, []).append(number)
        wording = max(2, len(questions) // 10)
        templates = {run for run, different in beside.items() if len(different) > 1}
        return cls(
            names=tuple(questions),
            runs={run: tuple(where) for run, where in runs.items() if len(where) <= wording and run not in templates},
            molecules={key: tuple(where) for key, where in molecules.items()},
            n=n,
            lengths=(*sorted(short), n),
        )

    def check(self, text: str) -> Overlap:
        """Which questions share a run of words, or a molecule, with a text."""
        words, keys = _read(text)
        same: set[int] = set()
        for window in (window for length in self.lengths for window in _windows(words, length)):
            found = set(self.runs.get(_digest(window), ())) - same
            about_it = not keys or any(map(_is_molecule, window))
            same |= {number for number in found if about_it or not self._about_others(number, keys)}
        shared = {number for key in keys for number in self.molecules.get(key, ())}
        return Overlap(
            words=tuple(self.names[number] for number in sorted(same)),
            molecules=tuple(self.names[number] for number in sorted(shared)),
        )

    def _about_others(self, number: int, keys: set[str]) -> bool:
        """Whether a question has molecules, and a text with these has none of them."""
        own = self._keys_of.get(number)
        return own is not None and own.isdisjoint(keys)

    @cached_property
    def _keys_of(self) -> dict[int, set[str]]:
        """InChIKeys by position of a question."""
        keys: dict[int, set[str]] = {}
        for key, numbers in self.molecules.items():
            for number in numbers:
                keys.setdefault(number, set()).add(key)
        return keys

    def write(self, path: Path) -> None:
        """One JSON file, in one step. It holds digests, not questions."""
        content = {"format": _FORMAT, "n": self.n, "lengths": self.lengths, "names": self.names}
        content |= {"runs": self.runs, "molecules": self.molecules}
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        os.replace(temporary, path)

    @classmethod
    def read(cls, path: Path) -> ContaminationIndex:
        """Raises `InputError` for a file that is no index."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as an index of questions ({error})") from error
        if not isinstance(found, dict) or found.get("format") != _FORMAT:
            raise InputError(f"{path}: is no index of questions of this version; write it again (--write-index)")
        runs, molecules = ({k: tuple(v) for k, v in found[name].items()} for name in ("runs", "molecules"))
        names, lengths = tuple(found["names"]), tuple(found["lengths"])
        return cls(names=names, runs=runs, molecules=molecules, n=found["n"], lengths=lengths)


@dataclass(frozen=True, kw_only=True)
class ContaminationSettings:
    """What happens to samples that share something with the questions of an index.

    Attributes:
        index: file, written by `s1pro eval SELECTION --write-index FILE`.
        found: `drop` them, or `mark` them.
        molecules: a shared molecule is enough; else only shared words are.
    """

    index: Path
    found: Literal["drop", "mark"] = "drop"
    molecules: bool = False


class Decontaminator:
    """Applies `ContaminationSettings` to samples and counts.

    Attributes:
        counts: `checked` samples; those that share `words` or `molecules`; how many were `dropped` or `marked`.

    Raises:
        InputError: the index cannot be read.
    """

    def __init__(self, settings: ContaminationSettings) -> None:
        self.settings, self.index = settings, ContaminationIndex.read(settings.index)
        self.counts: Counter[str] = Counter(dict.fromkeys(("checked", "words", "molecules", "dropped", "marked"), 0))

    def apply(self, sample: Sample) -> Sample | None:
        """The sample, marked if something is found and it shall be; None if it is dropped."""
        turns = [message.text for message in sample.messages or ()]
        overlap = self.index.check("\n".join([*turns, sample.text or ""]))
        self.counts.update(checked=1, words=bool(overlap.words), molecules=bool(overlap.molecules))
        questions = sorted({*overlap.words, *(overlap.molecules if self.settings.molecules else ())})
        if not questions:
            return sample
        if self.settings.found == "drop":
            self.counts["dropped"] += 1
            return None
        self.counts["marked"] += 1
        return replace(sample, meta={**sample.meta, MARK: questions[:MOST_NAMED]})

    def filter(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        for sample in samples:
            kept = self.apply(sample)
            if kept is not None:
                yield kept


def _read(text: str) -> tuple[list[str], set[str]]:
    """Words and InChIKeys. A molecule is the word `<InChIKey>`, or `<its text>` where RDKit reads none."""
    words: list[str] = []
    keys: set[str] = set()
    for place, piece in enumerate(_SMILES.split(text)):  # every second one is the content of a tag
        if place % 2 == 0:
            words += _WORD.findall(piece.lower())
            continue
        key = _key(piece)
        words.append(f"<{key or piece}>")
        keys |= {key} - {""}
    return words, keys


def _is_molecule(word: str) -> bool:
    return word.startswith("<")


def _windows(words: Sequence[str], length: int) -> Iterable[tuple[str, ...]]:
    for start in range(len(words) - length + 1):
        yield tuple(words[start : start + length])


def _digest(window: Sequence[str]) -> str:
    return hashlib.blake2b(" ".join(window).encode(), digest_size=8).hexdigest()


def _key(smiles: str) -> str:
    molecule = chem().MolFromSmiles(smiles)
    return str(chem().MolToInchiKey(molecule)) if molecule is not None and molecule.GetNumAtoms() else ""
