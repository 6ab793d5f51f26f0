"""Checkers of IFBench's own constraints that look at characters, words and lines; see also `ifbench_sentences`,
`ifbench_words` and `ifbench_custom`, with which there are all 58.
"""

from __future__ import annotations

import itertools
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping

_MARKS = str.maketrans("", "", string.punctuation)
_EDGES = string.punctuation + " "
_JAPANESE = re.compile("[\N{HIRAGANA LETTER SMALL A}-\N{KATAKANA LETTER VO}\u4e00-\u9fff]")
_CONJUNCTIONS = frozenset({"and", "but", "for", "nor", "or", "so", "yet"})


def _bare_words(text: str) -> list[str]:
    """Words in small letters, punctuation removed everywhere."""
    return text.lower().translate(_MARKS).split()


def word_count_range(text: str, min_words: float, max_words: float) -> bool:
    return min_words <= len(re.findall(r"\w+", text)) <= max_words


def unique_word_count(text: str, N: float) -> bool:
    return len({word.strip(_EDGES) for word in text.lower().split()}) >= N


def conjunctions(text: str, small_n: float) -> bool:
    """Different ones, as they are spelled."""
    return len({word for word in text.split() if word.strip(_EDGES).lower() in _CONJUNCTIONS}) >= small_n


def number_count(text: str, N: float) -> bool:
    """Exactly; punctuation goes first, so 1,000 is one number."""
    return len(re.findall(r"\d+", text.translate(_MARKS))) == N


def overlap(text: str, reference_text: str, percentage: float) -> bool:
    """Share of the reply's character triples that the reference has, within 2 points."""
    said, wanted = ({some[i : i + 3] for i in range(len(some) - 2)} for some in (text, reference_text))
    return bool(said) and abs(100 * len(said & wanted) / len(said) - percentage) <= 2


def alphabet(text: str) -> bool:
    """Words begin with successive letters."""
    starts = [word[0] for word in _bare_words(text)]
    letters = string.ascii_lowercase
    if not starts or starts[0] not in letters:
        return False
    first = letters.index(starts[0])
    return all(start == letters[(first + i) % 26] for i, start in enumerate(starts))


def few_vowels(text: str) -> bool:
    """One paragraph with at most three different vowels."""
    return "\n" not in text.strip() and len(set(text.lower()) & set("aeiou")) <= 3


def consonant_clusters(text: str) -> bool:
    return all(re.search("[b-df-hj-np-tv-z]{2}", word) for word in text.lower().split())


def palindromes(text: str) -> bool:
    return sum(len(word) >= 5 and word == word[::-1] for word in _bare_words(text)) >= 10


def all_punctuation(text: str) -> bool:
    """Every mark, and an interrobang beside them."""
    interrobang = re.search(r"\?!|!\?|\N{INTERROBANG}", text)
    if not interrobang:
        return False
    for pair in ("?!", "!?"):
        if pair in text:
            text = text.replace(pair, "", 1)
            break
    return all(mark in text for mark in ".,!?;:")


def nested_parentheses(text: str) -> bool:
    """Five levels, at least the innermost of them closed."""
    stack: list[str] = []
    deepest = 0
    closing = {")": "(", "]": "[", "}": "{"}
    for mark in re.findall(r"[()\[\]{}]", text):
        if mark not in closing:
            stack.append(mark)
            deepest = max(deepest, len(stack))
        elif stack and stack[-1] == closing[mark]:
            stack.pop()
            if deepest >= 5:
                return True
        else:
            stack, deepest = [], 0
    return False


def nested_quotes(text: str) -> bool:
    """Three levels of alternating quotation marks, closed again."""
    stack: list[str] = []
    deepest = 0
    for mark in re.findall("[\"']", text):
        if stack and stack[-1] == mark:
            stack.pop()
            if deepest - len(stack) >= 3:
                return True
        else:
            stack.append(mark)
            deepest = max(deepest, len(stack))
    return False


def prime_lengths(text: str) -> bool:
    """Words of more than 97 letters have none."""
    sizes = {len(word) for word in _bare_words(text)}
    return all(2 <= size <= 97 and all(size % d for d in range(2, int(size**0.5) + 1)) for size in sizes)


def options(text: str, options: str) -> bool:
    """One of what stands between slashes, else between "or", else between commas; letters as they are spelled."""
    separator = next((mark for mark in ("/", "or") if mark in options), ",")
    offered = [option.strip() for option in options.split(separator)]
    if re.match(r"\W*a\W*b\W*c", options, re.IGNORECASE):
        return text in offered
    return text.strip(_EDGES).lower() in {option.strip(_EDGES).lower() for option in offered}


