"""Arrays of compiled functions live as long as their addresses are used.

numba frees an array behind the last use of its *name*, and `array.ctypes.data` is such a use: an address that is used
later points into freed memory. So every array that a function makes, and whose address it takes, is named once more at
the end of the function (`elementwise.keep`).
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from s1pro.kernels import compiled

MAKERS = {"empty", "zeros", "ones", "full", "arange"}
FILES = sorted(Path(compiled.__file__).parent.glob("*.py"))


def makes(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in MAKERS


def made_arrays(function: ast.FunctionDef) -> set[str]:
    """Names that are given an array by numpy."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                one = isinstance(target, ast.Name)
                targets = [target] if one else getattr(target, "elts", [])
                values = [node.value] if one else getattr(node.value, "elts", [])
                names |= {t.id for t, v in zip(targets, values, strict=False) if isinstance(t, ast.Name) and makes(v)}
    return names


def addressed(function: ast.FunctionDef) -> set[str]:
    return {
        node.value.id
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr == "ctypes" and isinstance(node.value, ast.Name)
    }


def kept_at_the_end(function: ast.FunctionDef) -> set[str]:
    names: set[str] = set()
    for statement in reversed(function.body):
        if isinstance(statement, ast.Return):
            continue
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)):
            break
        call = statement.value
        if not (isinstance(call.func, ast.Name) and call.func.id == "keep" and isinstance(call.args[0], ast.Name)):
            break
        names.add(call.args[0].id)
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_arrays_live_as_long_as_their_addresses(file: Path) -> None:
    for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef):
            lost = (made_arrays(function) & addressed(function)) - kept_at_the_end(function)
            assert not lost, f"{file.name}: {function.name} uses addresses of {sorted(lost)} after they are freed"


def test_the_check_sees_something() -> None:
    sources = [ast.parse(file.read_text(encoding="utf-8")) for file in FILES]
    functions = [node for source in sources for node in ast.walk(source) if isinstance(node, ast.FunctionDef)]
    assert sum(len(made_arrays(function) & addressed(function)) for function in functions) >= 5
