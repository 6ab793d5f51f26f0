"""The tool `calculate` of tau2's shops: numbers, + - * / and brackets, in floats, to two decimals."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping

from s1pro.tasks.tau2.world import ToolError

_OPERATORS: Mapping[type, Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Pow: operator.pow,
}  # fmt: skip


def calculated(expression: str) -> str:
    """Raises `ToolError` for what has no value."""
    if not re.fullmatch(r"[-0-9+*/(). ]{1,300}", expression):
        raise ToolError("Invalid characters in expression")
    try:
        return str(round(float(_value(ast.parse(expression.strip(), mode="eval").body)), 2))
    except (ValueError, TypeError, SyntaxError, ArithmeticError, MemoryError, RecursionError) as error:
        raise ToolError(f"the expression has no value ({error})") from error


def _value(node: ast.expr) -> float:
    """Of a syntax tree of numbers, in floats, so that no power takes long."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return float(_OPERATORS[type(node.op)](_value(node.left), _value(node.right)))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        return _value(node.operand) * (-1.0 if isinstance(node.op, ast.USub) else 1.0)
    raise ValueError("only numbers, + - * / and brackets")
