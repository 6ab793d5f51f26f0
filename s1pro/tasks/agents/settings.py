"""How a model uses tools: which there are, and where an episode ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TOOL_NAMES = ("calculator", "molecule", "same_molecule", "look_up", "python")


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Limits of an episode, which is one answer with calls of tools in between.

    Attributes:
        tools: offered with every question, beside the tools that a task brings itself; out of `TOOL_NAMES`.
        tables: CSV files for `look_up`, beside the elements; the first column is the key.
        max_turns: of the model; a call in the last one is not answered.
        max_calls: of one turn; further ones are answered by an error.
        call_seconds: of one call; it is answered by an error then.
        seconds: of all calls of an episode; then it ends.
        output_chars: of one result; the rest is cut off, and says so.
        memory_mb: address space of Python.
    """

    tools: tuple[str, ...] = ()
    tables: tuple[Path, ...] = ()
    max_turns: int = 6
    max_calls: int = 4
    call_seconds: float = 10.0
    seconds: float = 60.0
    output_chars: int = 2000
    memory_mb: int = 512

    def __post_init__(self) -> None:
        unknown = [name for name in self.tools if name not in TOOL_NAMES]
        if unknown:
            raise ValueError(f"agent.tools: there is no {', '.join(unknown)}; choose from {', '.join(TOOL_NAMES)}")
        for name in ("max_turns", "max_calls", "call_seconds", "seconds", "output_chars", "memory_mb"):
            if getattr(self, name) <= 0:
                raise ValueError(f"agent.{name} must be positive, got {getattr(self, name)}")
        if self.tables and "look_up" not in self.tools:
            raise ValueError("agent.tables has no effect without look_up in agent.tools")
