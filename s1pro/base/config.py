"""Configurations: frozen keyword-only dataclasses, to JSON and back, and one-off changes `--set path=value`.

A configuration is a tree of frozen dataclasses whose leaves are numbers, strings, booleans, None, paths, tuples and
string-keyed mappings. Three functions are all there is:

    config_to_json(config)                     plain dictionaries and lists, nulls included
    config_from_json(TrainRun, data)           typed again; unknown keys and wrong types are errors that name the path
    with_overrides(config, ["steps=100", "optimizer.lr=3e-4", "data.sources.0.weight=2"])

Text after `=` is read by the type of the field: `true`/`false` for booleans, `none` for optional fields, a JSON list
for tuples, plain text for strings. Nothing is ever evaluated as code.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from s1pro.base.errors import InputError

Config = TypeVar("Config")


def config_to_json(config: Any) -> Any:
    """The configuration as JSON values (dictionaries, lists, strings, numbers, booleans, None)."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: config_to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(key): config_to_json(value) for key, value in config.items()}
    if isinstance(config, (tuple, list)):
        return [config_to_json(value) for value in config]
    if isinstance(config, Path):
        return str(config)
    if config is None or isinstance(config, (bool, int, float, str)):
        return config
    raise ValueError(f"a configuration cannot hold {type(config).__name__}: {config!r}")


def config_from_json(kind: type[Config], data: Any, *, path: str = "") -> Config:
    """Rebuilds the dataclass `kind` from what `config_to_json` gave. Missing keys take the default of the class.

    Raises:
        InputError: an unknown key, a missing required key, or a value of the wrong type, with its path.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{path or kind.__name__}: expected an object, got {data!r}")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    _refuse_unknown(data, fields, path or kind.__name__)
    values = {name: _convert(hints[name], value, _join(path, name)) for name, value in data.items()}
    required = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in values]
    if missing:
        raise InputError(f"{path or kind.__name__}: missing {', '.join(missing)}")
    return _build(kind, values, path)


def with_overrides(config: Config, assignments: Iterable[str]) -> Config:
    """`config` with `path=value` changes applied in order; the original is untouched. Whether settings go together is
    asked when all are there, so that `--set a.weight=1 --set a.width=2` works where one needs the other.

    Raises:
        InputError: no `=`, an unknown path (the valid names are listed), a value of the wrong type, or settings that
            exclude each other.
    """
    changed: Any = config
    for assignment in assignments:
        path, sign, text = assignment.partition("=")
        if not sign or not path.strip():
            raise InputError(f"--set {assignment!r}: write it as path=value, for example optimizer.lr=3e-4")
        changed = _assign(changed, type(config), path.strip().split("."), text.strip(), "")
    built: Config = _built(changed)
    return built


def valid_paths(config: Any, prefix: str = "") -> list[str]:
    """All paths that `--set` accepts, leaves only."""
    if dataclasses.is_dataclass(config):
        names = [(f.name, getattr(config, f.name)) for f in dataclasses.fields(config)]
    elif isinstance(config, tuple) and config and dataclasses.is_dataclass(config[0]):
        names = [(str(i), item) for i, item in enumerate(config)]
    else:
        return [prefix]
    return [path for name, value in names for path in valid_paths(value, _join(prefix, name))]


@dataclass(frozen=True)
class _Draft:
    """A dataclass that is not constructed yet. `path` is that of its newest change, for errors."""

    kind: type[Any]
    values: Mapping[str, Any]
    path: str


def _built(value: Any) -> Any:
    """The inner ones first."""
    if isinstance(value, _Draft):
        return _build(value.kind, {name: _built(inner) for name, inner in value.values.items()}, value.path)
    if isinstance(value, tuple) and any(isinstance(item, _Draft) for item in value):
        return tuple(_built(item) for item in value)
    return value


def _assign(value: Any, kind: Any, path: list[str], text: str, done: str) -> Any:
    """The copy of `value` (declared as `kind`) whose element at `path` is read from `text`; dataclasses on the way are
    drafts in it."""
    if not path:
        return _parse(kind, text, done)
    name, rest = path[0], path[1:]
    here = _join(done, name)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        draft = value if isinstance(value, _Draft) else _Draft(type(value), _shallow(value), here)
        names = [f.name for f in dataclasses.fields(draft.kind)]
        if name not in names:
            raise InputError(f"--set {here}: there is no such setting; valid here: {', '.join(names)}")
        inner = typing.get_type_hints(draft.kind)[name]
        changed = _assign(draft.values[name], inner, rest, text, here)
        return _Draft(draft.kind, {**draft.values, name: changed}, here)
    if isinstance(value, tuple):
        if not name.isdigit() or int(name) >= len(value):
            valid = f"valid here: the numbers 0 to {len(value) - 1}" if value else "the list has no entries"
            raise InputError(f"--set {here}: {valid}")
        index = int(name)
        return (*value[:index], _assign(value[index], _item_type(kind, index), rest, text, here), *value[index + 1 :])
    if isinstance(value, Mapping) and not rest:
        inner = (typing.get_args(_without_none(kind)) or (str, Any))[1]
        return {**value, name: _parse(inner, text, here)}
    if value is None:
        raise InputError(f"--set {here}: {done} is not set, so nothing inside it can be changed")
    raise InputError(f"--set {here}: {done} is a single value, not a group of settings")


def _shallow(config: Any) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.init}


def _build(kind: type[Config], values: Mapping[str, Any], path: str) -> Config:
    """Constructs the dataclass; its own complaints become input errors with the path in front."""
    try:
        return kind(**values)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: {error}" if path else str(error)) from error


def _parse(kind: Any, text: str, path: str) -> Any:
    """Command-line text as a value of type `kind`."""
    options = typing.get_args(kind) if _is_union(kind) else (kind,)
    if type(None) in options and text.lower() in ("none", "null"):
        return None
    if any(option in (str, Path) for option in options) or any(text in _choices(option) for option in options):
        return _convert(kind, text, path)
    if bool in options and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = _number(text)
    return _convert(kind, value, path)


def _number(text: str) -> Any:
    """Numbers that JSON does not know (1_000, .5, 1e-4 written as 1E-4); anything else stays text."""
    for reader in (int, float):
        try:
            return reader(text)
        except ValueError:
            continue
    return text


def _convert(kind: Any, value: Any, path: str) -> Any:
    """Checks and converts a JSON value to the declared type."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is Literal:
        if value not in args or type(value) not in {type(arg) for arg in args}:
            raise InputError(f"{path}: {value!r} is not one of {', '.join(repr(arg) for arg in args)}")
        return value
    if _is_union(kind):
        return _convert_union(args, value, path)
    if dataclasses.is_dataclass(kind):
        return config_from_json(kind, value, path=path)  # type: ignore[arg-type]
    if origin is tuple:
        return _convert_tuple(args, value, path)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            raise InputError(f"{path}: expected an object, got {value!r}")
        return {str(key): _convert(args[1], item, _join(path, str(key))) for key, item in value.items()}
    return _convert_leaf(kind, value, path)


