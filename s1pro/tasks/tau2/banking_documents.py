"""What the agent of tau2's bank knows: documents, and how it gets at them (`--knowledge`).

    no_knowledge       not at all
    full_kb            all of them are in its policy (some 200,000 tokens)
    golden_retrieval   those that the task needs are in its policy
    bm25               it can search words: `KB_search`
    grep_only          it can search regular expressions: `grep`
    bm25_grep          both

Searches answer with ten documents at most. BM25 is the usual one (Okapi, k1 1.5, b 0.75; a word that most documents
have gets a quarter of the mean weight), on words as they stand between spaces, in small letters. Of equal documents the
first by file name comes first; upstream's order of them is that of the folder. A regular expression has five seconds,
upstream any time it takes. What needs an embedding service, a
judging model or a shell is not here, upstream's default (`alltools`) neither.
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex

from s1pro.base.errors import InputError
from s1pro.tasks.tau2.records import Tau2Task, read_json, read_text
from s1pro.tasks.tau2.world import ToolError

KNOWLEDGE: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "no_knowledge": ("no_knowledge", ()),
    "full_kb": ("full_kb", ()),
    "golden_retrieval": ("required_docs", ()),
    "bm25": ("classic_rag_bm25_no_grep", ("KB_search",)),
    "grep_only": ("grep_only", ("grep",)),
    "bm25_grep": ("classic_rag_bm25", ("KB_search", "grep")),
}
"""The file of the policy in `prompts/`, and the tools."""
DEFAULT = "bm25_grep"
TOP = 10
GREP_SECONDS = 5.0
_K1, _B, _FLOOR = 1.5, 0.75, 0.25
_COMPONENT = re.compile(r"\{\{component:(\w+)\}\}")


@dataclass(frozen=True)
class Document:
    id: str
    title: str
    content: str


class Library:
    """The documents of a folder.

    Raises:
        InputError: there are none, or one has not the fields id, title and content.
    """

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("*.json"))
        if not paths:
            raise InputError(f"{folder}: has no documents (*.json)")
        self.documents = [_document(path) for path in paths]
        self._words = [Counter(one.content.lower().split()) for one in self.documents]
        self._sizes = [sum(words.values()) for words in self._words]
        self._weights = _weights(self._words)

    def search(self, query: str) -> list[dict[str, Any]]:
        """The best documents by BM25, whatever their score."""
        asked = query.lower().split()
        mean = sum(self._sizes) / len(self._sizes) or 1.0
        scores = [
            sum(
                self._weights[word] * words[word] * (_K1 + 1) / (words[word] + _K1 * (1 - _B + _B * size / mean))
                for word in asked
                if words[word]
            )
            for words, size in zip(self._words, self._sizes, strict=True)
        ]
        return self._best(scores) if asked else []

    def grep(self, pattern: str) -> list[dict[str, Any]]:
        """Those in which the pattern is found, by how often; what is no regular expression is searched as it is."""
        if not pattern.strip():
            return []
        counts = _occurrences(pattern, [one.content for one in self.documents])
        return [found for found in self._best(counts) if found["score"] > 0]

    def text(self, names: Sequence[str] | None = None) -> str:
        """All documents, or those named by title or id, one after the other."""
        chosen = self.documents
        if names is not None:
            by = {one.id: one for one in self.documents} | {one.title: one for one in self.documents}
            chosen = [by[name] for name in names if name in by]
        return "\n\n---\n\n".join(f"## {one.title}\n\n{one.content}" for one in chosen)

    def _best(self, scores: Sequence[float]) -> list[dict[str, Any]]:
        order = sorted(range(len(scores)), key=lambda i: scores[i], reverse=True)[:TOP]
        found = [(self.documents[i], scores[i]) for i in order]
        return [
            {"title": one.title, "id": one.id, "score": round(score, 4), "content": one.content} for one, score in found
        ]


def _occurrences(pattern: str, texts: Sequence[str]) -> list[float]:
    """Raises `ToolError` for a pattern that takes too long: it is a model's."""
    try:
        re.compile(pattern)
        wanted = regex.compile(pattern, regex.IGNORECASE)
    except (re.error, regex.error, OverflowError, RecursionError):
        wanted = regex.compile(regex.escape(pattern), regex.IGNORECASE)
    until = time.monotonic() + GREP_SECONDS
    try:
        return [float(len(wanted.findall(text, timeout=max(until - time.monotonic(), 1e-3)))) for text in texts]
    except TimeoutError as error:
        raise ToolError(f"{pattern}: the search takes longer than {GREP_SECONDS:g} s; write it more simply") from error


def checked(knowledge: str) -> str:
    """Raises `InputError` for what is not here."""
    if knowledge not in KNOWLEDGE:
        raise InputError(
            f"--knowledge {knowledge!r}: there are {', '.join(KNOWLEDGE)}; what needs an embedding service, a "
            "judging model or a shell is not here"
        )
    return knowledge


def policy_text(folder: Path, knowledge: str) -> str:
    """The policy of a domain's folder, with its components put in. Raises `InputError` for a missing file."""
    prompts = folder / "prompts"
    text = read_text(prompts / f"{KNOWLEDGE[knowledge][0]}.md")
    return _COMPONENT.sub(lambda found: read_text(prompts / "components" / f"{found[1]}.md"), text)


def with_documents(policy: str, library: Library, task: Tau2Task | None) -> str:
    """The policy with all documents, or those of a task, where it asks for them."""
    if "{{full_knowledge_base}}" in policy:
        return policy.replace("{{full_knowledge_base}}", library.text())
    if "{{required_documents}}" not in policy or task is None:
        return policy
    return policy.replace("{{required_documents}}", library.text(task.documents) or "(No documents provided)")


def _document(path: Path) -> Document:
    found = read_json(path, dict)
    for field in ("id", "title", "content"):
        if not isinstance(found.get(field), str):
            raise InputError(f"{path}: the field {field!r} is missing or no text")
    return Document(found["id"], found["title"], found["content"])


def _weights(documents: Sequence[Counter[str]]) -> dict[str, float]:
    """Of every word, the rarer the more; never below 0 by more than the floor takes back."""
    having = Counter(word for words in documents for word in words)
    weights = {word: math.log(len(documents) - count + 0.5) - math.log(count + 0.5) for word, count in having.items()}
    floor = _FLOOR * sum(weights.values()) / max(len(weights), 1)
    return {word: weight if weight >= 0 else floor for word, weight in weights.items()}
