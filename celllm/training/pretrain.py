"""Pre-train one model, in one process or several.

    celllm pretrain --corpus corpus/index.json --genes genes.tsv --gene-embeddings embeddings.safetensors
        --model '{"size": "50m"}' --checkpoints state --out encoder.safetensors --metrics metrics.csv --gpus 8

Killed at any point, the same command resumes from the last checkpoint and, on a CPU, ends with the same bits.
On SIGTERM or SIGUSR1 the last finished step is saved at once and the exit status is 75.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from celllm.cells.genes import Vocabulary
from celllm.corpus.batches import EpochSampler
from celllm.corpus.expressed import Cells, CellsInMemory
from celllm.corpus.shards import Corpus
from celllm.errors import UserError
from celllm.graph.embeddings import digest_of, load_gene_embeddings
from celllm.interruption import EXIT_INTERRUPTED, Interrupted, StopRequest
from celllm.io import sync, write_text
from celllm.model.anisotropy import measure
from celllm.model.embedder import Embedder
from celllm.model.encoder import Encoder, count_parameters
from celllm.model.weights import save_failure
from celllm.training import checkpoints as checkpoint_files
from celllm.training import launch
from celllm.training.attempts import Attempts
from celllm.training.checkpoints import State
from celllm.training.columns import STEPS
from celllm.training.distributed import Processes, joined
from celllm.training.encoder_store import Stored
from celllm.training.events import Events
from celllm.training.masked_batches import Batch, BatchMaker
from celllm.training.model_row import row_tokeniser, training_cells
from celllm.training.progress import Metrics, Progress, peak_mib
from celllm.training.randomness import Stream, seed_of
from celllm.training.schedule import RESTART_EPOCHS, cosine, cosine_restarts
from celllm.training.settings import ModelRow, PretrainSettings
from celllm.training.throughput import peak_flops
from celllm.training.trainer import NotFinite, Trainer

log = logging.getLogger(__name__)

LASTING = (0, 2, EXIT_INTERRUPTED)
"""Exit statuses of a training that another attempt would not change: done, bad input, stopped on request."""
KILLED = (
    "killed from outside in several attempts, as when the machine is out of memory; ask for more (mem_mb in "
    "the profile) or lower token_budget, and with --forcerun it goes on from its last checkpoint"
)


def run_pretrain(
    corpus: str | Path,
    genes: str | Path,
    model: ModelRow,
    settings: PretrainSettings,
    checkpoints: str | Path,
    out: str | Path,
    metrics: str | Path,
    gene_embeddings: str | Path | None = None,
    gpus: int = 0,
    processes: int = 0,
    attempt: int = 1,
    attempts: int = 0,
    store: str | Path | None = None,
) -> int:
    """Corpus -> pre-trained encoder; resumes from its last checkpoint.

    Parameters
    ----------
    corpus
        ``index.json`` of a corpus.
    genes
        The vocabulary, ``genes.tsv``.
    model
        A row of config/models.yaml with its size spelled out, as JSON; see :class:`ModelRow`.
    settings
        JSON text, or a JSON or YAML file; see :class:`PretrainSettings`.
    checkpoints
        Folder of the checkpoints. One run holds it at a time; what stands there is gone on from.
    out
        The encoder, ``.safetensors``; complete or absent.
    metrics
        CSV, one row per step; see :data:`celllm.training.columns.STEPS`.
    gene_embeddings
        Frozen gene embeddings; without them the gene table is trained.
    gpus
        GPUs on this machine to train on, one process each.
    processes
        Their number where it is not that of the GPUs; 0: it is.
    attempt, attempts
        Number of times that a workflow has begun this training, this time included, and how often it does.
        After the first, what failed by its input is not tried again. A training that fails in a step, or for
        the last time, leaves the reason in the place of its encoder: the rows of the encoder fail with it,
        and the tables are made. 0 attempts: no workflow, and any failure is an error.
    store
        Folder of trained encoders, shared by all runs: what was made from the same is taken from there
        (:mod:`celllm.training.encoder_store`).

    Returns
    -------
    0, or :data:`EXIT_INTERRUPTED` when a signal asked to stop; the steps finished by then are on disk.

    Raises
    ------
    UserError
        For bad input, a checkpoint of another configuration, a folder in use, a loss that is not finite, and
        too little memory.
    """
    given = dict(locals())
    folder, is_last = Path(checkpoints), 0 < attempts <= attempt
    try:
        n = launch.n_processes(gpus, processes)
    except UserError:
        with Attempts(folder, attempt):
            raise
    if n > 1 and not launch.is_worker():
        status = launch.start(n, "pretrain", given | {"gpus": None, "processes": None})
        if status in LASTING or not is_last:
            return status
        return _give_up(given, f"one of {n} processes failed or was killed; the log says more")
    run = starts = None
    with ExitStack() as stack:
        if launch.is_first():
            stack.enter_context(checkpoint_files.exclusive(folder))
            starts = stack.enter_context(Attempts(folder, attempt))
            if is_last and len(starts.kills()) > 1:
                return _give_up(given, KILLED)
        group = stack.enter_context(joined(settings.device))
        stop = stack.enter_context(StopRequest(follower=not group.is_first))
        try:
            with stop.at_once():
                run = prepare(model, settings, group, corpus, genes, gene_embeddings, folder)
            run.attempts = starts
            finished = _finish(run, stop, store, out, metrics)
        except Interrupted as asked:
            log.warning("%s: stopped before the first step; the same command resumes", asked)
            finished = False
        except Exception as error:
            # A slip in the input stops at once; a step that fails would fail again; a fault may have passed.
            for_good = run is not None and attempts > 0 if isinstance(error, UserError) else is_last
            if not for_good:
                raise
            log.exception("%s: its training failed", model.name)
            return _give_up(given, str(error) or type(error).__name__) if starts else 0
        if not finished and starts:
            starts.interrupted()
    return 0 if finished else EXIT_INTERRUPTED


def _finish(
    run: "Run", stop: StopRequest, store: str | Path | None, out: str | Path, metrics: str | Path
) -> bool:
    """Write the encoder, trained now or before; False when a signal asked to stop."""
    group, stored = run.processes, None
    if store is not None:
        numbers = [group.device.type, str(run.trainer.precision)]
        stored = Stored.of(store, name=run.row.name, numbers=numbers, **run.config)
    if stored and group.any(group.is_first and stored.take(run.row.model_dump(), out, metrics)):
        return True
    if run.attempts:
        run.attempts.started(run.step)
    if not train(run, stop):
        return False
    if group.is_first:
        with Metrics(run.metrics, run.step) as table:
            table.copy(metrics)
        run.embedder.write(out)
        if stored:
            stored.keep(out, metrics)
        log.info("%s: written after %d steps", out, run.step)
    return True


def _give_up(given: Mapping[str, Any], reason: str) -> int:
    """Write the reason in the place of the encoder, and the steps so far; rows that need it fail with it."""
    found = Path(given["checkpoints"], "metrics.csv")
    text = found.read_text(encoding="utf-8") if found.is_file() else ",".join(STEPS) + "\n"
    write_text(given["metrics"], text)
    save_failure(given["out"], reason)
    log.warning("%s: not trained; the reason is there, and the run goes on without it", given["out"])
    return 0


@dataclass
class Run:
    """A run as it stands: everything that a step needs and changes."""

    settings: PretrainSettings
    row: ModelRow
    processes: Processes
    trainer: Trainer
    batches: BatchMaker
    config: dict[str, Any]  # what a checkpoint must share to be gone on from
    folder: Path  # of the checkpoints
    n_steps: int  # in all
    held_out: Cells  # not trained on
    step: int = 0  # done
    peak_flops: float | None = None  # FLOP/s of a large matrix product on all processes together
    attempts: Attempts | None = None  # this start and those before it, in the first process

    def __post_init__(self) -> None:
        # Behind the batches used up; the sampler itself is ahead.
        self.sampler = self.batches.sampler.state()
        self.saved_at = time.monotonic()

    @property
    def metrics(self) -> Path:
        """The table of all steps while the run lasts."""
        return self.folder / "metrics.csv"

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        peak = self.settings.learning_rate
        if self.settings.schedule == "cosine_restarts":
            return cosine_restarts(RESTART_EPOCHS * self.step // self.n_steps, peak)
        return cosine(self.step, self.n_steps, peak, min(self.settings.warmup_steps, self.n_steps // 10))

    def save(self, wait: bool = True) -> None:
        """Write a checkpoint of the last finished step (the first process) while the others wait."""
        if self.processes.is_first and self.step not in checkpoint_files.steps(self.folder):
            sync(self.metrics)  # before the checkpoint: after a power cut no step may lack its line
            values = {
                "sampler": self.sampler,
                "scaler": self.trainer.scaler.state_dict(),
                "finished": self.step == self.n_steps,
            }
            state = State(self.step, self.trainer.tensors(), values)
            path = checkpoint_files.save(self.folder, state, self.config)
            log.info("%s: checkpoint written", path)
        if self.attempts:
            self.attempts.reached(self.step)
        if wait:
            self.processes.wait()
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        """Go back to the last checkpoint, if there is one."""
        state = checkpoint_files.load(self.folder, self.config)
        if state is None:
            return
        self.step = state.step
        self.sampler = state.values["sampler"]
        self.batches.sampler.load(self.sampler)
        self.trainer.load(state.tensors, state.values["scaler"])
        log.info("resuming after step %d", self.step)

    def is_due(self) -> bool:
        """Whether the time or the step of a checkpoint has come, for all processes alike."""
        every, minutes = self.settings.checkpoint_steps, self.settings.checkpoint_minutes
        by_step = self.step == self.n_steps or (every is not None and self.step % every == 0)
        by_time = self.processes.any(time.monotonic() - self.saved_at > 60 * minutes)
        return by_step or by_time

    def geometry(self) -> dict[str, float]:
        """How the embeddings of the held-out cells lie, where it is the step to measure that."""
        every = self.settings.geometry_steps
        if every is None or self.step % every or not self.processes.is_first:
            return {}
        of_both = measure(self.embedder, self.held_out, self.settings.seed, self.settings.token_budget)
        found = of_both["mean"]
        told = "  ".join(f"{name} {value:.3f}" for name, value in found.items())
        log.info("step %d, %d held-out cells: %s", self.step, self.held_out.n_cells, told)
        return found

    @property
    def embedder(self) -> Embedder:
        """The encoder as it stands, with its tokeniser and what its file will say of it."""
        meta = {
            "model": self.row.model_dump(),
            "settings": self.settings.science(),
            "steps": self.step,
            **{name: self.config[name] for name in ("genes_sha256", "corpus", "gene_embeddings_sha256")},
        }
        return Embedder(self.trainer.model.encoder, self.batches.tokeniser, meta)


def prepare(
    row: ModelRow,
    settings: PretrainSettings,
    processes: Processes,
    corpus: str | Path,
    genes: str | Path,
    gene_embeddings: str | Path | None,
    folder: Path,
) -> Run:
    """Open the data, build the model and go back to the last checkpoint, if there is one."""
    vocabulary = Vocabulary.read(genes)
    cells = Corpus.open(corpus, vocabulary.sha256)
    table = load_gene_embeddings(gene_embeddings, vocabulary.sha256) if gene_embeddings else None
    rows, held_out = hold_out(training_cells(row, cells), settings)
    sampler = EpochSampler(cells.n_cells, settings.batch_size, settings.seed, rows)
    if sampler.batch_size < processes.size:
        raise UserError(f"batch_size: {sampler.batch_size} cells for {processes.size} processes; start fewer")
    tokeniser = row_tokeniser(row, len(vocabulary), cells, table)
    batches = BatchMaker(cells, tokeniser, sampler, settings, processes.rank, processes.size)
    torch.manual_seed(seed_of(settings.seed, Stream.INITIAL))
    trainer = Trainer(row, settings, Encoder(row.encoder_config(len(vocabulary)), table), processes)
    # Of all shards in their order, and of which of their cells are in.
    digest = hashlib.sha256("\n".join(entry.sha256 for entry in cells.entries).encode())
    digest.update(cells.lengths.tobytes() + cells.tumour.tobytes())
    config = {
        "model": row.science(),
        "settings": settings.science(),
        "genes_sha256": vocabulary.sha256,
        "corpus": {"n_cells": cells.n_cells, "sha256": digest.hexdigest()},
        "gene_embeddings_sha256": digest_of(table) if table is not None else None,
    }
    n_steps = settings.max_steps or settings.epochs * sampler.batches_per_epoch
    watched = CellsInMemory(cells.take(held_out))
    run = Run(settings, row, processes, trainer, batches, config, folder, n_steps, watched)
    _announce(run)
    run.resume()
    if settings.measure_peak:  # all processes at once, as they will compute
        processes.wait()
        own = peak_flops(processes.device, trainer.precision)
        run.peak_flops = processes.sum({"peak": own})["peak"]
        log.info("a large matrix product: %.4g GFLOP/s", run.peak_flops / 1e9)
    return run


def hold_out(
    rows: NDArray[np.int64], settings: PretrainSettings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut ``rows`` of the corpus into those to train on and ``held_out_cells`` random ones."""
    n = settings.held_out_cells
    if n >= len(rows):
        raise UserError(f"settings.held_out_cells: {n} of {len(rows)} cells leave none to train on")
    rng = np.random.default_rng(seed_of(settings.seed, Stream.HELD_OUT))
    held_out = rng.choice(rows, n, replace=False)
    return rows[~np.isin(rows, held_out)], held_out


