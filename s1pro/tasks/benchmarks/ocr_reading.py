"""Reading pairs of key and value, and places, out of replies to OCRBench V2, and the credit for them.

| asked for | compat | strict |
|---|---|---|
| pairs of key and value | share of keys of either side that have the same value | F of the pairs |
| a place | IoU of the last box of whole numbers up to 1000 | likewise, decimals too |
| an answer and its place | mean of both | likewise |
| words and their places | F of boxes that meet (IoU above 0.5, the first that does) and say the same, case aside | \
only boxes that say the same are paired, the nearest first |
"""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from s1pro.tasks.benchmarks.ocr_credit import words_credit

Box = Sequence[float]
Spot = tuple[Box, str]
_FENCE = re.compile(r"```(?:python|json)?\n(.*?)\n```", re.DOTALL | re.IGNORECASE)
_PAIR = re.compile(r"""["']?([\w\s]+)["']?\s*[:=]\s*["']?([^\n,"'{}]+)["']?""")
_BOX = re.compile(r"[(\[]\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*[)\]]")
_STRICT_BOX = re.compile(r"[(\[]\s*" + r"\s*,\s*".join([r"(\d+(?:\.\d+)?)"] * 4) + r"\s*[)\]]")
_SPOT = re.compile(r"[\[(]\s*([^\[\]()]*?)\s*[\])]")
_LITERAL_ERRORS = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)
SPECIAL = "!?.:,*\"()\N{MIDDLE DOT}[]/'"


# pairs of key and value


def pairs_in(reply: str) -> dict[str, str]:
    """Upstream's reader: JSON, else a Python literal, else whatever looks like `key: value`."""
    fenced = _FENCE.search(reply)
    text = fenced[1] if fenced else reply.strip()
    data: Any = {}
    for read in (json.loads, ast.literal_eval):
        try:
            data = read(text)
        except _LITERAL_ERRORS:
            continue
        break
    else:
        data = {key.strip(): value.strip() for key, value in _PAIR.findall(text)}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        return {}
    return {key.strip(): str(value).strip() for key, value in data.items()}


def gold_pairs(answer: Any) -> list[dict[str, str]]:
    """All choices of one value for every key. Raises `ValueError` for what is no dictionary."""
    if not isinstance(answer, Mapping):
        answer = literal(str(answer).strip('"'))
        answer = literal(answer) if isinstance(answer, str) else answer
    if not isinstance(answer, Mapping):
        raise ValueError(f"{answer!r:.60} is no dictionary")
    values = [list(map(str, value)) if isinstance(value, list) else [str(value)] for value in answer.values()]
    return [dict(zip(answer, chosen, strict=True)) for chosen in itertools.product(*values)]


def pairs_credit(said: Mapping[str, str], golds: Sequence[Mapping[str, str]], *, pooled: bool = False) -> float:
    """The best over the choices. `pooled` is strict: F of the pairs, in which a wrong value is missing and false."""
    return max((_agreement(said, gold, pooled) for gold in golds), default=0.0)


def _agreement(said: Mapping[str, str], gold: Mapping[str, str], pooled: bool) -> float:
    def clean(text: str) -> str:
        return text.lower().strip().replace("\n", " ").replace(" ", "")

    right = sum(key in said and clean(said[key]) == clean(value) for key, value in gold.items())
    total = (len(said) + len(gold)) / 2 if pooled else len({*said, *gold})
    return right / total if total else 0.0


def chart_in(reply: str) -> dict[Any, Any]:
    """Upstream's reader of charts: the longest fenced block up to its last brace, as a Python literal."""
    text = max(_FENCE.findall(reply), key=len, default=reply.strip())
    text = re.sub(r"#.*", "", re.sub(r"^\s*\w+\s*=\s*", "", text.strip(), count=1))
    try:
        found = ast.literal_eval(text[: text.rfind("}") + 1] if "}" in text else text)
    except _LITERAL_ERRORS:
        return {}
    return found if isinstance(found, dict) else {}


# places


def box_in(reply: str, *, decimals: bool = False) -> list[float] | None:
    """The last box whose numbers are at most 1000."""
    found = [list(map(float, match)) for match in (_STRICT_BOX if decimals else _BOX).findall(reply)]
    fits = [box for box in found if max(box) <= 1000]
    return fits[-1] if fits else None


