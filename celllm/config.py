"""The configuration of a run: config/*.yaml laid over one another, filled into classes and checked.

:class:`Config` is the whole of it. Loading fills every section, every model row and the settings of every
method before the first job; a slip is one line with the whole path of the key.
"""

import copy
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, Field, model_validator

from celllm.cells.embeddings import files_of
from celllm.cells.settings import OPTIONS, H5adOptions, NoOptions
from celllm.corpus.settings import (
    GroupSplitSettings,
    PairSplitSettings,
    RunTokens,
    SplitSettings,
    TokenSettings,
)
from celllm.errors import UserError
from celllm.graph.settings import GraphMAESettings, NetworkSettings
from celllm.io import read_yaml, sha256
from celllm.methods import outside
from celllm.methods.settings import CELL_SETTINGS, HEAD_SETTINGS, PAIR_SETTINGS
from celllm.model.settings import WEIGHTS, AttentionKind, ClsVector, EncoderSize
from celllm.probes.settings import EmbeddingMapSettings, InterpretationSettings, MemorySettings
from celllm.scores.columns import Protocol
from celllm.settings import Changes, Reserved, Settings, as_settings, setting, unknown, wrong
from celllm.sources.settings import SourceRow
from celllm.training.settings import (
    Contrast,
    ContrastOn,
    FinetuneSettings,
    ModelRow,
    PretrainSettings,
    ResponseSettings,
)

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
Section = Literal["annotation", "drug_sensitivity", "drug_response"]
# Section -> roles of the data sets that its tables need, and how many of them there can be (0: any number).
NEEDS = {
    "annotation": {"annotation": 0},
    "drug_sensitivity": {"single_cell_drug": 0},
    "drug_response": {"expression": 1, "response": 1},
}
# Task with whole groups held out -> the section whose rows and settings it takes.
HELD_OUT_OF = {
    "annotation_donor": "annotation",
    "drug_patient": "drug_sensitivity",
    "response_tissue": "drug_response",
    "response_drug": "drug_response",
}
# The one screen of drug response, named as in the paper's tables whichever release of GDSC it is from.
SCREEN = "gdsc_ccle"
# Section -> settings of each method that it can have.
METHODS_OF = {
    "annotation": CELL_SETTINGS,
    "drug_sensitivity": CELL_SETTINGS,
    "drug_response": PAIR_SETTINGS,
}


def _unlike(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"'{name}' appears twice")
    return names


T = TypeVar("T")
Unlike = Annotated[tuple[T, ...], AfterValidator(_unlike)]
Some = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(_unlike)]


class DataSets(Settings):
    """Which data sets of config/data_sets.yaml the run takes, by what they are for."""

    pretraining: Some[str] = setting(description="sources of pre-training cells")
    annotation: Some[str] = setting(description="annotated data sets, Tables 1 and B.2")
    single_cell_drug: Unlike[str] = setting(description="cells before and after a drug, Table 2")
    expression: Unlike[str] = setting(description="expression of cell lines, Tables 3 and B.1: one")
    response: Unlike[str] = setting(description="responses of cell lines to drugs (gdsc or gdsc2): one")


