"""Formulas in answers: atoms per element and charge, upstream's reading and ours.

Upstream takes letters and digits, then signs with digits: no brackets, no parts. It reads elements from the left and
stops at the first small letter that begins none, so "c6h6" holds no atoms, and is valid. Of several charges the first
counts.
"""

from __future__ import annotations

import re

UPSTREAM_FORMULA = re.compile(r"([A-Za-z]\d*)+([+-]\d*)*$")
_ELEMENT = re.compile(r"([A-Z][a-z]?)(\d*)")


def upstream_element_counts(formula: str) -> dict[str, int] | None:
    """Atoms per element and the first charge by its sign. None for what upstream refuses."""
    if not UPSTREAM_FORMULA.match(formula):
        return None
    counts: dict[str, int] = {}
    position = 0
    while match := _ELEMENT.match(formula, position):
        counts[match[1]] = counts.get(match[1], 0) + int(match[2] or 1)
        position = match.end()
    charge = re.search(r"([+-])(\d*)", formula)
    if charge:
        counts[charge[1]] = int(charge[2] or 1)
    return counts


def upstream_formula_match(gold: str, prediction: str) -> float:
    wanted, found = upstream_element_counts(gold), upstream_element_counts(prediction)
    return float(found is not None and wanted == found)


def strict_formula_match(gold: str, prediction: str) -> float:
    wanted, found = formula_counts(gold), formula_counts(prediction)
    return float(found is not None and wanted == found)


def formula_counts(text: str) -> dict[str, int] | None:
    """Atoms per element and the charge (key "charge"), brackets and parts read; None for what is no formula."""
    text = re.sub(r"[\s_{}$]", "", text)
    match = re.fullmatch(r"((?:[A-Z][a-z]?\d*|[()\[\].\N{MIDDLE DOT}]|\d+)+?)(?:\^?([+-]\d*|\d+[+-]))?", text)
    if not match or len(text) > 200:
        return None
    counts: dict[str, int] = {}
    for part in re.split(r"[.\N{MIDDLE DOT}]", match[1]):
        if not _add_part(part, counts):
            return None
    charge = match[2] or ""
    if charge:
        size = int(re.sub(r"\D", "", charge) or 1)
        counts["charge"] = -size if "-" in charge else size
    return counts


def _add_part(part: str, counts: dict[str, int]) -> bool:
    lead = re.match(r"\d+", part)
    factor, body = (int(lead[0]), part[lead.end() :]) if lead else (1, part)
    stack: list[dict[str, int]] = [{}]
    for token in re.findall(r"[A-Z][a-z]?\d*|[(\[]|[)\]]\d*", body):
        if token[0] in "([":
            stack.append({})
        elif token[0] in ")]":
            if len(stack) == 1:
                return False
            inner, times = stack.pop(), int(token[1:] or 1)
            for element, number in inner.items():
                stack[-1][element] = stack[-1].get(element, 0) + times * number
        else:
            symbol = token.rstrip("0123456789")
            stack[-1][symbol] = stack[-1].get(symbol, 0) + int(token[len(symbol) :] or 1)
    if len(stack) != 1 or not stack[0]:
        return False
    for element, number in stack[0].items():
        counts[element] = counts.get(element, 0) + factor * number
    return True
