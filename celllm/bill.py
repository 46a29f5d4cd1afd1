"""What a run will cost, before it starts: work counted from its configuration, over rates.

Counted are jobs, cells, tokens, fits and floating-point operations. Assumed are the sizes of
data sets, the share of a GPU's peak that is reached, epochs before early stopping, and more: ASSUMED.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import add
from pathlib import Path
from typing import Any

from celllm.config import load
from celllm.errors import UserError
from celllm.io import write_text
from celllm.plan import SCREEN, Plan
from celllm.settings import as_settings, unknown

# Dense bfloat16 TFLOP/s (makers' data sheets).
GPUS = {"a10": 125, "l4": 121, "l40s": 362, "a100": 312, "h100": 989, "h200": 989}


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set before it is fetched; ``genes`` are expressed ones per cell on average."""

    cells: int
    genes: int
    gigabytes: float
    samples: int = 0


# Cells: docs/data.md. Genes: from the non-zeros where known (Zheng68k, Baron), else assumed. Gigabytes: known
# for Baron and GDSC, else assumed.
DATA = {
    "panglaodb": DataSet(1_070_580, 1500, 9, 305),
    "cancerscem": DataSet(638_341, 1500, 8, 208),
    "zheng68k": DataSet(68_450, 545, 0.13),
    "baron": DataSet(8_569, 1887, 0.03),
    "gse149383": DataSet(2_739, 3000, 0.05),
    "gse117872": DataSet(1_302, 6000, 0.05),
    "ccle": DataSet(561, 12_000, 0.5),
    "gdsc": DataSet(107_446, 0, 0.003),
    "gdsc2": DataSet(240_000, 0, 0.03),
}
N_GENES = 19_283
NORMAL = 0.65  # of the pre-training cells: PanglaoDB's, and normal and blood samples of CancerSCEM
SHARE = 0.4
ASSUMED = {
    "epochs of a fit before early stopping, at most": 30,
    "what each further GPU adds to a pre-training": 0.95,
    "MB/s of the downloads": 10.0,
    "seconds to start a job": 20.0,
    "cells/s prepared from raw files": 500.0,
    "core hours of GraphMAE": 2.0,
    "cores": 16,
    "times that eight threads make a fit without GPU faster": 4,
}
SHARD_CELLS_PER_SECOND = 9500.0  # measured: benchmarks/corpus.py
# Core hours of one fit on 10,000 cells or pairs, by method; 0.01 where it is not here. Assumed.
FIT_HOURS = {
    "logistic_regression": 0.15,
    "logistic_regression_2000": 0.05,
    "l1_logistic_regression": 0.3,
    "linear_svm": 0.1,
    "permuted": 0.15,
    "celltypist": 0.1,
    "deepcdr": 0.3,
    "deepcdr_original": 0.5,
    "scanvi": 0.5,
    "gradient_boosting": 0.05,
}
BYTES_PER_GENE = 6  # of a shard: gene and count
# Passes of a cell through the encoder, a backward pass being two forward ones; "none": of each view.
PASSES = {"divide_and_conquer": 8, "end_to_end": 6, "moco": 4, "none": 3}


@dataclass(frozen=True)
class Line:
    """Jobs of one rule and row, with what they need together; memory is that of one."""

    rule: str
    row: str = ""
    jobs: int = 1
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0
    memory_gib: int = 4
    disk_gb: float = 0.0
    note: str = ""

    def __add__(self, other: "Line") -> "Line":
        """Both together; rule, row and note stay those of the first."""
        summed = ("jobs", "cpu_hours", "gpu_hours", "disk_gb")
        sums = {key: getattr(self, key) + getattr(other, key) for key in summed}
        return replace(self, memory_gib=max(self.memory_gib, other.memory_gib), **sums)