class Row(Settings):
    """A row of the tables, as config/models.yaml and the run's changes to it describe it."""

    title: str = setting(description="as printed in tables")
    kind: Literal["encoder", "baseline", "embedding", "scores"] = setting(
        description="encoder: pre-trained, then fine-tuned; baseline: a method; the others: from elsewhere"
    )
    group: Literal["paper", "control", "ablation", "added"] = setting(
        description="of the paper; without an encoder of ours; an encoder of ours changed; added"
    )
    paper_row: str | None = setting(None, "the paper's row it is compared with; without it, the title")
    method: str | None = setting(
        None,
        "kind: baseline: method of celllm.methods, MODULE:NAME, FILE.py:NAME, or an entry point of the group "
        "celllm.methods",
    )
    conda: str | None = setting(
        None, "environment of the method's jobs: a file, or the name of one that exists (kind: baseline)"
    )
    file: dict[str, str] | None = setting(
        None,
        "by data set: kind embedding: FILE.h5ad#obsm/KEY, or FILE.npy + NAMES.txt; kind scores: SCORES.csv + "
        "SPLITS.json",
    )
    head: Literal["knn", "linear", "paper"] = setting("linear", "classifier on the vectors (kind: embedding)")
    size: str | None = setting(None, "name of a size (kind: encoder)")
    contrast: Contrast | None = setting(None, "how the contrast of a batch is computed")
    contrast_on: ContrastOn = setting("pooled", "what the contrast compares")
    temperature: float | None = setting(
        None, "of the contrast; without it, that of pretraining.settings", gt=0
    )
    views: Literal[1, 2] | None = setting(
        None, "dropout passes of a cell in a step; without it, what the contrast needs"
    )
    tumour_task: bool | None = setting(None, "the tumour/normal task on [CLS]")
    cells: Literal["all", "normal"] | None = setting(None, "which pre-training cells")
    sources: Some[str] | None = setting(None, "of which pre-training data sets; without it, of all")
    gene_embeddings: Literal["graphmae", "gene2vec", "trained"] | None = setting(
        None,
        "frozen ones, GraphMAE's or those of the run's `gene2vec`; or trained (without pre-training: random)",
    )
    encoder: str | None = setting(None, "the row whose pre-trained encoder this one takes")
    pretrained: Literal[False, "elsewhere"] | None = setting(
        None,
        "false: the encoder starts from random numbers; elsewhere: it is that of pretraining.from, without "
        "which the row is not applicable",
    )
    finetuning: Annotated[dict[str, Any] | None, Changes(FinetuneSettings, ResponseSettings)] = setting(
        None, "settings over those of every task's `finetuning` (kind: encoder)"
    )
    attention: AttentionKind = setting("favor", "kind of attention")
    tokens: Annotated[TokenSettings, Reserved("max_length", "keep")] | None = setting(
        None, "how cells become tokens; length and choice of genes are the run's `tokens`"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed: tuple[str, ...] = ()
        if self.kind == "baseline":
            needed = ("method",)
        elif self.kind != "encoder":
            needed = ("file",)
        elif self.encoder is None and self.pretrained != "elsewhere":
            trained = ("contrast", "tumour_task", "cells", "gene_embeddings")
            needed = ("size", "tokens", *(() if self.pretrained is False else trained))
        for key in needed:
            if getattr(self, key) is None:
                raise wrong(key, f"a value, as the row is of kind {self.kind}", None)
        if not is_finetuned(vars(self)) and self.finetuning is not None:
            raise wrong("finetuning", "none in a baseline; its settings are `baselines` of the task", "some")
        for key, kinds in (("conda", ("baseline",)), ("file", ("embedding", "scores"))):
            if getattr(self, key) is not None and self.kind not in kinds:
                raise wrong(key, f"none in a row of kind {self.kind}", getattr(self, key))
        return self


def is_finetuned(row: Mapping[str, Any]) -> bool:
    """Whether a row's settings are `finetuning` of the task, not `baselines`."""
    return row["kind"] == "encoder" or (row["kind"] == "embedding" and row.get("head") == "paper")


class Rows(Settings):
    """config/models.yaml: sizes of encoders and rows of tables."""

    sizes: dict[str, EncoderSize] = setting(description="encoder sizes by name")
    models: dict[str, Row] = setting(description="rows of tables by name")


class Pretraining(Settings):
    """Pre-training of all encoders."""

    given: dict[str, str] = setting(
        {}, "encoders that are not trained: by row, the folder or file of a model", alias="from"
    )
    settings: Annotated[PretrainSettings, Reserved("seed")] = setting(description="for every row")
    by_model: dict[str, Annotated[dict[str, Any], Changes(PretrainSettings)]] = setting(
        {}, "settings over those, by row"
    )
    seeds: Unlike[Annotated[int, Field(ge=0)]] = setting(
        (), "a row is pre-trained and fine-tuned once with each, the run's `seed` among them; none: with that"
    )
    seeds_of: Some[str] | None = setting(
        None, "rows that take the seeds; null: every row with a pre-training of its own"
    )
    seeds_in: Some[Section] = setting(get_args(Section), "tasks that every seed is scored on")


class _Task(Settings):
    models: Some[str] = setting(description="the rows, in their order in the tables")
    protocols: Some[Protocol] = setting(
        ("strict", "paper"),
        "strict: choose on a validation part, fit again on all but the test part; no_refit: without the "
        "second fit; paper: as the paper and the released code, task by task",
    )
    baselines: dict[str, dict[str, Any]] = setting({}, "settings of the baselines, by row")


class _CellTask(_Task):
    finetuning: FinetuneSettings = setting(FinetuneSettings(), "fine-tuning of the encoders")
    finetuning_by_model: dict[str, Annotated[dict[str, Any], Changes(FinetuneSettings)]] = setting(
        {}, "settings over `finetuning`, by row"
    )


class _Draws(SplitSettings):
    train_fraction: float | None = setting(
        description="part of the cells that is trained on, validation part included", gt=0, lt=1
    )


class Annotation(_CellTask):
    """Cell annotation, Tables 1 and B.2."""

    splits: Annotated[SplitSettings, Reserved("seed", "train_fraction")] = setting(
        description="folds of cross-validation"
    )


class DrugSplits(Settings):
    """How the cells are drawn, by task."""

    drug_few_shot: Annotated[_Draws, Reserved("seed")] = setting(description="few cells to train on")
    drug_full: Annotated[_Draws, Reserved("seed")] = setting(description="most cells to train on")


class DrugSensitivity(_CellTask):
    """Single-cell drug sensitivity, Table 2."""

    splits: DrugSplits = setting(description="how the cells are drawn")


class ResponseSplits(Settings):
    """How the pairs are drawn, by task."""

    response_warm: Annotated[PairSplitSettings, Reserved("seed")] = setting(description="by pairs")
    response_cold: Annotated[PairSplitSettings, Reserved("seed")] = setting(description="by cell lines")


class Response(_Task):
    """Cell-line drug response, Tables 3 and B.1."""

    splits: ResponseSplits = setting(description="how the pairs are drawn")
    finetuning: ResponseSettings = setting(ResponseSettings(), "encoder, drug encoder and regression")
    finetuning_by_model: dict[str, Annotated[dict[str, Any], Changes(ResponseSettings)]] = setting(
        {}, "settings over `finetuning`, by row"
    )


class HeldOutTask(Settings):
    """A task of Table S3."""

    models: Unlike[str] = setting(description="which of the rows of the same task with groups mixed")
    data_sets: Unlike[str] = setting((), "which of its data sets; drug response has one screen")
    splits: Annotated[GroupSplitSettings, Reserved("seed")] = setting(description="how groups are held out")


class HeldOut(Settings):
    """Held-out groups, Table S3, under protocol strict; a task that is not here is not run."""

    annotation_donor: HeldOutTask | None = setting(None, "cell annotation by donor")
    drug_patient: HeldOutTask | None = setting(None, "single-cell drug sensitivity by patient")
    response_tissue: HeldOutTask | None = setting(None, "cell-line drug response by tissue")
    response_drug: HeldOutTask | None = setting(None, "cell-line drug response by drug")


Number = Annotated[int, Field(ge=0)]


class Counts(Settings):
    """When counts of data sets that differ from the paper's end the run; those of a toy never do."""

    tolerance: float = setting(0.0, "allowed difference, as a share of the paper's number", ge=0)
    accept: dict[str, Number | tuple[Number, Number]] = setting(
        {}, "accepted numbers by name of the count (with * and ?): one number, or [lowest, highest]"
    )


class Leakage(Settings):
    """Cells of the tasks among those of pre-training; `leakage.md` of a run lists them either way."""

    drop: bool = setting(False, "leave the cells of pre-training out that equal a cell of a task")


class Config(Settings):
    """A run of the benchmark: config/paper.yaml, laid over by the files given with `--configfile`."""

    over: str | None = setting(
        None, "file beside this one (or in config/) that it is laid over; without it, paper.yaml alone"
    )
    run: str = setting(description="name of the run; everything it makes stands under results/<run>/")
    toy: bool = setting(False, "label every table, figure and verdict of the run as a toy")
    mirror: str | None = setting(
        None,
        "folder taken in place of the internet, laid out like the downloads; `embedded` writes and takes the "
        "generated toy mirror; the environment variable CELLLM_MIRROR wins, and its run is named after it",
    )
    seed: int = setting(0, "of the splits, of pre-training and of fine-tuning", ge=0)
    data_sets: DataSets = setting(description="which data sets the run takes")
    data_set_files: Unlike[str] = setting(
        (), "files like data_sets.yaml with data sets of your own, or changes to those there"
    )
    reader_options: dict[str, dict[str, Any]] = setting(
        {}, "over the `options` of data_sets.yaml, by data set"
    )
    counts: Counts = setting(Counts(), "when other counts than the paper's end the run")
    leakage: Leakage = setting(Leakage(), "cells of the tasks among those of pre-training")
    tokens: RunTokens = setting(RunTokens(), "which genes of a cell enter the encoders")
    cls_vector: ClsVector = setting(
        "trained",
        "gene vector of [CLS] beside GraphMAE's frozen ones: trained, or ones that are not (released)",
    )
    gene2vec: str | None = setting(
        None,
        "Gene2vec's vectors as text, a file of yours, for rows with `gene_embeddings: gene2vec`; without it "
        "they train their own, and their titles say so",
    )
    network: NetworkSettings = setting(NetworkSettings(), "the protein network")
    graphmae: Annotated[GraphMAESettings, Reserved("dim", "seed")] = setting(
        GraphMAESettings(), "gene embeddings; their size is that of the encoder"
    )
    sizes: dict[str, Annotated[dict[str, Any], Changes(EncoderSize)]] = setting(
        {}, "changes to the sizes of models.yaml"
    )
    models: dict[str, Annotated[dict[str, Any], Changes(Row)]] = setting(
        {}, "changes to the rows of models.yaml, and further rows"
    )
    pretraining: Pretraining = setting(description="pre-training of all encoders")
    annotation: Annotation = setting(description="cell annotation, Tables 1 and B.2")
    drug_sensitivity: DrugSensitivity = setting(description="single-cell drug sensitivity, Table 2")
    drug_response: Response = setting(description="cell-line drug response, Tables 3 and B.1")
    held_out: HeldOut = setting(HeldOut(), "groups that no training cell is of, Table S3")
    memory: MemorySettings = setting(MemorySettings(), "Fig. 4")
    interpretation: Annotated[InterpretationSettings, Reserved("seed")] = setting(
        InterpretationSettings(), "appendix C"
    )
    embedding_map: Annotated[EmbeddingMapSettings, Reserved("seed")] = setting(
        EmbeddingMapSettings(), "t-SNE of embeddings"
    )
    tables: Some[Literal["table1", "table2", "table3", "tableb1", "tableb2"]] = setting(
        tuple(SECTION_OF), "tables of scores that the run makes, with all that they need"
    )
    allowed_failures: tuple[str, ...] = setting(
        (), "failures that do not fail the run, as model/data_set or model/data_set/status, with * and ?"
    )


def lay_over(base: Mapping[str, Any], over: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return ``base`` with the keys of ``over`` put in place.

    Mappings are merged key by key. A list is replaced, or, with ``{add: [...]}`` over it, made longer by what
    it lacks.
    """
    merged = copy.deepcopy(dict(base))
    for key, value in (over or {}).items():
        before = merged.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            merged[key] = lay_over(before, value)
        elif isinstance(before, list) and isinstance(value, Mapping) and list(value) == ["add"]:
            added = value["add"] if isinstance(value["add"], list) else [value["add"]]
            merged[key] = [*before, *(name for name in added if name not in before)]
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a configuration file; one that is empty or no mapping is a :class:`UserError`."""
    values = read_yaml(path)
    if not isinstance(values, Mapping):
        found = "nothing" if values is None else type(values).__name__
        raise UserError(f"{path}: expected a mapping of keys, as in config/toy.yaml, found {found}")
    return dict(values)


def load(
    *configfiles: str | Path, changes: Mapping[str, Any] | None = None, folder: Path | None = None
) -> dict[str, Any]:
    """Read a run's configuration, completed: see :func:`merged` and :func:`complete`."""
    folder = folder or Path(configfiles[0]).parent
    return complete(merged(*configfiles, changes=changes, folder=folder), folder)


def merged(
    *configfiles: str | Path, changes: Mapping[str, Any] | None = None, folder: Path | None = None
) -> dict[str, Any]:
    """Lay files over paper.yaml in turn, each over the one that its key ``over`` names, and changes over all.

    ``folder`` holds paper.yaml, models.yaml and data_sets.yaml; without it, they stand beside the first file.
    """
    folder = folder or Path(configfiles[0]).parent
    changes = dict(changes or {})
    below = changes.pop("over", None)  # of a file below, where Snakemake has merged them
    files = configfiles or ([folder / below] if below else [])
    layers = {path: values for file in files for path, values in _chain(Path(file), folder)}
    config = read_config(folder / "paper.yaml")
    for values in layers.values():
        config = lay_over(config, values)
    return lay_over(config, changes)


def _chain(file: Path, folder: Path, above: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """A file and those it lies over, the lowest first."""
    values, place = read_config(file), file.resolve()
    name = values.pop("over", None)
    if name is None:
        return [(place, values)]
    if not isinstance(name, str):
        raise UserError(f"{file}: over: expected the name of a file, as corrected.yaml, got {name!r}")
    below = next((f for f in (file.parent / name, folder / name) if f.is_file()), None)
    if below is None or below.resolve() in (place, *above):
        why = "no such file" if below is None else "lies over this file itself"
        raise UserError(f"{file}: over: {name}: {why}; name another one beside it or in {folder}")
    return [*_chain(below, folder, (place, *above)), (place, values)]


def complete(
    config: Mapping[str, Any], folder: Path, environ: Mapping[str, str] = os.environ
) -> dict[str, Any]:
    """Check a merged configuration and add what it refers to in ``folder``.

    Adds ``catalogue`` (data_sets.yaml with the run's reader options, each data set with just the files that
    its reader takes), ``models`` and ``sizes`` (models.yaml with the run's changes, and for every further
    seed of ``pretraining.seeds`` a row ``<name>.seed<n>`` with the keys ``replicate_of`` and ``seed``), the
    mirror of ``CELLLM_MIRROR`` and the folder ``results``.

    Raises
    ------
    UserError
        In one line with the path of the key: unknown keys and names, wrong types, values out of bounds.
    """
    _filled(Config, config, "config: ")
    done = copy.deepcopy(dict(config))
    rows = read_config(folder / "models.yaml")
    _filled(Rows, rows, "config/models.yaml: ")
    for part in ("sizes", "models"):
        done[part] = lay_over(rows[part], config.get(part))
    _filled(Rows, {part: done[part] for part in ("sizes", "models")}, "config: ")
    done["catalogue"] = _catalogue(folder, config)
    _check_names(done)
    _check_data_sets(done)
    _settle_given(done)
    _check_methods(done)
    _settle_gene2vec(done)
    done["models"] |= _replicates(done)
    if given := environ.get("CELLLM_MIRROR"):
        # It wins over the config, and its run gets a folder of its own: no mixing of two sources
        place = Path(given).resolve()
        if not place.is_dir():
            raise UserError(
                f"CELLLM_MIRROR: {given} is not a folder; unset it or name the folder of the mirror"
            )
        done["mirror"], folder_name = str(place), re.sub(r"[^A-Za-z0-9_.-]", "_", place.name)
        if folder_name != place.name:  # with a hash of the whole path: no two are alike
            folder_name += f"-{hashlib.sha256(bytes(place)).hexdigest()[:6]}"
        done["run"] = f"{done['run']}-{folder_name}"
    done["results"] = f"results/{done['run']}"
    return done


S = TypeVar("S", bound=Settings)


def _filled(kind: type[S], values: Any, prefix: str) -> S:
    """Settings of a mapping; a message is the key's path behind ``prefix``."""
    try:
        return as_settings(kind, values, where="")
    except UserError as error:
        raise UserError(f"{prefix}{error}") from None


def _refuse_unknown(names: Iterable[Any], known: Iterable[str], where: str, what: str) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise UserError(f"config: {where}: {unknown(name, known, what)}")


def _check_methods(config: Mapping[str, Any]) -> None:
    """Fill the settings of every row in every section, layer over layer."""
    models, chosen = config["models"], config["pretraining"]
    for name, changes in chosen.get("by_model", {}).items():
        where = f"pretraining.by_model.{name}"
        _refuse_unknown([name], models, where, "model")
        if models[name]["kind"] != "encoder":
            raise UserError(f"config: {where}: '{name}' is no encoder")
        if "seed" in changes:
            raise UserError(f"config: {where}.seed: is decided by the run; leave it out here")
        _check_layers(PretrainSettings, {"pretraining.settings": chosen["settings"], where: changes})
    for section, methods in METHODS_OF.items():
        task = config[section]
        for key, finetuned in (("finetuning_by_model", True), ("baselines", False)):
            for name in task.get(key, {}):
                where = f"{section}.{key}.{name}"
                _refuse_unknown([name], models, where, "model")
                if is_finetuned(models[name]) != finetuned or models[name]["kind"] == "scores":
                    other = "encoder" if finetuned else "baseline"
                    raise UserError(f"config: {where}: '{name}' is no {other}")
        for name in dict.fromkeys(
            (*task["models"], *task.get("finetuning_by_model", {}), *task["baselines"])
        ):
            kind = _settings_of(config, section, name, methods)
            if kind is not None:
                _check_layers(kind, layers_of(config, section, name))
    for name, row in models.items():
        if row.get("finetuning") is not None and not any(name in config[s]["models"] for s in METHODS_OF):
            _check_layers(FinetuneSettings, {f"models.{name}.finetuning": row["finetuning"]})


def _settings_of(
    config: Mapping[str, Any], section: str, name: str, methods: Mapping[str, type[Settings]]
) -> type[Settings] | None:
    """Settings class of a row in a section.

    None where it has none, and for a method from outside that only its own environment can tell.
    """
    row = config["models"][name]
    if row["kind"] == "encoder":
        return methods["encoder"]
    if row["kind"] == "baseline":
        if row["method"] in methods:
            return methods[row["method"]]
        if (conda := row.get("conda") or "").endswith((".yaml", ".yml")):
            _refuse_absent([conda], f"models.{name}.conda")
        try:
            if not conda:
                return outside.load(row["method"], methods).settings
            outside.check_elsewhere(row["method"])
        except UserError as error:
            raise UserError(f"config: models.{name}.method: {error}") from None
        return None
    if row["kind"] == "embedding" and section == "drug_response":
        raise UserError(f"config: drug_response.models: '{name}' is an embedding of cells; leave it out here")
    scored = ("annotation", "single_cell_drug")
    known = [name for name, row in config["catalogue"].items() if row["role"] in scored] + [SCREEN]
    for data_set, place in row["file"].items():
        _refuse_unknown([data_set], known, f"models.{name}.file", "data set")
        _refuse_absent(files_of(place), f"models.{name}.file.{data_set}")
    return HEAD_SETTINGS[row.get("head", "linear")] if row["kind"] == "embedding" else None


def _refuse_absent(paths: Iterable[str], where: str) -> None:
    for path in paths:
        if not Path(path).is_file():
            raise UserError(f"config: {where}: {path}: no such file (looked for in {os.getcwd()})")


def _replicates(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of the further pre-trainings: each as its row, with the seed and whose replicate it is."""
    chosen, models = config["pretraining"], config["models"]
    seeds, own = chosen.get("seeds", ()), config.get("seed", 0)
    if seeds and own not in seeds:
        raise UserError(
            f"config: pretraining.seeds: expected the run's seed, {own}, among them, got {seeds}; add it, or "
            "set [] for one pre-training of each row"
        )
    trained = _pretrained(models)
    wanted = chosen.get("seeds_of") or trained
    _refuse_unknown(wanted, models, "pretraining.seeds_of", "model")
    if without := [name for name in wanted if name not in trained]:
        raise UserError(f"config: pretraining.seeds_of: '{without[0]}' has no pre-training of its own")
    return {
        f"{name}.seed{seed}": models[name]
        | {"title": f"{models[name]['title']}, seed {seed}", "replicate_of": name, "seed": seed}
        for name in wanted
        for seed in seeds
        if seed != own and name not in chosen.get("from", {})
    }


def _settle_given(config: dict[str, Any]) -> None:
    """Put the file of its encoder where the config names a model that was trained elsewhere.

    Rows that have to be given and are not get the key ``missing``: their scores are not applicable.
    """
    given = config["pretraining"].get("from", {})
    for name, place in given.items():
        where = f"pretraining.from.{name}"
        _refuse_unknown([name], config["models"], where, "model")
        row = config["models"][name]
        if row["kind"] != "encoder" or "encoder" in row or row.get("pretrained") is False:
            raise UserError(f"config: {where}: '{name}' has no pre-training of its own")
        files = [Path(place), *(Path(place, file) for file in WEIGHTS)]
        found = next((str(file) for file in files if file.is_file()), None)
        if found is None:
            raise UserError(
                f"config: {where}: {place}: expected a model's file, or a folder with {' or '.join(WEIGHTS)} "
                f"(looked for in {os.getcwd()})"
            )
        given[name] = found
    for name, row in config["models"].items():
        of = row.get("encoder", name)
        if config["models"][of].get("pretrained") == "elsewhere" and of not in given:
            row["missing"] = f"no encoder was given; name a model's folder under pretraining.from.{of}"


def _pretrained(models: Mapping[str, Any]) -> list[str]:
    """Rows with a pre-training of their own."""
    kept = {"encoder", "pretrained"}
    return [name for name, row in models.items() if row["kind"] == "encoder" and not kept & set(row)]


def layers_of(config: Mapping[str, Any], section: str, name: str) -> dict[str, Mapping[str, Any]]:
    """Settings of a row in a section by where they stand in the config, each over those before it."""
    task, row = config[section], config["models"][name]
    name = row.get("replicate_of", name)
    if not is_finetuned(row):
        return {f"{section}.baselines.{name}": task["baselines"].get(name, {})}
    return {
        f"{section}.finetuning": task["finetuning"],
        f"models.{name}.finetuning": row.get("finetuning") or {},
        f"{section}.finetuning_by_model.{name}": task.get("finetuning_by_model", {}).get(name, {}),
    }


def _check_layers(kind: type[Settings], layers: Mapping[str, Mapping[str, Any]]) -> None:
    """Fill settings from layers; the message on a slip has the path of the last layer with the key."""
    merged: dict[str, Any] = {}
    for values in layers.values():
        merged = lay_over(merged, values)
    try:
        as_settings(kind, merged, where="")
    except UserError as error:
        path, *_ = str(error).partition(":")
        holds = [where for where, values in layers.items() if path.partition(".")[0] in values]
        raise UserError(f"config: {[*layers, *holds][-1]}.{error}") from None


def _options_of(name: str, row: Mapping[str, Any]) -> type[Settings]:
    return H5adOptions if row.get("reader") == "h5ad" else OPTIONS.get(name, NoOptions)


def read_catalogue(paths: Iterable[str | Path]) -> tuple[dict[str, Any], dict[str, Path]]:
    """Read files like config/data_sets.yaml, each laid over those before it, and check them.

    Returns
    -------
    The rows by data set, and the last file that has each; sample tables stand beside it.

    Raises
    ------
    UserError
        In one line with file, data set and key.
    """
    rows: dict[str, Any] = {}
    places: dict[str, Path] = {}
    for path in map(Path, paths):
        given = read_yaml(path)
        if not isinstance(given, Mapping) or not given:
            raise UserError(f"{path}: expected data sets by name, got {type(given).__name__}")
        for name, over in given.items():
            if not re.fullmatch("[a-z][a-z0-9_]*", str(name)):
                raise UserError(f"{path}: {name!r} cannot be the name of a data set; use a-z, 0-9 and _")
            if not isinstance(over, Mapping | None):
                raise UserError(f"{path}: {name}: expected a mapping of keys, got {type(over).__name__}")
            row = lay_over(rows.get(name, {}), over)
            if not row.get("files") and isinstance(row.get("file"), str):
                # The short form of a data set in one file, written out
                local = row.pop("file")
                row["files"] = {"cells": {"path": f"{name}/{Path(local).name}", "local": local}}
            source = _filled(SourceRow, row, f"{path}: {name}.")
            _filled(_options_of(name, row), source.options, f"{path}: {name}.options.")
            rows[name], places[name] = row, path
    return rows, places


def _catalogue(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    options = config.get("reader_options", {})
    rows, places = read_catalogue([folder / "data_sets.yaml", *config.get("data_set_files", ())])
    _refuse_unknown(options, rows, "reader_options", "data set")
    for name, over in options.items():
        rows[name]["options"] = lay_over(rows[name].get("options", {}), over)
        kind = _options_of(name, rows[name])
        _filled(kind, rows[name]["options"], f"config: reader_options.{name}.")
    found = {}
    for name, row in rows.items():
        if table := (row.get("sample") or {}).get("table"):
            row["sample"]["table_sha256"] = sha256(places[name].parent / table)
        # The files that its options ask for, with those that stand under another data set
        files = {key: file for key, file in row["files"].items() if is_wanted(file, row.get("options", {}))}
        for key, other in row.get("uses", {}).items():
            if key not in rows.get(other, {}).get("files", {}):
                raise UserError(f"config/data_sets.yaml: {name}.uses.{key}: '{other}' has no file '{key}'")
            files[key] = rows[other]["files"][key]
        found[name] = row | {"files": files}
    return found


def is_wanted(file: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    """Whether the options of a data set ask for this file of it."""
    return all(options.get(key) == value for key, value in file.get("only_with", {}).items())


def _check_names(config: Mapping[str, Any]) -> None:
    """Data sets must be in the catalogue with the right role, models and sizes in models.yaml."""
    models, sizes, catalogue = config["models"], config["sizes"], config["catalogue"]
    check_name(config["run"], "config: run")
    for kind in ("models", "sizes", "catalogue"):
        for name in config[kind]:
            check_name(name, f"config: {kind}")
    for role, names in config["data_sets"].items():
        fitting = [name for name, row in catalogue.items() if row["role"] == role]
        _refuse_unknown(names, fitting, f"data_sets.{role}", "data set")
    for section in NEEDS:
        _refuse_unknown(config[section]["models"], models, f"{section}.models", "model")
    for task, chosen in config.get("held_out", {}).items():
        for key, known in (("models", models), ("data_sets", catalogue)):
            _refuse_unknown((chosen or {}).get(key, ()), known, f"held_out.{task}.{key}", key[:-1])
    trained = _pretrained(models)
    # Whose encoder another row can take
    to_take = [*trained, *(name for name, row in models.items() if row.get("pretrained") == "elsewhere")]
    for name, row in models.items():
        for key, allowed in (("size", [*sizes]), ("encoder", to_take)):
            _refuse_unknown([row[key]] if key in row else [], allowed, f"models.{name}", key)
    for name in trained:
        row = {key: value for key, value in models[name].items() if key != "finetuning"}
        _filled(ModelRow, row | {"size": dict(sizes[row["size"]])}, f"config: models.{name}.")


def check_name(name: Any, where: str) -> None:
    """Refuse a name that could not stand in a path or a command as it is."""
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise UserError(
            f"{where}: {name!r} cannot be a name; use letters, digits, '_', '.', '-', a letter or digit first"
        )


def _check_data_sets(config: Mapping[str, Any]) -> None:
    """A table needs data sets of its roles, drug response one screen; an encoder, cells of its sources."""
    for table in config["tables"]:
        for role, most in NEEDS[SECTION_OF[table]].items():
            n_given = len(config["data_sets"][role])
            if n_given == 0 or (most and n_given > most):
                wanted = "one data set" if most else "a data set"
                raise UserError(
                    f"config: tables: {table} needs {wanted} in data_sets.{role}, which has {n_given}; "
                    f"name {wanted} there or leave {table} out"
                )
    known, models = config["data_sets"]["pretraining"], config["models"]
    for name in dict.fromkeys(name for section in NEEDS for name in config[section]["models"]):
        of = models[name].get("encoder", name)
        if not set(models[of].get("sources") or known) & set(known):
            wanted = ", ".join(models[of]["sources"])
            raise UserError(
                f"config: models.{of}.sources: {wanted} is not in data_sets.pretraining "
                f"({', '.join(known)}); change one of them, or leave '{name}' out of the models"
            )


def _settle_gene2vec(config: dict[str, Any]) -> None:
    """Rows with Gene2vec's vectors: without a file they train their own, and their titles say so.

    Where the file is not there they get the key ``missing``: they are not trained, and their scores are not
    applicable for that reason.
    """
    given, models = config.get("gene2vec"), config["models"]
    of = {name: models.get(row.get("encoder"), row).get("gene_embeddings") for name, row in models.items()}
    for row in (models[name] for name, kind in of.items() if kind == "gene2vec"):
        if given is None:
            row["paper_row"] = row.get("paper_row") or row["title"]
            row["title"] += " without gene2vec"
            if "gene_embeddings" in row:
                row["gene_embeddings"] = "trained"
        elif not Path(given).is_file():
            row["missing"] = f"gene2vec: {given}: no such file (looked for in {os.getcwd()})"
