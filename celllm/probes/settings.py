"""Settings of what measures an encoder."""

from typing import Any, Literal

from celllm.model.settings import SIZES, AttentionKind
from celllm.settings import Count, Settings, setting


class _Passes(Settings):
    seed: int = setting(0, "of the choice of cells and of all that is random after it", ge=0)
    token_budget: int = setting(8192, "tokens of one pass, padding counted", ge=1, resource=True)
    device: str = setting("auto", "cpu, cuda or auto", resource=True)


class GeometrySettings(_Passes):
    """How the embeddings of unseen cells lie in their space."""

    n_cells: int = setting(512, "random cells of each data set", ge=2)


class EmbeddingMapSettings(_Passes):
    """t-SNE of embeddings, one map for each annotated data set."""

    n_cells: int = setting(5000, "random cells of a data set at most", ge=1)


class InterpretationSettings(_Passes):
    """Appendix C; the paper says neither layer nor average nor clustering."""

    n_cells: int = setting(5000, "random cells of each kind, normal and tumour (paper: 5,000)", ge=2)
    normal_source: str = setting("", "source of the normal cells (paper: panglaodb); empty: any")
    tumour_source: str = setting("", "source of the tumour cells (paper: cancerscem); empty: any")
    n_genes: int = setting(20, "genes of a set (paper: 20)", ge=1)
    layer: Literal["last", "all"] = setting("last", "layer of the attention; all: their mean")
    average: Literal["expressing", "all"] = setting(
        "expressing", "a gene's attention is its mean over the cells that express it, or over all cells"
    )
    min_share: float = setting(0.05, "share of the cells that must express a ranked gene", ge=0, le=1)


class MemorySettings(Settings):
    """Fig. 4: peak memory of a training step, measured on CUDA where there is a device, else accounted."""

    budget_gib: float = setting(40.0, "memory in GiB (paper, section 4.3)", gt=0)
    n_cells: int = setting(256, "batch size at which lengths are stated as facts (paper, section 4.3)", ge=4)
    batch_sizes: tuple[Count, ...] = setting(
        tuple(2**k for k in range(1, 13)), "batch sizes of the curves, each at least 1", min_length=1
    )
    size: dict[str, Any] = setting(SIZES["50m"], "fields of the encoder; those of 50m without it")
    n_genes: int = setting(19_379, "size of the vocabulary (paper)", ge=1)
    attention: tuple[AttentionKind, ...] = setting(
        ("favor", "released"), "attentions to measure; the facts are those of the first", min_length=1
    )
    tracker: Literal["auto", "meta"] = setting(
        "auto", "auto measures on CUDA where there is a device; meta accounts everywhere"
    )


class ExactnessSettings(Settings):
    """Size of the comparison of gradients."""

    n_cells: int = setting(24, "random cells", ge=1)
    n_genes: int = setting(60, "genes", ge=1)
    chunk_sizes: tuple[Count, ...] = setting(
        (1, 5, 24), "lengths of the chunks that the batch is cut into, each at least 1", min_length=1
    )
    seed: int = setting(0, "of cells and weights", ge=0)
