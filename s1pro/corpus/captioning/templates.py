"""The bank of prompts: opening x task x type x length x honesty x context, as data in `templates.json`.

    prompt = opening of the domain + task of the style + hint for the type + length + honesty [+ context]

Every part is chosen by a hash of seed, element, rollout and name of the part, so a choice can be repeated anywhere,
does not depend on what else is captioned, and rollouts of one element differ. `template_id` names all choices:
`1/chemistry/chart/dense/medium/2.0.3.1.4` (with `.c2` at the end if context is shown).

Slots are typed: only the names in `slots` may stand in braces, and what fills them is never expanded again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from s1pro.base.errors import InputError
from s1pro.corpus.records import ElementRow

LONGEST_SLOT = 1500
KINDS = {"other": "figure"}
_SLOT = re.compile(r"\{(\w*)\}")
_PARTS = ("openings", "tasks", "types", "lengths", "honesty", "context")


@dataclass(frozen=True)
class Prompt:
    """A filled template."""

    template_id: str
    text: str
    style: str
    length: str
    grounded: bool


@dataclass(frozen=True)
class TemplateBank:
    """The parts by name, as in the file."""

    version: str
    openings: Mapping[str, Sequence[str]]
    tasks: Mapping[str, Sequence[str]]
    types: Mapping[str, Sequence[str]]
    lengths: Mapping[str, Mapping[str, Any]]
    honesty: Sequence[str]
    context: Sequence[str]

    @property
    def styles(self) -> tuple[str, ...]:
        return tuple(self.tasks)

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self.openings)

    def prompt(
        self,
        element: ElementRow,
        *,
        seed: int = 0,
        rollout: int = 0,
        domain: str = "general",
        grounded: bool = False,
        styles: Sequence[str] = (),
        lengths: Sequence[str] = (),
    ) -> Prompt:
        """The prompt of one element and rollout.

        Args:
            domain: a key of `openings`; unknown ones are "general".
            grounded: show the authors' caption and mentions.
            styles, lengths: the ones to choose from; default all.

        Raises:
            InputError: an unknown style or length.
        """
        key = f"{seed}|{element.element_id}|{rollout}"
        domain = domain if domain in self.openings else "general"
        kind = KINDS.get(element.type, element.type)
        style = _one_of("style", styles or self.styles, self.styles, key)
        length = _one_of("length", lengths or tuple(self.lengths), tuple(self.lengths), key)
        parts = [
            ("opening", self.openings[domain]), ("task", self.tasks[style]), ("type", self.types[kind]),
            ("length", self.lengths[length]["texts"]), ("honesty", self.honesty),
        ]  # fmt: skip
        if grounded:
            parts.append(("context", self.context))
        numbers = [_choice(f"{key}|{name}", len(texts)) for name, texts in parts]
        slots = _slots(element, kind, str(self.lengths[length]["words"]))
        text = " ".join(_fill(texts[number], slots) for (_, texts), number in zip(parts, numbers, strict=True))
        chosen = ".".join(str(number) for number in numbers[:5]) + (f".c{numbers[5]}" if grounded else "")
        template_id = f"{self.version}/{domain}/{kind}/{style}/{length}/{chosen}"
        return Prompt(template_id, text, style, length, grounded)


def load_templates(path: Path | None = None) -> TemplateBank:
    """The bank of a file, default the one that comes along.

    Raises:
        InputError: no JSON, a missing part, an empty list, or an unknown slot.
    """
    return _packaged() if path is None else _parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def _packaged() -> TemplateBank:
    text = resources.files("s1pro.corpus.captioning").joinpath("templates.json").read_text(encoding="utf-8")
    return _parse(text, "templates.json")


def _parse(text: str, name: str) -> TemplateBank:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{name}: no JSON ({error})") from error
    missing = (
        [part for part in ("version", "slots", *_PARTS) if part not in data] if isinstance(data, dict) else ["all"]
    )
    if missing:
        raise InputError(f"{name}: missing {', '.join(missing)}")
    unknown = {slot for slot in _SLOT.findall(json.dumps({part: data[part] for part in _PARTS})) if slot}
    unknown -= set(data["slots"])
    if unknown:
        raise InputError(f"{name}: unknown slots {sorted(unknown)}; known are {data['slots']}")
    for part in _PARTS:
        groups = data[part].values() if isinstance(data[part], dict) else [data[part]]
        if not all(group for group in groups):
            raise InputError(f"{name}: an empty list in {part}")
    if "general" not in data["openings"]:
        raise InputError(f"{name}: openings need 'general'")
    return TemplateBank(str(data["version"]), *(data[part] for part in _PARTS))


def _one_of(name: str, wanted: Sequence[str], known: Sequence[str], key: str) -> str:
    wrong = sorted(set(wanted) - set(known))
    if wrong:
        raise InputError(f"unknown {name} {wrong}; known are {', '.join(known)}")
    return wanted[_choice(f"{key}|{name}", len(wanted))]


def _choice(key: str, number: int) -> int:
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % number


def _slots(element: ElementRow, kind: str, words: str) -> dict[str, str]:
    mentions = " ".join(mention.text for mention in element.mentions)
    values = {
        "kind": kind,
        "label": element.label or f"this {kind}",
        "caption": element.caption or "(none)",
        "mentions": mentions or "(none)",
        "section": element.section_title or "(unknown)",
        "words": words,
    }
    return {name: " ".join(value.split())[:LONGEST_SLOT] for name, value in values.items()}


def _fill(text: str, slots: Mapping[str, str]) -> str:
    return _SLOT.sub(lambda match: slots[match[1]], text)
