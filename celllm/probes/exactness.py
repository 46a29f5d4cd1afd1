"""How far the gradient of divide-and-conquer is from that of end-to-end training, measured on a small model.

The paper's claim (section 3.3.1, appendix A) is that they are the same. In float64, where rounding hides
nothing, both are computed by the code that pre-trains: the encoder with random features, dropout on, all
objectives, and cells of different lengths, so that chunks are padded.
"""

from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from celllm.corpus.expressed import from_csr
from celllm.corpus.tokens import Tokeniser
from celllm.io import write_json
from celllm.model.encoder import Encoder
from celllm.probes.settings import ExactnessSettings
from celllm.settings import as_settings
from celllm.training.distributed import Processes
from celllm.training.masked_batches import Batch
from celllm.training.objectives import MaskedCells, hide_expressions
from celllm.training.settings import ModelRow, PretrainSettings
from celllm.training.trainer import Trainer

SIZE = {"dim": 32, "depth": 2, "heads": 4, "dim_head": 8}


def run_gradient_error(out: str | Path, settings: ExactnessSettings) -> None:
    """Divide-and-conquer against end-to-end: the relative error of the gradient in float64, as a fact.

    Parameters
    ----------
    out
        The JSON file.
    """
    errors = {str(size): gradient_error(settings, size) for size in settings.chunk_sizes}
    facts = {"gradient_relative_error": max(errors.values()), "gradient_relative_error_by_chunk": errors}
    write_json(out, {"contrastive": facts})


def gradient_error(settings: ExactnessSettings, chunk_size: int) -> float:
    """Norm of the difference of the two gradients over the norm of the end-to-end one."""
    chunks = random_chunks(settings, chunk_size)
    expected = gradient("end_to_end", settings, chunks)
    return float((gradient("divide_and_conquer", settings, chunks) - expected).norm() / expected.norm())


def gradient(contrast: str, settings: ExactnessSettings, chunks: list[MaskedCells]) -> Tensor:
    """The gradient of all objectives, flat; every scheme has the same weights and the same dropout."""
    row = as_settings(ModelRow, {"size": SIZE, "contrast": contrast}, "model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        encoder = Encoder(row.encoder_config(settings.n_genes))
        # One token of budget: no pass keeps its graph for want of a second forward, the hard case.
        pretraining = PretrainSettings(precision="float32", token_budget=1)
        trainer = Trainer(row, pretraining, encoder, Processes(0, 1, torch.device("cpu")))
        trainer.model.double()
        trainer.add_gradients(Batch(settings.n_cells, [], chunks, {}))
    return torch.cat([p.grad.flatten() for p in trainer.trained if p.grad is not None])


def random_chunks(settings: ExactnessSettings, chunk_size: int) -> list[MaskedCells]:
    """Random cells with 10 to 90 % of the genes, in chunks of ``chunk_size``; the last may be shorter."""
    rng = np.random.default_rng(settings.seed)
    share = rng.uniform(0.1, 0.9, size=(settings.n_cells, 1))
    shape = settings.n_cells, settings.n_genes
    counts = rng.poisson(3, shape) * (rng.random(shape) < share)
    counts[:, 0] = 1  # no cell is empty
    cells = from_csr(csr_matrix(counts.astype(np.float32)), np.arange(settings.n_genes))
    numbers = rng.integers(2**63, size=settings.n_cells).astype(np.uint64)
    tumour = (np.arange(settings.n_cells) % 2).astype(np.uint8)
    tokeniser = Tokeniser(settings.n_genes)
    rows = np.arange(settings.n_cells)
    chunks = [rows[start : start + chunk_size] for start in range(0, len(rows), chunk_size)]
    return [hide_expressions(tokeniser(cells.take(part)), numbers[part], tumour[part]) for part in chunks]
