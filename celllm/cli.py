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


def _file(name: str, help: str, required: bool = True, **options: Any) -> Argument:
    return Argument(f"--{name}", help, {"required": required, "metavar": "FILE"} | options)


def _flag(name: str, help: str, **options: Any) -> Argument:
    return Argument(name, help, {"action": "store_true"} | options)


def _settings(help: str = "settings as JSON", **options: Any) -> Argument:
    return Argument("--settings", help, {"metavar": "JSON", "default": "{}"} | options)


OUT = _file("out", "where the result goes; complete or absent")
GENES = _file("genes", "the vocabulary, genes.tsv")
ALIASES = _file("aliases", "names of genes and the approved symbols they stand for, aliases.tsv")
CATALOGUE = Argument(
    "--catalogue", "list of all inputs", {"default": "config/data_sets.yaml", "metavar": "FILE"}
)
MODEL = Argument(
    "--model", "the model's row as JSON, its size spelled out", {"required": True, "metavar": "JSON"}
)
SCORES = Argument("--scores", "score files, CSV", {"nargs": "+", "required": True, "metavar": "FILE"})
FACTS = Argument("--facts", "files of measured facts, JSON", {"nargs": "*", "default": [], "metavar": "FILE"})
MODELS = Argument(
    "--models", "rows of the table as JSON, or models.yaml", {"required": True, "metavar": "JSON"}
)
PREFIX = _file("out", "where the results go, without suffix")
# Of the tasks: their data.
DATA = (
    _file("cells", "prepared .h5ad of labelled cells, or of cell lines"),
    _file("responses", "table of responses, CSV; for drug response", required=False),
    Argument("--data-set", "name of the data set", {"required": True}),
)


