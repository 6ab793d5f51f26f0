"""Checks a caption against the text inside the crop. A caption is never changed here, only flagged.

    flag                what it means
    number:VALUE        a number that is not printed in the figure, and that no rule derives from printed ones
    label:TEXT          a quoted text that is not printed
    quotes_caption:N    N characters in a row of the authors' caption, in a text that must not know it
    repetition          the end repeats itself, or one line comes again and again
    refusal             the model speaks of itself or declines
    prompt_echo         the text repeats its instruction
    empty, truncated    nothing, or an end without a full stop after finish_reason "length"
    no_text_layer       the crop has no text, so numbers and labels were not checked

Numbers that are allowed although they are not printed: another format of a printed one (sign, separators, exponent,
percent and fraction); a printed one rounded to fewer digits; counts of things up to `LARGEST_COUNT` ("3 curves"); the
difference or ratio of two printed numbers where the sentence says so ("differs by", "times"); and numerals in names of
parts ("panel 2", "row 3"). Units are compared through the labels only.

Context is cut off before: what follows `CONTEXT_MARK` is the authors' text, quoted as such.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from s1pro.corpus.describe.numbers import Number, normalise, numbers_in

CONTEXT_MARK = "Context, not read from the figure:"
LARGEST_COUNT = 20
LONGEST_QUOTE = 60
CLOSE = 1e-6
MOST_PRINTED = 400
_COUNTED = re.compile(
    r"\s*[- ]?(?:panels?|series|curves?|lines?|bars?|bins?|points?|groups?|rows?|columns?|categor(?:y|ies)|colou?rs?|"
    r"peaks?|sub-?plots?|sub-?figures?|parts?|images?|plots?|axes|labels?|ticks?|boxes|arrows?|steps?|markers?|"
    r"cells?|entries|items?|d\b|dimensional|distinct|different|major|minor|main|separate|data|vertical|horizontal|"
    r"(?:\w+ed) \w+)",
    re.IGNORECASE,
)
_ORDINAL = re.compile(
    r"(?:panel|row|column|figure|fig\.|table|step|part|line|series|curve|number|no\.|equation|eq\.)\s*\(?$",
    re.IGNORECASE,
)
_DERIVED = re.compile(
    r"\b(?:times|fold|factor|ratio|differ\w*|increase[sd]? (?:by|of)|decrease[sd]? (?:by|of)|total|sum|span\w*|"
    r"apart|between|average|mean|percent(?:age)?|half|double[sd]?|gap|range)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"“([^”\n]{1,120})”|\"([^\"\n]{1,120})\"|‘([^’\n]{2,120})’")
_REFUSAL = re.compile(
    r"\b(?:as an ai\b|i(?:'m| am) (?:sorry|unable|not able)|"
    r"i can(?:no|')t (?:see|view|assist|help|provide|access)|"
    r"(?:cannot|can't|unable to) (?:view|see|access|open|display) (?:the |this |any )?(?:image|figure|picture|file)|"
    r"no image (?:was |is )?(?:provided|attached|visible)|"
    r"please (?:provide|upload|share) (?:the |an )?(?:image|figure))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Checked:
    """Flags of one caption; `foreign_numbers` and `foreign_labels` are their values."""

    flags: tuple[str, ...]
    foreign_numbers: tuple[str, ...] = ()
    foreign_labels: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        return all(flag == "no_text_layer" for flag in self.flags)


def check_caption(
    text: str,
    text_layer: str,
    *,
    authors_caption: str = "",
    grounded: bool = False,
    prompt: str = "",
    finish_reason: str = "stop",
) -> Checked:
    """Flags of a caption.

    Args:
        text_layer: the characters inside the crop, `ElementRow.text_layer`.
        authors_caption: what an ungrounded caption must not quote.
        grounded: the authors' caption was shown to the model: its numbers count as printed, and may be quoted.
    """
    visible = text.partition(CONTEXT_MARK)[0]
    flags: list[str] = []
    printed = f"{text_layer}\n{authors_caption}" if grounded else text_layer
    numbers: list[str] = []
    labels: list[str] = []
    if text_layer.strip():
        numbers = list(foreign_numbers(visible, printed))
        labels = list(foreign_labels(visible, printed))
    else:
        flags.append("no_text_layer")
    flags += [f"number:{number}" for number in numbers] + [f"label:{label[:60]}" for label in labels]
    if not grounded and authors_caption:
        length = len(longest_common(visible, authors_caption))
        if length > LONGEST_QUOTE and length > len(longest_common(text_layer, authors_caption)):
            flags.append(f"quotes_caption:{length}")
    flags += form_flags(visible, prompt=prompt, finish_reason=finish_reason)
    return Checked(tuple(flags), tuple(numbers), tuple(labels))


def form_flags(text: str, *, prompt: str = "", finish_reason: str = "stop") -> list[str]:
    """What is wrong with a text whatever it describes."""
    flags = []
    if not text.strip():
        flags.append("empty")
    if repeats(text):
        flags.append("repetition")
    if _REFUSAL.search(text[:600]):
        flags.append("refusal")
    if prompt and len(longest_common(text[:4000], prompt[:4000])) > 0.5 * min(len(prompt), 160):
        flags.append("prompt_echo")
    if finish_reason == "length":
        flags.append("truncated")
    return flags


def repeats(text: str) -> bool:
    """A tail that is one piece three times or more, or lines and sentences that come again and again."""
    tail = text.strip()[-1200:]
    for period in range(4, len(tail) // 3 + 1):
        piece = tail[-period:]
        times = 1
        while tail[-period * (times + 1) : -period * times] == piece:
            times += 1
        if times >= 3 and times * period >= 40:
            return True
    parts = [part.strip().lower() for part in re.split(r"[.!?\n;]", text) if len(part.strip()) > 20]
    most = max(Counter(parts).values(), default=0)
    return most >= 4 or (most >= 3 and most > 0.3 * len(parts))


def foreign_numbers(text: str, printed: str) -> Iterator[str]:
    """Numbers of a text that are neither printed nor allowed by a rule; each once."""
    known = _Printed(printed)
    seen: set[str] = set()
    for sentence in _sentences(normalise(text)):
        for number, start, end in _placed(sentence):
            if number.text in seen or known.has(number):
                continue
            before, after = sentence[max(0, start - 14) : start], sentence[end : end + 30]
            counts = number.value == int(number.value) and 0 <= number.value <= LARGEST_COUNT
            if counts and (_COUNTED.match(after) or _ORDINAL.search(before)):
                continue
            if _DERIVED.search(sentence) and known.derives(number.value):
                continue
            seen.add(number.text)
            yield number.text


def foreign_labels(text: str, printed: str) -> Iterator[str]:
    """Quoted texts that are not printed, blanks, case and kinds of dashes aside."""
    squeezed = squeeze(printed)
    for match in _QUOTED.finditer(text):
        label = next(group for group in match.groups() if group is not None)
        core = squeeze(label.strip(".,;:"))
        words = [squeeze(word) for word in re.findall(r"\w+", label)]
        if core and core not in squeezed and not (len(words) > 2 and all(word in squeezed for word in words)):
            yield label


def longest_common(a: str, b: str) -> str:
    """The longest run of characters in both, blanks and case aside.

    If a run of length n is in both, so are runs of every smaller length: the length is found by bisection, each step
    with a set of all runs of one length.
    """
    a, b = (" ".join(text.lower().split()) for text in (a, b))
    low, high, best = 0, min(len(a), len(b)), ""
    while low < high:
        length = (low + high + 1) // 2
        runs = {b[i : i + length] for i in range(len(b) - length + 1)}
        found = next((a[i : i + length] for i in range(len(a) - length + 1) if a[i : i + length] in runs), None)
        if found is None:
            high = length - 1
        else:
            low, best = length, found
    return best


def squeeze(text: str) -> str:
    """Letters and digits only, lower case, compatibility forms folded."""
    folded = unicodedata.normalize("NFKC", normalise(text)).lower()
    return "".join(character for character in folded if character.isalnum())


class _Printed:
    """The numbers of a text layer, also those that lost their blanks or superscripts on the way."""

    def __init__(self, text: str) -> None:
        flat = normalise(text)
        self.values = sorted({abs(number.value) for number in numbers_in(flat)})[:MOST_PRINTED]
        self.values += sorted({abs(n.value) for n in numbers_in(re.sub(r"(?<=\d)[,\s](?=\d{3}\b)", "", flat))})
        self.digits = {re.sub(r"\D", "", run) for run in re.findall(r"[\d.,^ eE+-]*\d", flat)}
        self.digits |= {re.sub(r"\D", "", run) for run in re.findall(r"\d[\d.,^]*", flat)}
        self.digits |= {re.sub(r"\D", "", run) for run in re.findall(r"\d[\d.,^×·-]*\d", flat)}
        self.digits |= {re.sub(r"\D", "", run) for run in re.findall(r"\d[\d.,]* ?[×·] ?10 ?\^?-?\d+", flat)}

    def has(self, number: Number) -> bool:
        value = abs(number.value)
        forms = (value, value / 100, value * 100) if "%" in number.text or value <= 1 else (value,)
        if any(abs(form - other) <= CLOSE * max(form, other) for form in forms for other in self.values):
            return True
        if re.sub(r"\D", "", number.text) in self.digits:
            return True
        digits = len(number.text.partition(".")[2].partition("e")[0])
        step = 0.5 * 10.0**-digits
        return any(abs(value - other) <= step * (1 + CLOSE) and other != round(other, digits) for other in self.values)

    def derives(self, value: float) -> bool:
        """Whether it is the difference, sum, mean or ratio (to two digits) of two printed numbers."""
        value = abs(value)
        for a, b in itertools.combinations(self.values[:120], 2):
            results = [abs(a - b), a + b, (a + b) / 2]
            results += [max(a, b) / min(a, b)] if min(a, b) > 0 else []
            if any(abs(value - result) <= 0.05 * result and result > 0 for result in results):
                return True
        return False


def _placed(sentence: str) -> Iterator[tuple[Number, int, int]]:
    start = 0
    for number in numbers_in(sentence):
        at = sentence.find(number.text, start)
        if at < 0:
            continue
        start = at + len(number.text)
        end = start
        if sentence[end : end + 1] == "%":
            number = Number(number.value, number.text + "%")
            end += 1
        yield number, at, end


def _sentences(text: str) -> Sequence[str]:
    return re.split(r"(?<=[.!?;:])\s+|\n", text)


def flag_counts(rows: Iterable[tuple[str, ...]]) -> dict[str, int]:
    """How often each kind of flag occurs."""
    counts: Counter[str] = Counter()
    for flags in rows:
        counts.update({flag.partition(":")[0] for flag in flags})
    return dict(counts)
