"""Mathematics: arithmetic, linear equations, greatest common divisors."""

from __future__ import annotations

import math

from s1pro.tasks.extraction import reading_in
from s1pro.tasks.generated.environment import Case, Exact

_NUMBER_ONLY = "Answer with the number only."


class _Number(Exact):
    """The answer is a whole number."""

    def read(self, output: str) -> float | None:
        return reading_in(output)


class Arithmetic(_Number):
    """`a + b * c` with one or two digits and any of + - *; the product binds first."""

    def case_generator(self) -> Case:
        numbers = [self.draw.randint(1, 99), self.draw.randint(1, 20), self.draw.randint(1, 20)]
        return {"numbers": numbers, "signs": [self.draw.choice("+-"), self.draw.choice("+-*")]}

    def prompt_func(self, case: Case) -> str:
        (a, b, c), (one, two) = case["numbers"], case["signs"]
        return f"What is {a} {one} {b} {two} {c}? {_NUMBER_ONLY}"

    def value(self, case: Case) -> int:
        (a, b, c), (one, two) = case["numbers"], case["signs"]
        sign = 1 if one == "+" else -1
        if two == "*":
            return int(a + sign * b * c)
        return int(a + sign * b + (c if two == "+" else -c))


class LinearEquation(_Number):
    """`a x + b = c` with a whole solution."""

    def case_generator(self) -> Case:
        a, x = self.draw.choice([-1, 1]) * self.draw.randint(2, 12), self.draw.randint(-20, 20)
        b = self.draw.randint(1, 50)
        return {"a": a, "b": b, "c": a * x + b}

    def prompt_func(self, case: Case) -> str:
        return f"Solve {case['a']} x + {case['b']} = {case['c']} for x. {_NUMBER_ONLY}"

    def value(self, case: Case) -> int:
        return int((case["c"] - case["b"]) // case["a"])


class GreatestDivisor(_Number):
    """Of two numbers that have one."""

    def case_generator(self) -> Case:
        shared = self.draw.randint(2, 24)
        return {"numbers": [shared * self.draw.randint(2, 30), shared * self.draw.randint(2, 30)]}

    def prompt_func(self, case: Case) -> str:
        a, b = case["numbers"]
        return f"What is the greatest common divisor of {a} and {b}? {_NUMBER_ONLY}"

    def value(self, case: Case) -> int:
        return math.gcd(*case["numbers"])