def _announce(run: Run) -> None:
    total, trained = count_parameters(run.trainer.model.encoder)
    sampler, processes = run.batches.sampler, run.processes
    log.info(
        "%s: encoder of %.1f M parameters (%.1f M trained), contrast %s; %d cells, %d steps of %d cells, "
        "%.1f epochs; %d process(es) of %d thread(s) on %s in %s",
        *(run.row.name, total / 1e6, trained / 1e6, run.row.contrast, len(sampler.rows), run.n_steps),
        *(sampler.batch_size, run.n_steps / sampler.batches_per_epoch, processes.size),
        *(torch.get_num_threads(), processes.device.type),
        str(run.trainer.precision).removeprefix("torch."),
    )


def train(run: Run, stop: StopRequest) -> bool:
    """Do the steps that are left; return False when a signal asked to stop before the last."""
    with ExitStack() as stack:
        tables: list[Metrics | Events] = []
        if run.processes.is_first:
            tables.append(stack.enter_context(Metrics(run.metrics, run.step)))
            tables.append(stack.enter_context(Events(run.folder / "events", run.step)))
        silent = not run.processes.is_first
        progress = stack.enter_context(Progress(run.n_steps, run.step, run.settings.log_steps, silent))
        # A thread makes the next batch while this one is trained on.
        maker = stack.enter_context(ThreadPoolExecutor(1))
        try:
            _steps(run, stop, maker, [*tables, progress])
        except Interrupted as asked:
            run.save(wait=False)
            log.warning("%s: stopped after step %d; the same command resumes", asked, run.step)
            return False
        except RuntimeError:
            if stop.signal is None:
                raise
            return False  # the first process has left, and its connections with it
    return True


