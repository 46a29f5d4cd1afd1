"""Options of the readers: which cells of a data set stay and what they are called."""

from typing import Literal

from celllm.settings import Count, Settings, setting

GeneFilter = Literal["vocabulary", "all", "list"]


# Of a pre-training source: "all", "mirrored", a number of them, or their names.
Samples = Count | str | tuple[str, ...]


class CellOptions(Settings):
    """Which cells of a data set stay; every reader of cells has these options."""

    min_genes: int = setting(0, "fewest expressed genes of a kept cell", ge=0)
    filter_genes: GeneFilter = setting(
        "vocabulary",
        "genes that min_genes counts: vocabulary (after mapping to approved symbols), all of the file, list "
        "(the file gene_list of the data set)",
    )
    drop_labels: tuple[str, ...] = setting((), "classes left out")
    max_unknown: float = setting(
        0.2, "largest share of the counts under names of no gene of the vocabulary", ge=0, le=1
    )
    allow_empty: bool = setting(False, "write the data set even if no cell is kept; otherwise an error")

    @property
    def fewest_genes(self) -> int:
        """The gene floor in force; 0 when the cells are chosen in another way."""
        return self.min_genes


class BaronOptions(CellOptions):
    """The paper leaves the seven T cells out."""

    drop_labels: tuple[str, ...] = setting(("t_cell",), "classes left out")


class CancerscemOptions(CellOptions):
    """Which samples, and what their cells are called."""

    samples: Samples = setting(
        "all", "all, mirrored (those in the mirror), so many (evenly spread), or a list of names"
    )
    projects: int | None = setting(
        28, "the first projects only, by number; 28: version 1, as the paper; null: all", ge=1
    )
    label: Literal["sample_type", "all_tumour"] = setting(
        "sample_type", "cells of tumour samples are tumour cells, or all are, as the paper implies"
    )
    blood_samples: Literal["normal", "tumour", "drop"] = setting(
        "normal", "what blood samples are under sample_type"
    )
    min_genes: int = setting(200, "fewest expressed genes of a kept cell; the site's own filter", ge=0)
    filter_genes: GeneFilter = setting("all", "genes that min_genes counts: vocabulary, all, list")
    max_unknown: float = setting(0.5, "as for all readers; the files hold non-coding genes too", ge=0, le=1)


class CcleOptions(CellOptions):
    """What the prepared expression of cell lines holds; the paper does not say."""

    values: Literal["tpm", "log2_tpm"] = setting(
        "tpm", "tpm: 2^x - 1, taken as counts by the tokens; log2_tpm: as the file has it"
    )


class Gse117872Options(CellOptions):
    """What cells are called that were taken off the drug."""

    holiday: Literal["sensitive", "resistant", "drop"] = setting(
        "sensitive", "cells on a drug holiday (scDEAL: sensitive); the paper has all 1,302 cells"
    )


class H5adOptions(CellOptions):
    """Where labels, samples, counts and gene names stand in a file of one's own."""

    label_key: str | None = setting(None, "column of obs with the classes; none for pre-training")
    sample_key: str | None = setting(None, "column of obs with donor or sample; one sample without")
    layer: str | None = setting(None, "X, raw.X or a layer with the raw counts; found out without")
    gene_key: str | None = setting(None, "column of var with gene symbols or Ensembl ids; the index without")
    samples: Samples = setting("all", "for pre-training: all, mirrored, so many, or a list of names")


class PanglaodbOptions(CellOptions):
    """Which samples and which barcodes."""

    samples: Samples = setting(
        "all",
        "all human samples, mirrored (those in the mirror), so many (evenly spread), or a list of names",
    )
    tumour_samples: Literal["keep", "drop", "as_tumour"] = setting(
        "keep", "samples flagged as tumours: keep (all normal, as the paper), drop, as_tumour"
    )
    cells: Literal["clusters", "min_genes"] = setting(
        "clusters", "the barcodes that PanglaoDB has put into clusters, or every one with min_genes genes"
    )
    min_genes: int = setting(200, "fewest expressed genes, with cells: min_genes", ge=0)
    filter_genes: GeneFilter = setting("all", "genes that min_genes counts: vocabulary, all, list")
    max_unknown: float = setting(0.5, "as for all readers; the files hold non-coding genes too", ge=0, le=1)

    @property
    def fewest_genes(self) -> int:
        """No gene floor on top of PanglaoDB's own choice of cells."""
        return self.min_genes if self.cells == "min_genes" else 0


class Zheng68kOptions(CellOptions):
    """The paper's 68,450 of 68,579 cells have 200 of scBERT's 16,906 genes (``filter_genes: list``)."""

    min_genes: int = setting(200, "fewest expressed genes of a kept cell", ge=0)


class GdscOptions(Settings):
    """Which responses."""

    tcga_label: bool = setting(False, "only lines of DeepCDR's TCGA cancer types (DeepCDR layout only)")
    deduplicate: bool = setting(
        False, "one row, the mean, for a drug that was screened twice on a line; the paper kept both"
    )


class NoOptions(Settings):
    """Of a data set whose reader has none."""


# Data set -> options of its reader.
OPTIONS: dict[str, type[Settings]] = {
    "panglaodb": PanglaodbOptions,
    "cancerscem": CancerscemOptions,
    "zheng68k": Zheng68kOptions,
    "baron": BaronOptions,
    "gse149383": CellOptions,
    "gse117872": Gse117872Options,
    "ccle": CcleOptions,
    "gdsc": GdscOptions,
    "gdsc2": GdscOptions,
}
