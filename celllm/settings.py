"""Settings of a command: a typed dataclass filled from JSON or a mapping, every slip told in one line."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from celllm.errors import UserError

T = TypeVar("T")


def fill(kind: type[T], values: Mapping[str, Any] | str | None, where: str = "settings") -> T:
    """Make an instance of the dataclass ``kind`` from a mapping or from JSON text.

    Raises
    ------
    UserError
        For text that is not JSON, an unknown key, a missing key or a value of the wrong type; the message
        names the key and what is allowed.
    """
    values = _parsed(values, where)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise UserError(f"{where}: unknown key '{unknown[0]}'; allowed are {', '.join(fields)}")
    missing = [n for n, f in fields.items() if n not in values and _required(f)]
    if missing:
        raise UserError(f"{where}: key '{missing[0]}' is missing")
    hints = typing.get_type_hints(kind)
    return kind(**{n: _checked(v, hints[n], f"{where}.{n}") for n, v in values.items()})


def _parsed(values: Mapping[str, Any] | str | None, where: str) -> Mapping[str, Any]:
    if isinstance(values, str):
        try:
            values = json.loads(values)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not valid JSON ({error})") from error
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected a mapping, got {type(values).__name__}")
    return values


def _required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _checked(value: Any, hint: Any, where: str) -> Any:
    """Return ``value``, an int widened to float where a float is asked for, or raise naming the key."""
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not _fits(value, hint):
        name = getattr(hint, "__name__", None) if not typing.get_args(hint) else None
        raise UserError(f"{where}: expected {name or hint}, got {value!r}")
    return tuple(value) if typing.get_origin(hint) is tuple else value


def _fits(value: Any, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, a) for a in args)
    if origin is typing.Literal:
        return value in args
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(_fits(v, args[0]) for v in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