def _steps(
    run: Run, stop: StopRequest, maker: ThreadPoolExecutor, reports: Sequence[Metrics | Events | Progress]
) -> None:
    coming = maker.submit(run.batches.make, run.step)
    while run.step < run.n_steps:
        began, flops = time.monotonic(), run.trainer.flops
        rate = run.rate
        with stop.at_once():
            batch = coming.result()
            waited = time.monotonic() - began
            if run.step + 1 < run.n_steps:
                coming = maker.submit(run.batches.make, run.step + 1)
            with _told_in_one_line(run, batch):
                losses = run.trainer.gradients(batch, run.step)
        with _told_in_one_line(run, batch):
            losses |= run.trainer.update(batch, rate)
        run.step, run.sampler = run.step + 1, batch.sampler
        seconds = time.monotonic() - began
        own = {"tokens": float(batch.n_tokens), "flops": float(run.trainer.flops - flops)}
        sums = run.processes.sum(own)
        n_tokens, speed = int(sums["tokens"]), sums["flops"] / seconds
        row = {
            "step": run.step,
            "epoch": batch.sampler["epoch"],
            "n_cells": batch.n_cells,
            "n_tokens": n_tokens,
            "n_chunks": len(batch.chunks),
            **losses,
            "learning_rate": rate,
            "waiting_seconds": waited,
            "seconds": seconds,
            "cells_per_second": batch.n_cells / seconds,
            "tokens_per_second": n_tokens / seconds,
            "peak_mib": peak_mib(run.processes.device),
            "flops_per_second": speed,
            **({"utilisation": speed / run.peak_flops} if run.peak_flops else {}),
            **run.geometry(),
        }
        for report in reports:
            report.add(row)
        if run.is_due():
            run.save()