def overlap(left: Box, right: Box) -> float:
    """Intersection over union."""
    width = min(left[2], right[2]) - max(left[0], right[0])
    height = min(left[3], right[3]) - max(left[1], right[1])
    shared = max(0, width) * max(0, height)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (left, right)) - shared
    return shared / union if union else 0.0


def placed_credit(reply: str, answers: Any, box: Box, *, whole: bool = False) -> float:
    """Half for `answer`, half for `bbox` of a dictionary."""
    said = pairs_in(reply)
    text = words_credit(said["answer"], answers, whole=whole) if "answer" in said else 0.0
    try:
        place = [number if whole else int(number) for number in literal(said.get("bbox", ""))][:4]
        return 0.5 * text + 0.5 * (overlap(place, box) if len(place) == 4 else 0.0)
    except _LITERAL_ERRORS:
        return 0.5 * text


def spots_in(reply: str) -> list[Spot]:
    """Upstream's reader of `[(x1, y1, x2, y2, text), ...]`, each once; what is none is left out."""
    try:
        data = ast.literal_eval(reply)
        rows = [list(row) for row in data if isinstance(row, list | tuple)] if isinstance(data, list | tuple) else []
    except _LITERAL_ERRORS:
        rows = [found.split(",", 4) for found in _SPOT.findall(reply)]
    found: dict[tuple[Any, ...], Spot] = {}
    for row in rows:
        try:
            box = [int(str(number).strip()) for number in row[:4]]
        except ValueError:
            continue
        if len(row) >= 5 and all(0 <= number <= 1000 for number in box):
            text = str(row[4]).replace("\n", "").strip().strip('"').strip("'")
            found.setdefault((*box, text), (box, text))
    return [spot for spot in found.values() if spot[0][0] < spot[0][2] and spot[0][1] < spot[0][3]]


def spots_credit(said: Sequence[Spot], golds: Sequence[Spot], *, by_text: bool = False) -> float:
    """F of spots that were found; `###` in a gold is a place that does not count, nor does what lies on it."""
    cared = [(box, text) for box, text in golds if text != "###"]
    ignored = [box for box, text in golds if text == "###"]
    kept = [spot for spot in said if not any(_inside(spot[0], box) > 0.5 for box in ignored)]
    if not cared or not kept:
        return 0.0
    right = (_paired_by_text if by_text else _paired_by_place)(kept, cared)
    return 2 * right / (len(kept) + len(cared))


def _paired_by_place(said: Sequence[Spot], golds: Sequence[Spot]) -> int:
    """A gold meets the first free spot on it, right or wrong."""
    free, right = list(said), 0
    for box, text in golds:
        met = next((spot for spot in free if overlap(spot[0], box) > 0.5), None)
        if met is not None:
            free.remove(met)
            right += _same_text(text.upper(), met[1].upper())
    return right


def _paired_by_text(said: Sequence[Spot], golds: Sequence[Spot]) -> int:
    pairs = [
        (overlap(spot[0], box), i, j)
        for i, (box, text) in enumerate(golds)
        for j, spot in enumerate(said)
        if overlap(spot[0], box) > 0.5 and _same_text(text.upper(), spot[1].upper())
    ]
    used: set[tuple[str, int]] = set()
    for _, i, j in sorted(pairs, reverse=True):
        if ("gold", i) not in used and ("said", j) not in used:
            used |= {("gold", i), ("said", j)}
    return len(used) // 2


def _inside(box: Box, outer: Box) -> float:
    """Share of the area of `box` that lies in `outer`."""
    width, height = min(box[2], outer[2]) - max(box[0], outer[0]), min(box[3], outer[3]) - max(box[1], outer[1])
    return max(0, width) * max(0, height) / ((box[2] - box[0]) * (box[3] - box[1]))


def _same_text(gold: str, said: str) -> bool:
    """A special sign at either end of the gold may be left out."""
    begins, ends = gold[:1] in SPECIAL and gold[:1] != "", gold[-1:] in SPECIAL and gold[-1:] != ""
    return (
        gold == said
        or (begins and gold[1:] == said)
        or (ends and gold[:-1] == said)
        or (begins and ends and gold[1:-1] == said)
    )


def literal(text: str) -> Any:
    """JSON, or a Python literal. Raises `ValueError`."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except _LITERAL_ERRORS as error:
        raise ValueError(f"{text!r:.60} is neither JSON nor a Python literal") from error
