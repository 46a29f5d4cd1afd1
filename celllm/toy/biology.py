"""The made-up biology behind the generated toy data: genes, programmes, cell types, counts.

A cell has an activity in every programme; log expression is linear in the activities,

    log mu_cg = baseline_g + sum_p activity_cp * loading_pg + batch_g,

and counts are negative binomial around a library size. Genes of one programme therefore move together, within
a cell type as well as between types; the toy STRING network joins the same genes.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from celllm.toy.cell_types import (
    CELL_TYPES,
    EVERYDAY,
    MALIGNANT,
    RESPONSES,
    TUMOUR_NEIGHBOUR_SHIFT,
    TUMOUR_SHIFT,
)
from celllm.toy.symbols import NON_CODING, OLD_NAME, PROGRAMMES


def stream(seed: int, name: str) -> np.random.Generator:
    """Random numbers of one source: another source may draw more or fewer without a change here."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


@dataclass(frozen=True)
class Biology:
    """Genes and programmes."""

    symbols: tuple[str, ...]  # approved symbols of protein-coding genes, sorted
    programmes: tuple[str, ...]  # names, the rows of `loadings`
    baseline: np.ndarray  # (genes,): log abundance in a cell where no programme is active
    loadings: np.ndarray  # (programmes, genes): natural-log change of a gene at activity 1

    def members(self, programme: str) -> np.ndarray:
        """Indices of the genes that a programme moves."""
        return np.flatnonzero(self.loadings[self.programmes.index(programme)])

    def activities(self, levels: Mapping[str, float], n: int = 1) -> np.ndarray:
        """Activities (n, programmes) with the same ``levels`` in every row, zero elsewhere."""
        row = np.zeros(len(self.programmes))
        for name, level in levels.items():
            row[self.programmes.index(name)] = level
        return np.tile(row, (n, 1))


_TODAY = {old: new for new, old in OLD_NAME.items()} | {"SELT": "SELENOT"}


def approved(symbol: str) -> str:
    """The symbol of today for one that older tables use."""
    return _TODAY.get(symbol, symbol)


def real_gene_names() -> tuple[str, ...]:
    """The 765 gene names, of about 2016, of the real cells that scanpy ships."""
    import scanpy

    return tuple(scanpy.datasets.pbmc68k_reduced().var_names)


def is_coding(symbol: str) -> bool:
    """Whether a name of :func:`real_gene_names` or of the toy lists is that of a protein-coding gene."""
    clone = symbol.startswith(("RP11-", "RP3-", "CTD-", "AC0", "AL9", "TMBIM4-"))
    return not clone and symbol not in (*NON_CODING, "C6orf48", "KIAA0125")


