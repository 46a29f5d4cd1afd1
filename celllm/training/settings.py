"""Settings of pre-training, of fine-tuning and of a model's row.

"Paper: not given" marks a value of ours; "Table F.1" and "released" say where the others come from.
"""

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import create_model, model_validator

from celllm.corpus.settings import TokenSettings
from celllm.errors import UserError
from celllm.model.settings import (
    SIZES,
    Activation,
    AttentionKind,
    ClsVector,
    EncoderConfig,
    PoolingActivation,
)
from celllm.settings import Count, Settings, as_settings, setting, unknown, wrong
from celllm.training.columns import OBJECTIVES

Contrast = Literal["divide_and_conquer", "end_to_end", "moco", "none"]
ContrastOn = Literal["pooled", "cls", "mean"]
ClassWeights = Literal["released", "balanced", "none"]


if TYPE_CHECKING:
    _Weights = Settings
else:  # mlm_weight ...
    _Weights = create_model(
        "_Weights",
        __base__=Settings,
        **{
            objective.weight: (float, setting(1.0, f"of {objective.title} (paper: no weights given)", gt=0))
            for objective in OBJECTIVES
        },
    )


class PretrainSettings(_Weights):
    """Settings of pre-training.

    Both views of a cell hide the same tokens, so that dropout alone distinguishes them, and masked
    expressions and tumour/normal are means over both views. The paper says nothing about either.
    """

    # The run
    batch_size: int = setting(512, "cells that one contrast sees (paper, Table F.1; section 4.3: 256)", ge=1)
    epochs: int = setting(5, "passes over the corpus (paper: not given)", ge=1)
    max_steps: int | None = setting(None, "optimiser steps in place of epochs", ge=1)
    seed: int = setting(0, "of weights, order, masks and dropout", ge=0)
    held_out_cells: int = setting(
        0, "cells that are not trained on, to watch their embeddings (paper: none)", ge=0
    )

    # The optimiser, Adam with cosine annealing (paper, Table F.1)
    learning_rate: float = setting(1e-4, "of Adam, at its peak (paper, Table F.1)", gt=0)
    schedule: Literal["cosine", "cosine_restarts"] = setting(
        "cosine",
        "cosine annealing (paper, Table F.1), or the restarts of scBERT's 100 epochs, stretched over the run",
    )
    weight_decay: float = setting(0.0, "of Adam (paper, Table F.1)", ge=0)
    warmup_steps: int = setting(100, "steps of warm-up, at most a tenth of the run (paper: not given)", ge=0)
    adam_beta1: float = setting(0.9, "Adam's default (paper: not given)", ge=0, le=1)
    adam_beta2: float = setting(0.999, "Adam's default (paper: not given)", ge=0, le=1)
    gradient_clip: float = setting(
        1.0, "largest norm of the gradient; 0: none (paper: not given; scBERT's code: 100)", ge=0
    )

    # The objectives
    mask_rate: float = setting(0.15, "share of masked tokens (paper: not given; scBERT's)", gt=0, le=1)
    replace_rate: float = setting(
        0.9, "masked tokens that become [MASK] (paper: not given; scBERT's)", ge=0, le=1
    )
    temperature: float = setting(0.05, "of the contrast (paper: not given; SimCSE's)", gt=0)

    # Rows with contrast: moco
    queue_length: int = setting(65536, "keys in MoCo's queue (paper: not given; He et al. 2020)", ge=1)
    momentum: float = setting(0.999, "of MoCo's key encoder (paper: not given; He et al. 2020)", ge=0, le=1)

    # Numbers
    feature_redraw_steps: int = setting(
        1000, "steps between random features; 0: never (paper: not given; performer-pytorch's)", ge=0
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "of the products; auto: bfloat16 where in hardware"
    )

    # Resources: none of these changes what is learnt
    token_budget: int = setting(8192, "tokens with a graph in memory, padding counted", ge=1, resource=True)
    gradient_checkpointing: bool = setting(
        False, "keep less of each layer and compute it twice", resource=True
    )
    compile: bool = setting(False, "torch.compile: minutes at the start, for long runs", resource=True)
    device: str = setting("auto", "cpu, cuda or auto", resource=True)
    checkpoint_minutes: float = setting(10.0, "minutes between checkpoints", ge=0, resource=True)
    checkpoint_steps: int | None = setting(None, "steps between checkpoints as well", ge=1, resource=True)
    geometry_steps: int | None = setting(
        None, "steps between measures of held_out_cells; null: never", ge=1, resource=True
    )
    log_steps: int = setting(10, "steps from line to line in the log", ge=1, resource=True)
    measure_peak: bool = setting(True, "half a second at the start, for the utilisation", resource=True)

    def weight(self, objective: str) -> float:
        """Of an objective in the sum of all."""
        return float(getattr(self, f"{objective}_weight"))

    @model_validator(mode="after")
    def _cells_to_measure(self) -> Self:
        if self.geometry_steps and self.held_out_cells < 2:
            raise wrong("geometry_steps", "null, or held_out_cells of 2 or more", self.geometry_steps)
        return self


