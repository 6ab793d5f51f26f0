"""The layers of the project, enforced on the syntax trees of all its modules.

A room (a folder of `s1pro/`) imports only from the rooms that the table allows it, and the torch-free rooms import
torch nowhere, not even inside a function. What the table means is told in `docs/architecture.md`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "s1pro"

FLOOR = frozenset({"base", "science", "report"})
FLOOR_AND_KERNELS = FLOOR | {"kernels"}
TRAINING_ROOMS = FLOOR_AND_KERNELS | {"inputs", "model", "data", "parallel", "checkpoint"}
BELOW_RL = TRAINING_ROOMS | {"corpus", "tasks", "eval", "train", "serve"}

# `base` is the floor of the floor: its errors and records are the language between all rooms.
MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "base": frozenset(),
    "kernels": frozenset(),
    "science": frozenset({"base"}),
    "report": frozenset({"base"}),
    "corpus": FLOOR,
    "inputs": FLOOR,
    "tasks": FLOOR,
    "model": FLOOR_AND_KERNELS,
    "data": FLOOR_AND_KERNELS | {"inputs"},
    "parallel": FLOOR_AND_KERNELS | {"model"},
    "checkpoint": FLOOR_AND_KERNELS | {"model"},
    "eval": FLOOR | {"tasks"},
    "train": TRAINING_ROOMS,
    "serve": TRAINING_ROOMS,
    "rl": BELOW_RL,
    "recipes": BELOW_RL | {"rl"},
    "cli": BELOW_RL | {"rl", "recipes"},
    # single modules at the top of the package
    "hf": frozenset({"checkpoint"}),
    "__init__": frozenset(),
    "__main__": frozenset({"cli"}),
}
TORCH_FREE = frozenset({"base", "science", "report", "corpus", "inputs", "tasks", "eval"})
TORCH_PACKAGES = frozenset({"torch", "torchvision", "transformers", "triton", "accelerate"})
REFUSED_NAMES = frozenset({"utils", "util", "common", "helpers", "helper", "tools", "misc"})

# Operators that move between torch versions, or that a device may lack.
KERNEL_ONLY_NAMES = frozenset(
    {
        "grouped_mm", "_grouped_mm", "scaled_mm", "_scaled_mm", "scaled_grouped_mm", "_scaled_grouped_mm",
        "flex_attention", "create_block_mask", "varlen_attn", "_int_mm",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Module:
    """One source file: its dotted name, its room, and what it imports (all depths) with line numbers.

    `typing_only` are the lines under `if TYPE_CHECKING`: layers hold for them too, but they cannot make a cycle.
    """

    name: str
    tree: ast.Module
    imports: tuple[tuple[str, int], ...]
    typing_only: frozenset[int]
    relative: tuple[int, ...] = field(default=())

    @property
    def room(self) -> str:
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else "__init__"


def parse(name: str, source: str) -> Module:
    tree = ast.parse(source)
    imports: list[tuple[str, int]] = []
    relative: list[int] = []
    typing_only: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            typing_only |= {
                child.lineno for statement in node.body for child in ast.walk(statement) if isinstance(child, ast.stmt)
            }
        elif isinstance(node, ast.Import):
            imports += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                relative.append(node.lineno)
            else:
                imports += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return Module(
        name=name, tree=tree, imports=tuple(imports), typing_only=frozenset(typing_only), relative=tuple(relative)
    )


def all_modules() -> list[Module]:
    modules = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules.append(parse(name, path.read_text(encoding="utf-8")))
    return modules


MODULES = all_modules()


def layer_violations(module: Module) -> list[str]:
    if module.room not in MAY_IMPORT:
        return [f"{module.name}: the room {module.room!r} is not in the table of layers"]
    allowed = MAY_IMPORT[module.room] | {module.room}
    found = []
    for target, line in module.imports:
        head, *rest = target.split(".")
        if head == "s1pro" and rest and rest[0] in MAY_IMPORT and rest[0] not in allowed:
            found.append(f"{module.name}:{line} imports {target}: {module.room} may not import {rest[0]}")
    return found


def torch_violations(module: Module) -> list[str]:
    if module.room not in TORCH_FREE and module.name != "s1pro":
        return []
    return [
        f"{module.name}:{line} imports {target}, and {module.room} is free of torch"
        for target, line in module.imports
        if target.split(".")[0] in TORCH_PACKAGES
    ]


def kernel_violations(module: Module) -> list[str]:
    if module.room == "kernels":
        return []
    found = [
        f"{module.name}:{line} imports {target}, which belongs in kernels/"
        for target, line in module.imports
        if target.split(".")[0] == "triton" or target.split(".")[-1] in KERNEL_ONLY_NAMES
    ]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in KERNEL_ONLY_NAMES and _is_torch(node.value):
            found.append(f"{module.name}:{node.lineno} uses {ast.unparse(node)}, which belongs in kernels/")
    return found


def _is_torch(node: ast.expr) -> bool:
    return ast.unparse(node).split(".")[0] in {"torch", "F"}


def _edges(modules: list[Module]) -> dict[str, set[str]]:
    names = {module.name for module in modules}
    edges: dict[str, set[str]] = {}
    for module in modules:
        targets = set()
        for target, line in module.imports:
            if line in module.typing_only:
                continue
            # `from a.b import c` means the module a.b.c where that exists, else a.b
            for candidate in (target, target.rpartition(".")[0]):
                if candidate in names and candidate != module.name:
                    targets.add(candidate)
                    break
        edges[module.name] = targets
    return edges


def import_cycles(edges: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Depth-first search; yields the path of every back edge."""
    state: dict[str, str] = {}

    def visit(name: str, path: list[str]) -> Iterator[list[str]]:
        state[name] = "open"
        for target in sorted(edges.get(name, ())):
            if state.get(target) == "open":
                yield [*path[path.index(target) :], target]
            elif target not in state:
                yield from visit(target, [*path, target])
        state[name] = "done"

    for name in sorted(edges):
        if name not in state:
            yield from visit(name, [name])


