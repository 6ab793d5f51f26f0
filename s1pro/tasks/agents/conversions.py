"""`convert_units`: how many of one unit are so many of another; the calculator is there to be asked.

Right is what lies within half a per cent of the exact conversion. Factors are the exact definitions, written down here
and not taken from the calculator, so that the two check each other. A question, that is a pair of units with a number,
belongs to one split, by its hash.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence

from s1pro.base.records import Message
from s1pro.science.split import Split
from s1pro.science.system_prompts import SYSTEM_PROMPTS
from s1pro.tasks import extraction
from s1pro.tasks.agents.calculator import calculator
from s1pro.tasks.agents.toolbox import Tool
from s1pro.tasks.task import Item, Prompt, Score, mean_parts

TOLERANCE = 0.005
# (from, to): factor and offset, to = factor * from + offset; units as the calculator spells them.
CONVERSIONS: Mapping[tuple[str, str], tuple[float, float]] = {
    ("mi", "km"): (1.609344, 0.0),
    ("ft", "m"): (0.3048, 0.0),
    ("inch", "cm"): (2.54, 0.0),
    ("lb", "kg"): (0.45359237, 0.0),
    ("day", "h"): (24.0, 0.0),
    ("kWh", "MJ"): (3.6, 0.0),
    ("atm", "kPa"): (101.325, 0.0),
    ("cal", "J"): (4.184, 0.0),
    ("km/h", "m/s"): (1 / 3.6, 0.0),
    ("g/cm^3", "kg/m^3"): (1000.0, 0.0),
    ("degC", "K"): (1.0, 273.15),
    ("degC", "degF"): (1.8, 32.0),
}
_WORDINGS = (
    "How many {to} are {number} {unit}?",
    "Convert {number} {unit} to {to}.",
    "What is {number} {unit} in {to}?",
)
_EXPONENT = re.compile(r"(?:\*\*|\^)\s*-?\d+")  # of a unit: what stands last in 5 kg/m^3 is no answer
_SHARES = {"train": range(8), "validation": range(8, 9), "test": range(9, 10)}


class ConvertUnits:
    """Implements `tasks.task.Task` and `tasks.agents.toolbox.HasTools`."""

    name = "convert_units"

    def __init__(self, *, split: Split = "test", num_items: int = 200, seed: int = 0) -> None:
        draw = random.Random(f"{self.name} {split} {seed}")
        found: dict[tuple[str, str, str], Item] = {}
        pairs = list(CONVERSIONS)
        while len(found) < num_items:
            pair = pairs[len(found) % len(pairs)]
            number = f"{draw.randint(11, 99_999) / 10:g}"
            if _place(*pair, number) in _SHARES[split] and (*pair, number) not in found:
                factor, offset = CONVERSIONS[pair]
                asked = {"number": number, "unit": pair[0], "to": pair[1], "wording": draw.choice(_WORDINGS)}
                answer = {"value": factor * float(number) + offset}
                found[(*pair, number)] = Item(id=f"{self.name}-{len(found):04}", asked=asked, answer=answer)
        self._items = tuple(found.values())

    def items(self) -> Sequence[Item]:
        return self._items

    def prompt(self, item: Item) -> Prompt:
        question = f"{item.asked['wording'].format_map(item.asked)} Answer with the number and its unit."
        return Prompt(
            messages=(
                Message(role="system", content=SYSTEM_PROMPTS["science"]),
                Message(role="user", content=question),
            ),
            tools=tuple(tool.described for tool in self.tools(item)),
        )

    def tools(self, item: Item) -> Sequence[Tool]:
        return (calculator(),)

    def expected(self, item: Item) -> str:
        """A right answer."""
        return f"{item.answer['value']:.6g} {item.asked['to']}"

    async def score(self, item: Item, response: str) -> Score:
        value, truth = extraction.reading_in(_EXPONENT.sub("", response)), item.answer["value"]
        if value is None:
            return Score(value=0.0, valid=False)
        error = abs(value - truth)
        return Score(value=float(error <= TOLERANCE * abs(truth)), extraction=value)

    def aggregate(self, scores: Sequence[Score]) -> Mapping[str, float]:
        return mean_parts(scores)


def _place(*key: str) -> int:
    """0 to 9."""
    return int.from_bytes(hashlib.blake2b("|".join(key).encode(), digest_size=8).digest()) % 10
