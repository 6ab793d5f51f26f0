"""Biology: operations on sequences. The genetic code is the standard one."""

from __future__ import annotations

import itertools
import re

from s1pro.tasks.extraction import last_part
from s1pro.tasks.generated.environment import Case, Exact

_COMPLEMENT = str.maketrans("ACGT", "TGCA")
_BASES = "TCAG"
_AMINO_ACIDS = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
CODONS = dict(zip(map("".join, itertools.product(_BASES, repeat=3)), _AMINO_ACIDS, strict=True))
_STOPS = tuple(codon for codon, letter in CODONS.items() if letter == "*")


class _Sequence(Exact):
    """The answer is a word of an alphabet; the share of letters that are right is no reward."""

    alphabet = ""

    def read(self, output: str) -> str | None:
        words = re.findall(rf"(?<![A-Za-z])[{self.alphabet}]+(?![A-Za-z])", last_part(output))
        return words[-1] if words else None


class ReverseComplement(_Sequence):
    """Of DNA with 6 to 20 bases."""

    alphabet = "ACGT"

    def case_generator(self) -> Case:
        return {"dna": "".join(self.draw.choice("ACGT") for _ in range(self.draw.randint(6, 20)))}

    def prompt_func(self, case: Case) -> str:
        return f"What is the reverse complement of the DNA sequence {case['dna']}? Answer with the sequence only."

    def value(self, case: Case) -> str:
        return str(case["dna"]).translate(_COMPLEMENT)[::-1]


class TranslateDna(_Sequence):
    """Of a coding strand that begins with ATG and has no stop codon, into one-letter amino acids."""

    alphabet = "ACDEFGHIKLMNPQRSTVWY"

    def case_generator(self) -> Case:
        open_codons = [codon for codon in CODONS if codon not in _STOPS]
        codons = [self.draw.choice(open_codons) for _ in range(self.draw.randint(2, 6))]
        return {"dna": "ATG" + "".join(codons)}

    def prompt_func(self, case: Case) -> str:
        return (
            f"Translate the coding DNA sequence {case['dna']} into a protein. "
            "Answer with the one-letter amino acids only."
        )

    def value(self, case: Case) -> str:
        dna = case["dna"]
        return "".join(CODONS[dna[i : i + 3]] for i in range(0, len(dna), 3))
