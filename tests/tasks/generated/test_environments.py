"""Environments of this package against other libraries: sympy, Biopython, pymatgen."""

from __future__ import annotations

import asyncio
import math
import random
import re
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.tasks import registry
from s1pro.tasks.generated.environment import GeneratedTask
from s1pro.tasks.task import Item

NAMES = tuple(name for name in registry.ON_REQUEST if name != "convert_units")


def value(task: Any, item: Item, response: str) -> float:
    return asyncio.run(task.score(item, response)).value


def cases(name: str, count: int = 60) -> list[tuple[Any, Item, dict[str, Any], str]]:
    task = registry.get(name, num_items=count)
    return [(task, item, item.asked["case"], task.prompt(item).messages[-1].text) for item in task.items()]


@pytest.mark.parametrize("name", NAMES)
def test_right_answers_count_and_wrong_ones_do_not(name: str) -> None:
    task = registry.get(name, num_items=30)
    items = task.items()
    assert len(items) > 5 and len({item.id for item in items}) == len(items)
    right = [task.expected(item) for item in items]
    assert all(value(task, item, answer) == 1.0 for item, answer in zip(items, right, strict=True))
    reasoned = "<think>no: 3 AAA X</think>\n\n{}."
    assert all(value(task, item, reasoned.format(answer)) == 1.0 for item, answer in zip(items, right, strict=True))
    wrong = [f"{float(own.split()[0]) + 1:.1f} %" if "%" in own else "1" + own + "A1C" for own in right]
    assert sum(value(task, item, answer) for item, answer in zip(items, wrong, strict=True)) == 0
    others = [next(a for a in right if a != own) for own in right]
    near = 2 if name == "mass_fraction" else 0  # two compounds may have nearly the same share
    assert sum(value(task, item, other) for item, other in zip(items, others, strict=True)) <= near
    for response in ("", "I do not know", "<think>" + right[0], "?" * 9):
        score = asyncio.run(task.score(items[0], response))
        assert score.value in (0.0, 1.0) and (score.valid or score.value == 0.0)
    assert not asyncio.run(task.score(items[0], "")).valid


@pytest.mark.parametrize("name", NAMES)
def test_splits_do_not_meet_and_items_stay(name: str) -> None:
    learned, held_out = registry.for_learning(name, num_items=300), registry.get(name, num_items=60)
    asked = [{str(item.asked["case"]) for item in task.items()} for task in (learned, held_out)]
    assert asked[0] and asked[1] and not asked[0] & asked[1]
    again = registry.get(name, num_items=60)
    assert [item.asked for item in again.items()] == [item.asked for item in held_out.items()]


def test_arithmetic_against_python() -> None:
    for task, item, _, question in cases("arithmetic"):
        expression = re.search(r"What is (.+)\?", question)
        assert expression is not None
        assert value(task, item, str(eval(expression[1]))) == 1.0  # noqa: S307  (our own digits and signs)


def test_equations_and_divisors_against_sympy() -> None:
    sympy = pytest.importorskip("sympy")
    x = sympy.Symbol("x")
    for task, item, case, _ in cases("linear_equation"):
        (root,) = sympy.solve(case["a"] * x + case["b"] - case["c"], x)
        assert value(task, item, str(root)) == 1.0
    for task, item, case, _ in cases("greatest_divisor"):
        assert value(task, item, str(sympy.gcd(*case["numbers"]))) == 1.0


def test_sequences_against_biopython() -> None:
    seq = pytest.importorskip("Bio.Seq")
    for task, item, case, question in cases("reverse_complement"):
        assert case["dna"] in question and value(task, item, str(seq.Seq(case["dna"]).reverse_complement())) == 1.0
    for task, item, case, _ in cases("translate_dna"):
        assert value(task, item, f"`{seq.Seq(case['dna']).translate()}`") == 1.0


def test_compositions_against_pymatgen() -> None:
    core = pytest.importorskip("pymatgen.core")
    for task, item, case, _ in cases("neutral_formula"):
        composition = core.Composition(task.expected(item))
        species = core.Species(case["cation"]), core.Species(case["anion"])
        assert set(composition.as_dict()) == {str(s.element) for s in species}
        counts = [int(n) for n in composition.values()]
        assert math.gcd(*counts) == 1
    for task, item, case, question in cases("mass_fraction"):
        formula = re.search(r"mass of (\w+) is", question)
        assert formula is not None
        fraction = 100 * core.Composition(formula[1]).get_wt_fraction(case["cation"])
        assert value(task, item, f"{fraction:.2f} %") == 1.0
        assert value(task, item, f"{fraction + 1:.2f} %") == 0.0


def test_a_small_world_has_as_many_items_as_it_has() -> None:
    class Coin:
        def __init__(self, draw: random.Random) -> None:
            self.draw = draw

        def case_generator(self) -> dict[str, Any]:
            return {"side": self.draw.randint(0, 1)}

        def prompt_func(self, case: Any) -> str:
            return ""

        def verify_score(self, output: str, case: Any) -> float:
            return 0.0

        def read(self, output: str) -> Any:
            return None

        def answer(self, case: Any) -> str:
            return ""

    counts = []
    for split in ("train", "validation", "test"):
        try:
            counts.append(len(GeneratedTask("coin", Coin, split=split, num_items=5).items()))  # type: ignore[arg-type]
        except InputError as error:
            assert "makes no case" in str(error)
    assert sum(counts) == 2
