"""Settings: typed classes, each setting described once, every slip a one-line error with its whole path.

To add a setting, write one line in the settings class of its room (``celllm/<room>/settings.py``)::

    patience: int = setting(10, "epochs without a better selection score", ge=1)

Type, default, description and limits stand there and nowhere else: the check of a run's configuration, the
JSON schema and the tables of ``config/README.md`` follow from it. Limits are pydantic's: ``ge``, ``gt``,
``le``, ``lt``, ``min_length``, ``pattern``. ``resource=True`` marks a setting that changes time and memory
and no result. What two settings decide together is checked in a ``model_validator`` raising :func:`wrong`.
Settings modules import neither torch nor scanpy: all of them are read before a run's first job.
"""

import difflib
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from celllm.errors import UserError


class Settings(BaseModel):
    """Base of all settings classes: frozen, no unknown keys, no conversion but of whole numbers to float."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def science(self) -> dict[str, Any]:
        """The settings that decide about the result."""
        fields = type(self).model_fields
        return {name: value for name, value in self.model_dump().items() if not is_resource(fields[name])}

    def changed(self, **changes: Any) -> Self:
        """The same with some settings changed, checked like any other."""
        return as_settings(type(self), self.model_dump() | changes)


T = TypeVar("T", bound=Settings)
MOST_NAMES = 10  # that a message lists
Count = Annotated[int, Field(ge=1)]
"""A whole number of things, at least one: the elements of a list of widths."""


def setting(
    default: Any = ..., description: str | None = None, *, resource: bool = False, **limits: Any
) -> Any:
    """Describe a setting; without a default (or with ``...``) it must be given."""
    extra: Any = {"resource": True} if resource else None
    return Field(default, description=description, json_schema_extra=extra, **limits)


def is_resource(field: Any) -> bool:
    """Whether a field of a settings class changes no result."""
    return bool((field.json_schema_extra or {}).get("resource"))


def wrong(key: str, expected: str, value: Any) -> PydanticCustomError:
    """The error that a ``model_validator`` raises for the value of one of its settings."""
    return PydanticCustomError(
        "wrong", "expected {expected}, got {value}", {"key": key, "expected": expected, "value": value}
    )


class Reserved:
    """Annotates a section of the configuration whose settings ``keys`` the run decides elsewhere."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Refuse the keys."""

        def check(value: Settings) -> Settings:
            for key in self.keys:
                if key in value.model_fields_set:
                    told = "is decided by the run; leave it out here"
                    raise PydanticCustomError("wrong", told, {"key": key})
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Any:
        """Leave the keys out."""
        found = dict(handler.resolve_ref_schema(handler(schema)))
        return found | {"properties": {k: v for k, v in found["properties"].items() if k not in self.keys}}


class Changes:
    """Annotates a mapping of changes to settings of one of some classes, checked once they are laid over."""

    def __init__(self, *kinds: type[Settings]) -> None:
        self.kinds = kinds

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Any:
        """The settings of the classes, none of them required; ``mixed`` marks those of several."""
        found = [handler.resolve_ref_schema(handler(kind.__pydantic_core_schema__)) for kind in self.kinds]
        properties: dict[str, Any] = {}
        for key, value in (item for one in found for item in one["properties"].items()):
            same = properties.setdefault(key, value) == value
            properties[key] = value if same else {"anyOf": [properties[key], value]}
        mixed = {"mixed": True} if len(found) > 1 else {}
        return {"type": "object", "properties": properties, "additionalProperties": False} | mixed