@contextmanager
def _told_in_one_line(run: Run, batch: Batch) -> Iterator[None]:
    """Turn what can go wrong within a step into one line that says what to do."""
    try:
        yield
    except NotFinite as error:
        last = max(checkpoint_files.steps(run.folder), default=None)
        kept = "no checkpoint yet" if last is None else f"the checkpoint of step {last} stays"
        where = " (in no cell by itself)"
        if rows := error.rows:
            samples = run.batches.corpus.samples(rows)
            named = ", ".join(f"{row} ({sample})" for row, sample in zip(rows[:8], samples, strict=False))
            where = f" at {len(rows)} cell(s), corpus rows {named}" + (" ..." if len(rows) > 8 else "")
        raise UserError(
            f"step {run.step + 1}: {error}{where}; {kept}; lower the learning rate, or leave these cells out"
        ) from error
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not (known or "can't allocate memory" in str(error) or "not enough memory" in str(error)):
            raise
        longest, chunk = max(chunk.mask.shape[1] for chunk in batch.chunks), batch.largest
        advice = f"one cell of {longest} tokens does not fit; set gradient_checkpointing or less max_length"
        if longest < chunk:
            advice = f"try settings.token_budget {max(longest, chunk // 2)} (chunks of {chunk} tokens)"
        raise UserError(f"step {run.step + 1}: out of memory; {advice}") from error
