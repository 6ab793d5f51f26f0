"""The text gate: two figures whose printed numbers or words differ are different figures.

Two plots of one template can differ in nothing but the numbers at their ticks, which no comparison of small pictures
sees. A born-digital PDF carries them as text. The rule works on multisets of tokens (Unicode compatibility forms
folded, one kind of minus, lower case, without punctuation at the ends):

* If a side has no text, nothing is known and the pixels decide: crops lose text, and scans have none.
* Everything on the side with fewer tokens (of equally many: fewer letters) must be on the other side too. A token that
  a crop has cut (a proper beginning or end of one that is left over there) is forgiven.
* The other side may have more, but no more than a crop would remove: at most two fifths as many again, plus three.
* If all letters and digits together are the same, the two files only cut the words differently.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

MAX_TOKENS = 2000
_MINUS = str.maketrans({"−": "-", "–": "-", "‐": "-", "‑": "-", "—": "-", "\xad": None, "\ufffe": None})
_EDGE = re.compile(r"^[^\w+\-]+|[^\w%]+$")


def tokens_of(text: str) -> tuple[str, ...]:
    """Normalised tokens, sorted; the first `MAX_TOKENS` of them."""
    folded = unicodedata.normalize("NFKC", text).translate(_MINUS).lower()
    found = (_EDGE.sub("", word) for word in folded.split())
    return tuple(sorted(token for token in found if token)[:MAX_TOKENS])


def texts_agree(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether nothing in the two sets of tokens speaks against a copy."""
    small, large = sorted((first, second), key=lambda tokens: (len(tokens), sum(map(len, tokens)), tokens))
    if not small:
        return True
    if len(large) > 1.4 * len(small) + 3:
        return _same_characters(small, large)
    missing = Counter(small) - Counter(large)
    if not missing:
        return True
    spare = Counter(large) - Counter(small)
    return all(_was_cut(token, spare) for token in missing.elements()) or _same_characters(small, large)


def _was_cut(token: str, spare: Counter[str]) -> bool:
    """Whether a token is the beginning or end of one that is left over; uses that one up."""
    for whole in sorted(spare):
        if spare[whole] and len(whole) > len(token) and (whole.startswith(token) or whole.endswith(token)):
            spare[whole] -= 1
            return True
    return False


def _same_characters(first: Sequence[str], second: Sequence[str]) -> bool:
    return _letters(first) == _letters(second)


def _letters(tokens: Sequence[str]) -> list[str]:
    return sorted(character for token in tokens for character in token if character.isalnum())