def test_rooms_import_only_from_below() -> None:
    assert [line for module in MODULES for line in layer_violations(module)] == []


def test_torch_free_rooms_never_import_torch() -> None:
    assert [line for module in MODULES for line in torch_violations(module)] == []


def test_only_kernels_touch_version_dependent_operators() -> None:
    assert [line for module in MODULES for line in kernel_violations(module)] == []


def test_imports_are_absolute() -> None:
    assert [f"{module.name}:{line}" for module in MODULES for line in module.relative] == []


def test_modules_have_no_import_cycles() -> None:
    assert [" -> ".join(cycle) for cycle in import_cycles(_edges(MODULES))] == []


def test_no_module_is_called_utils() -> None:
    assert [module.name for module in MODULES if REFUSED_NAMES & set(module.name.split("."))] == []


def test_every_room_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_torch_free_rooms_load_without_torch() -> None:
    """Also catches torch that comes in through another package."""
    names = [module.name for module in MODULES if module.room in TORCH_FREE] + ["s1pro", "s1pro.cli"]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = sorted({set(TORCH_PACKAGES)!r} & set(sys.modules))\n"
        "    if loaded: sys.exit(f'{name} loads {loaded}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("check", "name", "source"),
    [
        (layer_violations, "s1pro.base.records", "import s1pro.model.config"),
        (layer_violations, "s1pro.data.batch", "from s1pro.train import loop"),
        (layer_violations, "s1pro.data.batch", "from s1pro import eval"),
        (layer_violations, "s1pro.serve.engine", "def f():\n    from s1pro.eval.runner import run"),
        (layer_violations, "s1pro.kernels.norm", "from s1pro.base.errors import InputError"),
        (layer_violations, "s1pro.attic.old", ""),
        (torch_violations, "s1pro.tasks.task", "def f():\n    import torch.nn as nn"),
        (torch_violations, "s1pro.eval.runner", "from transformers import AutoModel"),
        (kernel_violations, "s1pro.model.moe", "import torch\ntorch.nn.functional.grouped_mm(a, b)"),
        (kernel_violations, "s1pro.model.moe", "from torch.nn.functional import grouped_mm"),
        (kernel_violations, "s1pro.train.loop", "import triton.language as tl"),
    ],
)
def test_a_wrong_import_is_seen(check: object, name: str, source: str) -> None:
    assert callable(check)
    assert len(check(parse(name, source))) == 1


def test_a_cycle_is_seen() -> None:
    modules = [parse("s1pro.a", "from s1pro.b import x"), parse("s1pro.b", "import s1pro.c"), parse("s1pro.c", "")]
    assert list(import_cycles(_edges(modules))) == []
    modules[2] = parse("s1pro.c", "if TYPE_CHECKING:\n    from s1pro import a")
    assert list(import_cycles(_edges(modules))) == []
    modules[2] = parse("s1pro.c", "from s1pro import a")
    assert list(import_cycles(_edges(modules))) == [["s1pro.a", "s1pro.b", "s1pro.c", "s1pro.a"]]