class Bill:
    """The jobs of a run and their cost, on so many GPUs of :data:`GPUS` that reach a share of their peak."""

    def __init__(self, plan: Plan, gpu: str, gpus: int = 1, share: float = SHARE) -> None:
        if gpu not in GPUS:
            raise UserError(f"--gpu: {unknown(gpu, GPUS, 'GPU')}")
        if gpus < 1 or not 0 < share <= 1:
            raise UserError(f"--gpus, --share: expected 1 or more, and above 0 to 1; got {gpus} and {share}")
        self.plan, self.config, self.gpu, self.gpus, self.share = plan, plan.config, gpu, gpus, share

    @cached_property
    def sources(self) -> dict[str, DataSet]:
        """The pre-training sources, with the part of their samples that the run takes."""
        taken = {}
        for name in self.plan.data_sets["pretraining"]:
            whole = _data_set(name)
            wanted = self.config["catalogue"][name].get("options", {}).get("samples", "all")
            n = whole.samples  # of "all"; a mirror's are not known
            if not isinstance(wanted, str):
                n = min(n, wanted if isinstance(wanted, int) else len(wanted))
            part = n / whole.samples
            cells, gigabytes = round(part * whole.cells), part * whole.gigabytes
            taken[name] = replace(whole, samples=n, cells=cells, gigabytes=gigabytes)
        return taken

    @property
    def genes(self) -> int:
        """Expressed genes of a pre-training cell on average."""
        cells = sum(source.cells for source in self.sources.values())
        return sum(source.cells * source.genes for source in self.sources.values()) // cells

    def passes(self, model: str, genes: int) -> tuple[Any, Any, int, int]:
        """A row as pre-training reads it, its encoder's shape, tokens of a cell, FLOP of a pass of it."""
        from celllm.model.encoder import forward_flops
        from celllm.training.settings import ModelRow

        name = self.plan.pretrained(model) or model
        known = {k: v for k, v in self.plan.row(name).items() if k in ModelRow.model_fields}
        row = as_settings(ModelRow, known, name)
        shape, tokens = row.encoder_config(N_GENES), row.tokens
        length = 1 + ((tokens.n_genes or N_GENES) if tokens.zeros else min(genes, tokens.max_length))
        return row, shape, length, forward_flops(shape, length)

    def hours(self, flops: float) -> float:
        """Of one GPU."""
        return flops / (GPUS[self.gpu] * 1e12 * self.share) / 3600

    @cached_property
    def lines(self) -> list[Line]:
        """Every line of the bill, in the order of the run; the seeds of a row stand in one."""
        merged: dict[tuple[str, str], Line] = {}
        for line in (*self._data(), *self._pretraining(), *self._scores()):
            row = self.config["models"].get(line.row, {}).get("replicate_of", line.row)
            base = merged.get((line.rule, row))
            merged[line.rule, row] = line if base is None else base + line
        for model in self.plan.compared:
            hours = self.hours(20_000 * self.passes(model, self.genes)[3])
            rule = "geometry, maps, interpretation"
            merged[rule, model] = Line(rule, model, 3, 0.2, hours, 32)
        return [*merged.values(), Line("tables, figures, ledger, report", "", 40, 0.5)]

    def _data(self) -> Iterator[Line]:
        plan, sources = self.plan, self.sources.values()
        sets = [*plan.cell_sets, *plan.data_sets["response"]]
        gigabytes = sum(data.gigabytes for data in [*sources, *map(_data_set, sets)]) + 0.1  # STRING, HGNC
        fetched = sum(len(plan.raw_files(name)) for name in {*self.sources, *sets, "hgnc", "string"})
        for name, source in self.sources.items():
            fetched += source.samples * len(self.config["catalogue"][name]["sample_files"])
        cells, samples = sum(s.cells for s in sources), sum(s.samples for s in sources)
        disk = cells * self.genes * BYTES_PER_GENE / 1e9
        start = ASSUMED["seconds to start a job"] / 3600
        rate = ASSUMED["cells/s prepared from raw files"] * 3600
        hours = gigabytes * 1e3 / ASSUMED["MB/s of the downloads"] / 3600 + fetched * start
        yield Line("fetch", "", fetched, hours, memory_gib=1, disk_gb=gigabytes)
        small = sum(_data_set(name).cells for name in plan.cell_sets)
        yield Line("prepare", "", len(sets), small / rate + len(sets) * start, memory_gib=24)
        hours = cells / rate + samples * start
        yield Line("prepare_sample", "", samples, hours, memory_gib=12, disk_gb=2 * disk)
        hours = cells / SHARD_CELLS_PER_SECOND / 3600 + samples * start
        yield Line("shard", "", samples, hours, disk_gb=disk)
        yield Line("leakage, corpus, splits, facts", "", 12, cells / 1e7 + 1, memory_gib=24)
        n = len({path for model in plan.encoders for path in plan.gene_embeddings(model)})
        yield Line("network, graphmae", "", 1 + n, n * ASSUMED["core hours of GraphMAE"], memory_gib=16)

    def _pretraining(self) -> Iterator[Line]:
        from celllm.training.settings import PretrainSettings

        for model in self.plan.all_encoders:
            row, shape, length, forward = self.passes(model, self.genes)
            chosen = as_settings(PretrainSettings, self.plan.pretraining(model), model)
            cells = sum(s.cells for s in self.sources.values()) * (NORMAL if row.cells == "normal" else 1)
            seen = min(cells * chosen.epochs, (chosen.max_steps or float("inf")) * chosen.batch_size)
            n = PASSES[row.contrast] * (row.n_views if row.contrast == "none" else 1)
            layers = shape.depth * (4 * shape.dim * shape.heads * shape.dim_head + 8 * shape.dim**2)
            disk = 2 * 12 * (layers + N_GENES * shape.dim) / 1e9  # two checkpoints of weights and two moments
            note = f"{seen / 1e6:.2g} M cells of {length:,} tokens, {n} passes"
            yield Line("pretrain", model, 1, 0.0, self.hours(seen * n * forward), 64, disk, note)

    def _scores(self) -> Iterator[Line]:
        for section in self.plan.sections():
            rule = "annotate" if section == "annotation" else section
            controls = self.plan.controls(section)
            for model in [*self.config[section]["models"], *self.plan.replicates(section)]:
                for name in self.plan.scored_sets(section):
                    line = replace(self._score(section, model, name), rule=rule, row=model)
                    if model in controls:
                        jobs = int(model == controls[0])  # one for all of them
                        line = replace(line, rule=f"{rule}_controls", row="all controls", jobs=jobs)
                    yield line

    def _score(self, section: str, model: str, name: str) -> Line:
        row = self.config["models"][model]
        if row.get("missing"):  # not applicable, without a fit
            return Line("")
        if row["kind"] != "encoder":
            n = _data_set(self.plan.data_sets["response"][0] if name == SCREEN else name).cells
            hours = FIT_HOURS.get(row.get("method", ""), 0.01) * n / 1e4 * self.n_fits(section)
            return Line("", cpu_hours=hours, memory_gib=48 if name == SCREEN else 32)
        return self._response(model) if name == SCREEN else self._labels(section, model, name)

    def n_fits(self, section: str) -> int:
        """Fits of a row that chooses, on one data set: those that two protocols share are made once."""
        protocols = set(self.config[section]["protocols"])
        on_training_part = {"strict", "no_refit"} | ({"paper"} if section == "drug_response" else set())
        on_both = {"strict"} | ({"paper"} - on_training_part)  # that fit of strict is read off paper's search
        in_a_fold = bool(on_training_part & protocols) + bool(on_both & protocols)
        folds = [self.plan.splits(task) for task in self.plan.tasks(section)]
        return in_a_fold * sum(int(s.get("n_repeats", s.get("n_folds", 1))) for s in folds)

    def _labels(self, section: str, model: str, name: str) -> Line:
        """Fine-tuning for labels: the trained layers in every fit, the frozen ones once if they are kept."""
        from celllm.training.frozen import FLOAT32_MIB
        from celllm.training.settings import FinetuneSettings

        chosen = as_settings(FinetuneSettings, self.plan.settings(section, model), model)
        cells = _data_set(name).cells
        _, shape, length, forward = self.passes(model, _data_set(name).genes)
        layers = shape.depth if chosen.trainable_layers == -1 else chosen.trainable_layers + chosen.frozen_top
        top = forward * layers / shape.depth
        tasks = [self.plan.splits(task) for task in self.plan.tasks(section)]
        learnt = cells * sum(s.get("train_fraction") or 1 - 1 / s["n_folds"] for s in tasks) / len(tasks)
        epochs = min(chosen.epochs, ASSUMED["epochs of a fit before early stopping, at most"])
        fits = self.n_fits(section)
        # The frozen states, in bfloat16 where they are large: see Store
        mib = cells * length * (4 + 4 * shape.dim) / 2**20
        if mib > FLOAT32_MIB:
            mib = cells * length * (4 + 2 * shape.dim) / 2**20
        kept = mib <= max(chosen.store_mib, chosen.spill_mib)
        below = cells if kept else fits * (learnt * epochs + cells - learnt)
        work = fits * (3 * learnt * epochs + cells - learnt) * top + below * (forward - top)
        note = "" if kept else f"{name}: frozen states do not fit, computed in every epoch"
        return Line("", gpu_hours=self.hours(work), memory_gib=32, note=note)

    def _response(self, model: str) -> Line:
        """Fine-tuning on pairs: the trained layers for each line of a batch, whatever pairs share it."""
        from celllm.training.settings import ResponseSettings

        chosen = as_settings(ResponseSettings, self.plan.settings("drug_response", model), model)
        lines = _data_set(self.plan.data_sets["expression"][0])
        pairs = 0.8 * _data_set(self.plan.data_sets["response"][0]).cells
        _, shape, _, forward = self.passes(model, lines.genes)
        layers = shape.depth if chosen.trainable_layers == -1 else chosen.trainable_layers
        epochs = min(chosen.epochs, ASSUMED["epochs of a fit before early stopping, at most"])
        batches = min(chosen.pairs_per_epoch or pairs, pairs) / chosen.batch_size
        encoded = 3 * batches * (chosen.lines_per_batch or min(chosen.batch_size, lines.cells)) + lines.cells
        work = self.n_fits("drug_response") * epochs * encoded * layers / shape.depth + lines.cells
        return Line("", gpu_hours=self.hours(work * forward), memory_gib=48)

    @property
    def total(self) -> Line:
        """All lines together."""
        return reduce(add, self.lines, Line("all", jobs=0))

    @property
    def wall_hours(self) -> float:
        """From the first job to the report.

        Behind the data come, side by side: all GPU work, or the longest pre-training and the longest scoring
        behind it; the longest fits without GPU; all work of the cores. The longest of them counts.
        """
        of = {line.rule: line for line in self.lines if not line.row}
        front = of["fetch"].cpu_hours / 4 + ASSUMED["core hours of GraphMAE"]  # four downloads at a time
        front += (of["prepare_sample"].cpu_hours + of["shard"].cpu_hours) / ASSUMED["cores"]
        several = 1 + (self.gpus - 1) * ASSUMED["what each further GPU adds to a pre-training"]
        rows = [line for line in self.lines if line.row]
        pretrained = max((x.gpu_hours / x.jobs for x in rows if x.rule == "pretrain"), default=0)
        scored = max((x.gpu_hours / x.jobs for x in rows if x.rule != "pretrain"), default=0)
        threads = ASSUMED["times that eight threads make a fit without GPU faster"]
        fitted = max((x.cpu_hours / x.jobs for x in rows), default=0) / threads
        cores = sum(x.cpu_hours for x in rows) / ASSUMED["cores"]
        gpu = max(self.total.gpu_hours / several, pretrained / several + scored)
        return front + max(gpu, fitted, cores) + of["tables, figures, ledger, report"].cpu_hours