class _FrozenSettings(Settings):
    """Time and memory of the frozen layers. Only a bfloat16 store changes a number, in its third digit."""

    store_mib: int = setting(
        4096, "memory for the output of the frozen layers, on the device; 0: none", ge=0, resource=True
    )
    spill_mib: int = setting(
        65536,
        "disk for it where that is too small, in TMPDIR while the job lasts; beyond it, cells are computed "
        "again in every epoch; 0: none",
        ge=0,
        resource=True,
    )
    store_dtype: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "of that output; auto: float32 up to 8 GiB of it, bfloat16 above"
    )
    cache: str = setting("", "folder that keeps that output from run to run; empty: none", resource=True)
    cache_mib: int = setting(
        20480, "size of that folder at most; what was used longest ago makes room", ge=0, resource=True
    )
    token_budget: int = setting(
        0, "tokens of one pass, padding included; 0: what suits the device", ge=0, resource=True
    )


class FinetuneSettings(_FrozenSettings):
    """Settings of fine-tuning for the labels of cells."""

    epochs: int = setting(100, "epochs at most (paper: not given; released: 100)", ge=1)
    patience: int = setting(10, "epochs without a better selection score (paper: not given; released: 10)")
    select_by: Literal["macro_f1", "accuracy"] = setting(
        "macro_f1", "metric that chooses the epoch (paper: not given; released: accuracy)"
    )
    batch_size: int = setting(32, "cells of a batch (Table F.1)", ge=1)
    accumulation: int = setting(8, "batches of one optimiser step (Table F.1)", ge=1)
    learning_rate: float = setting(1e-4, "of Adam, at its peak (Table F.1)", gt=0)
    schedule: Literal["constant", "cosine_restarts"] = setting(
        "constant", "of the rate (paper: not given; released: constant; scBERT's code: restarts by epoch)"
    )
    weight_decay: float = setting(1e-4, "of Adam (Table F.1; released: 0)", ge=0)
    dropout: float = setting(
        0.1, "of the head (Table F.1; released: 0); the trained layers keep that of pre-training", ge=0, lt=1
    )
    pooling_activation: PoolingActivation = setting(
        "relu", "between the gene convolution and the head (paper: not given; released and scBERT: relu)"
    )
    head: tuple[Count, ...] = setting((512, 128), "feed-forward widths before the classes (Table F.1)")
    activation: Activation = setting("relu", "of the head (Table F.1)")
    class_weights: ClassWeights = setting(
        "released", "released: (1 - share of the class)^2 (paper: not given)"
    )
    trainable_layers: int = setting(
        1, "upper layers that are trained (released: 1); 0: only the head, -1: all layers", ge=-1
    )
    frozen_top: int = setting(0, "layers above them that stay as they are (scBERT's released code: 1)", ge=0)
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "of the products; auto: bfloat16 where in hardware"
    )


class RegressionSettings(Settings):
    """How a model of pairs of a cell line and a drug is trained."""

    epochs: int = setting(300, "epochs at most (paper: not given; released: 300)", ge=1)
    patience: int = setting(
        10, "epochs without a better selection score (paper: not given; released: 10)", ge=1
    )
    select_by: Literal["rmse", "pearson"] = setting(
        "rmse", "metric that chooses the epoch (paper: not given; released: rmse)"
    )
    batch_size: int = setting(16, "pairs of one optimiser step (Table F.1; released: 128)", ge=2)
    learning_rate: float = setting(1e-4, "of Adam, constant (Table F.1)", gt=0)
    weight_decay: float = setting(0.0, "of Adam (Table F.1)", ge=0)
    pairs_per_epoch: int = setting(
        0, "an epoch ends after as many batches, others each time, as hold these pairs; 0: all pairs", ge=0
    )
    lines_per_batch: int = setting(
        0, "cell lines that share a batch; 0: its pairs are of any line, as released", ge=0
    )
    drugs_per_batch: int = setting(0, "the same for drugs; one of the two at most", ge=0)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.lines_per_batch and self.drugs_per_batch:
            raise wrong("drugs_per_batch", "0 with lines_per_batch", self.drugs_per_batch)
        return self


