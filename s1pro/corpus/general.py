"""General English from the documentation of installed scientific packages under BSD licences.

The other side of system-prompt isolation needs text that is not chemistry. Every installation has some: the docstrings
and the narrative files of numpy, scipy, networkx, pandas, sympy and the like.

1. A package counts only if its own metadata names a BSD licence.
2. Sources are read as text and parsed with `ast`; nothing is imported or executed. Tests and large files are skipped.
3. Of a docstring or file only the prose stays: no sections of parameters, no code, no doctest, no tables, no mark-up.
4. Paragraphs that occur twice (shared docstrings) are kept once.

Every document names its package; the licence's notice stays in the installed package.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import inspect
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.base.records import Message, Sample
from s1pro.science.system_prompts import SYSTEM_PROMPTS

PACKAGES = ("numpy", "scipy", "networkx", "pandas", "scikit-learn", "sympy", "mpmath", "kiwisolver")
DOMAIN = "english"
MAX_FILE_BYTES = 400_000
MAX_PARAGRAPH = 1500
_SECTION = re.compile(
    r"^(Parameters|Other Parameters|Returns|Yields|Raises|Warns|Warnings|See Also|Examples?|References|Attributes|"
    r"Methods|Explanation|Notes|Algorithm|Keyword Arguments|Arguments|Args)\s*$"
)
_PROSE_SECTIONS = frozenset({"Notes", "Explanation", "Algorithm"})
_ROLE = re.compile(r":[a-z:]+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`")
_UNDERLINE = re.compile(r"^([=\-~^\"'`*+#])\1{2,}\s*$")
_WORD = re.compile(r"[A-Za-z][a-z']*")


@dataclass(frozen=True, kw_only=True)
class Document:
    """Prose of one docstring or file: the dotted name or file name, and its paragraphs."""

    package: str
    name: str
    paragraphs: tuple[str, ...]


def licensed_packages(names: Sequence[str] = PACKAGES) -> list[str]:
    """Those of `names` that are installed and whose metadata names a BSD licence."""
    found = []
    for name in names:
        try:
            metadata: Any = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        statements = [metadata.get("License-Expression") or "", (metadata.get("License") or "")[:100]]
        statements += [line for line in metadata.get_all("Classifier") or () if line.startswith("License ::")]
        if any("BSD" in statement for statement in statements):
            found.append(name)
    return found


def documents(packages: Sequence[str] | None = None, *, max_documents: int = 4000) -> Iterator[Document]:
    """Documents of the packages in turn, one file of each at a time, at most `max_documents`.

    Raises:
        InputError: none of the packages is installed under a BSD licence.
    """
    usable = licensed_packages() if packages is None else licensed_packages(packages)
    if not usable:
        raise InputError(f"none of {', '.join(packages or PACKAGES)} is installed with a BSD licence in its metadata")
    seen: set[bytes] = set()
    yield from islice(_without_repetition(_in_turn([_documents_of(name) for name in usable]), seen), max_documents)


def general_texts(found: Sequence[Document]) -> Iterator[Sample]:
    """One plain document each."""
    for document in found:
        yield Sample(
            source="english-documentation",
            prompt_group="general",
            text="\n\n".join(document.paragraphs),
            entity=f"{document.package}:{document.name}",
            meta={"domain": DOMAIN, "package": document.package},
        )


def general_conversations(found: Sequence[Document]) -> Iterator[Sample]:
    """What a function or module is for, under the general system prompt; documents with a summary of one sentence."""
    for document in found:
        summary = document.paragraphs[0]
        if not 20 <= len(summary) <= 200:
            continue
        messages = (
            Message(role="system", content=SYSTEM_PROMPTS["general"]),
            Message(role="user", content=f"What does {document.name} do?"),
            Message(role="assistant", content=summary),
        )
        yield Sample(
            source="english-questions",
            prompt_group="general",
            messages=messages,
            entity=f"{document.package}:{document.name}",
            meta={"domain": DOMAIN, "package": document.package},
        )


def prose(text: str) -> list[str]:
    """The paragraphs of a docstring or reStructuredText file that are English sentences, without mark-up."""
    kept: list[str] = []
    wanted = True
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines = block.splitlines() or [""]
        title = lines[0].strip()
        if len(lines) > 1 and _UNDERLINE.match(lines[1].strip()):
            section = _SECTION.match(title)
            wanted = section is None or title in _PROSE_SECTIONS
            lines = lines[2:]
        elif _SECTION.match(title.rstrip(":")) and len(lines) > 1:
            continue
        if wanted and lines and not lines[0].startswith((" ", "\t")):
            paragraph = _clean(" ".join(line.strip() for line in lines))
            if _is_prose(paragraph):
                kept.append(paragraph)
    return kept


def _clean(text: str) -> str:
    text = _ROLE.sub(r"\1", text)
    text = re.sub(r"`{1,2}([^`]*)`{1,2}_?", r"\1", text)
    text = re.sub(r"\*{1,2}(\w[^*]*)\*{1,2}", r"\1", text)
    text = re.sub(r"\s*\[\d+\]_", "", text)
    return re.sub(r"\s+", " ", text).strip()


def _is_prose(text: str) -> bool:
    if len(text) > MAX_PARAGRAPH or not text.isascii() or not text.endswith((".", "!", "?")):
        return False
    if text.startswith((">>>", "..", "- ", "* ", "#", "|", "+", ":", "<", "@")) or any(
        m in text for m in (">>>", "::", "http")
    ):
        return False
    words = _WORD.findall(text)
    letters = sum(character.isalpha() or character == " " for character in text)
    return len(words) >= 5 and text[0].isupper() and letters >= 0.85 * len(text)


def _in_turn(iterators: list[Iterator[list[Document]]]) -> Iterator[Document]:
    while iterators:
        for iterator in list(iterators):
            batch = next(iterator, None)
            if batch is None:
                iterators.remove(iterator)
            else:
                yield from batch


def _without_repetition(found: Iterator[Document], seen: set[bytes]) -> Iterator[Document]:
    for document in found:
        kept = []
        for paragraph in document.paragraphs:
            key = hashlib.blake2b(" ".join(_WORD.findall(paragraph.lower())).encode(), digest_size=8).digest()
            if key not in seen:
                seen.add(key)
                kept.append(paragraph)
        if kept:
            yield Document(package=document.package, name=document.name, paragraphs=tuple(kept))


def _documents_of(package: str) -> Iterator[list[Document]]:
    """Per file of the package the documents in it, files in the order of a hash of their names."""
    files = [file for file in importlib.metadata.files(package) or () if _is_wanted(file.as_posix())]
    files.sort(key=lambda file: hashlib.blake2b(file.as_posix().encode(), digest_size=8).digest())
    for file in files:
        path = Path(str(file.locate()))
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".py":
            yield _docstrings(package, file.as_posix(), text)
        else:
            paragraphs = prose(text)
            yield [Document(package=package, name=file.name, paragraphs=tuple(paragraphs))] if paragraphs else []


def _is_wanted(name: str) -> bool:
    parts = name.split("/")
    if (
        ".dist-info" in parts[0]
        or parts[0] in ("..", "bin")
        or any(part in ("tests", "test", "_vendor") for part in parts)
    ):
        return False
    return name.endswith((".py", ".rst", ".md", ".txt")) and not parts[-1].lower().startswith(("license", "test_"))


def _docstrings(package: str, file: str, source: str) -> list[Document]:
    """Documents of the module and of its public functions and classes, in source order."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []  # templates of sources and files for other Python versions
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    found = []
    for name, node in _public(tree, module):
        paragraphs = prose(ast.get_docstring(node, clean=False) or "")
        if paragraphs:
            found.append(Document(package=package, name=name, paragraphs=tuple(paragraphs)))
    return found


_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _public(node: _Documented, name: str) -> Iterator[tuple[str, _Documented]]:
    yield name, node
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            yield from _public(child, f"{name}.{child.name}")
