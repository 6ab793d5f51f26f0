"""Configuration helpers: typed round trip, overrides, clear errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from s1pro.base.config import config_from_json, config_to_json, valid_paths, with_overrides
from s1pro.base.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Source:
    name: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Inner:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    kind: Literal["adamw", "muon"] = "adamw"
    clip: float | None = 1.0
    rank: int = 0
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.lr < 0:
            raise ValueError(f"lr must not be negative, got {self.lr}")
        if bool(self.rank) != (self.scale is not None):
            raise ValueError("rank and scale go together")


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int
    inner: Inner = field(default_factory=Inner)
    sources: tuple[Source, ...] = ()
    folder: Path | None = None
    flag: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)
    peak: float | Literal["off"] = "off"


CONFIG = Outer(
    steps=10, sources=(Source(name="a"), Source(name="b", weight=2.0)), folder=Path("x/y"), weights={"a": 1.0}
)


def test_json_round_trip_is_exact_and_keeps_nulls() -> None:
    data = json.loads(json.dumps(config_to_json(CONFIG)))
    assert data["inner"]["clip"] == 1.0 and data["folder"] == "x/y"
    assert config_from_json(Outer, data) == CONFIG
    without = Outer(steps=1)
    assert config_to_json(without)["folder"] is None
    assert config_from_json(Outer, config_to_json(without)) == without


@pytest.mark.parametrize(
    ("assignment", "path", "expected"),
    [
        ("steps=20", "steps", 20),
        ("inner.lr=3e-4", "inner.lr", 3e-4),
        ("inner.lr=1", "inner.lr", 1.0),
        ("inner.kind=muon", "inner.kind", "muon"),
        ("inner.clip=none", "inner.clip", None),
        ("inner.betas=[0.8, 0.9]", "inner.betas", (0.8, 0.9)),
        ("inner.betas.1=0.99", "inner.betas", (0.9, 0.99)),
        ("sources.1.weight=5", "sources.1.weight", 5.0),
        ("folder=runs/a=b", "folder", Path("runs/a=b")),
        ("flag=True", "flag", True),
        ("weights.b=.5", "weights", {"a": 1.0, "b": 0.5}),
        ("peak=off", "peak", "off"),
        ("peak=2.5", "peak", 2.5),
    ],
)
def test_override_reads_text_by_the_type_of_the_field(assignment: str, path: str, expected: object) -> None:
    value: object = with_overrides(CONFIG, [assignment])
    for name in path.split("."):
        value = value[int(name)] if isinstance(value, tuple) else getattr(value, name)
    assert value == expected and type(value) is type(expected)
    assert CONFIG.steps == 10


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("stepz=3", "valid here: steps, inner"),
        ("inner.LR=3", "valid here: lr, betas, kind, clip, rank"),
        ("steps=many", "expected int, got 'many'"),
        ("steps=1.5", "expected int"),
        ("flag=1", "expected bool"),
        ("inner.kind=sgd", "not one of 'adamw', 'muon'"),
        ("inner.lr=-1", "lr must not be negative"),
        ("steps", "path=value"),
        ("sources.7.weight=1", "numbers 0 to 1"),
        ("steps.x=1", "single value"),
        ("inner.betas=[1]", "expected 2 values"),
        ("folder=", "folder: empty; write . for the present folder"),
    ],
)
def test_override_errors_name_path_and_choices(assignment: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        with_overrides(CONFIG, [assignment])


def test_settings_that_go_together_may_be_given_in_any_order() -> None:
    both = ["inner.rank=4", "steps=20", "inner.scale=0.5"]
    for order in (both, both[::-1]):
        changed = with_overrides(CONFIG, order)
        assert (changed.inner.rank, changed.inner.scale, changed.steps) == (4, 0.5, 20)
        assert type(changed) is Outer and type(changed.inner) is Inner and changed.sources == CONFIG.sources
    with pytest.raises(InputError, match=r"inner\.rank: rank and scale go together"):
        with_overrides(CONFIG, both[:2])
    whole = with_overrides(CONFIG, ['inner={"rank": 2, "scale": 1.0}', "inner.rank=3", "sources.0.weight=3"])
    assert (whole.inner.rank, whole.inner.scale, whole.sources[0].weight) == (3, 1.0, 3.0)


def test_json_errors_name_the_path() -> None:
    with pytest.raises(InputError, match="inner: unknown setting foo; valid here: lr"):
        config_from_json(Outer, {"steps": 1, "inner": {"foo": 1}})
    with pytest.raises(InputError, match="missing steps"):
        config_from_json(Outer, {})
    with pytest.raises(InputError, match=r"sources.0.weight: expected float, got 'x'"):
        config_from_json(Outer, {"steps": 1, "sources": [{"name": "a", "weight": "x"}]})


def test_valid_paths_lists_leaves() -> None:
    assert {"steps", "inner.lr", "sources.1.weight", "folder"} <= set(valid_paths(CONFIG))
