"""A made-up table with every type and role."""

from __future__ import annotations

import random
from typing import Any

from s1pro.science.facts.schema import Record, Schema, schema_from_json

ALLOYS: dict[str, Any] = {
    "name": "alloys",
    "domain": "materials",
    "noun": "alloy",
    "description": "Castings.",
    "sentences": ["The (castings|samples) with {cyield} and {cdensity} came from one melt."],
    "columns": {
        "alloy": {"role": "entity", "type": "text"},
        "family": {"role": "group", "type": "category", "words": ["family"]},
        "yield": {"unit": "MPa", "digits": 3, "words": ["yield strength", "yield stress"], "also": ["GPa"]},
        "gap": {"unit": "eV", "digits": 3, "words": ["energy gap", "band gap"]},
        "density": {"unit": "g/cm^3", "digits": 4, "words": ["density"], "also": ["kg/m^3"]},
        "temp": {"role": "condition", "unit": "K", "digits": 3, "words": ["temperature"], "also": ["°C"]},
        "phases": {"type": "count", "noun": "phase"},
        "system": {"type": "category", "words": ["crystal system"]},
        "magnetic": {"type": "flag", "words": ["magnetic"]},
    },
}
SYSTEMS = ("cubic", "hexagonal", "monoclinic", "triclinic", "tetragonal")


def alloy_schema() -> Schema:
    return schema_from_json(ALLOYS, "alloys.json")


def alloy_rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Rows as a CSV file has them."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        row = {
            "alloy": f"X-{i}",
            "family": f"F{i % 97}",
            "yield": repr(rng.uniform(0.1, 900) + 0.1),
            "gap": repr(rng.uniform(0, 9)) if i % 5 else "",
            "density": repr(rng.uniform(1, 20)),
            "temp": "300" if i % 2 else "77.35",
            "phases": str(i % 4 + 1),
            "system": rng.choice(SYSTEMS),
            "magnetic": "yes" if i % 3 else "no",
        }
        rows.append(row)
    return rows


def alloy_records(count: int, seed: int = 0) -> list[Record]:
    schema = alloy_schema()
    return [schema.record(row, f"row {i}") for i, row in enumerate(alloy_rows(count, seed))]
