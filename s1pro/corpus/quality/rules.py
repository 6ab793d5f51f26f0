"""Hard rules: what makes a text unfit for training whatever else it says.

    empty          nothing, or fewer than `MIN_CHARACTERS` letters and digits
    unfinished     the model did not come to an end by itself (`finish_reason` other than "stop")
    loop           one phrase repeated up to the end, or most of the text is runs of words that occurred before
    refusal        the model speaks about itself, its abilities or the request, instead of the figure
    prompt_echo    a long run of words of the prompt is repeated
    broken_text    characters without meaning, or UTF-8 read as something else
    unclosed_math  a mathematical environment, a dollar or a brace of LaTeX that does not close

Each is a regular expression or a count; a text that breaks any is rejected with its names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from s1pro.corpus.quality.features import broken_share, longest_tail, repeated_runs

MIN_CHARACTERS = 12
_TAIL_WORDS = 12
_ECHO_WORDS = 12
_REFUSAL = re.compile(
    r"\b(as an? (?:large |artificial )?(?:ai|language|vision)(?: language)?(?:[- ]model| assistant)?\b"
    r"|i(?:'m| am|’m) (?:sorry|unable to|not able to|afraid)|i (?:cannot|can(?:'|’)t|can not|do not|don(?:'|’)t) "
    r"(?:see|view|help|assist|provide|describe|access|have access|identify|process)"
    r"|(?:sure|certainly|of course|okay)[!,.] (?:here|i|let)|here(?:'s| is|’s) (?:the|a|your) (?:\w+ ){0,2}"
    r"(?:caption|description|summary)|please (?:provide|upload|share) (?:the|an|a|your) (?:image|picture|figure)"
    r"|(?:the|your) caption you asked for|as requested\b|process this request"
    r"|describe the (?:figure|image|picture) in detail|do not mention\b|as a helpful assistant)",
    re.IGNORECASE,
)
_MOJIBAKE = re.compile("â€|Ã[\u0080-\u00bf]|ï¿½|Â[\u00a0-\u00bf]")
_CID = re.compile(r"\(cid:\d+\)")
_BEGIN, _END = re.compile(r"\\begin\{(\w+\*?)\}"), re.compile(r"\\end\{(\w+\*?)\}")


def broken_rules(text: str, *, finish_reason: str = "stop", prompt: str = "") -> tuple[str, ...]:
    """Names of the rules that the text breaks, in the order of the list above."""
    pieces = text.split()
    checks = (
        ("empty", sum(character.isalnum() for character in text) < MIN_CHARACTERS),
        ("unfinished", finish_reason != "stop"),
        ("loop", _is_loop(pieces)),
        ("refusal", bool(_REFUSAL.search(text))),
        ("prompt_echo", bool(prompt) and _echoes(pieces, prompt.split())),
        ("broken_text", _is_broken(text, pieces)),
        ("unclosed_math", not math_closes(text)),
    )
    return tuple(name for name, broken in checks if broken)


def math_closes(text: str) -> bool:
    """Whether the LaTeX in a text closes what it opens. Text without a backslash command is not LaTeX."""
    plain = re.sub(r"\\[\\{}$]", "", text)
    if sorted(_BEGIN.findall(plain)) != sorted(_END.findall(plain)):
        return False
    if not re.search(r"\\[a-zA-Z]{2,}", plain):
        return True
    if plain.count("$") % 2 or len(re.findall(r"\\left\b", plain)) != len(re.findall(r"\\right\b", plain)):
        return False
    level = 0
    for character in plain:
        level += (character == "{") - (character == "}")
        if level < 0:
            return False
    return level == 0


def _is_loop(pieces: Sequence[str]) -> bool:
    if len(pieces) < _TAIL_WORDS:
        return False
    tail = longest_tail(pieces)
    return (tail >= 0.3 and tail * len(pieces) >= _TAIL_WORDS) or repeated_runs(pieces, 8) > 0.5


def _echoes(pieces: Sequence[str], prompt: Sequence[str]) -> bool:
    runs = {tuple(prompt[i : i + _ECHO_WORDS]) for i in range(len(prompt) - _ECHO_WORDS + 1)}
    return any(tuple(pieces[i : i + _ECHO_WORDS]) in runs for i in range(len(pieces) - _ECHO_WORDS + 1))


def _is_broken(text: str, pieces: Sequence[str]) -> bool:
    if broken_share(text) > 0.01 or len(_CID.findall(text)) > 0.02 * len(pieces):
        return True
    return len(_MOJIBAKE.findall(text)) > max(1, 0.005 * len(text))