def _convert_leaf(kind: Any, value: Any, path: str) -> Any:
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind is str and isinstance(value, str):
        return value
    if kind is Path and isinstance(value, (str, Path)):
        if value == "":
            raise InputError(f"{path}: empty; write . for the present folder")
        return Path(value)
    if kind is type(None) and value is None:
        return None
    raise InputError(f"{path}: expected {getattr(kind, '__name__', kind)}, got {value!r}")


def _convert_union(options: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in options:
        return None
    problems: list[InputError] = []
    for option in (option for option in options if option is not type(None)):
        try:
            return _convert(option, value, path)
        except InputError as error:
            problems.append(error)
    raise problems[0] if len(problems) == 1 else InputError("; or ".join(str(problem) for problem in problems))


def _convert_tuple(args: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{path}: expected a list such as [1, 2], got {value!r}")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_convert(args[0], item, _join(path, str(i))) for i, item in enumerate(value))
    if len(args) != len(value):
        raise InputError(f"{path}: expected {len(args)} values, got {len(value)}")
    return tuple(
        _convert(kind, item, _join(path, str(i))) for i, (kind, item) in enumerate(zip(args, value, strict=True))
    )


def _item_type(kind: Any, index: int) -> Any:
    args = typing.get_args(_without_none(kind))
    return args[0] if len(args) == 2 and args[1] is Ellipsis else args[index]


def _without_none(kind: Any) -> Any:
    if not _is_union(kind):
        return kind
    return next(option for option in typing.get_args(kind) if option is not type(None))


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (Union, types.UnionType)


def _choices(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def _refuse_unknown(data: Mapping[str, Any], fields: Mapping[str, Any], path: str) -> None:
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise InputError(f"{path}: unknown setting {', '.join(unknown)}; valid here: {', '.join(fields)}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
