"""Facts that a run measured and that are not scores: sizes of data sets, parameters, settings actually used.

Facts are JSON objects, merged key by key.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from celllm.errors import UserError
from celllm.io import read_json


def read_facts(paths: Sequence[str | Path]) -> dict[str, Any]:
    """Merge JSON files of facts; the same fact with two values is refused.

    Raises
    ------
    UserError
        Naming the file for anything that is not a JSON object, and the key for a contradiction.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        facts = read_json(path)
        if not isinstance(facts, Mapping):
            raise UserError(f"{path}: expected a JSON object of facts, got {type(facts).__name__}")
        _merge(merged, facts, str(path))
    return merged


def _merge(into: dict[str, Any], facts: Mapping[str, Any], where: str) -> None:
    for key, value in facts.items():
        if isinstance(value, Mapping) and isinstance(into.get(key, {}), Mapping):
            _merge(into.setdefault(key, {}), value, f"{where}: {key}")
        elif key in into and into[key] != value:
            raise UserError(f"{where}: fact '{key}' is {value!r}, another file says {into[key]!r}")
        else:
            into[key] = value


def find(facts: Mapping[str, Any], path: Sequence[Any]) -> Any:
    """The fact at a path of keys (and list positions), None where there is none."""
    here: Any = facts
    for key in path:
        if (isinstance(here, Mapping) and key in here) or (
            isinstance(here, list) and isinstance(key, int) and key < len(here)
        ):
            here = here[key]
        else:
            return None
    return here