def _data_set(name: str) -> DataSet:
    if name not in DATA:
        raise UserError(f"cost: {unknown(name, DATA, 'data set of known size')}")
    return DATA[name]


def run_cost(
    config: Sequence[Path], gpu: str = "a100", gpus: int = 1, share: float = SHARE, out: Path | None = None
) -> None:
    """Count what runs will cost before they start: jobs, hours, memory, disk, download.

    Parameters
    ----------
    config
        Configurations of runs, such as ``config/paper.yaml``.
    gpu
        Kind of GPU: a10, l4, l40s, a100, h100 or h200.
    gpus
        How many of them.
    share
        Of the GPU's peak in bfloat16 that is reached; 0.4 where nothing has been measured.
    out
        Where docs/scale.md goes; without it, the page is printed.

    Raises
    ------
    UserError
        For an unknown GPU, and data sets whose size is not known.
    """
    bills = {Path(path).name: Bill(Plan(load(path)), gpu, gpus, share) for path in config}
    text = page(bills, gpu, share)
    if out is None:
        print(text)
    else:
        write_text(out, text)


def page(bills: Mapping[str, Bill], gpu: str, share: float) -> str:
    """The page of some bills, in Markdown."""
    parts = [HEAD.format(configs=" ".join(f"config/{name}" for name in bills), gpu=gpu)]
    for name, bill in bills.items():
        total, card, eight = bill.total, gpu.upper(), Bill(bill.plan, gpu, 8, share)
        parts.append(
            f"## config/{name}\n\n**{total.gpu_hours:,.0f} {card} hours** and {total.cpu_hours:,.0f} core "
            f"hours in {total.jobs:,} jobs, {bill.lines[0].disk_gb:,.0f} GB to download, "
            f"{total.disk_gb:,.0f} GB of disk. "
            f"From the first job to the report: **{bill.wall_hours:,.0f} h** on {bill.gpus} {card}, "
            f"{eight.wall_hours:,.0f} h on eight.\n\n{table(bill)}"
        )
    rates = [("share of a GPU's peak that is reached", f"{share:g}", "assumed")]
    rates += [(name, f"{value:g}", "assumed") for name, value in ASSUMED.items()]
    rates += [("cells/s written to shards", f"{SHARD_CELLS_PER_SECOND:g}", "measured, benchmarks/RESULTS.md")]
    rates += [
        (f"core hours of a fit on 10,000 cells: {k}", f"{v:g}", "assumed") for k, v in FIT_HOURS.items()
    ]
    for name, data in DATA.items():
        sizes = f"{data.cells:,}; {data.genes:,}; {data.gigabytes:g}"
        rates.append((f"{name}: cells or pairs; genes of a cell; GB", sizes, "cells known, the rest assumed"))
    shown = f"## Rates and sizes\n\n{_markdown(('rate or size', 'value', ''), rates)}"
    return "\n".join([*parts, shown, hundred_million(gpu, share)])


