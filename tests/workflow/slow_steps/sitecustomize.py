"""Makes each step of `celllm pretrain` last CELLLM_STEP_SECONDS longer; Python runs this file as it starts.

The seconds are slept: they take nothing from what runs beside, and a signal ends them as it ends a step.
"""

import os
import sys
import time
from typing import Any


def _slow_down(seconds: float) -> None:
    from celllm.training.trainer import Trainer

    gradients = Trainer.gradients

    def slowly(self: Trainer, *arguments: Any) -> Any:
        time.sleep(seconds)
        return gradients(self, *arguments)

    Trainer.gradients = slowly  # type: ignore[method-assign]


if "CELLLM_STEP_SECONDS" in os.environ and sys.orig_argv[1:4] == ["-m", "celllm", "pretrain"]:
    _slow_down(float(os.environ["CELLLM_STEP_SECONDS"]))
