r"""Answers of mathematics compared as strings, the way lm-eval does (after Hendrycks et al., MATH); compat of AIME.

**Which text is the answer.** The last `\boxed{…}` if it closes (or what follows the last `\boxed ` up to a dollar
sign), else what stands between the first and the last dollar sign, else the whole reply, reasoning and all. `\fbox` is
found where there is no `\boxed`, but only to be thrown away.

**Which strings are equal.** Those with one normal form: line ends, `\left`, `\right`, degrees, `\%`, `\$` and blanks
go, `\dfrac` becomes `\frac`, `\frac12` becomes `\frac{1}{2}` and 0.5 too, 3/4 becomes a fraction, `\sqrt3` gets its
braces, `.5` its zero, what follows `\text{ ` goes as a unit, and so does a left side of one or two characters (`x=`).
Where that fails (a bare `\frac` at the end, a/b without numbers, two units) the texts are compared as they are.
"""

from __future__ import annotations

import re

from s1pro.tasks.benchmarks.spec import Record

_GONE = ("\n", "\\!")
_GONE_LATER = ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$")


def upstream_answer(response: str, record: Record) -> str | None:
    """See the module docstring; None for silence."""
    found = _boxed(response)
    if found is None:
        first, last = response.find("$"), response.rfind("$")
        found = response[first + 1 : last] if first < last else response
    return found or None


def same_text(gold: str, prediction: str) -> float:
    """1 if both have one normal form."""
    try:
        return float(normal_form(prediction) == normal_form(gold))
    except ValueError:
        return float(prediction == gold)


def normal_form(text: str) -> str:
    """Raises `ValueError` where upstream gives up."""
    for gone in _GONE:
        text = text.replace(gone, "")
    text = text.replace("\\\\", "\\").replace("tfrac", "frac").replace("dfrac", "frac")
    for gone in _GONE_LATER:
        text = text.replace(gone, "")
    if text.count("\\text{ ") > 1:
        raise ValueError("two units")
    text = text.partition("\\text{ ")[0].replace("\\%", "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return ""
    text = f"0{text}" if text[0] == "." else text
    left, equals, right = text.partition("=")
    if equals and "=" not in right and len(left) <= 2:
        text = right
    text = _fractions(_roots(text).replace(" ", ""))
    return _slash("\\frac{1}{2}" if text == "0.5" else text)


def _boxed(text: str) -> str | None:
    if "\\boxed " in text:
        return text.rpartition("\\boxed ")[2].partition("$")[0]
    start = text.rfind("\\boxed")
    depth = 0
    for place in range(max(start, 0), len(text) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if text[place] == "}" and depth == 0:
            whole = text[start : place + 1]
            return whole[len("\\boxed{") : -1] if whole.startswith("\\boxed{") else None
    return None


def _roots(text: str) -> str:
    if text.endswith("\\sqrt") or "\\sqrt\\sqrt" in text:
        raise ValueError("a root of nothing")
    return re.sub(r"\\sqrt([^{])", r"\\sqrt{\1}", text, flags=re.DOTALL)


def _fractions(text: str) -> str:
    """Braces around what follows `\\frac` without them; as it was if one of them has a single character."""
    first, *rest = text.split("\\frac")
    made = first
    for part in rest:
        if not part:
            raise ValueError("a fraction of nothing")
        if part[0] != "{":
            if len(part) < 2:
                return text
            below = part[1] if part[1] == "{" else f"{{{part[1]}}}"
            part = f"{{{part[0]}}}{below}{part[2:]}"
        made += f"\\frac{part}"
    return made


def _slash(text: str) -> str:
    """3/4 as a fraction. Raises `ValueError` for one slash between other things than whole numbers."""
    above, slash, below = text.partition("/")
    if not slash or "/" in below:
        return text
    a, b = int(above), int(below)
    return f"\\frac{{{a}}}{{{b}}}" if text == f"{a}/{b}" else text
