"""Answers fixed questions about a chart from the text of its caption alone, by general patterns of English.

It knows nothing of how captions are made: it looks for sentences about a thing (an axis, the legend, a series) and for
words that people use there.
"""

from __future__ import annotations

import re

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBER = r"[−-]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:e[−+-]?\d+|\^[−-]?\d+)?%?"


def sentences(text: str) -> list[str]:
    """Split at full stops, question and exclamation marks outside of quotes, followed by a blank, and at line ends."""
    marked, depth = "", 0
    for i, character in enumerate(text):
        depth += (character == "“") - (character == "”")
        ends = depth == 0 and (
            character == "\n" or (character in ".!?" and (i + 1 == len(text) or text[i + 1] in " \n"))
        )
        marked += character + ("\0" if ends else "")
    return [part.strip(" \n-") for part in marked.split("\0") if part.strip(" \n-")]


def quotes(text: str) -> list[str]:
    return re.findall(r"“([^”]*)”", text)


def panel_text(text: str, label: str) -> str:
    """What is said about one panel: from the sentence that names it to the one that names another."""
    chosen, inside = [], False
    for sentence in sentences(text):
        named = re.findall(r"\bpanel (\([a-z]\))", sentence, re.IGNORECASE)
        if named:
            inside = label in named
        if inside:
            chosen.append(sentence)
    return "\n".join(chosen)


def _about(text: str, pattern: str) -> list[str]:
    return [sentence for sentence in sentences(text) if re.search(pattern, sentence, re.IGNORECASE)]


AXES = {"x": r"\b(horizontal axis|x[- ]axis)", "y": r"\b(vertical axis|y[- ]axis)"}


def axis_title(text: str, axis: str) -> tuple[str, str]:
    """(quantity, unit)."""
    for sentence in _about(text, AXES[axis]):
        for title in quotes(sentence):
            match = re.fullmatch(r"(.*?)\s*(?:\(([^()]*)\)|\[([^\]]*)\])", title)
            return (match[1], match[2] or match[3]) if match else (title, "")
    return "", ""


def axis_range(text: str, axis: str) -> tuple[str, str]:
    for sentence in _about(text, AXES[axis]):
        match = re.search(rf"\bfrom ({NUMBER}) to ({NUMBER})", sentence)
        if match:
            return match[1], match[2]
    return "", ""


def axis_scale(text: str, axis: str) -> str:
    joined = " ".join(_about(text, AXES[axis])).lower()
    if "categor" in joined:
        return "category"
    return "log" if re.search(r"\blog(arithmic)?\b", joined) else "linear"


def categories(text: str, axis: str) -> list[str]:
    for sentence in _about(text, AXES[axis]):
        at = sentence.lower().find("categor")
        if at >= 0:
            return quotes(sentence[at:])
    return []


def legend(text: str) -> list[str]:
    for sentence in _about(text, r"\blegend\b"):
        return quotes(re.sub(r"(heading|title) “[^”]*”", "", sentence))
    return []


def number_of_series(text: str) -> int | None:
    for sentence in _about(text, r"\bseries\b"):
        match = re.search(r"\b(\w+) (?:data )?series\b", re.sub(r"“[^”]*”", "", sentence), re.IGNORECASE)
        if match:
            word = match[1].lower()
            return 1 if word == "single" else WORDS.index(word) if word in WORDS else None
    return None


def trend(text: str, name: str) -> str:
    """Of one series; `name` is empty if there is only one without a name."""
    skip = r"\b(axis|legend)\b"
    for sentence in sentences(text):
        if re.search(skip, sentence) or (name and name not in quotes(sentence)):
            continue
        found = _trend_words(sentence)
        if found:
            return found
    return ""


def _trend_words(sentence: str) -> str:
    low = re.sub(r"“[^”]*”", "", sentence).lower()
    for pattern, answer in (
        (r"positive(ly)? correlat", "positive"), (r"negative(ly)? correlat", "negative"),
        (r"oscillat|wav(es|y)\b|periodic", "oscillating"),
        (r"\bpeak|\bmaximum", "peak"), (r"\bminimum|\bvalley|\bdip", "valley"),
        (r"constant|\blevel\b|\bflat\b|unchanged", "flat"), (r"\bris(es|ing)\b|increas|goes up|grows|climbs", "rising"),
        (r"\bfall(s|ing)\b|decreas|goes down|declin|drops", "falling"),
    ):  # fmt: skip
        if re.search(pattern, low):
            return answer
    return ""


def tallest(text: str, name: str) -> str:
    """The category of the highest bar, of a named series if there are several."""
    for sentence in sentences(text):
        if name and name not in quotes(sentence):
            continue
        match = re.search(r"(?:tallest|highest|longest)[^;“]*“([^”]*)”", sentence)
        if match:
            return match[1]
    return ""


def number_of_panels(text: str) -> int | None:
    match = re.search(r"\b(\w+) panels?\b", text, re.IGNORECASE)
    return WORDS.index(match[1].lower()) if match and match[1].lower() in WORDS else None


def columns_of_table(text: str) -> list[str]:
    for sentence in _about(text, r"\bcolumns?\b.*(head|call)|\bheaders?\b"):
        if quotes(sentence):
            return quotes(sentence)
    return []


def rows_of_table(text: str) -> int | None:
    match = re.search(r"\b(\w+(?:-\w+)?) rows?\b", text, re.IGNORECASE)
    words = [*WORDS, "eleven", "twelve"]
    return words.index(match[1].lower()) if match and match[1].lower() in words else None


def cell_of_table(text: str, row: str, column: str) -> str:
    """What a sentence about a row says after the name of a column."""
    for sentence in sentences(text):
        if row in quotes(sentence) and not re.search(r"\bcolumns?\b", sentence):
            match = re.search(rf"{re.escape(column)}: (.*?)(?:;|\.?$)", sentence.partition("”")[2])
            if match:
                return match[1].strip()
    return ""
