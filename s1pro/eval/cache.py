"""Answers that were paid for once: a folder of completions, by digest of model, prompt and sampling.

Several runs, also of different tasks, may share the folder. An entry is one file, written in one step, so that runs may
read and write at the same time. Failures are never kept. A file that cannot be read counts as absent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1pro.base.records import Completion, Usage
from s1pro.base.stamp import write_json


@dataclass(frozen=True, kw_only=True)
class CompletionCache:
    """See the module docstring.

    Attributes:
        model: which model answers, weights included: two models must never share this text.
    """

    folder: Path
    model: str

    def find(self, key: str) -> Completion | None:
        """The completion that was kept under `key`."""
        try:
            entry = json.loads(self._path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return _completion(entry) if isinstance(entry, Mapping) and "text" in entry else None

    def keep(self, key: str, completion: Completion) -> None:
        """Keeps text, reasoning and counts; log-probs and token ids are not kept."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        prompt_tokens, tokens = token_counts(completion)
        entry = {
            "text": completion.text,
            "reasoning_content": completion.reasoning_content,
            "finish_reason": completion.finish_reason,
            "num_prompt_tokens": prompt_tokens,
            "num_tokens": tokens,
        }
        write_json(path, entry)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def token_counts(completion: Completion) -> tuple[int, int]:
    """Tokens of prompt and answer, as the other side says or as the ids are."""
    if completion.usage is not None:
        return completion.usage.num_prompt_tokens, completion.usage.num_tokens
    return len(completion.prompt_token_ids), len(completion.token_ids)


def _completion(entry: Mapping[str, Any]) -> Completion:
    return Completion(
        text=str(entry["text"]),
        finish_reason=entry.get("finish_reason", "stop"),
        reasoning_content=entry.get("reasoning_content"),
        usage=Usage(
            num_prompt_tokens=int(entry.get("num_prompt_tokens", 0)), num_tokens=int(entry.get("num_tokens", 0))
        ),
    )
