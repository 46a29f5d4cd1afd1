"""The benchmark of the judge reads a run's tables and says what is near, off and at chance."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[2]
S2 = [
    ("cold", "Drug mean", "Pooled", "Pearson", 0.845),
    ("cold", "Drug mean", "Pearson", "mean over drugs", 0.0),
    ("cold", "Ridge, each drug by itself", "Pearson", "mean over drugs", 0.43),
]
S6 = [("A: accuracy", -0.01, -1.9, 0.9), ("B: accuracy", 0.2, 3.5, 0.01)]


def test_measured_points_are_printed_with_what_was_wanted(tmp_path: Path) -> None:
    for folder in ("tables", "facts"):
        (tmp_path / folder).mkdir()
    head = "block,title,over,column,value"
    rows = [
        f"Cell-line drug response ({part} start),{title},{over},{column},{v}"
        for part, title, over, column, v in S2
    ]
    quoted = [row.replace("Ridge, each drug by itself", '"Ridge, each drug by itself"') for row in rows]
    (tmp_path / "tables/table_s2.csv").write_text("\n".join([head, *quoted]) + "\n")
    names = ("above chance", "standard errors", "p (Holm)")
    rows = [f"x,{title},,{name},{v}" for title, *of in S6 for name, v in zip(names, of, strict=True)]
    (tmp_path / "tables/table_s6.csv").write_text("\n".join([head, *rows]) + "\n")
    counts = {"data_sets": {"gdsc_ccle": {"n_pairs": 89288, "n_lines": 460, "n_drugs": 223}}}
    (tmp_path / "facts/counts.json").write_text(json.dumps(counts))
    (tmp_path / "manifest.json").write_text(json.dumps({"job_seconds": 61.4}))
    words = [sys.executable, str(ROOT / "benchmarks/judge.py"), str(tmp_path)]
    lines = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout.splitlines()
    assert lines[0] == "89,288 pairs of 460 lines and 223 drugs"
    assert "| Drug mean, cold, pooled | 0.845 | 0.847 | near |" in lines
    assert "| Ridge, each drug by itself, cold, inside drugs | 0.430 | 0.540 | off |" in lines
    assert "| Drug mean + line mean, warm, pooled | not made | 0.883 | |" in lines
    assert "| permuted labels, A: accuracy | -0.010 | 0 | at chance |" in lines
    assert "| permuted labels, B: accuracy | +0.200 | 0 | +3.5 standard errors, p (Holm) 0.01 |" in lines
    assert lines[-1].startswith("| seconds of all jobs | 61 |")


def test_the_ridge_is_measured_on_other_lines_where_they_are_given(tmp_path: Path) -> None:
    """Thirty drugs tested on 120 lines each follow three genes, two on thirty lines follow nothing."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from judge import of_tgsa

    rng = np.random.default_rng(0)
    lines = [f"ACH-{i:03d}" for i in range(120)]
    z = rng.normal(size=(120, 20))
    pd.DataFrame(z, index=lines).to_csv(tmp_path / "z.csv")
    rows = []
    for drug in range(32):
        few = drug > 29
        effect = np.zeros(120) if few else z[:, :3] @ rng.normal(size=3)
        y = rng.normal(0, 3) + effect + rng.normal(size=120)
        rows += [(f"drug{drug}", lines[i], y[i]) for i in range(60 if few else 120)]
    pd.DataFrame(rows, columns=["drug_name", "cell_line", "ln_ic50"]).to_csv(tmp_path / "y.csv", index=False)
    found = of_tgsa(tmp_path / "z.csv", tmp_path / "y.csv")
    pooled, many, whole = (float(line[1]) for line in found)
    assert [line[2] for line in found] == ["0.890", "0.540", "0.540"]
    assert "120 lines of TGSA, inside drugs, 30 with 100 pairs or more" in found[1][0]
    assert found[2][0].endswith("inside drugs, all 32")
    assert pooled > many > whole > 0.4
    assert re.fullmatch("near|off", found[0][3])