def _named(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise argparse.ArgumentTypeError(f"expected NAME=FILE, got '{text}'")
    return name, path


class _ByName(argparse.Action):
    """NAME=FILE pairs as a mapping."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, dict(values))


def _named_files(name: str, help: str, required: bool = True) -> Argument:
    options = {"required": required, "nargs": "+" if required else "*", "metavar": "NAME=FILE"}
    return Argument(f"--{name}", help, options | {"type": _named, "action": _ByName, "default": {}})


NAMED_FILES = _named_files("files", "files by their names in the catalogue")
SHARDS = Argument("--shards", "the shards", {"nargs": "+", "required": True, "metavar": "FILE"})


@dataclass(frozen=True)
class Verb:
    """A verb, the function it calls as ``module:function``, and its arguments."""

    function: str
    help: str
    arguments: tuple[Argument, ...]


# Of commands on cells of one's own.
ON_YOUR_CELLS = (
    Argument("--layer", "where the raw counts stand: a layer, X or raw; found without"),
    Argument("--gene-key", "column of var with symbols or Ensembl ids; found without"),
    Argument("--device", "auto, cpu, cuda or cuda:<number>", {"default": "auto"}),
)

VERBS: dict[str, Verb] = {
    "toy-mirror": Verb(
        "celllm.toy:run_toy_mirror",
        "write a small mirror of all sources, in their layouts, with generated cells",
        (
            Argument("folder", "where it goes"),
            Argument("--seed", "seed of everything generated", {"type": int, "default": 0}),
        ),
    ),
    "fetch": Verb(
        "celllm.sources.fetch:run_fetch",
        "download input files, or copy them from a mirror, and check them",
        (
            CATALOGUE,
            Argument("--raw", "folder the files go to", {"default": "data/raw", "metavar": "DIR"}),
            Argument("--path", "only these files, as named in the catalogue", {"nargs": "+", "default": []}),
            Argument("--only", "only these sources", {"nargs": "+", "default": [], "metavar": "SOURCE"}),
            Argument("--mirror", "folder taken in place of the internet", {"metavar": "DIR"}),
            _flag("--offline", "fetch nothing; check what is there"),
            _flag("--list", "print the table of all files and their state", dest="listing"),
            _flag("--dry-run", "print the table of the files that would be fetched"),
            Argument("--lock", "the lock file; default: data.lock in the raw folder", {"metavar": "FILE"}),
        ),
    ),
    "samples": Verb(
        "celllm.sources.samples:run_samples",
        "list the samples of a pre-training source",
        (
            Argument("source", "panglaodb, cancerscem"),
            NAMED_FILES,
            _settings("options of the source as JSON"),
            Argument("--mirror", "folder taken in place of the internet", {"metavar": "DIR"}),
            CATALOGUE,
            OUT,
        ),
    ),
    "genes": Verb(
        "celllm.cells.genes:run_genes",
        "HGNC complete set -> vocabulary and other names of its genes",
        (_file("hgnc", "hgnc_complete_set_*.txt"), GENES, ALIASES),
    ),
    "prepare": Verb(
        "celllm.cells.prepare:run_prepare",
        "raw files of a data set (or of one sample) -> prepared .h5ad",
        (
            Argument("source", "name of the data set in the catalogue"),
            NAMED_FILES,
            Argument("--sample", "name of the sample (pre-training sources)"),
            _file("samples", "the table of samples (pre-training sources)", required=False),
            GENES,
            ALIASES,
            _settings("options of the reader as JSON"),
            OUT,
        ),
    ),
    "responses": Verb(
        "celllm.cells.responses:run_responses",
        "GDSC's files -> one row per screen of a drug on a cell line",
        (
            Argument("source", "gdsc (DeepCDR's files), gdsc2 (a release of GDSC)"),
            NAMED_FILES,
            _settings("options of the reader as JSON"),
            OUT,
        ),
    ),
    "check": Verb(
        "celllm.cells.check:run_check",
        "check whether an .h5ad, prepared or your own, holds raw counts and known genes",
        (
            Argument("file", "the .h5ad"),
            _file("genes", "the vocabulary, genes.tsv", required=False),
            _file("aliases", "other names of genes, aliases.tsv", required=False),
        ),
    ),
    "embed": Verb(
        "celllm.tl:run_embed",
        "cells of your own and a model -> one vector for each cell",
        (
            Argument("file", "the .h5ad"),
            _file("model", "folder, file or downloaded name of a model"),
            _file("out", "the embeddings, .h5ad or .npy"),
            Argument("--how", "mean over the genes of a cell, or cls", {"default": "mean"}),
            *ON_YOUR_CELLS,
        ),
    ),
    "annotate": Verb(
        "celllm.tl:run_annotate",
        "cells of your own, labelled ones and a model -> a label and a confidence for each cell",
        (
            Argument("file", "the .h5ad"),
            _file("reference", ".h5ad of labelled cells"),
            Argument("--label-key", "column of the reference's obs with the labels", {"required": True}),
            _file("model", "folder, file or downloaded name of a model"),
            _file("out", "CSV with cell, label, confidence"),
            *ON_YOUR_CELLS,
        ),
    ),
    "export": Verb(
        "celllm.report.export:run_export",
        "a model of a run -> one folder with weights, genes, settings and a card, for others",
        (
            Argument("run", "folder of the run"),
            Argument("--model", "name of the row", {"required": True}),
            Argument("--out", "the folder", {"required": True, "metavar": "DIR"}),
        ),
    ),
    "network": Verb(
        "celllm.graph.network:run_network",
        "STRING -> gene network over the vocabulary",
        (
            _file("links", "protein.links"),
            _file("info", "protein.info"),
            GENES,
            ALIASES,
            _settings(dest="options"),
            OUT,
        ),
    ),
    "graphmae": Verb(
        "celllm.graph.graphmae:run_graphmae",
        "gene network -> GraphMAE -> one vector per gene",
        (
            _file("network", "the gene network, network.npz"),
            GENES,
            _settings(dest="options"),
            OUT,
            _file("metrics", "losses by epoch, CSV"),
        ),
    ),
    "shard": Verb(
        "celllm.corpus.shards:run_shard",
        "prepared cells of one sample -> token shard",
        (_file("cells", "prepared .h5ad"), GENES, OUT),
    ),
    "corpus": Verb(
        "celllm.corpus.shards:run_index",
        "token shards -> the index that makes them one corpus",
        (
            SHARDS,
            _file("exclude", "cells to leave out, CSV with source, sample, row", required=False),
            OUT,
        ),
    ),
    "leakage": Verb(
        "celllm.corpus.leakage:run_leakage",
        "cells of the tasks that are among the cells of pre-training, as JSON, CSV and Markdown",
        (
            SHARDS,
            _named_files("cells", "prepared .h5ad of the tasks by data set"),
            GENES,
            Argument(
                "--prepared",
                "prepared .h5ad of the samples of pre-training: libraries are compared too",
                {"nargs": "*", "default": [], "metavar": "FILE"},
            ),
            _settings(),
            PREFIX,
        ),
    ),
    "pretrain": Verb(
        "celllm.training.pretrain:run_pretrain",
        "corpus -> pre-trained encoder; resumes from its last checkpoint",
        (
            _file("corpus", "index.json"),
            GENES,
            _file("gene-embeddings", "vectors of the genes; trained from scratch without", required=False),
            MODEL,
            _settings(),
            Argument("--checkpoints", "folder of the checkpoints", {"required": True, "metavar": "DIR"}),
            OUT,
            _file("metrics", "losses and speed by step, CSV"),
        ),
    ),
    "geometry": Verb(
        "celllm.probes.geometry:run_geometry",
        "encoders and cells they have not seen -> how the embeddings are spread",
        (
            _named_files("encoders", "pre-trained encoders by the names of their rows"),
            _named_files("cells", "prepared .h5ad by data set"),
            GENES,
            _settings(),
            _named_files("untrained", "rows of untrained encoders as JSON, by their names", required=False),
            OUT,
        ),
    ),
    "contrast": Verb(
        "celllm.probes.contrast:run_contrast",
        "encoders, their steps and geometry -> whether the contrast was a task, and what it left behind",
        (
            _named_files("encoders", "pre-trained encoders by the names of their rows"),
            _named_files("metrics", "tables of their steps by the same names"),
            _file("geometry", "what celllm geometry wrote for them"),
            OUT,
        ),
    ),
    "splits": Verb(
        "celllm.tasks.score:run_splits",
        "labelled cells, or pairs of a cell line and a drug -> saved splits",
        (
            Argument("--task", "annotation, drug_few_shot, drug_full, response_warm ...", {"required": True}),
            *DATA,
            _settings(),
            _file("out", "the splits, JSON"),
        ),
    ),
    "score": Verb(
        "celllm.tasks.score:run_score",
        "one method on all splits of a data set -> scores and predictions",
        (
            *DATA,
            GENES,
            Argument(
                "--splits",
                "saved splits, one file or more of one task",
                {"nargs": "+", "required": True, "metavar": "FILE"},
            ),
            MODEL,
            _settings(),
            Argument(
                "--protocols",
                "strict, paper or both",
                {"nargs": "+", "required": True, "metavar": "PROTOCOL"},
            ),
            Argument("--seed", "seed of the method", {"type": int, "default": 0}),
            Argument(
                "--out",
                "folder of all scores; in it TASK/DATA_SET/MODEL/PROTOCOL.csv, and predictions beside them",
                {"required": True, "metavar": "DIR"},
            ),
        ),
    ),
    "table": Verb(
        "celllm.report.tables:run_table",
        "scores -> one table of the paper as CSV, Markdown, LaTeX and HTML, the paper's values beside ours",
        (
            Argument("name", "table1, table2 ..."),
            Argument("--scores", "score files, CSV", {"nargs": "*", "default": [], "metavar": "FILE"}),
            MODELS,
            FACTS,
            _settings(),
            PREFIX,
        ),
    ),
    "supplement": Verb(
        "celllm.report.supplement:run_supplement",
        "scores, predictions and measures -> a table beyond the paper",
        (
            Argument("name", "table_s1 ... table_s5"),
            Argument("--scores", "score files, CSV", {"nargs": "*", "default": [], "metavar": "FILE"}),
            MODELS,
            _named_files("predictions", "predictions by task/data_set/model", required=False),
            _file("contrast", "the contrast of each encoder, CSV", required=False),
            _settings(),
            PREFIX,
        ),
    ),
    "counts": Verb(
        "celllm.corpus.contents:run_counts",
        "cells, classes, samples and pairs of the data sets, counted, as facts for tables and claims",
        (
            _named_files("cells", "prepared .h5ad of labelled cells by data set"),
            GENES,
            _file("corpus", "index.json of the pre-training corpus", required=False),
            _named_files("samples", "tables of samples by pre-training source", required=False),
            _named_files("responses", "tables of responses by data set", required=False),
            _named_files("expression", "prepared .h5ad of cell lines by data set", required=False),
            OUT,
        ),
    ),
    "check-counts": Verb(
        "celllm.report.check_counts:run_check_counts",
        "fail when the data sets are not those of the paper and the config does not accept it",
        (FACTS, _settings(), OUT),
    ),
    "settings-facts": Verb(
        "celllm.probes.settings_facts:run_settings_facts",
        "the settings of a run with all defaults, and the parameters of its encoder, as facts for Table F.1",
        (
            MODEL,
            GENES,
            Argument("--pretraining", "settings as JSON", {"required": True, "metavar": "JSON"}),
            *(
                Argument(f"--{task}", "settings as JSON; not a task of the run without", {"metavar": "JSON"})
                for task in ("annotation", "drug-sensitivity", "drug-response")
            ),
            Argument("--sizes", "sizes of encoders as JSON, their parameters counted", {"metavar": "JSON"}),
            Argument("--splits", "splits with a train_fraction by task, as JSON", {"metavar": "JSON"}),
            FACTS,
            Argument(
                "--data-sets",
                "annotated data sets, their classes counted in the facts",
                {"nargs": "*", "default": []},
            ),
            OUT,
        ),
    ),
    "gradient-error": Verb(
        "celllm.probes.exactness:run_gradient_error",
        "divide-and-conquer against end-to-end: the relative error of the gradient in float64, as a fact",
        (_settings(), OUT),
    ),
    "claims": Verb(
        "celllm.report.claims:run_claims",
        "scores -> the ledger: every claim of the paper with its verdict",
        (SCORES, MODELS, FACTS, _settings(), PREFIX),
    ),
    "memory": Verb(
        "celllm.probes.memory:run_memory",
        "peak memory of training steps -> the longest cells that fit a budget, as facts and curves",
        (_settings(), _file("table", "measured steps and curves, CSV"), OUT),
    ),
    "interpret": Verb(
        "celllm.probes.attention_genes:run_interpret",
        "encoder and pre-training cells -> genes by attention, and how well they separate tumour from normal",
        (
            _file("encoder", "pre-trained encoder"),
            _file("corpus", "index.json"),
            GENES,
            _settings(),
            _file("table", "genes, CSV"),
            _file("cells", "clusters and places of the cells, CSV"),
            OUT,
        ),
    ),
    "embedding-map": Verb(
        "celllm.probes.cell_map:run_embedding_map",
        "pre-trained encoder and labelled cells -> t-SNE of their embeddings, with predictions",
        (
            _file("encoder", "pre-trained encoder"),
            _file("cells", "prepared .h5ad"),
            GENES,
            _file("predictions", "predicted labels, CSV"),
            _settings(),
            OUT,
        ),
    ),
    "figure": Verb(
        "celllm.figures.figure:run_figure",
        "numbers that other commands wrote -> one figure as PNG and SVG, and the numbers behind it",
        (
            Argument("name", "fig4, fig3_baron ..."),
            Argument(
                "--inputs",
                "what it is made from, by the names that the figure gives them",
                {"required": True, "nargs": "+", "metavar": "NAME=FILE", "type": _named, "action": _ByName},
            ),
            _settings(),
            PREFIX,
        ),
    ),
    "manifest": Verb(
        "celllm.report.manifest:run_manifest",
        "what made this run: versions, code, configuration, inputs, times",
        (
            Argument("--config", "the merged configuration, JSON or a file", {"required": True}),
            Argument("--benchmarks", "folder of the times of all jobs", {"metavar": "DIR"}),
            Argument(
                "--checksums",
                "checksum files of the inputs",
                {"nargs": "*", "default": [], "metavar": "FILE"},
            ),
            _settings(),
            OUT,
        ),
    ),
    "report": Verb(
        "celllm.report.page:run_report",
        "tables, figures, claims and manifest -> one self-contained page",
        (
            Argument("--tables", "tables, CSV", {"nargs": "+", "required": True, "metavar": "FILE"}),
            Argument("--figures", "figures, SVG or PNG", {"nargs": "*", "default": [], "metavar": "FILE"}),
            _file("claims", "the ledger, CSV"),
            _file("manifest", "manifest.json"),
            _settings(),
            OUT,
        ),
    ),
    "crate": Verb(
        "celllm.report.crate:run_crate",
        "the folder of a run -> its RO-Crate: workflow, configuration, inputs, outputs, times, software",
        (
            _file("manifest", "manifest.json"),
            _file("lock", "data.lock of the inputs"),
            OUT,
        ),
    ),
    "compare": Verb(
        "celllm.report.compare:run_compare",
        "two runs side by side: what differs, verdicts first; ends with 1 where anything does",
        (
            Argument("a", "folder of a run, results/toy"),
            Argument("b", "folder of another one"),
            Argument("--tolerance", "numbers may differ by this much", {"type": float, "default": 0.0}),
            Argument("--lines", "differences to print of each kind; 0: all", {"type": int, "default": 20}),
        ),
    ),
    "gate": Verb(
        "celllm.report.gate:run_gate",
        "fail when a method failed that was not expected to",
        (SCORES, _settings(), OUT),
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
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
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
