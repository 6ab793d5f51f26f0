"""Checkers of instructions, by their names in IFEval and IFBench; `CHECKS` lists what there is.

Sentences are counted by the rules of `ifbench_sentences`, where upstream has a trained model. Compat has checkers of
its own (`UPSTREAM_CHECKS`) for what upstream does otherwise: keywords are regular expressions, words in capitals are
nltk's tokens, and text in capital or small letters must be English to langdetect, which a few words often are not
(without the package the letters alone count). IFBench's own constraints are in `ifbench_checks`; two of them need data
of nltk that are a download (`unsupported`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from s1pro.tasks.benchmarks.ifbench_checks import IFBENCH_CHECKS
from s1pro.tasks.benchmarks.ifbench_custom import CUSTOM_CHECKS
from s1pro.tasks.benchmarks.ifbench_sentences import SENTENCE_CHECKS, sentences, tokens
from s1pro.tasks.benchmarks.ifbench_words import WORD_CHECKS, missing
from s1pro.tasks.benchmarks.response_language import in_english, is_missing, response_language


def _compared(number: float, bound: float, relation: str) -> bool:
    """Relations are "less than" and "at least"."""
    return number < bound if relation == "less than" else number >= bound


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def existence(text: str, keywords: Sequence[str]) -> bool:
    return all(re.search(word, text, re.IGNORECASE) for word in map(re.escape, keywords))


def forbidden(text: str, forbidden_words: Sequence[str]) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in forbidden_words)


def frequency(text: str, keyword: str, frequency: int, relation: str) -> bool:
    return _compared(len(re.findall(re.escape(keyword), text, re.IGNORECASE)), frequency, relation)


def letter_frequency(text: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return _compared(text.lower().count(letter.lower()), let_frequency, let_relation)


def number_words(text: str, num_words: int, relation: str) -> bool:
    return _compared(len(_words(text)), num_words, relation)


def number_sentences(text: str, num_sentences: int, relation: str) -> bool:
    return _compared(len(sentences(text)), num_sentences, relation)


def number_paragraphs(text: str, num_paragraphs: int) -> bool:
    """Separated by lines of three asterisks; empty ones are allowed at both ends only."""
    parts = re.split(r"\s?\*\*\*\s?", text)
    inner_empty = any(not part.strip() for part in parts[1:-1])
    return not inner_empty and sum(bool(part.strip()) for part in parts) == num_paragraphs


def nth_paragraph_first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Paragraphs are separated by an empty line."""
    parts = re.split(r"\n\n", text)
    if nth_paragraph > len(parts) or not parts[nth_paragraph - 1].strip():
        return False
    start = parts[nth_paragraph - 1].split()[0].lstrip("'\"")
    word = re.match(r"[^.,?!'\"]*", start)
    return (
        sum(bool(part.strip()) for part in parts) == num_paragraphs
        and (word[0] if word else "").lower() == first_word.lower()
    )


def placeholders(text: str, num_placeholders: int) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= num_placeholders


def postscript(text: str, postscript_marker: str) -> bool:
    letters = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    marker = letters.get(postscript_marker, re.escape(postscript_marker.lower()))
    return bool(re.search(rf"\s*{marker}.*$", text.lower(), re.MULTILINE))


def bullets(text: str, num_bullets: int) -> bool:
    """Lines that begin with an asterisk (not two) or a hyphen."""
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    return len(stars) + len(re.findall(r"^\s*-.*$", text, re.MULTILINE)) == num_bullets


def constrained(text: str) -> bool:
    return any(option in text for option in ("My answer is yes.", "My answer is no.", "My answer is maybe."))


def highlights(text: str, num_highlights: int) -> bool:
    single = [m for m in re.findall(r"\*[^\n\*]*\*", text) if m.strip("*").strip()]
    double = [m for m in re.findall(r"\*\*[^\n\*]*\*\*", text) if m.removeprefix("**").removesuffix("**").strip()]
    return len(single) + len(double) >= num_highlights


def sections(text: str, section_spliter: str, num_sections: int) -> bool:
    return len(re.split(rf"\s?{re.escape(section_spliter)}\s?\d+\s?", text)) - 1 >= num_sections


def json_format(text: str) -> bool:
    """The whole reply, with or without a fence."""
    bare = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.IGNORECASE).strip()
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def title(text: str) -> bool:
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", text))


def two_responses(text: str) -> bool:
    """Two different ones, separated by six asterisks."""
    parts = text.split("******")
    if any(not part.strip() for part in parts[1:-1]):
        return False
    kept = [part.strip() for part in parts if part.strip()]
    return len(kept) == 2 and kept[0] != kept[1]


def repeat_prompt(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def capital_words(text: str, capital_frequency: int, capital_relation: str) -> bool:
    words = [word for word in re.findall(r"[\w'-]+", text) if word.isupper()]
    return _compared(len(words), capital_frequency, capital_relation)


def all_capital(text: str) -> bool:
    return text.isupper()


def all_small(text: str) -> bool:
    return text.islower()


def no_comma(text: str) -> bool:
    return "," not in text


def quotation(text: str) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


LANGUAGE = "language:response_language"
CHECKS: Mapping[str, Callable[..., bool]] = {
    "keywords:existence": existence,
    "keywords:forbidden_words": forbidden,
    "keywords:frequency": frequency,
    "keywords:letter_frequency": letter_frequency,
    "length_constraints:number_words": number_words,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": bullets,
    "detectable_format:constrained_response": constrained,
    "detectable_format:number_highlighted_sections": highlights,
    "detectable_format:multiple_sections": sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_words,
    "change_case:english_capital": all_capital,
    "change_case:english_lowercase": all_small,
    "punctuation:no_comma": no_comma,
    LANGUAGE: response_language,
    **IFBENCH_CHECKS,
    **SENTENCE_CHECKS,
    **CUSTOM_CHECKS,
    **WORD_CHECKS,
}


def _pattern(word: str, *, whole: bool = False) -> re.Pattern[str]:
    """A keyword as upstream takes it: as a regular expression; one that is none stands for itself."""
    border = r"\b" if whole else ""
    try:
        return re.compile(f"{border}{word}{border}", re.IGNORECASE)
    except re.error:
        return re.compile(f"{border}{re.escape(word)}{border}", re.IGNORECASE)


def _upstream_capitals(text: str, capital_frequency: int, capital_relation: str) -> bool:
    """Of words as nltk cuts them: "IT'S" is two."""
    return _compared(sum(token.isupper() for token in tokens(text)), capital_frequency, capital_relation)


UPSTREAM_CHECKS: Mapping[str, Callable[..., bool]] = {
    **CHECKS,
    "keywords:existence": lambda text, keywords: all(_pattern(word).search(text) for word in keywords),
    "keywords:forbidden_words": lambda text, forbidden_words: (
        not any(_pattern(word, whole=True).search(text) for word in forbidden_words)
    ),
    "keywords:frequency": lambda text, keyword, frequency, relation: _compared(
        len(_pattern(keyword).findall(text)), frequency, relation
    ),
    "change_case:capital_word_frequency": _upstream_capitals,
    "change_case:english_capital": lambda text: all_capital(text) and in_english(text),
    "change_case:english_lowercase": lambda text: all_small(text) and in_english(text),
}


def unsupported(name: str) -> bool:
    """Whether an instruction has no checker, or one whose data or package is not on this machine."""
    return name not in CHECKS or missing(name) or (name == LANGUAGE and is_missing())
