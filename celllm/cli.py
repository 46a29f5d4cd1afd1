"""The command line: one verb for each rule of the workflow, nothing but argument parsing.

Every verb calls one function with the arguments of the same names; modules are imported when their verb runs.
"""

import argparse
import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from celllm import __version__
from celllm.errors import UserError


@dataclass(frozen=True)
class Argument:
    """One flag (or positional, without dashes) and the options of argparse that belong to it."""

    name: str
    help: str
    options: dict[str, Any] = field(default_factory=dict)


def _file(name: str, help: str, required: bool = True) -> Argument:
    return Argument(f"--{name}", help, {"required": required, "metavar": "FILE"})


def _settings(help: str = "settings as JSON; the schema of the config explains the keys") -> Argument:
    return Argument("--settings", help, {"metavar": "JSON", "default": "{}"})


OUT = _file("out", "where the result goes; complete or absent")
GENES = _file("genes", "the vocabulary, genes.tsv")
ALIASES = _file("aliases", "names of genes and the approved symbols they stand for, aliases.tsv")
MODEL = Argument("--model", "the model's row as JSON, its size spelled out", {"required": True, "metavar": "JSON"})
NAMED_FILES = Argument(
    "--files",
    "files by their names in the catalogue",
    {"required": True, "nargs": "+", "metavar": "NAME=FILE", "type": lambda text: _named(text)},
)


def _named(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise argparse.ArgumentTypeError(f"expected NAME=FILE, got '{text}'")
    return name, path


@dataclass(frozen=True)
class Verb:
    """A verb, the function it calls as ``module:function``, and its arguments."""

    function: str
    help: str
    arguments: tuple[Argument, ...]


VERBS: dict[str, Verb] = {
    "toy-mirror": Verb(
        "celllm.data.toy:run_toy_mirror",
        "write a small mirror of all sources, in their layouts, with generated cells",
        (
            Argument("folder", "where it goes"),
            Argument("--seed", "seed of everything generated", {"type": int, "default": 0}),
        ),
    ),
}


def parser() -> argparse.ArgumentParser:
    """Build the parser of all verbs."""
    top = argparse.ArgumentParser(
        prog="celllm", description="The CellLM benchmark, step by step. `snakemake` runs all of it in order."
    )
    top.add_argument("--version", action="version", version=f"celllm {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        sub = verbs.add_parser(name, help=verb.help, description=verb.help)
        for argument in verb.arguments:
            sub.add_argument(argument.name, help=argument.help, **argument.options)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit status: 0, 2 for bad input, or what the verb's function returns."""
    arguments = vars(parser().parse_args(argv))
    verb = arguments.pop("verb")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    if "files" in arguments:
        arguments["files"] = dict(arguments["files"])
    try:
        status = _function(VERBS[verb].function)(**arguments)
    except UserError as error:
        print(f"celllm {verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"celllm {verb}: interrupted", file=sys.stderr)
        return 130
    return status if isinstance(status, int) else 0


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
