"""Functional groups as SMARTS patterns.

Each pattern means what an organic-chemistry course means by the word: a carboxylic acid is no alcohol and no ketone, an
ester is no ether, an amide is no amine. So the groups of one molecule add information instead of repeating it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from s1pro.science.rdkit_access import chem

# A carbon that is no acyl carbon, so that ethers differ from esters and anhydrides.
_PLAIN_CARBON = "[#6;!$([#6]=[O,S,N])]"

PATTERNS: Mapping[str, str] = {
    "alcohol": "[CX4][OX2H]",
    "phenol": "c[OX2H]",
    "carboxylic acid": "[CX3](=[OX1])[OX2H]",
    "ester": "[CX3;H1,$([CX3][#6])](=[OX1])[OX2][#6;!$([#6]=[O,S,N])]",
    "amide": "[CX3;H1,$([CX3][#6])](=[OX1])[#7X3]",
    "ketone": "[#6][CX3](=[OX1])[#6]",
    "aldehyde": "[#6][CX3H1]=[OX1]",
    "amine": "[NX3;!$(N-[#6]=[O,S,N]);!$(N~[!#6;!#1]);!$(N-C#N)][#6]",
    "nitrile": "[#6][CX2]#[NX1]",
    "nitro group": "[#6,#7,#8][NX3+](=[OX1])[OX1-]",
    "halide": "[#6][F,Cl,Br,I]",
    "ether": f"[OX2;!a]({_PLAIN_CARBON}){_PLAIN_CARBON}",
    "thiol": "[#6][SX2H]",
    "sulfide": "[SX2;!a]([#6])[#6]",
    "alkene": "[CX3]=[CX3]",
    "alkyne": "[CX2]#[CX2]",
    "benzene ring": "c1ccccc1",
}
NAMES: tuple[str, ...] = tuple(PATTERNS)


@functools.cache
def _queries() -> tuple[tuple[str, Any], ...]:
    return tuple((name, chem().MolFromSmarts(pattern)) for name, pattern in PATTERNS.items())


def groups_of(molecule: Any) -> tuple[str, ...]:
    """Names of the groups that an RDKit molecule has, in the order of the table."""
    return tuple(name for name, query in _queries() if molecule.HasSubstructMatch(query))
