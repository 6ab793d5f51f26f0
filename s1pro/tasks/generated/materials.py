"""Materials: compositions of simple solids. Atomic masses are those of RDKit's periodic table."""

from __future__ import annotations

import math
from typing import Any

from s1pro.science.rdkit_access import chem
from s1pro.tasks.extraction import formula_in, reading_in
from s1pro.tasks.generated.environment import Case, Exact

CATIONS = {"Li": 1, "Na": 1, "K": 1, "Mg": 2, "Ca": 2, "Sr": 2, "Ba": 2, "Zn": 2, "Al": 3, "Sc": 3, "Y": 3, "La": 3,
           "Ti": 4, "Zr": 4, "Hf": 4, "Nb": 5, "Ta": 5, "W": 6}  # fmt: skip
ANIONS = {"F": 1, "Cl": 1, "Br": 1, "I": 1, "O": 2, "S": 2, "Se": 2, "N": 3, "P": 3}
TOLERANCE = 0.5
"""Percentage points."""


class NeutralFormula(Exact):
    """The smallest neutral compound of two ions."""

    def case_generator(self) -> Case:
        return {"cation": self.draw.choice(list(CATIONS)), "anion": self.draw.choice(list(ANIONS))}

    def prompt_func(self, case: Case) -> str:
        one, other = CATIONS[case["cation"]], ANIONS[case["anion"]]
        return (
            f"What is the formula of the neutral compound of {case['cation']}{one}+ and {case['anion']}{other}-? "
            "Answer with the formula only."
        )

    def read(self, output: str) -> dict[str, int] | None:
        return formula_in(output)

    def answer(self, case: Case) -> str:
        return "".join(symbol + (str(n) if n > 1 else "") for symbol, n in self._counts(case).items())

    def value(self, case: Case) -> Any:
        return self._counts(case)

    def _counts(self, case: Case) -> dict[str, int]:
        one, other = CATIONS[case["cation"]], ANIONS[case["anion"]]
        charge = math.lcm(one, other)
        return {case["cation"]: charge // one, case["anion"]: charge // other}


class MassFraction(NeutralFormula):
    """The share of the metal in the mass of such a compound, in per cent."""

    def prompt_func(self, case: Case) -> str:
        formula = super().answer(case)
        return f"What percentage of the mass of {formula} is {case['cation']}? Answer with the number only."

    def read(self, output: str) -> float | None:  # type: ignore[override]
        return reading_in(output)

    def answer(self, case: Case) -> str:
        return f"{self.value(case):.1f} %"

    def verify_score(self, output: str, case: Case) -> float:
        found = self.read(output)
        return float(found is not None and abs(found - self.value(case)) <= TOLERANCE)

    def value(self, case: Case) -> float:
        periodic = chem().GetPeriodicTable()
        masses = {symbol: n * periodic.GetAtomicWeight(symbol) for symbol, n in self._counts(case).items()}
        return 100 * float(masses[case["cation"]]) / float(sum(masses.values()))
