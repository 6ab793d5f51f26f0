from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from s1pro.base.errors import InputError
from s1pro.tasks.agents.conversions import CONVERSIONS, ConvertUnits
from s1pro.tasks.agents.offered import offered_tools, toolbox_of
from s1pro.tasks.agents.settings import AgentConfig
from s1pro.tasks.agents.tables import read_table
from s1pro.tasks.agents.toolbox import Tool, Toolbox, parameters
from s1pro.tasks.task import Item


def box(*names: str, tables: tuple[Path, ...] = (), **limits: Any) -> Toolbox:
    config = AgentConfig(tools=names, tables=tables, **limits)
    return Toolbox(tools=offered_tools(config), seconds=config.call_seconds, max_chars=config.output_chars)


def answer(toolbox: Toolbox, name: str, **arguments: Any) -> str:
    return asyncio.run(toolbox.answer(name, json.dumps(arguments)))


def test_molecules() -> None:
    tools = box("molecule", "same_molecule")
    found = json.loads(answer(tools, "molecule", smiles="OC(=O)c1ccccc1OC(C)=O"))  # aspirin
    assert found["formula"] == "C9H8O4" and found["molar_mass"] == "180.16 g/mol" and found["rings"] == 1
    assert {"carboxylic acid", "ester", "benzene ring"} <= set(found["groups"])
    assert json.loads(answer(tools, "same_molecule", first="OCC", second="C(O)C"))["same"] is True
    assert json.loads(answer(tools, "same_molecule", first="OCC", second="COC"))["same"] is False
    assert answer(tools, "molecule", smiles="C1CC").startswith("Error: ")
    assert answer(tools, "molecule", smiles="C" * 500) == f"Error: SMILES too long: {'C' * 80!r}"


def test_half_a_surrogate_pair_does_not_come_back() -> None:
    said = answer(box("calculator"), "calculator", expression="1", **{"\ud800": 1})
    assert said.encode("utf-8") and "unknown argument ?" in said


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "stars.csv"
    path.write_text("name,kelvin\nSirius,9940\nVega,9602\n", encoding="utf-8")
    tools = box("look_up", tables=(path,))
    assert json.loads(answer(tools, "look_up", table="elements", key="iron"))["number"] == 26
    assert json.loads(answer(tools, "look_up", table="elements", key="Fe"))["mass"] == "55.845 g/mol"
    assert json.loads(answer(tools, "look_up", table="stars", key="sirius")) == {"name": "Sirius", "kelvin": "9940"}
    assert answer(tools, "look_up", table="stars", key="Veha") == "Error: there is no row 'Veha'; similar: Vega"
    assert answer(tools, "look_up", table="moons", key="Io").startswith("Error: table must be one of elements, stars")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name at least two"),
        ("a,a\n", "at least two different"),
        ("a,b\n1\n", ":2: 1 values for 2 columns"),
        ("a,b\n1,2\n1,3\n", ":3: the key '1' is there twice"),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_table(path)


def test_arguments_are_checked_before_the_tool_runs() -> None:
    async def never(arguments: Mapping[str, Any]) -> str:
        raise AssertionError(arguments)

    schema = parameters(["n"], n={"type": "integer"}, mode={"type": "string", "enum": ["a", "b"]})
    tools = Toolbox(tools=(Tool(name="t", description="", parameters=schema, run=never),), seconds=1.0, max_chars=200)
    for given, message in (
        ({}, "missing argument n"),
        ({"n": "1"}, 'n must be of type integer, got "1"'),
        ({"n": True}, "n must be of type integer, got true"),
        ({"n": 1, "m": 2}, "unknown argument m; there are n, mode"),
        ({"n": 1, "mode": "c"}, 'mode must be one of a, b, got "c"'),
    ):
        assert answer(tools, "t", **given) == f"Error: {message}"
    assert answer(tools, "other") == "Error: there is no tool 'other'; there are t"
    assert asyncio.run(tools.answer("t", "[1]")) == "Error: the arguments are no JSON object"


def test_time_and_size_end_a_call() -> None:
    async def slow(arguments: Mapping[str, Any]) -> str:
        await asyncio.sleep(60)
        return ""

    async def long(arguments: Mapping[str, Any]) -> str:
        return "ab" * 50

    both = (Tool(name=n, description="", parameters=parameters([]), run=r) for n, r in (("s", slow), ("l", long)))
    tools = Toolbox(tools=tuple(both), seconds=0.05, max_chars=10)
    assert answer(tools, "s").startswith("Error: to")  # cut at ten characters, as everything
    assert answer(tools, "l") == "ababababab\n[90 more characters]"


def test_tools_of_a_task_come_before_offered_ones() -> None:
    config = AgentConfig(tools=("calculator", "molecule"))
    task = ConvertUnits(num_items=3)
    tools = toolbox_of(task, task.items()[0], offered_tools(config), config)
    assert [tool.name for tool in tools.tools] == ["calculator", "molecule"]
    assert tools.described[0] == task.prompt(task.items()[0]).tools[0]


def test_settings_that_are_refused() -> None:
    for wrong, message in (
        ({"tools": ("shell",)}, "there is no shell"),
        ({"max_turns": 0}, "max_turns must be positive"),
        ({"tables": (Path("x.csv"),)}, "no effect without look_up"),
    ):
        with pytest.raises(ValueError, match=message):
            AgentConfig(**wrong)  # type: ignore[arg-type]


def test_conversions_are_those_of_the_calculator_and_splits_do_not_meet() -> None:
    """Two sources of truth: exact factors, and pint."""
    task = ConvertUnits(num_items=60)
    tools = toolbox_of(task, task.items()[0], (), AgentConfig())
    for item in task.items():
        amount = f"{item.asked['number']} {item.asked['unit']}"
        result = answer(tools, "calculator", expression=amount, unit=item.asked["to"])
        assert asyncio.run(task.score(item, result)).value == 1.0, (item, result)
        assert asyncio.run(task.score(item, task.expected(item))).value == 1.0
        wrong = f"{item.answer['value'] * 1.02:.9g}"
        assert asyncio.run(task.score(item, wrong)).value == 0.0
    assert not asyncio.run(task.score(task.items()[0], "no idea")).valid
    assert {(i.asked["unit"], i.asked["to"]) for i in task.items()} == set(CONVERSIONS)
    learned = ConvertUnits(split="train", num_items=500)

    def keys(items: Any) -> set[Any]:
        return {(i.asked["unit"], i.asked["to"], i.asked["number"]) for i in items}

    assert not keys(task.items()) & keys(learned.items()) and len(keys(learned.items())) == 500
    assert [i.asked for i in ConvertUnits(num_items=60).items()] == [i.asked for i in task.items()]


def test_items_are_asked_with_their_tools() -> None:
    asked = {"number": "3", "unit": "mi", "to": "km", "wording": "{number} {unit} in {to}?"}
    prompt = ConvertUnits(num_items=1).prompt(Item(id="x", asked=asked))
    assert prompt.messages[-1].text.startswith("3 mi in km?") and prompt.tools[0]["function"]["name"] == "calculator"