def without_resources(kind: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    """What decides about the results in the values of a section, and in the sections within it.

    A section that is left empty goes as well: the settings are those without it.
    """
    fields, found = kind.model_fields, dict(values)
    for key in values.keys() & fields.keys():
        found[key] = _science(fields[key].annotation, fields[key].metadata, values[key])
        if is_resource(fields[key]) or (values[key] and not found[key]):
            del found[key]
    return found


def _science(hint: Any, metadata: Iterable[Any], value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    for kind in next((m.kinds for m in metadata if isinstance(m, Changes)), ()):
        value = without_resources(kind, value)
    if isinstance(_core(hint), type) and issubclass(_core(hint), Settings):
        return without_resources(_core(hint), value)
    if typing.get_origin(hint) is dict:
        inner = typing.get_args(hint)[1]
        marks = getattr(inner, "__metadata__", ())
        found = {key: _science(_core(inner), marks, one) for key, one in value.items()}
        return {key: one for key, one in found.items() if one or not value[key]}
    return value


def as_settings(
    kind: type[T], values: T | Mapping[str, Any] | str | Path | None, where: str = "settings"
) -> T:
    """Make settings of a mapping, of JSON text or of a JSON or YAML file.

    Parameters
    ----------
    kind : type
        The settings class.
    values : mapping, JSON text, path or an instance of ``kind``
        None and empty text mean all defaults. Text that starts with neither ``{`` nor ``[`` is a path.
    where : str
        What messages put in front of a key: a path in the configuration.

    Raises
    ------
    UserError
        For the first slip: an unknown or missing key, a wrong type, a value out of bounds.
    """
    if isinstance(values, kind):
        return values
    if isinstance(values, Path) or (isinstance(values, str) and values.strip()[:1] not in ("", "{", "[")):
        from celllm.io import read_yaml

        values = read_yaml(values)
    elif isinstance(values, str):
        try:
            values = json.loads(values or "{}")
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not valid JSON ({error})") from error
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected a mapping, got {_shown(values)}")
    try:
        return kind.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise UserError(_first_slip(kind, error, where)) from None
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}") from error


def _first_slip(kind: type[BaseModel], error: ValidationError, where: str) -> str:
    """The first slip of a validation, unknown keys before all others, as ``path: what is wrong``."""
    first, *_ = sorted(error.errors(include_url=False), key=lambda slip: slip["type"] != "extra_forbidden")
    path, models = _walked(kind, first["loc"])
    if "key" in first.get("ctx", {}):
        path.append(str(first["ctx"]["key"]))
    told = _told(first, models)
    return f"{'.'.join([where, *path] if where else path)}: {told}" if where or path else told


def _told(slip: ErrorDetails, models: list[type[BaseModel]]) -> str:
    if slip["type"] == "extra_forbidden":
        fields = models[-1].model_fields.items()
        return unknown(str(slip["loc"][-1]), [field.alias or name for name, field in fields])
    if slip["type"] == "missing":
        return "is missing"
    if slip["type"] in ("value_error", "wrong"):
        return slip["msg"].removeprefix("Value error, ")
    if slip["type"] == "too_short":
        n = slip["ctx"]["min_length"]
        return f"expected at least {n} item{'s' if n > 1 else ''}, got {_shown(slip['input'])}"
    if slip["type"] == "string_pattern_mismatch":
        return f"expected text of the form {slip['ctx']['pattern']}, got {_shown(slip['input'])}"
    if slip["type"] in ("int_type", "float_type") and _is_number(slip["input"]):
        return (
            f"expected a number, got the text {_shown(slip['input'])}; in YAML write 1.0e-4, without quotes"
        )
    expected = slip["msg"].removeprefix("Input should be ").replace("a valid ", "a ")
    for theirs, ours in _WORDS.items():
        expected = expected.replace(theirs, ours)
    return f"expected {expected}, got {_shown(slip['input'])}"


_WORDS = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "more than",
    "a array": "a list",
    "a integer": "an integer",
    "an object": "a mapping",
    "a dictionary": "a mapping",
}


def _is_number(text: Any) -> bool:
    try:
        return isinstance(text, str) and math.isfinite(float(text))
    except ValueError:
        return False


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def unknown(name: str, known: Iterable[str], what: str = "key") -> str:
    """The message on a name that does not exist: the nearest that does, and ten at most of the others."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    listed = names
    if len(names) > MOST_NAMES:
        nearest = set(difflib.get_close_matches(name, names, n=MOST_NAMES, cutoff=0))
        listed = [*(n for n in names if n in nearest), f"and {len(names) - MOST_NAMES} more"]
    return f"unknown {what} '{name}'; {hint}known are {', '.join(listed) or 'none'}"


def _walked(kind: Any, loc: tuple[int | str, ...]) -> tuple[list[str], list[type[BaseModel]]]:
    """The keys of a pydantic location, without the names of a union's members, and the models on the way."""
    path: list[str] = []
    models: list[type[BaseModel]] = []
    for step in loc:
        hint = _core(kind)
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            kind = Any
            continue
        if isinstance(hint, type) and issubclass(hint, BaseModel):
            models.append(hint)
            kind = hint.model_fields[str(step)].annotation if step in hint.model_fields else Any
        else:
            kind = arguments[-1] if origin in (dict, Mapping) else (arguments or (Any,))[0]
        path.append(str(step))
    return path, models


def _core(hint: Any) -> Any:
    """A type without ``| None`` and without ``Annotated``."""
    if typing.get_origin(hint) is typing.Annotated:
        return _core(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [a for a in typing.get_args(hint) if a is not type(None)]
        return _core(rest[0]) if len(rest) == 1 else hint
    return hint
