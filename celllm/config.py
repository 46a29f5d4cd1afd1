"""The configuration of a run: config/*.yaml laid over one another and checked."""

import copy
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError

from celllm.errors import UserError
from celllm.io import read_yaml

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = ROOT / "workflow" / "schemas"
# Names of runs, models, sizes and data sets: they become names of files and words of commands.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Table of scores -> section of the config with its models, protocols, splits and settings.
SECTION_OF = {
    "table1": "annotation",
    "table2": "drug_sensitivity",
    "table3": "drug_response",
    "tableb1": "drug_response",
    "tableb2": "annotation",
}
# Section -> roles of the data sets that its tables need, and how many of them there can be (0: any number).
NEEDS = {
    "annotation": {"annotation": 0},
    "drug_sensitivity": {"single_cell_drug": 0},
    "drug_response": {"expression": 1, "response": 1},
}


def lay_over(base: Mapping[str, Any], over: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return ``base`` with the keys of ``over`` put in place: mappings merged key by key, lists replaced."""
    merged = copy.deepcopy(dict(base))
    for key, value in (over or {}).items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = lay_over(merged[key], value) if both else copy.deepcopy(value)
    return merged


def load(configfile: str | Path, root: Path = ROOT) -> dict[str, Any]:
    """Read a run's configuration as the workflow sees it: the file over config/paper.yaml, completed."""
    return complete(lay_over(read_yaml(root / "config/paper.yaml"), read_yaml(configfile)), root=root)


def complete(
    config: Mapping[str, Any], root: Path = ROOT, environ: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Check a merged configuration and add what it refers to.

    Adds ``catalogue`` (config/data_sets.yaml with the run's reader options, each data set with just the files
    that its reader takes), ``models`` and ``sizes``
    (config/models.yaml with the run's changes), the mirror of ``CELLLM_MIRROR`` and the folder ``results``.

    Raises
    ------
    UserError
        In one line naming the key: unknown keys, wrong types, unknown data sets or models.
    """
    check(config, "config", "config")
    done = copy.deepcopy(dict(config))
    rows = read_yaml(root / "config/models.yaml")
    check(rows, "models", "config/models.yaml")
    done["sizes"] = lay_over(rows["sizes"], config["sizes"])
    done["models"] = lay_over(rows["models"], config["models"])
    check({"sizes": done["sizes"], "models": done["models"]}, "models", "config: models")
    done["catalogue"] = _catalogue(root, config["reader_options"])
    _check_names(done)
    _settle_mirror(done, environ)
    return done


def check(value: Any, schema: str, where: str) -> None:
    """Hold ``value`` against workflow/schemas/<schema>.schema.yaml; the first slip is a UserError."""
    validator = Draft202012Validator(read_yaml(SCHEMAS / f"{schema}.schema.yaml"))
    errors = sorted(validator.iter_errors(value), key=lambda e: (len(e.absolute_path), str(e.absolute_path)))
    if errors:
        raise UserError(f"{where}: {_one_line(errors[0])}")


def _one_line(error: ValidationError) -> str:
    key = ".".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = list(error.schema.get("properties", {}))
        unknown = sorted(set(error.instance) - set(known))
        place = f" under '{key}'" if key else ""
        return f"unknown key '{', '.join(unknown)}'{place}; allowed are {', '.join(known)}"
    if error.validator == "required":
        place = f" under '{key}'" if key else ""
        missing = [k for k in error.validator_value if k not in error.instance]
        return f"key '{missing[0]}' is missing{place}"
    if error.validator == "type":
        return f"key '{key}': expected {_or(error.validator_value)}, got {error.instance!r}"
    if error.validator == "enum":
        return f"key '{key}': {error.instance!r} is none of {', '.join(map(str, error.validator_value))}"
    return f"key '{key}': {' '.join(error.message.split())[:300]}"


def _or(kinds: str | list[str]) -> str:
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def _catalogue(root: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    rows = read_yaml(root / "config/data_sets.yaml")
    check(rows, "data_sets", "config/data_sets.yaml")
    for name in options:
        if name not in rows:
            raise UserError(f"config: reader_options: unknown data set '{name}'; known are {', '.join(rows)}")
        known = rows[name].get("options", {})
        unknown = sorted(set(options[name]) - set(known))
        if unknown:
            raise UserError(
                f"config: reader_options.{name}: unknown option '{unknown[0]}'; "
                f"allowed are {', '.join(known)}"
            )
        rows[name]["options"] = lay_over(known, options[name])
    return {name: row | {"files": _files(name, row, rows)} for name, row in rows.items()}


def _files(name: str, row: Mapping[str, Any], rows: Mapping[str, Any]) -> dict[str, Any]:
    """Files of a data set that its options ask for, with those that stand under another data set."""
    files = {key: file for key, file in row["files"].items() if is_wanted(file, row.get("options", {}))}
    for key, other in row.get("uses", {}).items():
        if key not in rows.get(other, {}).get("files", {}):
            raise UserError(f"config/data_sets.yaml: {name}.uses.{key}: '{other}' has no file '{key}'")
        files[key] = rows[other]["files"][key]
    return files


def is_wanted(file: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    """Whether the options of a data set ask for this file of it."""
    return all(options.get(key) == value for key, value in file.get("only_with", {}).items())


def _check_names(config: Mapping[str, Any]) -> None:
    """Data sets must be in the catalogue with the right role, models in the models' table."""
    check_name(config["run"], "config: run")
    for kind in ("models", "sizes", "catalogue"):
        for name in config[kind]:
            check_name(name, f"config: {kind}")
    for role, names in config["data_sets"].items():
        fitting = [n for n, row in config["catalogue"].items() if row["role"] == role]
        for name in names:
            if name not in fitting:
                raise UserError(
                    f"config: data_sets.{role}: unknown data set '{name}'; known are {', '.join(fitting)}"
                )
    for section in NEEDS:
        for name in config[section]["models"]:
            if name not in config["models"]:
                known = ", ".join(config["models"])
                raise UserError(f"config: {section}.models: unknown model '{name}'; known are {known}")
    _check_tables(config)
    _check_encoders(config["models"], config["sizes"])


def check_name(name: Any, where: str) -> None:
    """Refuse a name that could not stand in a path or a command as it is."""
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise UserError(
            f"{where}: {name!r} cannot be a name; use letters, digits, '_', '.', '-', a letter or digit first"
        )


def _check_encoders(models: Mapping[str, Any], sizes: Mapping[str, Any]) -> None:
    """A size must be known, and a row that takes the encoder of another must name one that is pre-trained."""
    trained = [
        n
        for n, row in models.items()
        if row["kind"] == "encoder" and not {"encoder", "pretrained"} & set(row)
    ]
    for name, row in models.items():
        for key, known in (("size", list(sizes)), ("encoder", trained)):
            if key in row and row[key] not in known:
                raise UserError(
                    f"config: models.{name}: unknown {key} '{row[key]}'; known are {', '.join(known)}"
                )


def _check_tables(config: Mapping[str, Any]) -> None:
    """A table needs data sets of its roles; drug response is one screen: one expression, one response."""
    for table in config["tables"]:
        for role, most in NEEDS[SECTION_OF[table]].items():
            n_given = len(config["data_sets"][role])
            if n_given == 0 or (most and n_given > most):
                wanted = "one data set" if most else "a data set"
                raise UserError(
                    f"config: tables: {table} needs {wanted} in data_sets.{role}, which has {n_given}; "
                    f"name {wanted} there or leave {table} out"
                )


def _settle_mirror(config: dict[str, Any], environ: Mapping[str, str]) -> None:
    """CELLLM_MIRROR wins over the config, and its run gets a folder of its own: no mixing of two sources."""
    given = environ.get("CELLLM_MIRROR")
    if given:
        place = Path(given).resolve()
        if not place.is_dir():
            raise UserError(
                f"CELLLM_MIRROR: {given} is not a folder; unset it or name the folder of the mirror"
            )
        config["mirror"] = str(place)
        config["run"] = f"{config['run']}-{_folder_name(place)}"
    config["results"] = f"results/{config['run']}"


def _folder_name(place: Path) -> str:
    """Last part of a path, with a hash of all of it where characters had to be replaced: no two are alike."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", place.name)
    if plain == place.name:
        return plain
    return f"{plain}-{hashlib.sha256(bytes(place)).hexdigest()[:6]}"
