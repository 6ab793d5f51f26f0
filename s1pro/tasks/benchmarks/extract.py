"""Reading predictions out of responses: the parts that several scorers share, upstream's way and ours.

**Reasoning.** The strict profile cuts it off once, by one rule: what follows the last `</think>`; an opening tag
without a closing one leaves nothing, because the model never came to an answer. Upstream a post-processor of the run
does it (`upstream_visible`): a closing tag alone leaves the text after the last one, pairs of tags go with what they
hold, and an opening tag alone changes nothing. Scorers that were run without it keep the reasoning
(`without_think_pairs`).

**Numbers.** Upstream's extractors take an optional minus, digits, an optional point, digits: no exponent, no plus, no
thousands separator, no unit. The strict reader takes all of these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_PAIR = re.compile(r"<think>.*?</think>", re.DOTALL)
_UPSTREAM_NUMBER = re.compile(r"(?:<NUMBER>|\\boxed\{)\s*(-?\d*\.?\d+)\s*(?:</NUMBER>|\})")
_UPSTREAM_BOX = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_POWER = re.compile(
    r"(?P<times>(?:\*|x|\N{MULTIPLICATION SIGN}|\\times)\s?)?(?<![\d.])10\s?\^\s?\{?"
    r"(?P<exponent>[-+\N{MINUS SIGN}]?\d{1,3})\}?"
)
_UNCERTAINTY = re.compile(r"(?:\N{PLUS-MINUS SIGN}|\\pm|\+/-)\s?\d+\.?\d*")
LARGEST = 1e100
"""Numbers of more digits are cut down to this: infinity would make sums undefined, and undefined is shown as 0."""
_STRICT_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>[-+\N{MINUS SIGN}]?)(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.?\d*|\.\d+)"
    r"(?:(?:[eE]|\s?(?:\*|x|\N{MULTIPLICATION SIGN}|\\times)\s?10\s?\^?\s?\{?)"
    r"(?P<exponent>[-+\N{MINUS SIGN}]?\d{1,3})\}?)?"
)


def answer_part(response: str) -> str:
    """What counts of a response, for the strict profile."""
    _, tag, tail = response.rpartition("</think>")
    if tag:
        return tail.strip()
    return "" if "<think>" in response else response.strip()


def without_think_pairs(response: str) -> str:
    """What several upstream scorers do: pairs of tags go, a lone closing tag leaves all reasoning in place."""
    return _PAIR.sub("", response)


def upstream_visible(response: str) -> str:
    """What the post-processor of the paper's run leaves of a response; see the module docstring."""
    if "<think>" not in response and "</think>" in response:
        return after_think(response).strip()
    return _PAIR.sub("", response).strip()


def after_think(response: str) -> str:
    """What the others do: text after the last closing tag, all of it without one."""
    return response.rpartition("</think>")[2]


def boxed(text: str) -> list[str]:
    """Contents of all `\\boxed{…}`, in order, braces inside counted."""
    found = []
    for match in re.finditer(r"\\boxed\s*\{", text):
        depth, start = 1, match.end()
        for i in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[i], 0)
            if depth == 0:
                found.append(text[start:i])
                break
    return found


def upstream_boxed(text: str) -> list[str]:
    """Contents of boxes with at most one level of braces inside; deeper ones are not seen."""
    return [content.strip() for content in _UPSTREAM_BOX.findall(text)]


def tagged(text: str, tags: Sequence[str], *, ignore_case: bool = False) -> list[tuple[str, str]]:
    """(tag, content) of all `<TAG>…</TAG>` of the given names, in order, contents stripped."""
    names = "|".join(map(re.escape, tags))
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return [(m[1], m[2].strip()) for m in re.finditer(rf"<({names})>(.*?)</\1>", text, flags)]


def upstream_numbers(text: str) -> list[float]:
    """Contents of `<NUMBER>…</NUMBER>` and `\\boxed{…}` that are numbers in upstream's sense, in order. Ends may be
    mixed."""
    return [min(max(float(number), -LARGEST), LARGEST) for number in _UPSTREAM_NUMBER.findall(text)]


def _plain_number(text: str) -> str:
    """Without uncertainties, and with bare powers of ten as exponents: "5.2 ± 0.1", "10^3"."""
    text = _UNCERTAINTY.sub(" ", text)
    return _POWER.sub(lambda match: match[0] if match["times"] else f"1e{match['exponent']}", text)


def number_in(text: str) -> float | None:
    """The number that a short text is or ends with: sign, exponent, thousands separators; units are left alone."""
    found = list(_STRICT_NUMBER.finditer(_plain_number(text)))
    if not found:
        return None
    match = found[-1]
    sign = -1.0 if match["sign"] in ("-", "\N{MINUS SIGN}") else 1.0
    exponent = int((match["exponent"] or "0").replace("\N{MINUS SIGN}", "-"))
    digits = float(match["digits"].replace(",", ""))
    return sign * min(digits * 10.0 ** min(exponent, 300), LARGEST)


def final_number_text(text: str) -> str | None:
    """The characters of the number that `final_number` reads, without reasoning: last box or tag with one, else the
    last."""
    marked = [content for _, content in tagged(text, ("NUMBER",), ignore_case=True)] + boxed(text)
    for place in [*reversed(marked), text]:
        found = list(_STRICT_NUMBER.finditer(_plain_number(place)))
        if found:
            return found[-1][0]
    return None


def final_number(response: str) -> float | None:
    """The strict reader of numeric answers: the last tag or box that holds a number, else the last number."""
    text = answer_part(response)
    marked = [content for _, content in tagged(text, ("NUMBER",), ignore_case=True)] + boxed(text)
    for content in reversed(marked):
        number = number_in(content)
        if number is not None:
            return number
    return number_in(text)


def final_yes_no(response: str) -> bool | None:
    """The strict reader of yes and no: a tag or box, else the last line that holds one of the words alone; both words
    in one place are no answer."""
    text = answer_part(response)
    marked = [content for _, content in tagged(text, ("BOOLEAN",), ignore_case=True)] + boxed(text)
    for place in [*reversed(marked), *reversed(text.splitlines())]:
        words = {word.lower() for word in re.findall(r"(?<![\w-])(yes|no|true|false)(?![\w-])", place, re.IGNORECASE)}
        meant = {word in ("yes", "true") for word in words}
        if len(meant) == 1:
            return meant.pop()
        if len(meant) > 1:
            return None
    return None
