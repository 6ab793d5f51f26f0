"""Python for models, behind walls (`tasks.confined`): no network, no files of this machine, limits of time and memory.

Every call begins anew; what a program prints is its result, and the value of its last line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s1pro.tasks.agents.toolbox import Tool, ToolError, parameters
from s1pro.tasks.confined.parent import Confined

_ENDINGS = {
    "time": "the program took too long",
    "memory": "the program needs too much memory",
    "lost": "the process that runs programs was ended from outside, twice",
}


def python(confined: Confined) -> Tool:
    """The tool. Where the system does not confine, a call raises `ConfinementError` and ends the run."""

    async def run(arguments: Mapping[str, Any]) -> str:
        outcome = await confined.python(arguments["code"])
        if outcome.ended == "done":
            return outcome.output.strip() or "(nothing was printed)"
        if outcome.ended == "error":
            raise ToolError(outcome.output.strip() or "the program failed")
        raise ToolError(_ENDINGS.get(outcome.ended, "the program crashed"))

    return Tool(
        name="python",
        description="Runs a Python program and gives what it prints. Nothing is kept between two calls.",
        parameters=parameters(["code"], code={"type": "string", "description": "the whole program"}),
        run=run,
        limits_itself=True,
    )