def word_per_line(text: str) -> bool:
    bare = text.translate(_MARKS).strip()
    return len([line for line in bare.split("\n") if line]) == len(bare.split())


def words_japanese(text: str, N: float) -> bool:
    """Every Nth word, numbers apart."""
    every = [word.strip(_EDGES) for word in text.split()][int(N) - 1 :: int(N)]
    return all(not word or word.isdigit() or _JAPANESE.search(word) for word in every)


def repeats(text: str, small_n: float) -> bool:
    return all(count <= small_n for count in Counter(_bare_words(text)).values())


def paragraph_last_first(text: str) -> bool:
    lines = [line.strip().lower().strip(_EDGES).split() for line in text.split("\n")]
    return all(words[0] == words[-1] for words in lines if words)


def no_consecutive(text: str) -> bool:
    return all(a[0] != b[0] for a, b in itertools.pairwise(_bare_words(text)))


def line_indent(text: str) -> bool:
    """Every line is indented further than the one before."""
    indents = [len(line) - len(line.lstrip(" ")) for line in text.split("\n") if line.strip()]
    return all(a < b for a, b in itertools.pairwise(indents))


def special_list(text: str, sep: str) -> bool:
    return text.count(sep) >= 2


def thesis(text: str) -> bool:
    """Something in italics (HTML), and something behind it."""
    found = re.search(r"<(i|em)>(.*?)</(?:i|em)>(.*)", text, re.DOTALL)
    return bool(found and found[2].strip() and found[3].strip())


def sub_bullets(text: str) -> bool:
    return all("-" in bullet for bullet in text.split("*")[1:])


def keywords_multiple(text: str, **keywords: str) -> bool:
    """The five keywords 1, 2, 3, 5 and 7 times."""
    counts = zip(range(1, 6), (1, 2, 3, 5, 7), strict=True)
    return all(text.lower().count(keywords[f"keyword{i}"].lower()) == count for i, count in counts)


def repeat_change(text: str, prompt_to_repeat: str) -> bool:
    """All but the first word are the same, and something is not."""
    return text != prompt_to_repeat and text.split()[1:] == prompt_to_repeat.split()[1:]


def repeat_span(text: str, prompt_to_repeat: str, n_start: float, n_end: float) -> bool:
    """Characters from one place to another, the last one included."""
    return text.strip().lower() == prompt_to_repeat[int(n_start) : int(n_end) + 1].strip().lower()


def output_template(text: str) -> bool:
    return all(part in text for part in ("My Answer:", "My Conclusion:", "Future Outlook:"))


def no_whitespace(text: str) -> bool:
    return not re.search(r"\s", text)


def multiples(text: str) -> bool:
    """Of 7 from 14 to 49, and no other number."""
    return re.findall(r"\d+", text) == [str(number) for number in range(14, 51, 7)]


def character_reverse(text: str) -> bool:
    return "bald eagle"[::-1] in text.lower()


def dates(text: str) -> bool:
    """Dates of the years 1769 to 1821, as 1800-01-31, between commas."""
    for date in text.strip().split(","):
        found = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)", date.strip())
        if not found or not 1769 <= int(found[1]) <= 1821 or int(found[2]) > 12:
            return False
        month, day = int(found[2]), int(found[3])
        if day > (29 if month == 2 else 30 if month in (4, 6, 9, 11) else 31):
            return False
    return True


IFBENCH_CHECKS: Mapping[str, Callable[..., bool]] = {
    "count:word_count_range": word_count_range,
    "count:unique_word_count": unique_word_count,
    "count:conjunctions": conjunctions,
    "count:numbers": number_count,
    "count:punctuation": all_punctuation,
    "count:words_japanese": words_japanese,
    "count:keywords_multiple": keywords_multiple,
    "ratio:overlap": overlap,
    "words:alphabet": alphabet,
    "words:vowel": few_vowels,
    "words:consonants": consonant_clusters,
    "words:palindrome": palindromes,
    "words:prime_lengths": prime_lengths,
    "words:repeats": repeats,
    "words:paragraph_last_first": paragraph_last_first,
    "words:no_consecutive": no_consecutive,
    "format:parentheses": nested_parentheses,
    "format:quotes": nested_quotes,
    "format:options": options,
    "format:newline": word_per_line,
    "format:line_indent": line_indent,
    "format:list": special_list,
    "format:thesis": thesis,
    "format:sub-bullets": sub_bullets,
    "format:output_template": output_template,
    "format:no_whitespace": no_whitespace,
    "repeat:repeat_change": repeat_change,
    "repeat:repeat_span": repeat_span,
    "custom:multiples": multiples,
    "custom:character_reverse": character_reverse,
    "custom:date_format_list": dates,
}
