import math
import subprocess
import sys

import pytest

from celllm.figures import loss_curves
from celllm.training import columns
from celllm.training.settings import PretrainSettings
from tests.training.test_pretrain import Arguments, open_run


def test_an_objective_has_a_weight_a_column_and_a_panel() -> None:
    settings = PretrainSettings(tumour_weight=3.0)
    assert [settings.weight(name) for name in columns.LOSSES] == [1.0, 3.0, 1.0]
    assert set(columns.LOSSES) < set(columns.STEPS)
    assert loss_curves.OBJECTIVES is columns.OBJECTIVES
    known = [objective.ignorant(512) for objective in columns.OBJECTIVES]
    assert known == pytest.approx([math.log(8), math.log(2), math.log(512)])


def test_what_the_model_computes_is_registered(arguments: Arguments) -> None:
    run = open_run(arguments())
    losses = run.trainer.add_gradients(run.batches.make(0))
    assert set(losses) == {"loss", *columns.LOSSES}


def test_names_are_read_without_torch() -> None:
    code = "import sys, celllm.training.columns, celllm.scores.columns; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