def table(bill: Bill) -> str:
    """A line for each rule and row."""
    rows = []
    for line in [*bill.lines, bill.total]:
        cpu, gpu, disk = (f"{x:,.1f}" if x else "" for x in (line.cpu_hours, line.gpu_hours, line.disk_gb))
        rows.append((line.rule, line.row, f"{line.jobs:,}", cpu, gpu, str(line.memory_gib), disk, line.note))
    return _markdown(("rule", "row", "jobs", "core hours", "GPU hours", "GiB", "disk, GB", ""), rows)


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)) + "\n"


def hundred_million(gpu: str, share: float) -> str:
    """What a corpus of 100 million cells would take, and what breaks first."""
    from celllm.model.encoder import forward_flops
    from celllm.model.settings import EncoderConfig

    n, genes, per_sample = 100_000_000, 1500, 3300
    samples, jobs = n // per_sample, 4 * n // per_sample
    flops = PASSES["divide_and_conquer"] * n * forward_flops(EncoderConfig(n_genes=N_GENES), genes + 1)
    hours = flops / (GPUS[gpu] * 1e12 * share) / 3600
    return HUNDRED_MILLION.format(
        samples=samples,
        per_sample=per_sample,
        megabytes=genes * BYTES_PER_GENE * per_sample / 1e6,
        terabytes=n * genes * BYTES_PER_GENE / 1e12,
        hours=hours,
        gpu=gpu.upper(),
        days=hours / (1 + 7 * ASSUMED["what each further GPU adds to a pre-training"]) / 24,
        jobs=jobs,
        plan_minutes=39 / 8145 * jobs / 60,
        plan_gib=287 / 8145 * jobs / 1024,
        submit_days=jobs / 86400,
        lists=n * (4 + 1 + 8) / 1e9,
        hashes=n * 8 / 1e9,
    )