def build_biology(seed: int) -> Biology:
    """Draw baseline and loadings for all toy genes."""
    rng = stream(seed, "biology")
    inside = {gene for genes in PROGRAMMES.values() for gene in genes}
    symbols = sorted(inside | {approved(name) for name in real_gene_names() if is_coding(name)})
    place = {symbol: i for i, symbol in enumerate(symbols)}
    baseline = rng.normal(-0.7, 1.1, len(symbols))
    loadings = np.zeros((len(PROGRAMMES), len(symbols)))
    # Everyday programmes vary gently; responses change a gene threefold, cell types thirtyfold
    for row, (name, genes) in zip(loadings, PROGRAMMES.items(), strict=True):
        where, n = [place[gene] for gene in genes], len(genes)
        if name in EVERYDAY:
            row[where] = rng.uniform(0.15, 0.45, n)
            baseline[where] = rng.normal(EVERYDAY[name], 0.7, n)
        elif name in RESPONSES:
            row[where] = np.clip(rng.normal(1.1, 0.35, n), 0.3, None)
            baseline[where] = rng.normal(-1.0, 0.8, n)
        else:
            row[where] = np.clip(rng.normal(3.5, 0.6, n), 1.0, None)
            baseline[where] = rng.normal(-2.2, 0.8, n)
    # Two of three genes outside all programmes follow one of them weakly; the others stay alone
    outside = np.flatnonzero(~loadings.any(axis=0))
    followers = rng.choice(outside, size=len(outside) * 2 // 3, replace=False)
    leaders = rng.integers(len(loadings), size=len(followers))
    typical = np.array([row[row > 0].mean() for row in loadings])
    loadings[leaders, followers] = typical[leaders] * rng.uniform(0.3, 0.7, len(followers))
    return Biology(tuple(symbols), tuple(PROGRAMMES), baseline, loadings)


def vary(activities: np.ndarray, biology: Biology, rng: np.random.Generator) -> np.ndarray:
    """Differences between cells of one kind: scaled programmes, drifting responses and everyday ones."""
    spread = np.full(len(biology.programmes), 0.06)
    spread[[biology.programmes.index(name) for name in RESPONSES]] = 0.3
    spread[[biology.programmes.index(name) for name in EVERYDAY]] = 1.0
    scaled = activities * rng.lognormal(-0.03, 0.25, activities.shape)
    return scaled + rng.normal(0.0, 1.0, activities.shape) * spread


def malignant_activities(biology: Biology, cancer: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """Tumour cells: what is left of the tissue plus a share of the tumour programmes that differs by cell."""
    strength = 1.6 * rng.beta(2.0, 2.0, (n, 1))
    levels = biology.activities(MALIGNANT[cancer], n) + strength * biology.activities(TUMOUR_SHIFT, n)
    return vary(levels, biology, rng)


def cell_activities(
    biology: Biology, types: Sequence[str], rng: np.random.Generator, cancer: str | None = None
) -> np.ndarray:
    """Activities (cells, programmes) of cells of the given :data:`CELL_TYPES`.

    In a tumour the type ``Malignant cells`` is that of ``cancer``, and the other cells are changed by it.
    """
    sick = np.array([name == "Malignant cells" for name in types])
    activities = np.zeros((len(types), len(biology.programmes)))
    nearby: np.ndarray | float = 0.0
    if cancer:
        n_sick = int(sick.sum())
        activities[sick] = malignant_activities(biology, cancer, n_sick, rng)
        nearby = biology.activities(TUMOUR_NEIGHBOUR_SHIFT) * rng.beta(2.0, 2.0, (len(types) - n_sick, 1)) * 2
    levels = [biology.activities(CELL_TYPES[name]) for name in types if name != "Malignant cells"]
    activities[~sick] = vary(np.concatenate(levels), biology, rng) + nearby
    return activities


def batch_effect(biology: Biology, rng: np.random.Generator, sd: float = 0.25) -> np.ndarray:
    """Log change of every gene that all cells of a sample share."""
    return rng.normal(0.0, sd, len(biology.symbols))


def draw_counts(
    biology: Biology,
    activities: np.ndarray,
    median: float | np.ndarray,
    rng: np.random.Generator,
    batch: np.ndarray | None = None,
) -> sparse.csr_matrix:
    """Negative binomial counts (cells, genes) of one sample, 8 % of every cell from the sample's soup.

    Parameters
    ----------
    activities
        (cells, programmes).
    median
        Of the log-normal library sizes; one, or one for each cell.
    batch
        Log change of each gene in this sample; without it, a :func:`batch_effect` is drawn.
    """
    depth = median * np.exp(rng.normal(0.0, 0.35, len(activities)))
    batch = batch_effect(biology, rng) if batch is None else batch
    share = np.exp(biology.baseline + batch + activities @ biology.loadings)
    share /= share.sum(axis=1, keepdims=True)
    share = (1 - 0.08) * share + 0.08 * share.mean(axis=0)
    # The gamma's shape of 6: variance = mean + mean² / 6
    rate = depth[:, None] * share * rng.gamma(6.0, 1 / 6.0, share.shape)
    return sparse.csr_matrix(rng.poisson(rate))


def barcodes(n: int, length: int, rng: np.random.Generator, suffix: str = "") -> list[str]:
    """Distinct random DNA barcodes."""
    found: dict[str, None] = {}
    while len(found) < n:
        found["".join(rng.choice(list("ACGT"), length)) + suffix] = None
    return list(found)


def mixture(n: int, shares: Mapping[str, float], rng: np.random.Generator) -> list[str]:
    """``n`` names in random order, in proportion to ``shares``, each at least once."""
    weights = np.array(list(shares.values()))
    numbers = np.maximum(1, np.floor(n * weights / weights.sum()).astype(int))
    numbers[np.argmax(numbers)] += n - numbers.sum()
    return list(rng.permutation(np.repeat(list(shares), numbers)))
