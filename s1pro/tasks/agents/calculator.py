"""A calculator that knows units, and refuses to add metres to seconds.

    3.2 mi to km                      5.149901 km
    25 degC to K                      298.15 K
    2 * 1.5 mol/L * 250 mL to mmol    750 mmol
    5 kg * (3 m/s)^2 / 2 to J         22.5 J
    1 m + 1 s                         Error: Cannot convert from 'second' to 'meter'

The expression is read by Python's own parser as a syntax tree, and only numbers, names of units, + - * / ^, brackets
and a few functions are walked: nothing that a model writes is run as code. Numbers are floats, so that no power takes
longer than another. Units and their conversions are pint's. A number directly before a unit belongs to it: `2 kg / 4 m`
is 0.5 kg/m, and `3 m^2` are three square metres.
"""

from __future__ import annotations

import ast
import functools
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from s1pro.base.errors import MissingExtraError
from s1pro.tasks.agents.toolbox import Tool, ToolError, parameters

MAX_LENGTH = 300
MAX_EXPONENT = 60
_FUNCTIONS: Mapping[str, Callable[[float], float]] = {
    "sqrt": math.sqrt, "exp": math.exp, "ln": math.log, "log10": math.log10, "sin": math.sin, "cos": math.cos,
    "tan": math.tan, "abs": abs,
}  # fmt: skip
_CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e}
_OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_TO = re.compile(r"\s+to\s+|\s*->\s*")
_IN = re.compile(r"(.*[^\W\d].*?)\s+in\s+([^\W\d].*)", re.DOTALL)
_JOINED = re.compile(
    r"(?<![\w.])(?P<number>(?>\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+))\s*(?P<unit>[^\W\d]\w*)(?!\w*\s*\()"
    r"(?P<power>\s*\*\*\s*(?:\d+|\([-+]?\d+\)|-\d+))?"
)
_MIDDLE = "\N{MULTIPLICATION SIGN}\N{MIDDLE DOT}\N{DOT OPERATOR}"


def calculate(expression: str, unit: str = "") -> str:
    """The value of an expression, in `unit` if there is one.

    Raises:
        ToolError: not readable, units that do not fit, an unknown one, or a number that is none.
        MissingExtraError: pint is not installed.
    """
    pint = _pint()
    if len(expression) > MAX_LENGTH or len(unit) > MAX_LENGTH:
        raise ToolError(f"write at most {MAX_LENGTH} characters")
    expression, unit = _degrees(expression), _degrees(unit)
    parts = _TO.split(expression.strip())
    if len(parts) == 1 and (inside := _IN.fullmatch(parts[0])) is not None:
        parts = [inside[1], inside[2]]
    if len(parts) > 2:
        raise ToolError("convert to one unit, once")
    target = unit.strip() or (parts[1].strip() if len(parts) == 2 else "")
    try:
        value = _quantity(_walk(_parsed(parts[0])))
        if target:
            value = value.to(_walk_unit(_parsed(target)))
        magnitude = float(value.magnitude)
    except OverflowError as error:
        raise ToolError("a number is too large") from error
    except (pint.errors.PintError, ArithmeticError, ValueError, TypeError) as error:
        raise ToolError(str(error) or type(error).__name__) from error
    if not math.isfinite(magnitude):
        raise ToolError("the result is no finite number")
    return f"{magnitude:.7g} {value.units:~}".strip()


def calculator() -> Tool:
    """The tool."""

    async def run(arguments: Mapping[str, Any]) -> str:
        return calculate(arguments["expression"], arguments.get("unit", ""))

    return Tool(
        name="calculator",
        description="Computes with numbers and units, and converts units.",
        parameters=parameters(
            ["expression"],
            expression={"type": "string", "description": "such as 5 kg * (3 m/s)^2 / 2, or 3.2 mi to km"},
            unit={"type": "string", "description": "of the result, such as kJ"},
        ),
        run=run,
    )


@functools.cache
def _pint() -> Any:
    try:
        import pint
    except ImportError as error:
        raise MissingExtraError("pint", "science") from error
    return pint


@functools.cache
def _units() -> Any:
    return _pint().UnitRegistry(cache_folder=None)


def _degrees(text: str) -> str:
    return text.replace("\N{DEGREE SIGN}C", "degC").replace("\N{DEGREE SIGN}F", "degF")


def _parsed(text: str) -> ast.expr:
    """The tree of an expression in which a number before a unit is one thing."""
    for sign in _MIDDLE:
        text = text.replace(sign, "*")
    text = text.replace("^", "**").replace("\N{MINUS SIGN}", "-").replace("%", "*0.01")
    text = re.sub(r"\bin\b", "inch", text)  # a word of Python
    text = _JOINED.sub(lambda match: f"({match['number']}*{match['unit']}{match['power'] or ''})", text)
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ToolError(f"cannot read {text.strip()[:80]!r}: write it like 3 m/s * 20 s") from error


def _walk(node: ast.expr) -> Any:
    """A float, a unit or a quantity."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.Name):
        return _CONSTANTS[node.id] if node.id in _CONSTANTS else _unit(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _walk(node.operand)
        if isinstance(node.op, ast.UAdd):
            return value
        return -value if isinstance(value, float) else -_quantity(value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return _power(_walk(node.left), _walk(node.right))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _combined(node.op, _walk(node.left), _walk(node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        if len(node.args) != 1 or node.keywords:
            raise ToolError(f"{node.func.id} takes one number")
        value = _quantity(_walk(node.args[0])).to("radian" if node.func.id in ("sin", "cos", "tan") else "")
        return _FUNCTIONS[node.func.id](float(value.magnitude))
    raise ToolError(f"cannot compute {ast.unparse(node)[:80]!r}: there are + - * / ^ and {', '.join(_FUNCTIONS)}")


def _walk_unit(node: ast.expr) -> Any:
    """A unit to convert to."""
    value = _walk(node)
    units = _units()
    if isinstance(value, units.Unit):
        return value
    if isinstance(value, units.Quantity) and value.magnitude == 1:
        return value.units
    raise ToolError(f"cannot convert to {ast.unparse(node)[:80]!r}: name a unit")


def _unit(name: str) -> Any:
    units, pint = _units(), _pint()
    try:
        return units.Unit(name)
    except (pint.errors.UndefinedUnitError, AttributeError, ValueError) as error:
        raise ToolError(f"there is no unit {name[:40]!r}") from error


def _quantity(value: Any) -> Any:
    units = _units()
    return units.Quantity(1.0, value) if isinstance(value, units.Unit) else units.Quantity(value)


def _combined(operation: ast.operator, left: Any, right: Any) -> Any:
    units = _units()
    if isinstance(left, float) and isinstance(right, units.Unit) and isinstance(operation, ast.Mult):
        return units.Quantity(left, right)  # also degrees, which nothing else may be multiplied with
    if isinstance(left, units.Unit) and isinstance(right, units.Unit) and isinstance(operation, (ast.Mult, ast.Div)):
        return _OPERATORS[type(operation)](left, right)
    return _OPERATORS[type(operation)](_quantity(left), _quantity(right))


def _power(base: Any, exponent: Any) -> Any:
    number = float(_quantity(exponent).to("").magnitude)
    if isinstance(base, float):
        return base**number if base >= 0 or number == int(number) else math.nan
    if abs(number) > MAX_EXPONENT:
        raise ToolError(f"exponents of units lie between -{MAX_EXPONENT} and {MAX_EXPONENT}")
    return base**number