HEAD = """# What a run costs

`celllm cost --config {configs} --gpu {gpu} --out docs/scale.md` writes this page, and a test holds it to
that. Jobs, cells, tokens, fits and operations are counted from the configuration. Nothing has been run on
a GPU: rates, and sizes of what has not been fetched, are assumed, and stand below the tables. Divide a
run's `flops_per_second` (its `metrics.csv`) by the GPU's peak, and give it as `--share` in place of the
first of them. Further `--gpus` shorten one pre-training, and score rows side by side.
"""
HUNDRED_MILLION = """## A hundred million cells

Samples of today's size ({per_sample:,} cells) would be {samples:,} shards of {megabytes:.0f} MB,
{terabytes:.1f} TB together. One epoch of `celllm` takes {hours:,.0f} {gpu} hours: {days:.1f} days on a
node of eight, and one node is as far as one pre-training goes. What breaks, in this order:

1. **Planning.** {jobs:,} jobs: at the measured 39 s and 287 MB for 8,145 jobs, Snakemake plans for
   {plan_minutes:.0f} minutes in {plan_gib:.1f} GiB each time, and a scheduler that takes one job a second
   is busy for {submit_days:.1f} days. Samples would have to be prepared in batches, many to a job and to
   a shard.
2. **Shards.** A batch of 512 random cells touches 500 of {samples:,} files. Shards of 100,000 cells,
   1,000 files, mend it.
3. **Lists in memory.** Lengths, labels and the order of an epoch take {lists:.1f} GB in every process,
   the hashes of the leakage report {hashes:.1f} GB.
4. **One node.** For more than an epoch in a few days several nodes are needed: gathering embeddings and
   summing gradients once per step would stay as they are, the launcher starts processes on its own
   machine only.
"""