class TgdrpSettings(RegressionSettings):
    """Settings of TGDRP (Zhu et al. 2022), on which the released code puts every cell encoder."""

    dropout: float = setting(0.2, "of all that stands on the encoder of cells (Table F.1)", ge=0, lt=1)
    cell_layers: tuple[Count, ...] = setting(
        (1024, 256), "with ReLU; the last is the cell vector (Table F.1)", min_length=1
    )
    drug_layers: int = setting(3, "GIN layers (released, as TGDRP)", ge=1)
    drug_width: int = setting(128, "of a GIN layer (released, as TGDRP)", ge=1)
    drug_size: int = setting(256, "drug vector (Table F.1)", ge=1)
    regression_layers: tuple[Count, ...] = setting(
        (512, 512), "widths before the response (Table F.1)", min_length=1
    )
    activation: Activation = setting("elu", "of the regression (Table F.1)")


class ResponseSettings(_FrozenSettings, TgdrpSettings):
    """Settings of drug response with an encoder; its trained layers keep the dropout of pre-training."""

    line_bins: Literal["log2_tpm", "normalised"] = setting(
        "log2_tpm",
        "bins of a cell line: floor(log2(TPM + 1)), at most 5, as the released code floors whatever it is "
        "given; or TPM normalised to 10^4 and binned as the counts of a cell (paper: not given)",
    )
    pooling_activation: PoolingActivation = setting(
        "none", "between the gene convolution and the cell layers (paper: not given; released: none)"
    )
    trainable_layers: int = setting(1, "upper layers that are trained (released: 1); 0: none, -1: all", ge=-1)
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", "of the encoder; auto: bfloat16 where in hardware"
    )
    # 561 lines of 6,000 genes at 512 take 6.4 GiB
    store_mib: int = setting(
        8192,
        "for the output of the frozen layers; lines beyond it are computed again; 0: none",
        ge=0,
        resource=True,
    )


class ModelRow(Settings):
    """A row of config/models.yaml as training reads it: the encoder, its cells, tokens and objectives.

    Its last fields name and print the model and have no part in the training.
    """

    size: dict[str, Any] | str = setting(description="fields of EncoderConfig, or a name of SIZES")
    contrast: Contrast = setting("divide_and_conquer", "how the contrast of the batch is computed")
    contrast_on: ContrastOn = setting(
        "pooled",
        "vectors compared: gene pooling and a linear layer, [CLS], or the mean over genes",
    )
    temperature: float | None = setting(None, "of the contrast; null: that of pretraining.settings", gt=0)
    views: Literal[1, 2] | None = setting(
        None, "dropout passes of a cell in a step; null: what the contrast needs, else 1"
    )
    tumour_task: bool = setting(True, "the tumour/normal task on [CLS]")
    cells: Literal["all", "normal"] = setting("all", "which pre-training cells")
    sources: tuple[str, ...] | None = setting(None, "data sets of pre-training; null: all")
    attention: AttentionKind = setting("favor", "kind of attention")
    cls_vector: ClsVector = setting("trained", "gene vector of [CLS]; ones: not trained (released)")
    tokens: TokenSettings = setting(TokenSettings(), "how cells become tokens")
    name: str = setting("model", "name of the row")
    title: str = setting("", "as printed in tables")
    paper_row: str = setting("", "the row of the paper it is compared with")
    kind: str = setting("encoder", "encoder or baseline")
    group: str = setting("", "group of rows")
    gene_embeddings: str = setting("", "which file the workflow hands over")

    def science(self) -> dict[str, Any]:
        """What decides about the training, defaults spelled out."""
        names = ("contrast", "contrast_on", "temperature", "views", "tumour_task", "cells")
        fields = {name: getattr(self, name) for name in (*names, "attention", "cls_vector")}
        if self.sources is not None:
            fields["sources"] = list(self.sources)
        return {"size": self.encoder_size, **fields, "tokens": self.tokens.model_dump()}

    @model_validator(mode="after")
    def _views_of_the_contrast(self) -> Self:
        if self.views not in (None, self.n_views) or (self.views == 2 and self.contrast == "moco"):
            raise wrong("views", f"null with contrast {self.contrast}", self.views)
        return self

    @property
    def n_views(self) -> int:
        """Dropout passes of a cell whose losses are averaged; MoCo's second pass has no gradient."""
        if self.contrast in ("divide_and_conquer", "end_to_end"):
            return 2
        return self.views or 1

    @property
    def encoder_size(self) -> dict[str, Any]:
        """Fields of EncoderConfig that the row's ``size`` gives."""
        if not isinstance(self.size, str):
            return self.size
        if self.size not in SIZES:
            raise UserError(f"model.size: {unknown(self.size, SIZES, 'size')}")
        return SIZES[self.size]

    def encoder_config(self, n_genes: int) -> EncoderConfig:
        """Shape of the row's encoder over a vocabulary of ``n_genes``."""
        chosen = {"attention": self.attention, "cls_vector": self.cls_vector}
        values = chosen | self.encoder_size | {"n_genes": n_genes}
        return as_settings(EncoderConfig, values, "model.size")
