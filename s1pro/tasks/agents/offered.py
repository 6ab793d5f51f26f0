"""The tools that a run offers with every question, from its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from s1pro.tasks.agents.calculator import calculator
from s1pro.tasks.agents.molecules import molecule, same_molecule
from s1pro.tasks.agents.python import python
from s1pro.tasks.agents.settings import TOOL_NAMES, AgentConfig
from s1pro.tasks.agents.tables import look_up
from s1pro.tasks.agents.toolbox import HasTools, Tool, Toolbox
from s1pro.tasks.confined.parent import Confined, Walls
from s1pro.tasks.task import Item, Task

_PROCESSES = 2


def offered_tools(config: AgentConfig) -> tuple[Tool, ...]:
    """The tools by their names.

    Raises:
        InputError: a table that cannot be read.
        ConfinementError: Python was asked for where code cannot be confined.
        MissingExtraError: RDKit or pint is not installed.
    """

    def confined_python() -> Tool:
        walls = Walls(seconds=config.call_seconds, memory_mb=config.memory_mb, output_bytes=4 * config.output_chars)
        confined = Confined(walls, processes=_PROCESSES)
        confined.check()
        return python(confined)

    make: Mapping[str, Callable[[], Tool]] = {
        "calculator": calculator,
        "molecule": molecule,
        "same_molecule": same_molecule,
        "look_up": lambda: look_up(config.tables),
        "python": confined_python,
    }
    assert tuple(make) == TOOL_NAMES
    return tuple(make[name]() for name in dict.fromkeys(config.tools))


def toolbox_of(task: Task, item: Item, offered: tuple[Tool, ...], config: AgentConfig) -> Toolbox:
    """The tools of one answer: those of the task, and the offered ones of other names."""
    own = tuple(task.tools(item)) if isinstance(task, HasTools) else ()
    names = {tool.name for tool in own}
    others = tuple(tool for tool in offered if tool.name not in names)
    return Toolbox(tools=(*own, *others), seconds=config.call_seconds, max_chars=config.output_chars)
