"""A run in which a method fails: its scores are there, and the reason is the last that a user sees."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.places import ROOT

pytestmark = pytest.mark.slow
FEW = """
run: few
tables: [table1]
data_sets: {annotation: [baron]}
annotation: {models: [majority, pca_logistic]}
"""


def test_the_reason_of_the_gate_is_the_last_line(snakemake, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples/own_method", tmp_path / "examples/own_method")
    method = tmp_path / "examples/own_method/own_method.py"
    text = method.read_text()
    assert "    x = log_normalised" in text
    method.write_text(text.replace("    x = log", '    raise RuntimeError("no luck")\n    x = log', 1))
    (tmp_path / "few.yaml").write_text(FEW)
    configs = (
        str(ROOT / "config/toy.yaml"),
        str(method.with_name("config.yaml")),
        str(tmp_path / "few.yaml"),
    )
    done = snakemake(tmp_path, "--configfile", *configs, "--", "results/few/complete.json")
    assert done.returncode == 1
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.startswith("celllm gate: 15 unexpected failures: pca_logistic on baron (strict"), done.stderr[
        -2000:
    ]
    assert "RuntimeError: no luck" in last
    assert not (tmp_path / "results/few/complete.json").exists()
    scores = tmp_path / "results/few/scores/annotation/baron"
    statuses = {
        name: set(pd.read_csv(scores / name / "strict.csv")["status"])
        for name in ("majority", "pca_logistic")
    }
    assert statuses == {"majority": {"ok"}, "pca_logistic": {"failed"}}
