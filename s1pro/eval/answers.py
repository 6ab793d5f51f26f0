"""The answers of one model to one task, one JSON object per line, written as they come.

A run that was stopped at any moment goes on where it was: a last line that was cut in the middle is removed, all others
are kept, and their items are not asked again. The file is the record of what the model said; scores can be
recomputed from it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from s1pro.base.errors import InputError

Status = Literal["answered", "failed"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One line: what was asked, what came back, and how it was scored.

    Attributes:
        response: as it was scored: reasoning that a server sends apart stands before it, closed by `</think>`.
        extraction: what was read from it, for every profile that the task has.
        status: "failed" if no answer came, after all retries; such an item scores 0 and stays in the denominator.
        error: why it failed.
        digest: of prompt, media included.
        num_prompt_tokens, num_tokens: as the other side counted them; 0 where it does not say.
    """

    id: str
    prompt: list[dict[str, Any]]
    response: str
    score: float
    valid: bool
    extraction: Any
    parts: Mapping[str, Any]
    finish_reason: str
    num_tokens: int
    num_prompt_tokens: int = 0
    status: Status = "answered"
    error: str = ""
    digest: str = ""


class AnswerFile:
    """Reads what is there, then appends. Use as a context manager.

    Raises:
        InputError: a line that is no answer, or two answers to one item, with file and line number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.answers = _read(path)
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        _remove_half_line(self.path)  # only who writes may: another process may be in the middle of this line
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None

    def forget_failed(self) -> None:
        """Removes the marks of failed items, so that they are asked again. The file is replaced in one step."""
        kept = {name: answer for name, answer in self.answers.items() if answer.status != "failed"}
        if len(kept) == len(self.answers):
            return
        temporary = self.path.with_name(f".{self.path.name}.part")
        temporary.write_text("".join(map(_line, kept.values())), encoding="utf-8")
        os.replace(temporary, self.path)
        self.answers = kept

    def append(self, answer: Answer) -> None:
        """Writes one line, complete and flushed."""
        assert self._file is not None, "open the file with a with statement"
        assert answer.id not in self.answers, answer.id
        self._file.write(_line(answer))
        self._file.flush()
        self.answers[answer.id] = answer


def _line(answer: Answer) -> str:
    return json.dumps(vars(answer), ensure_ascii=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    """What a scorer may have read that JSON does not know."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _remove_half_line(path: Path) -> None:
    if not path.exists():
        return
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        with path.open("r+b") as file:
            file.truncate(end)


def _read(path: Path) -> dict[str, Answer]:
    answers: dict[str, Answer] = {}
    if not path.exists():
        return answers
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                answer = Answer(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise InputError(
                    f"{path}, line {number}: not an answer ({error}); remove the line or the file"
                ) from error
            if answer.id in answers:
                raise InputError(f"{path}, line {number}: a second answer to item {answer.id!r}; remove one of them")
            answers[answer.id] = answer
    return answers
