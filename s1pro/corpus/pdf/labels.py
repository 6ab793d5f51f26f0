"""Labels of figures and tables in the languages of papers: how they look, and when two are the same."""

from __future__ import annotations

import re

from s1pro.corpus.records import ElementType

_KINDS: dict[ElementType, str] = {
    "figure": (
        r"fig(?:ure|s)?\b\.?|abb(?:ildung\b|\.)|figura\b|plate\b|photo(?:graph)?\b|illustration\b|exhibit\b|map\b|"
        r"рис(?:унок\b|\.)|图|圖|図|그림"
    ),
    "table": r"tab(?:le\b|\.)|tabelle\b|tableau\b|tabla\b|tabela\b|табл(?:ица\b|\.)|表|표",
    "scheme": r"scheme\b|schema\b|方案",
    "chart": r"chart\b|graph\b|diagram\b",
    "algorithm": r"algorithm\b|listing\b|pseudocode\b|算法",
}
_PREFIX = r"(?:(?:extended\s+data|supplementary|supplemental|supporting|supp?\.|appendix|online|additional|附)\s*)?"
_NUMBER = (
    r"(?:[A-Z]{1,2}[-.]?)?\d{1,3}(?:\s?[-.–]\s?\d{1,3}){0,2}(?:[a-zA-Z](?![a-zA-Z]))?|[IVXL]{1,6}(?![a-zA-Z])|"
    r"[A-H](?=[:.|])"
)
LABEL = re.compile(
    r"^\s*(?P<open>[\[【<《(〈（]?)\s*(?P<label>(?P<prefix>" + _PREFIX + r")(?:"
    + "|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS.items())
    + r")\s*(?P<number>" + _NUMBER + r"))",
    re.IGNORECASE,
)  # fmt: skip


def label_key(kind: str, prefix: str, number: str) -> str:
    """The same label in any spelling has one key."""
    low = prefix.strip().lower()
    mark = "ed" if low.startswith("ext") else "s" if low.startswith("sup") else "app" if low else ""
    plain = re.sub(r"[\s.–-]+", ".", number.upper()).strip(".")
    if mark == "s" and not plain.startswith("S"):
        plain, mark = "S" + plain, ""
    return f"{kind}:{'' if mark == 's' else mark}{plain}"


def kind_of(match: re.Match[str]) -> ElementType:
    """Which kind of element a label names."""
    return next(kind for kind in _KINDS if match.group(kind))


def key_of_label(label: str) -> str:
    """The key of a printed label, empty if it is none ("(3)" of a formula)."""
    match = LABEL.match(label)
    return label_key(kind_of(match), match.group("prefix") or "", match.group("number")) if match else ""
