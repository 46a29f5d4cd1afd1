"""Two fresh runs have the same files, to the byte, but for what docs/reliability.md says."""

from fnmatch import fnmatch
from pathlib import Path

import pandas as pd
import pytest

from celllm.report.compare import differences
from tests.places import ROOT

pytestmark = pytest.mark.slow
# Every stage once: a data set, an encoder and two controls, Table 1 with all that a run makes beside it.
SMALL = """
run: small
tables: [table1]
data_sets: {annotation: [baron]}
graphmae: {epochs: 5}
pretraining: {seeds: [0], settings: {epochs: 1}}
annotation: {models: [celllm, majority, logistic_regression], finetuning: {epochs: 1}}
memory: {n_cells: 8}
"""
COSTS = ("seconds", "peak_mib")
# Records of the run: times, dates, and what was measured of the machine.
RECORDS = (
    *(
        "logs/*",
        "benchmarks/*",
        "raw/data.lock",
        "raw/.locks/*",
        "manifest.json",
        "ro-crate-metadata.json",
        "report.html",
    ),
    *("checkpoints/*/metrics.csv", "checkpoints/*/state/*", "graph/graphmae_*.csv", "tables/table_s5.*"),
)


def is_record(file: str) -> bool:
    return any(fnmatch(file, pattern) for pattern in RECORDS)


@pytest.fixture(scope="module")
def runs(snakemake, tmp_path_factory) -> tuple[Path, Path]:
    found = []
    for name in ("one", "two"):
        folder = tmp_path_factory.mktemp(name)
        (folder / "small.yaml").write_text(SMALL)
        config = (str(ROOT / "config/toy.yaml"), str(folder / "small.yaml"))
        done = snakemake(folder, "--configfile", *config, "--", "all")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        found.append(folder / "results/small")
    return found[0], found[1]


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_two_runs_make_the_same_bytes(runs: tuple[Path, Path]) -> None:
    one, two = runs
    names = {name for name in files(one) if not is_record(name)}
    assert names == {name for name in files(two) if not is_record(name)}
    of_scores = {n for n in names if fnmatch(n, "scores/*.csv") and not n.endswith(".predictions.csv")}
    assert len(of_scores) >= 9 and len(names) > 100
    for name in sorted(names - of_scores):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    for name in sorted(of_scores):
        frames = [pd.read_csv(run / name, dtype=str).drop(columns=list(COSTS)) for run in runs]
        pd.testing.assert_frame_equal(*frames)


def test_celllm_compare_finds_no_difference_but_costs(runs: tuple[Path, Path]) -> None:
    assert {found.file for found in differences(*runs)} <= {"tables/table_s5.csv"}
