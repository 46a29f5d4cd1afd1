"""What a run makes and from what: the names of its files and the settings of its commands.

:class:`Plan` answers the questions of the rules in ``workflow/rules``; it reads the configuration and nothing
else, so that everything here can be asked, and tested, without Snakemake.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, reduce
from itertools import product
from pathlib import PurePosixPath
from typing import Any

from celllm.cells.embeddings import files_of
from celllm.config import (
    HELD_OUT_OF,
    METHODS_OF,
    NEEDS,
    SCREEN,
    SECTION_OF,
    Config,
    is_finetuned,
    lay_over,
    layers_of,
)
from celllm.io import as_json
from celllm.methods import outside
from celllm.report import published
from celllm.report.captions import CAPTIONS, kind_of
from celllm.report.supplement import TABLES as SUPPLEMENT
from celllm.scores.scores import probabilities_of
from celllm.settings import without_resources
from celllm.training.settings import PretrainSettings

FACT_TABLES = ("tablec1", "tabled1", "tabled2", "tabled3", "tablef1")
# Files of a pre-trained encoder, of a prepared data set and of a screen's responses, below the run's folder.
ENCODER = "checkpoints/{name}/encoder.safetensors"
METRICS = "checkpoints/{name}/metrics.csv"
CELLS = "prepared/{name}.h5ad"
SAMPLES = "prepared/{name}/samples.tsv"
RESPONSES = "prepared/{name}.responses.csv"


def is_control(row: Mapping[str, Any]) -> bool:
    """Whether a row is a baseline of the group ``control``, by a method of the package."""
    ours = "conda" not in row and not outside.file_of(row.get("method") or "")
    return row["kind"] == "baseline" and row["group"] == "control" and ours


class Plan:
    """Files and settings of a run, from its configuration as :func:`celllm.config.complete` returns it.

    Paths are relative to the working directory and begin with ``results/<run>/`` or ``data/raw/``. Settings
    are mappings of what the configuration says, without the defaults of the settings classes.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.results: str = config["results"]
        self.label = {"run": config["run"], "toy": config["toy"]}
        self.embedded = config["mirror"] == "embedded"
        self.mirror: str | None = f"{self.results}/mirror" if self.embedded else config["mirror"]
        # What a mirror gives stays with its run; what the internet gives is shared by all runs.
        self.raw = f"{self.results}/raw" if self.mirror else "data/raw"
        self.data_sets: Mapping[str, list[str]] = config["data_sets"]

    def path(self, name: str) -> str:
        """A file below the folder of the run."""
        return f"{self.results}/{name}"

    def paths(self, pattern: str, names: Iterable[str]) -> list[str]:
        """A file below the folder of the run for every ``{name}``."""
        return [self.path(pattern).format(name=name) for name in names]

    def flags(self, files: Mapping[str, str]) -> list[str]:
        """Files by name as NAME=FILE, for the command line."""
        return [f"{name}={path}" for name, path in files.items()]

    def by_name(self, pattern: str, names: Iterable[str]) -> list[str]:
        """The same as NAME=FILE for the command line."""
        return self.flags({name: self.path(pattern).format(name=name) for name in names})

    def role_flags(self, flag: str, pattern: str, role: str) -> list[str]:
        """A flag with the files of the data sets of a role, as NAME=FILE; nothing without any."""
        names = self.data_sets[role]
        return [flag, *self.by_name(pattern, names)] if names else []

    # Data sets

    @property
    def cell_sets(self) -> list[str]:
        """Data sets of the tasks with cells, or cell lines, to prepare."""
        return [n for role in ("annotation", "single_cell_drug", "expression") for n in self.data_sets[role]]

    @property
    def labelled_sets(self) -> list[str]:
        """Data sets of the tasks whose cells have labels."""
        return [*self.data_sets["annotation"], *self.data_sets["single_cell_drug"]]

    @property
    def downloads(self) -> list[str]:
        """Downloaded files of all data sets of the run, without those of samples."""
        names = ["hgnc", "string", *(name for role in self.data_sets.values() for name in role)]
        return list(dict.fromkeys(path for name in names for path in self.raw_files(name)))

    def raw_by_name(self, data_set: str, sample: str | None = None) -> dict[str, str]:
        """Downloaded files of a data set, and of one of its samples, by their names in the catalogue."""
        row = self.config["catalogue"][data_set]
        files = row.get("files", {}) | (row["sample_files"] if sample else {})
        return {name: f"{self.raw}/{file['path'].format(sample=sample)}" for name, file in files.items()}

    def raw_files(self, data_set: str, sample: str | None = None) -> list[str]:
        """Downloaded files of a data set, and of one of its samples."""
        return list(self.raw_by_name(data_set, sample).values())

    def raw_flags(self, data_set: str, sample: str | None = None) -> list[str]:
        """The same as NAME=FILE for the command line."""
        return self.flags(self.raw_by_name(data_set, sample))

    def local_file(self, path: str) -> list[str]:
        """The file of the user's that a file in the raw folder is a copy of."""
        rows = [row for each in self.config["catalogue"].values() for row in each.get("files", {}).values()]
        return [row["local"] for row in rows if row["path"] == path and row.get("local")]

    def catalogue_rows(self, path: str) -> dict[str, Any]:
        """The rows of the catalogue that a downloaded file can belong to; a change fetches it again."""
        folder = path.split("/")[0]
        return {
            name: row
            for data_set in self.config["catalogue"].values()
            for name, row in (data_set.get("files", {}) | data_set.get("sample_files", {})).items()
            if row["path"] == path or ("{" in row["path"] and row["path"].split("/")[0] == folder)
        }

    def sample_table(self, source: str) -> str:
        """SHA-256 of the table with the addresses of a source's samples; empty where it has none.

        Its content counts, wherever the checkout is and whenever it was made.
        """
        return str(self.config["catalogue"][source]["sample"].get("table_sha256", ""))

    def options(self, data_set: str, sample: str | None = None) -> dict[str, Any]:
        """Options of a data set's reader; of one sample without the choice of samples."""
        options = self.config["catalogue"][data_set].get("options", {})
        return {key: value for key, value in options.items() if not (sample and key == "samples")}

    # Rows of the tables and their encoders

    def sections(self, tables: Sequence[str] = ()) -> list[str]:
        """Sections of the configuration behind some tables (all of the run), each once."""
        return list(dict.fromkeys(SECTION_OF[table] for table in tables or self.config["tables"]))

    def models(self, tables: Sequence[str] = ()) -> list[str]:
        """Rows of some tables (all of the run), each once."""
        return list(dict.fromkeys(n for s in self.sections(tables) for n in self.config[s]["models"]))

    def shown_models(self, *tables: str) -> str:
        """What is printed of the rows of some tables (all of the run); JSON text, for their order matters."""
        wanted, rows = ("title", "group", "paper_row"), self.config["models"]
        shown = {n: {k: rows[n][k] for k in wanted if k in rows[n]} for n in self.models(tables)}
        for section in self.sections(tables):
            for name in self.replicates(section):
                base = shown[rows[name]["replicate_of"]].setdefault("seeds", {})
                for task in self.tasks(section):
                    base.setdefault(task, [self.config["seed"]]).append(self.seed(name))
        return json.dumps(shown)

    def replicates(self, section: str) -> list[str]:
        """Rows of further pre-trainings that are scored in a section: ``<row>.seed<n>``."""
        if section not in self.config["pretraining"].get("seeds_in", NEEDS):
            return []
        rows, here = self.config["models"], self.config[section]["models"]
        return [name for name, row in rows.items() if row.get("replicate_of") in here]

    def seed(self, model: str) -> int:
        """What a row is pre-trained and fine-tuned with."""
        return int(self.config["models"][model].get("seed", self.config["seed"]))

    def pretrained(self, model: str) -> str | None:
        """The row that a row has its encoder from; None for baselines, untrained and missing encoders."""
        row = self.config["models"][model]
        if row["kind"] != "encoder" or row.get("pretrained") is False or "missing" in row:
            return None
        return str(row.get("encoder", model))

    @cached_property
    def encoders(self) -> list[str]:
        """Rows that are pre-trained, here or elsewhere."""
        return list(dict.fromkeys(name for name in map(self.pretrained, self.models()) if name))

    @property
    def given(self) -> dict[str, str]:
        """Files of encoders that were trained elsewhere, by row."""
        return dict(self.config["pretraining"].get("from", {}))

    @property
    def trained(self) -> list[str]:
        """Rows to pre-train."""
        return [name for name in self.encoders if name not in self.given]

    @property
    def all_encoders(self) -> list[str]:
        """Rows to pre-train, and those of further seeds."""
        return [*self.encoders, *dict.fromkeys(n for s in self.sections() for n in self.replicates(s))]

    @property
    def compared(self) -> list[str]:
        """Encoders of the run that read expressed genes. scBERT reads all, slowly, and has no contrast."""
        return [name for name in self.trained if not self.config["models"][name]["tokens"]["zeros"]]

    @property
    def untrained(self) -> list[str]:
        """Rows that start from the same encoder without any pre-training."""
        return [name for name in self.models() if self.config["models"][name].get("pretrained") is False]

    def row(self, model: str) -> dict[str, Any]:
        """A row with its size spelled out; how it is fine-tuned is a matter of its settings."""
        apart = ("finetuning", "replicate_of", "seed")
        row = {k: v for k, v in self.config["models"][model].items() if k not in apart}
        if "size" in row:
            row["size"] = self.config["sizes"][row["size"]]
            row["tokens"] = row["tokens"] | self.config["tokens"]
            if row.get("gene_embeddings") == "graphmae":
                row["cls_vector"] = self.config["cls_vector"]
        return row | {"name": model}

    def scored_row(self, model: str, data_set: str = "") -> dict[str, Any]:
        """The same with what its encoder is made from, and what it has of a data set from elsewhere.

        A replicate names the row that it is one of.
        """
        row, of = self.row(model), self.config["models"][model].get("replicate_of")
        for path in self.encoder_files(model):
            row["encoder" if self.pretrained(model) else "gene_embeddings"] = path
        if "file" in row:
            row[row["kind"]] = row.pop("file").get(data_set)
        return row | ({"replicate_of": of} if of else {})

    def controls(self, section: str) -> list[str]:
        """Rows of a section that one job scores on a data set: most take less time than its start."""
        rows = self.config["models"]
        return [name for name in self.config[section]["models"] if is_control(rows[name])]

    @property
    def scored_alone(self) -> list[str]:
        """All other rows."""
        return [name for name, row in self.config["models"].items() if not is_control(row)]

    def control_rows(self, section: str) -> str:
        """The controls of a section, each with its settings; JSON text."""
        rows = [self.row(n) | {"settings": self.settings(section, n)} for n in self.controls(section)]
        return as_json(rows)

    def encoder_files(self, model: str) -> list[str]:
        """What the encoder of a row is read from: its file, or the gene embeddings of an untrained one."""
        name = self.pretrained(model)
        return self.paths(ENCODER, [name]) if name else self.gene_embeddings(model)

    def row_files(self, model: str, data_set: str) -> list[str]:
        """Files of a row that are not the run's: that of its method, vectors or scores of a data set."""
        row = self.config["models"][model]
        path, place = outside.file_of(row.get("method") or ""), row.get("file", {}).get(data_set)
        return ([path] if path else []) + (files_of(place) if place else [])

    def environment(self, model: str) -> str:
        """Conda environment of a row's jobs, from the folder of the rules; a file of the user is absolute."""
        own = self.config["models"][model].get("conda")
        if own is None:
            return "../../envs/gpu.yaml"
        return os.path.abspath(own) if own.endswith((".yaml", ".yml")) else str(own)

    def gene_embeddings(self, model: str) -> list[str]:
        """The gene embeddings that a row starts with, where it does not train its own or draws them."""
        row = self.config["models"][model]
        name = {"graphmae": "gene_embeddings", "gene2vec": "gene2vec"}.get(row.get("gene_embeddings", ""))
        if name is None or "missing" in row:
            return []
        return [self.path(f"graph/{name}_{self.config['sizes'][row['size']]['dim']}.safetensors")]

    def gene_digests(self, model: str) -> list[str]:
        """Hashes of their vectors: what a row depends on, whenever they were made."""
        return [path.replace(".safetensors", ".sha256") for path in self.gene_embeddings(model)]

    def gene_embedding_flags(self, model: str) -> list[str]:
        """The same for the command line."""
        return [word for path in self.gene_embeddings(model) for word in ("--gene-embeddings", path)]

    def n_gpus(self, model: str) -> int:
        """GPUs to ask a scheduler for: no baseline has a use for one."""
        return int(self.config["models"][model]["kind"] == "encoder")

    # Settings

    def seeded(self, section: str) -> dict[str, Any]:
        """Settings of a section with the seed of the run."""
        return self.config[section] | {"seed": self.config["seed"]}

    @property
    def gene2vec(self) -> list[str]:
        """The file of Gene2vec's vectors, where the run has one."""
        return [self.config["gene2vec"]] if self.config.get("gene2vec") else []

    def graphmae(self, dim: str) -> dict[str, Any]:
        """Settings of GraphMAE for encoders of a width."""
        return self.seeded("graphmae") | {"dim": int(dim)}

    def pretraining(self, model: str) -> dict[str, Any]:
        """Settings that a row is pre-trained with."""
        chosen = self.config["pretraining"]
        of = self.config["models"][model].get("replicate_of", model)
        return lay_over(chosen["settings"], chosen.get("by_model", {}).get(of)) | {"seed": self.seed(model)}

    def settings(self, section: str, model: str) -> dict[str, Any]:
        """Settings of a row in a section: of fine-tuning, or of the baseline.

        With groups held out they are those of the same task with groups mixed.
        """
        layers = layers_of(self.config, HELD_OUT_OF.get(section, section), model)
        return reduce(lay_over, layers.values(), {})

    def splits(self, task: str) -> dict[str, Any]:
        """How the cells or pairs of a task are split, or its groups held out."""
        if task in HELD_OUT_OF:
            chosen = self.config["held_out"][task]["splits"]
        else:
            chosen = self.config[next(s for s in NEEDS if task in self.tasks(s))]["splits"]
            chosen = chosen if task == "annotation" else chosen[task]
        return dict(chosen | {"seed": self.config["seed"]})

    def claim_settings(self) -> dict[str, Any]:
        """Settings of the claims: the label of the run, and test part over training part of every task."""
        ratios = {"annotation": 1 / (self.config["annotation"]["splits"]["n_folds"] - 1)}
        for task, splits in self.config["drug_sensitivity"]["splits"].items():
            ratios[task] = 1 / splits["train_fraction"] - 1
        for task, splits in self.config["drug_response"]["splits"].items():
            ratios[task] = splits["test_fraction"] / (1 - splits["test_fraction"])
        return self.label | {"test_over_train": ratios}

    def table_settings(self, table: str) -> dict[str, Any]:
        """Settings of a table of scores."""
        return self.label | {"protocols": self.config[SECTION_OF[table]]["protocols"]}

    def figure_settings(self) -> dict[str, Any]:
        """Settings of every figure."""
        titles = {name: self.config["models"][name]["title"] for name in [*self.encoders, *self.untrained]}
        return {
            "toy": self.config["toy"],
            "titles": titles,
            "protocol": "strict",
            "batch_size": self.config["pretraining"]["settings"].get("batch_size", 0),
        }

    def science(self, section: str, model: str = "") -> dict[str, Any]:
        """Settings that decide about results: of a row in a task or in pre-training, or of a section."""
        if section == "pretraining":
            return without_resources(PretrainSettings, self.pretraining(model))
        if model:
            settings = self.settings(section, model)
            if not is_finetuned(self.config["models"][model]):
                return settings
            return without_resources(METHODS_OF[HELD_OUT_OF.get(section, section)]["encoder"], settings)
        decisive: dict[str, Any] = without_resources(Config, {section: self.seeded(section)})[section]
        return decisive

    def stated(self) -> dict[str, Any]:
        """The configuration as the manifest states it: without the catalogue, which data.lock speaks for."""
        return {key: value for key, value in self.config.items() if key != "catalogue"}

    # Scores

    def tasks(self, section: str) -> list[str]:
        """Tasks of a section: annotation is one, the others have one for each of their splits."""
        return [section] if section == "annotation" else list(self.config[section]["splits"])

    def row_outputs(self, section: str) -> list[str]:
        """What scoring a row on one ``{data_set}`` writes: scores, predictions, probabilities of classes."""
        of_classes = () if section == "drug_response" else ("probabilities.npz",)
        return self.score_patterns(section, "csv", "predictions.csv", *of_classes)

    def control_outputs(self, section: str) -> list[str]:
        """What scoring the controls of a section on one ``{data_set}`` writes."""
        rows = self.controls(section) or ["none"]
        return [p.replace("{model}", name) for p in self.row_outputs(section) for name in rows]

    def score_patterns(self, section: str, *kinds: str) -> list[str]:
        """Files of one ``{model}`` on one ``{data_set}``: for each task and protocol, one of each kind."""
        data_set = SCREEN if section == "drug_response" else "{data_set}"
        return [
            self.path(f"scores/{task}/{data_set}/{{model}}/{protocol}.{kind}")
            for task in self.tasks(section)
            for protocol in self.config[section]["protocols"]
            for kind in kinds
        ]

    def scored_sets(self, section: str) -> list[str]:
        """Data sets that the rows of a section are scored on."""
        roles = {"annotation": "annotation", "drug_sensitivity": "single_cell_drug"}
        return self.data_sets[roles[section]] if section in roles else [SCREEN]

    def scores(self, section: str) -> list[str]:
        """All score files of a section."""
        models = [*self.config[section]["models"], *self.replicates(section)]
        rows = list(product(self.scored_sets(section), models))
        patterns = self.score_patterns(section, "csv")
        return [pattern.format(data_set=d, model=m) for pattern in patterns for d, m in rows]

    def table_scores(self, *tables: str) -> list[str]:
        """The score files of some tables (all of the run)."""
        return [path for section in self.sections(tables) for path in self.scores(section)]

    @cached_property
    def held_out(self) -> dict[str, list[str]]:
        """Tasks of Table S3 that this run makes, each with its data sets."""
        found = {}
        for task, chosen in self.config.get("held_out", {}).items():
            section = HELD_OUT_OF[task]
            if chosen and section in self.sections():
                sets = [name for name in chosen.get("data_sets", ()) if name in self.labelled_sets]
                found[task] = [SCREEN] if section == "drug_response" else sets
        return found

    @property
    def held_out_scores(self) -> list[str]:
        """Scores of Table S3, under protocol strict."""
        return [
            self.path(f"scores/{task}/{data_set}/{model}/strict.csv")
            for task, data_sets in self.held_out.items()
            for data_set, model in product(data_sets, self.config["held_out"][task]["models"])
            if model in self.config[HELD_OUT_OF[task]]["models"]
        ]

    def cells(self, data_set: str) -> list[str]:
        """Prepared cells of a data set; of the screen those of its lines."""
        return self.paths(CELLS, self.data_sets["expression"] if data_set == SCREEN else [data_set])

    def responses(self, data_set: str) -> list[str]:
        """Responses of the screen; other data sets have none."""
        return self.paths(RESPONSES, self.data_sets["response"] if data_set == SCREEN else [])

    def response_flags(self, data_set: str) -> list[str]:
        """The same for the command line."""
        return [word for path in self.responses(data_set) for word in ("--responses", path)]

    @property
    def prediction_files(self) -> list[str]:
        """Predictions under protocol strict and, of classes, their probabilities."""
        found = self.predictions
        classes = [path for key, path in found.items() if not key.startswith("response")]
        return [*found.values(), *(str(probabilities_of(path)) for path in classes)]

    @property
    def predictions(self) -> dict[str, str]:
        """Predictions under protocol strict by task/data_set/model; of several seeds the run's own."""
        paths = map(PurePosixPath, self.table_scores())
        return {
            "/".join(path.parts[-4:-1]): str(path.with_name("strict.predictions.csv"))
            for path in paths
            if path.name == "strict.csv" and "replicate_of" not in self.config["models"][path.parts[-2]]
        }

    # Facts, tables and figures

    @property
    def facts(self) -> list[str]:
        """Facts that tables and claims are held to."""
        studied = ["interpretation"] if "celllm" in self.encoders else []
        return self.paths("facts/{name}.json", ["counts", "settings", "gradient", "memory", *studied])

    @property
    def contrast(self) -> list[str]:
        """What contrast does to the encoders: measured on annotated cells, where the run has any."""
        wanted = self.compared and self.data_sets["annotation"]
        return [self.path("contrast.csv")] if wanted else []

    @property
    def tables(self) -> list[str]:
        """Every table of the run."""
        return self.paths("tables/{name}.csv", [*self.config["tables"], *FACT_TABLES, *SUPPLEMENT])

    def table_labels(self, table: str) -> dict[str, str]:
        """Number and subject of a table, for Snakemake's report."""
        title = SUPPLEMENT[table].title if table in SUPPLEMENT else published.load().table(table).title
        number, _, subject = title.partition(": ")
        return {"table": number, "subject": subject}

    @cached_property
    def figure_files(self) -> dict[str, dict[str, str]]:
        """Every figure that the run allows, with its files by the names in `draw` of its module."""
        annotated = "annotation" in self.sections() and "celllm" in self.config["annotation"]["models"]
        sets = self.data_sets["annotation"] if annotated else []
        scores = "scores/annotation/{}/celllm/strict.predictions.csv"
        files = {f"fig3_{name}": {"predictions": scores.format(name)} for name in sets}
        files |= {f"tsne_{name}": {"table": f"embeddings/{name}.csv"} for name in sets}
        files["fig4"] = {"table": "memory.csv", "facts": "facts/memory.json"}
        if "celllm" in self.encoders:
            studied = "facts/interpretation.json"
            files["figc1"] = {"table": "interpretation/genes.csv", "facts": studied}
            files["figc2"] = {"cells": "interpretation/cells.csv", "facts": studied}
        if self.trained:
            files["loss_curves"] = {name: METRICS.format(name=name) for name in self.trained}
        if self.contrast:
            files["geometry"] = {"table": "geometry.csv"}
        if "tableb2" in self.config["tables"]:
            files["scaling"] = {"table": "tables/tableb2.csv"}
        return {
            figure: {name: self.path(file) for name, file in inputs.items()}
            for figure, inputs in files.items()
        }

    @property
    def figures(self) -> list[str]:
        """Every figure of the run."""
        return self.paths("figures/{name}.svg", self.figure_files)

    def figure_inputs(self, figure: str) -> list[str]:
        """The files that a figure is drawn from."""
        return list(self.figure_files[figure].values())

    def figure_flags(self, figure: str) -> list[str]:
        """The same as NAME=FILE for the command line."""
        return self.flags(self.figure_files[figure])

    def figure_labels(self, figure: str) -> dict[str, str]:
        """Title and data set of a figure, for Snakemake's report."""
        kind, data_set = kind_of(figure)
        return {"figure": CAPTIONS[str(kind)].title, "data set": data_set}

    def figure_caption(self, figure: str) -> str:
        """What a figure shows, for Snakemake's report."""
        return CAPTIONS[str(kind_of(figure)[0])].text
