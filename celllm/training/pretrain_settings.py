"""Settings of pre-training: which are the paper's, which the paper omits, and which change no result."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from celllm.errors import UserError


def _setting(
    default: Any, least: float = 0, most: float = math.inf, above: float = -math.inf, resource: bool = False
) -> Any:
    """A setting with its limits.

    A ``resource`` decides where and how fast, not what: a run may go on with another value of it.
    """
    limits = {"least": least, "most": most, "above": above, "resource": resource}
    return dataclasses.field(default=default, metadata=limits)


@dataclass(frozen=True)
class PretrainSettings:
    """Settings of pre-training. "Paper: not given" marks a value of ours, which good reasons may change."""

    # The run
    batch_size: int = _setting(
        512, 1
    )  # paper, Table F.1 (section 4.3 says 256): cells that one contrast sees
    epochs: int = _setting(5, 1)  # paper: not given
    max_steps: int | None = _setting(None, 1)  # optimiser steps in place of epochs
    seed: int = _setting(0)
    held_out_cells: int = _setting(0)  # cells that are not trained on, to watch their embeddings; paper: none

    # The optimiser, Adam with cosine annealing (paper, Table F.1)
    learning_rate: float = _setting(1e-4, above=0)  # paper, Table F.1
    weight_decay: float = _setting(0.0)  # paper, Table F.1
    warmup_steps: int = _setting(100)  # paper: not given; at most a tenth of the run
    adam_beta1: float = _setting(0.9, most=1)  # paper: not given; Adam's default
    adam_beta2: float = _setting(0.999, most=1)  # paper: not given; Adam's default
    gradient_clip: float = _setting(1.0)  # largest norm, 0: none; paper: not given; scBERT's code has 100

    # The objectives. Both views of a cell hide the same tokens, so that dropout alone tells them apart, and
    # masked expressions and tumour/normal are means over both views. The paper says nothing about either.
    mask_rate: float = _setting(0.15, most=1, above=0)  # paper: not given; scBERT's
    replace_rate: float = _setting(
        0.9, most=1
    )  # masked tokens that become [MASK]; paper: not given; scBERT's
    temperature: float = _setting(0.05, above=0)  # of the contrast; paper: not given; SimCSE's
    mlm_weight: float = _setting(1.0, above=0)  # paper: no weights given
    tumour_weight: float = _setting(1.0, above=0)  # paper: no weights given
    contrast_weight: float = _setting(1.0, above=0)  # paper: no weights given

    # Rows with contrast: moco
    queue_length: int = _setting(65536, 1)  # paper: not given; He et al. 2020
    momentum: float = _setting(0.999, most=1)  # paper: not given; He et al. 2020

    # Numbers
    feature_redraw_steps: int = _setting(1000)  # 0: never; paper: not given; performer-pytorch's interval
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: bfloat16 where in hardware

    # Resources: none of these changes what is learnt
    token_budget: int = _setting(8192, 1, resource=True)  # tokens with a graph in memory, padding counted
    gradient_checkpointing: bool = _setting(False, resource=True)  # keep less of each layer, compute it twice
    compile: bool = _setting(False, resource=True)  # torch.compile: minutes at the start, for long runs
    device: str = dataclasses.field(default="auto", metadata={"resource": True})
    checkpoint_minutes: float = _setting(10.0, resource=True)
    checkpoint_steps: int | None = _setting(None, 1, resource=True)  # one every so many steps as well
    geometry_steps: int | None = _setting(None, 1, resource=True)  # steps between measures of held_out_cells
    log_steps: int = _setting(10, 1, resource=True)  # steps from line to line in the log
    measure_peak: bool = _setting(True, resource=True)  # half a second at the start, for the utilisation

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, limits = getattr(self, field.name), field.metadata
            if value is None or "least" not in limits:
                continue
            if not (limits["least"] <= value <= limits["most"] and value > limits["above"]):
                raise UserError(f"settings.{field.name}: expected {_in_words(**limits)}, got {value}")
        if self.geometry_steps and self.held_out_cells < 2:
            raise UserError("settings.geometry_steps: needs held_out_cells, at least 2")

    def science(self) -> dict[str, Any]:
        """The settings that decide about the result."""
        fields = dataclasses.fields(self)
        return {f.name: getattr(self, f.name) for f in fields if not f.metadata.get("resource")}


def _in_words(least: float, most: float, above: float, resource: bool) -> str:
    lower = f"more than {above:g}" if above >= least else f"at least {least:g}"
    return lower if most == math.inf else f"{lower} and at most {most:g}"
