"""Toy pancreas in the layout of GSE84133 (Baron et al. 2016)."""

from collections.abc import Sequence

import numpy as np

from celllm.toy.biology import Biology, barcodes, cell_activities, draw_counts, stream
from celllm.toy.packing import ToyFile, gzipped, table, tarred
from celllm.toy.symbols import OLD_NAME

CLASSES = {  # label of the original: (cell type, cells in the toy data)
    "beta": ("Beta cells", 92),
    "alpha": ("Alpha cells", 80),
    "ductal": ("Ductal cells", 48),
    "acinar": ("Acinar cells", 42),
    "delta": ("Delta cells", 30),
    "activated_stellate": ("Activated stellate cells", 20),
    "gamma": ("Gamma cells", 16),
    "endothelial": ("Endothelial cells", 16),
    "quiescent_stellate": ("Quiescent stellate cells", 13),
    "macrophage": ("Macrophages", 10),
    "mast": ("Mast cells", 8),
    "epsilon": ("Epsilon cells", 7),
    "schwann": ("Schwann cells", 6),
}
DONORS = {  # share of the cells
    "GSM2230757_human1": 0.3,
    "GSM2230758_human2": 0.2,
    "GSM2230759_human3": 0.35,
    "GSM2230760_human4": 0.15,
}


def baron_files(biology: Biology, seed: int) -> list[ToyFile]:
    """The archive of four human and two mouse members."""
    rng = stream(seed, "baron")
    labels = rng.permutation(np.repeat(list(CLASSES), [n for _, n in CLASSES.values()]))
    donors = rng.choice(list(DONORS), size=len(labels), p=list(DONORS.values()))
    members = {}
    for donor in DONORS:
        mine = labels[donors == donor].tolist()
        mine += ["t_cell"] if donor.endswith(("human1", "human3")) else []
        types = ["CD4 T cells" if label == "t_cell" else CLASSES[label][0] for label in mine]
        counts = draw_counts(biology, cell_activities(biology, types, rng), 1500, rng).toarray()
        symbols = [OLD_NAME.get(symbol, symbol) for symbol in biology.symbols]
        # Genes that are listed under two names at once: the reader has to sum them
        for symbol, second in {"PKM": "PKM2", "SEPTIN7": "CDC10"}.items():
            column = biology.symbols.index(symbol)
            part = rng.binomial(counts[:, column], 0.5)
            counts[:, column] -= part
            counts, symbols = np.column_stack([counts, part]), [*symbols, second]
        order = np.argsort(symbols)
        members[donor] = _member(donor, mine, [symbols[i] for i in order], counts[:, order], rng)
    for mouse in ("GSM2230761_mouse1", "GSM2230762_mouse2"):  # noise, which the reader has to pass over
        symbols = [symbol.capitalize() for symbol in biology.symbols[:100]]
        members[mouse] = _member(mouse, ["beta"] * 5, symbols, rng.poisson(1.5, (5, len(symbols))), rng)
    archive = tarred({f"{sample}_umifm_counts.csv.gz": content for sample, content in members.items()})
    return [ToyFile("baron/GSE84133_RAW.tar", archive, "GEO GSE84133, supplementary archive")]


def _member(
    sample: str, labels: Sequence[str], symbols: Sequence[str], counts: np.ndarray, rng: np.random.Generator
) -> bytes:
    donor = sample.split("_")[1]
    first = barcodes(len(labels), 11, rng)
    second = barcodes(len(labels), 8, rng)
    rows = [
        [f"{donor}_lib1.final_cell_{i + 1:04d}", f"{first[i]}-{second[i]}", label, *counts[i].tolist()]
        for i, label in enumerate(labels)
    ]
    return gzipped(table([["", "barcode", "assigned_cluster", *symbols], *rows], ","))
