"""The command line: ``celllm VERB`` calls one function, and its flags are that function's parameters.

A new command is one line of :data:`STAGES`. Names, types and defaults of its flags are read from the
signature of its function, their help from the docstring, without importing the module: help is instant, and
only commands that need PyTorch load it. Positional-only parameters are words without a flag. A parameter
that is a settings class is filled from JSON text or from a JSON or YAML file.
"""

import argparse
import ast
import importlib
import inspect
import logging
import os
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from celllm import __version__
from celllm.errors import UserError
from celllm.interruption import EXIT_INTERRUPTED, requeue

# Stage -> verb -> module:function, in the order of a run.
STAGES = {
    "Before a run": {
        "cost": "celllm.bill:run_cost",
    },
    "Data": {
        "toy-mirror": "celllm.toy:run_toy_mirror",
        "fetch": "celllm.sources.fetch:run_fetch",
        "samples": "celllm.sources.samples:run_samples",
        "genes": "celllm.cells.genes:run_genes",
        "prepare": "celllm.cells.prepare:run_prepare",
        "responses": "celllm.cells.responses:run_responses",
        "check": "celllm.cells.check:run_check",
    },
    "Your own cells": {
        "embed": "celllm.tl:run_embed",
        "annotate": "celllm.tl:run_annotate",
        "convert-released": "celllm.model.released:run_convert_released",
    },
    "Pre-training corpus": {
        "shard": "celllm.corpus.shards:run_shard",
        "corpus": "celllm.corpus.shards:run_index",
        "leakage": "celllm.corpus.leakage:run_leakage",
        "counts": "celllm.corpus.contents:run_counts",
    },
    "Gene network": {
        "network": "celllm.graph.network:run_network",
        "graphmae": "celllm.graph.graphmae:run_graphmae",
        "gene2vec": "celllm.graph.gene2vec:run_gene2vec",
    },
    "Training": {
        "pretrain": "celllm.training.pretrain:run_pretrain",
        "take-encoder": "celllm.model.folder:run_take_encoder",
    },
    "Tasks": {
        "splits": "celllm.tasks.score:run_splits",
        "score": "celllm.tasks.score:run_score",
    },
    "Measurements of encoders": {
        "geometry": "celllm.probes.geometry:run_geometry",
        "memory": "celllm.probes.memory:run_memory",
        "interpret": "celllm.probes.attention_genes:run_interpret",
        "embedding-map": "celllm.probes.cell_map:run_embedding_map",
        "contrast": "celllm.probes.contrast:run_contrast",
        "gradient-error": "celllm.probes.exactness:run_gradient_error",
        "settings-facts": "celllm.probes.settings_facts:run_settings_facts",
    },
    "Tables, figures, report": {
        "table": "celllm.report.tables:run_table",
        "supplement": "celllm.report.supplement:run_supplement",
        "claims": "celllm.report.claims:run_claims",
        "figure": "celllm.figures.figure:run_figure",
        "manifest": "celllm.report.manifest:run_manifest",
        "report": "celllm.report.page:run_report",
        "crate": "celllm.report.crate:run_crate",
        "check-counts": "celllm.report.check_counts:run_check_counts",
        "gate": "celllm.report.gate:run_gate",
        "schema": "celllm.schema:run_schema",
        "export": "celllm.report.export:run_export",
        "compare": "celllm.report.compare:run_compare",
    },
}
# Unless the docstring says more.
OUT = "Where the result goes; it is complete or absent"
SETTINGS = "Settings: JSON text, or a JSON or YAML file; what is not given has its default"
JSON = "JSON|FILE"
FUNCTIONS = {verb: function for verbs in STAGES.values() for verb, function in verbs.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit status: 0, 2 for bad input, or what the verb's function returns."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"celllm {__version__}")
        return 0
    verb, *rest = words
    if verb not in FUNCTIONS:
        from celllm.settings import unknown

        print(f"celllm: {unknown(verb, FUNCTIONS, 'command')}", file=sys.stderr)
        return 2
    arguments = vars(parser(verb).parse_args(rest))
    logging.basicConfig(
        level=logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    module, _, name = FUNCTIONS[verb].partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        _fill_settings(function, arguments)
        positional = [arguments.pop(p.arg) for p in _definition(verb).args.posonlyargs]
        status = function(*positional, **arguments)
    except UserError as error:
        print(f"celllm {verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"celllm {verb}: interrupted", file=sys.stderr)
        return 130
    if status == EXIT_INTERRUPTED:
        requeue()
    return status if isinstance(status, int) else 0


def overview() -> str:
    """All verbs by stage, each with the first line of its function's docstring."""
    lines = ["usage: celllm VERB [FLAGS]     (celllm VERB --help: its flags)", ""]
    lines += ["The CellLM benchmark, step by step; `snakemake` runs all of it in order."]
    for stage, verbs in STAGES.items():
        lines += ["", f"{stage}:"]
        for verb, function in verbs.items():
            name = function.partition(":")[2]
            found = re.search(rf'^def {name}\(.*?^    """(.*?)\.?(?:"""|\n)', _source(verb), re.S | re.M)
            text = textwrap.wrap(_plain(found[1]) if found else "", 90) or [""]
            lines += [f"  {verb:17}{text[0]}", *(f"{'':19}{more}" for more in text[1:])]
    return "\n".join(lines)


def parser(verb: str) -> argparse.ArgumentParser:
    """The parser of one verb, from the signature and the docstring of its function."""
    function = _definition(verb)
    text = ast.get_docstring(function) or ""
    helps = _parameter_helps(text)
    found = argparse.ArgumentParser(prog=f"celllm {verb}", description=text.partition("\n")[0])
    spec = function.args
    parameters = [*spec.posonlyargs, *spec.args]
    first_default = len(parameters) - len(spec.defaults)
    named = dict(zip(spec.kwonlyargs, spec.kw_defaults, strict=True))
    for place, parameter in enumerate([*parameters, *spec.kwonlyargs]):
        hint = ast.unparse(parameter.annotation) if parameter.annotation else "str"
        has_default = named[parameter] is not None if parameter in named else place >= first_default
        keywords = _keywords(hint, has_default or hint.endswith("None"))
        usual = SETTINGS if keywords.get("metavar") == JSON else OUT if parameter.arg == "out" else None
        keywords["help"] = helps.get(parameter.arg, usual)
        if parameter in spec.posonlyargs:
            del keywords["required"]
            keywords["metavar"] = parameter.arg.upper()
            found.add_argument(parameter.arg, **keywords)
        else:
            flag = "--" + parameter.arg.strip("_").replace("_", "-")
            # What has a default in the signature is left to it; `X | None` without one is None.
            default = argparse.SUPPRESS if has_default else None
            found.add_argument(flag, dest=parameter.arg, default=default, **keywords)
    return found


def _keywords(hint: str, optional: bool) -> dict[str, Any]:
    """What argparse must know of a parameter with this annotation."""
    if hint == "bool":
        return {"action": "store_true"}
    if hint.startswith(("Mapping[str, str", "Mapping[str, Path]")):
        return {"required": not optional, "nargs": "*", "action": _ByName, "metavar": "NAME=FILE"}
    if hint.startswith("Sequence["):
        return {"required": not optional, "nargs": "*", "metavar": "FILE" if "Path" in hint else "NAME"}
    if hint.startswith("Literal["):
        return {"required": not optional, "choices": ast.literal_eval(f"({hint[8:-1]},)")}
    hint = hint.removesuffix(" | None")
    if re.fullmatch("[A-Z][A-Za-z]+", hint) and hint != "Path":  # a settings class may have a default for all
        return {"required": False, "metavar": JSON}
    kind = {"int": int, "float": float}.get(hint, str)
    metavar = JSON if "Mapping" in hint else "FILE" if "Path" in hint else None
    return {"required": not optional, "type": kind, "metavar": metavar}


def _fill_settings(function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Make settings of what was given for the parameters that are settings classes."""
    from celllm.settings import Settings, as_settings

    for name, parameter in inspect.signature(function).parameters.items():
        kinds = [*typing.get_args(parameter.annotation), parameter.annotation]
        kind = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)), None)
        if kind and (name in arguments or parameter.default is parameter.empty):
            arguments[name] = as_settings(kind, arguments.get(name), name)


class _ByName(argparse.Action):
    """NAME=FILE pairs as a mapping."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        pairs = [text.partition("=")[::2] for text in values]
        for text, (name, path) in zip(values, pairs, strict=True):
            if not name or not path:
                parser.error(f"argument {option_string}: expected NAME=FILE, got '{text}'")
        setattr(namespace, self.dest, dict(pairs))


def _source(verb: str) -> str:
    """Source text of the module of a verb's function, not imported."""
    _, *path = FUNCTIONS[verb].partition(":")[0].split(".")
    place = Path(__file__).parent.joinpath(*path)
    return (place / "__init__.py" if place.is_dir() else place.with_suffix(".py")).read_text(encoding="utf-8")


def _definition(verb: str) -> ast.FunctionDef:
    name = FUNCTIONS[verb].partition(":")[2]
    nodes = ast.parse(_source(verb)).body
    return next(node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == name)


def _parameter_helps(docstring: str) -> dict[str, str]:
    """Help by parameter, from the section Parameters of a numpy docstring."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", docstring, re.S | re.M)
    helps: dict[str, str] = {}
    for entry in re.finditer(
        r"^(\w[\w, ]*)(?: *:.*)?\n((?:(?: .*)?\n?)+)", section[1] if section else "", re.M
    ):
        text = _plain(" ".join(entry[2].split())).replace("%", "%%").rstrip(".")
        helps |= dict.fromkeys(re.split(r", *", entry[1].strip()), text)
    return helps


def _plain(text: str) -> str:
    """Text of a docstring without its markup."""
    return re.sub(r":\w+:`~?\.?([^`]*)`", r"\1", text).replace("``", "")
