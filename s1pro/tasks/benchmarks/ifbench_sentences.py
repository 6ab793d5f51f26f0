"""Checkers of IFBench about sentences, and about words as nltk's tokenizer cuts them.

Upstream splits sentences with nltk's trained model (punkt), which is a download. `sentences` follows its rules without
its statistics: a token that ends in one of `.?!` ends a sentence before white space or before a bracket, quotation mark
or star, unless it is a known abbreviation, an initial before a capital, or an ellipsis before a small letter; closing
marks go with the sentence before. A text of a style full of abbreviations may be cut in other places than upstream.

Emoji are told by their place in Unicode.
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Callable, Mapping, Sequence

from s1pro.base.errors import MissingExtraError

_END = re.compile(r"\S*[.?!](?=[)\";}\]*:@'({\[!?]|\s+\S)")
_CLOSING = re.compile(r"[\"')\]}]+(?=\s|\Z)\s*")
_ABBREVIATIONS = frozenset(
    [
        "dr",
        "mr",
        "mrs",
        "ms",
        "prof",
        "st",
        "vs",
        "jr",
        "sr",
        "inc",
        "ltd",
        "corp",
        "co",
        "gen",
        "col",
        "capt",
        "lt",
        "sgt",
        "rep",
        "sen",
        "gov",
        "pres",
        "fig",
        "al",
        "e.g",
        "i.e",
        "u.s",
        "u.k",
        "u.n",
        "a.m",
        "p.m",
        "ph.d",
        "m.d",
        "b.a",
        "m.a",
        "d.c",
        "jan",
        "feb",
        "aug",
        "sept",
        "oct",
        "nov",
        "dec",
    ]
)
_MARKS = str.maketrans("", "", string.punctuation)
_EDGES = string.punctuation + " "
_EMOJI = re.compile(
    "[\N{COPYRIGHT SIGN}\N{REGISTERED SIGN}\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u25aa-\u27bf"
    "\u2934\u2935\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f004-\U0001faff]"
)
_NAMES = frozenset(
    [
        "Emma",
        "Liam",
        "Sophia",
        "Jackson",
        "Olivia",
        "Noah",
        "Ava",
        "Lucas",
        "Isabella",
        "Mason",
        "Mia",
        "Ethan",
        "Charlotte",
        "Alexander",
        "Amelia",
        "Benjamin",
        "Harper",
        "Leo",
        "Zoe",
        "Daniel",
        "Chloe",
        "Samuel",
        "Lily",
        "Matthew",
        "Grace",
        "Owen",
        "Abigail",
        "Gabriel",
        "Ella",
        "Jacob",
        "Scarlett",
        "Nathan",
        "Victoria",
        "Elijah",
        "Layla",
        "Nicholas",
        "Audrey",
        "David",
        "Hannah",
        "Christopher",
        "Penelope",
        "Thomas",
        "Nora",
        "Andrew",
        "Aria",
        "Joseph",
        "Claire",
        "Ryan",
        "Stella",
        "Jonathan",
    ]
)
_PRONOUNS = frozenset(
    [
        "i",
        "me",
        "we",
        "us",
        "you",
        "he",
        "him",
        "she",
        "her",
        "it",
        "they",
        "them",
        "my",
        "mine",
        "our",
        "ours",
        "your",
        "yours",
        "his",
        "hers",
        "its",
        "their",
        "theirs",
        "myself",
        "ourselves",
        "yourself",
        "yourselves",
        "himself",
        "herself",
        "itself",
        "themselves",
        "this",
        "that",
        "these",
        "those",
        "who",
        "whom",
        "whose",
        "which",
        "what",
        "whoever",
        "whomever",
        "whatever",
        "whichever",
        "anybody",
        "anyone",
        "anything",
        "everybody",
        "everyone",
        "everything",
        "nobody",
        "nothing",
        "somebody",
        "someone",
        "something",
        "each",
        "either",
        "neither",
        "both",
        "all",
        "some",
        "any",
        "none",
    ]
)


def sentences(text: str) -> list[str]:
    """See the module docstring. Newlines alone end nothing."""
    text = text.rstrip()
    found, start = [], 0
    for match in _END.finditer(text):
        end = match.end()
        if end <= start or not _ends(match[0], text[end:]):
            continue
        closing = _CLOSING.match(text, end)
        stop = end + len(closing[0].rstrip()) if closing else end
        found.append(text[start:stop].strip())
        start = closing.end() if closing else end
    rest = text[start:].strip()
    return [*found, rest] if rest else found


def _ends(token: str, after: str) -> bool:
    """Whether a token with a full stop, or the like, ends its sentence."""
    if token[-1] != ".":
        return True
    following = after.lstrip()[:1]
    word = token.rstrip(".").lstrip(_EDGES)
    if token.endswith(".."):
        return not following.islower()
    if word.lower() in _ABBREVIATIONS:
        return False
    return not (len(word) == 1 and word.isalpha() and word.isupper() and following.isupper())


def tokens(text: str) -> list[str]:
    """Words and marks as nltk cuts them, sentence by sentence."""
    try:
        from nltk.tokenize import NLTKWordTokenizer
    except ImportError as error:
        raise MissingExtraError("nltk", "eval") from error
    cut = NLTKWordTokenizer()
    return [token for sentence in sentences(text) for token in cut.tokenize(sentence)]


def _bare(text: str) -> list[str]:
    return text.translate(_MARKS).split()


def _ending_in(text: str, marks: str) -> list[int]:
    found = sentences(text)
    return [sum(sentence.endswith(mark) for sentence in found) for mark in marks]


def sentence_type(text: str) -> bool:
    """Twice as many end in a full stop as in a question mark."""
    statements, questions = _ending_in(text, ".?")
    return statements == 2 * questions


def sentence_balance(text: str) -> bool:
    return len(set(_ending_in(text, ".?!"))) == 1


def same_lengths(text: str) -> bool:
    """Three sentences of as many characters; that all words differ is asked for, but not checked upstream either."""
    found = sentences(text)
    return len(found) == 3 and len({len(sentence) for sentence in found}) == 1


def person_names(text: str, N: float) -> bool:
    return sum(bool(re.search(rf"\b{name}\b", text)) for name in _NAMES) >= N


def pronouns(text: str, N: float) -> bool:
    return sum(token in _PRONOUNS for token in tokens(text.replace("/", " ").lower())) >= N


def alliteration_increment(text: str) -> bool:
    """Every sentence has more words in runs of one first letter than the one before."""
    counts = [_alliterating(sentence) for sentence in sentences(text)]
    return all(a < b for a, b in itertools.pairwise([-1, *counts]))


def _alliterating(sentence: str) -> int:
    words = [word.lstrip(_EDGES) for word in sentence.lower().split()]
    runs = [len(list(run)) for _, run in itertools.groupby(word[0] for word in words if word)]
    return sum(run for run in runs if run > 1)


def sentence_keyword(text: str, word: str, N: float) -> bool:
    """A word in the Nth sentence."""
    found = sentences(text)
    return len(found) >= N and bool(re.search(rf"\b{re.escape(word)}\b", found[int(N) - 1], re.IGNORECASE))


def last_first(text: str) -> bool:
    """The last word of a sentence is the first of the next."""
    for one, other in itertools.pairwise(sentences(text)):
        last, first = one.rstrip(_EDGES).split(), other.lstrip(_EDGES).split()
        if not last or not first or last[-1].lower() != first[0].lower():
            return False
    return True


def sentence_increment(text: str, small_n: float) -> bool:
    counts = [len(_bare(sentence)) for sentence in sentences(text)]
    return all(b == a + small_n for a, b in itertools.pairwise(counts))


def emoji_ends(text: str) -> bool:
    """An emoji ends every sentence, or stands right behind it, where the splitter gives it to the next one."""
    found = [sentence.translate(_MARKS).strip() for sentence in sentences(text)]
    if not all(found):
        return False
    for number, sentence in enumerate(found):
        behind = found[number + 1][0] if number + 1 < len(found) else ""
        if not _EMOJI.search(sentence[-2:]) and not _EMOJI.match(behind):
            return False
    return True


def sentences_then_bullets(text: str) -> bool:
    """Two sentences, then two lines with a star, and nothing else."""
    before, bullets = 0, 0
    for line in text.split("\n"):
        if line.strip().startswith("*"):
            bullets += 1
            if before < 2:
                return False
        elif bullets or (before and not line.strip()):
            if bullets or line.strip():
                return False
        else:
            before += len(sentences(line))
    return bullets >= 2


def keyword_position(text: str, keyword: str, n: float, m: float) -> bool:
    """The mth word of the nth sentence."""
    found = sentences(text)
    if len(found) < n:
        return False
    words = [token for token in tokens(found[int(n) - 1]) if any(character.isalnum() for character in token)]
    return len(words) >= m and words[int(m) - 1].lower() == keyword.strip().lower()


def words_position(text: str, keyword: str) -> bool:
    """The second word and the one before the last, a mark at the end apart."""
    words = tokens(text)
    if words and words[-1] in string.punctuation:
        words = words[:-1]
    return len(words) >= 2 and words[1].lower() == words[-2].lower() == keyword.strip().lower()


def title_case(text: str) -> bool:
    """No word that begins small, but for those that mix cases later on."""
    return not any(_is_small(word) for word in tokens(text) if word[:1].isalpha())


def _is_small(word: str) -> bool:
    return word[0].islower() and (len(word) == 1 or word[1:].isupper() or word[1:].islower())


def explained_quotes(text: str) -> bool:
    """No quotation right behind another, and none at the end."""
    bare = "".join(text.replace("'\"'", "").split())
    end = bare.strip(string.digits + string.punctuation.replace('"', ""))
    return '""' not in bare and not end.endswith('"')


SENTENCE_CHECKS: Mapping[str, Callable[..., bool]] = {
    "ratio:sentence_type": sentence_type,
    "ratio:sentence_balance": sentence_balance,
    "ratio:sentence_words": same_lengths,
    "count:person_names": person_names,
    "count:pronouns": pronouns,
    "sentence:alliteration_increment": alliteration_increment,
    "sentence:keyword": sentence_keyword,
    "sentence:increment": sentence_increment,
    "words:last_first": last_first,
    "words:keywords_specific_position": keyword_position,
    "words:words_position": words_position,
    "format:emoji": emoji_ends,
    "format:no_bullets_bullets": sentences_then_bullets,
    "format:title_case": title_case,
    "format:quote_unquote": explained_quotes,
}
__all__: Sequence[str] = ("SENTENCE_CHECKS", "sentences", "tokens")
