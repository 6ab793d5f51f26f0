"""Classes that SciReasoner reads out of free text by words: GUE, PEER, and the yes and no of Bio_Instruction.

Upstream tries lists of phrases, each for one class, so only whether any of a list is there matters; a phrase that holds
a shorter one of its list is left out here. GUE and Bio_Instruction look for "no" first and for whole words; PEER looks
for "yes" first, and anywhere in a word: "incorrect" holds "correct" and is a yes, "know" holds "no".

PEER's `stability` is a number upstream: yes if the first one is above 1, where a sign counts only before a point.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from s1pro.base.errors import InputError
from s1pro.tasks.benchmarks.extract import answer_part, final_number, final_yes_no, upstream_visible
from s1pro.tasks.benchmarks.spec import Record

_RESULT = re.compile(r"\bthe prediction result is\s+(positive|negative)\b", re.IGNORECASE)
_GUE_NO = re.compile(r"\b(negative|no|absence|not|cannot|fails|absent|lacks)\b", re.IGNORECASE)
_GUE_VERBS: Mapping[str, str] = {
    "shows": "core promoter characteristic clear sequences",
    "contains": "sequences transcription regulatory a sites",
    "exhibits": "clear sequences features patterns",
}
_GUE_YES = re.compile(
    r"\b(positive|positively|presence|detected|identified|identifiable|found|yes|yep|located|detectable|observable|"
    r"evident|absolutely|affirmative|can|affirm|confirm|confirms|reveals|existence|certainly|consistent|recognizable|"
    r"recognized|includes|displays|evidenced by|seeing characteristic patterns|clearly contains|definitely has|"
    r"clear evidence|" + "|".join(f"{verb} ({'|'.join(words.split())})" for verb, words in _GUE_VERBS.items()) + r")\b",
    re.IGNORECASE,
)
_PEER_YES = re.compile(
    "yes|positive|correct|valid|accurate|certainly|indeed|affirmative|(be|is|highly|easily) soluble|will dissolve|"
    "dissolves easily|can be predicted|is assured",
    re.IGNORECASE,
)
_PEER_NO = re.compile("no|low|negative|impossible|denied|be insoluble", re.IGNORECASE)
_BIOLOGY_NO = re.compile(
    r"\b(no|negative|insoluble|insolubility|low solubility|does not|unlikely|absence|absent|lacks|found none|"
    r"did not reveal|cannot confirm|"
    r"not (found|detected|associated|inferred|linked|predicted|present|exhibit|soluble|be soluble))\b"
)
_BIOLOGY_YES = re.compile(
    r"\b(yes|positive|empirical|plausible|confirms|have detected|are (discernible|supported|present)|"
    r"is (supported|predicted|likely|expected)|display|displays regions|detected the presence|has (been )?identified|"
    r"shows|contains |exhibits evidence|reveals the presence|include|definitely has|soluble|has a high solubility|"
    r"dissolves easily|will dissolve)\b"
)


def gue_label(response: str, record: Record) -> bool | None:
    """Upstream's sentence, else a word of "no", else one of "yes"; reasoning that never ended is nothing."""
    text = upstream_visible(response)
    found = _RESULT.search(text)
    if "<think>" in text and "</think>" not in text:
        return None
    if found:
        return found[1].lower() == "positive"
    if _GUE_NO.search(text):
        return False
    return True if _GUE_YES.search(text) else None


def strict_gue_label(response: str, record: Record) -> bool | None:
    """The last of the sentences or, without one, a single word or a clear yes or no."""
    text = answer_part(response)
    found = _RESULT.findall(text)
    if found:
        return str(found[-1]).lower() == "positive"
    words = {word.lower() for word in re.findall(r"\b(positive|negative)\b", text, re.IGNORECASE)}
    return words.pop() == "positive" if len(words) == 1 else final_yes_no(response)


def peer_answer(response: str, record: Record) -> bool | None:
    """Upstream's sentence, else a phrase of "yes", else one of "no"."""
    text = upstream_visible(response).rpartition("</think>")[2]
    found = re.search(r"The answer is\s+(Yes|No)", text, re.IGNORECASE)
    if found:
        return found[1].lower() == "yes"
    if _PEER_YES.search(text):
        return True
    return False if _PEER_NO.search(text) else None


def peer_stability(response: str, record: Record) -> bool | None:
    """Whether the first number is above 1."""
    found = re.search(r"[-+]?\d*\.\d+|\d+", upstream_visible(response).rpartition("</think>")[2])
    return float(found[0]) > 1 if found else None


def strict_stability(response: str, record: Record) -> bool | None:
    number = final_number(response)
    return final_yes_no(response) if number is None else number > 1


def gold_yes(record: Record) -> bool:
    """Yes or no; for a number, whether it is above 1."""
    text = str(record["output"])
    meant = final_yes_no(text)
    number = final_number(text) if meant is None else None
    if meant is None and number is None:
        raise InputError(f"the field 'output' is {text!r:.60}, expected yes or no, or a number")
    return meant if number is None else number > 1  # type: ignore[return-value]


def keyword_class(response: str, record: Record) -> bool | None:
    """Of Bio_Instruction; None where upstream asks a classifier, or finds that the reply does not know."""
    text = response.rpartition("</think>")[2].rpartition("<summary>")[2].lower()
    if _BIOLOGY_NO.search(text):
        return False
    return True if _BIOLOGY_YES.search(text) else None


def is_negative(text: str) -> bool:
    return bool(_BIOLOGY_NO.search(text.lower()))
