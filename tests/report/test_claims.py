import json
import math
from pathlib import Path

import pandas as pd
import pytest

from celllm.config import load
from celllm.report import published
from celllm.report.claims import fact_holds, judged, run_claims, tolerance_of
from celllm.report.ledger import CONTRADICTION, FAILS, HOLDS, INCONCLUSIVE, NOT_RUN, TOY, VERDICTS
from celllm.report.published import CONTROL
from celllm.report.run import TOY_NOTE
from celllm.scores.statistics import Comparison, corrected_resampled_t

ZHENG, BARON = "zheng68k", "baron"
CLAIMS = {claim.id: claim for claim in published.load().claims}


def comparison(mean: float, low: float, high: float) -> Comparison:
    return Comparison(5, mean, low, high, 3.0, 0.01, 1.0, "")


UNKNOWN = Comparison(1, 3.0, math.nan, math.nan, math.nan, math.nan, math.nan, "")


@pytest.mark.parametrize(
    ("kind", "ours", "paper_value", "tolerance", "verdict"),
    [
        ("value", comparison(71.0, 69.0, 73.0), 71.8, 2.0, HOLDS),
        ("value", comparison(68.0, 67.0, 69.0), 71.8, 2.0, FAILS),
        ("value", comparison(75.0, 74.0, 76.0), 71.8, 2.0, FAILS),
        ("value", comparison(68.0, 65.0, 71.0), 71.8, 2.0, INCONCLUSIVE),
        ("value", UNKNOWN, 71.8, 2.0, INCONCLUSIVE),
        ("value", UNKNOWN, 3.5, 1.0, HOLDS),
        ("value", comparison(0.922, 0.9, 0.94), 0.934, 0.012, HOLDS),  # on the edge, whatever the last bit
        ("value", comparison(0.9219, 0.9, 0.94), 0.934, 0.012, INCONCLUSIVE),
        ("value", comparison(0.90, 0.88, 0.922), 0.934, 0.012, INCONCLUSIVE),  # the interval touches it
        ("value", comparison(0.90, 0.88, 0.9219), 0.934, 0.012, FAILS),
        ("value", comparison(0.96, 0.9461, 0.97), 0.934, 0.012, FAILS),
        ("value", comparison(0.5, 0.5, 0.5), 0.5, 0.1, HOLDS),
        ("difference", comparison(0.028, 0.01, 0.05), 0.038, 0.01, HOLDS),
        ("difference", comparison(0.028, 0.0, 0.056), 0.038, 0.01, INCONCLUSIVE),  # zero is not excluded
        ("difference", comparison(0.0279, 0.02, 0.03), 0.038, 0.01, INCONCLUSIVE),
        ("difference", comparison(0.02, 0.01, 0.0279), 0.038, 0.01, FAILS),
        ("difference", comparison(-1.0, -2.0, -0.5), 3.0, 1.0, FAILS),
        ("difference", comparison(2.5, 0.5, 4.5), 3.0, 1.0, HOLDS),
        ("difference", comparison(9.0, 8.0, 10.0), 3.0, 1.0, HOLDS),
        ("difference", comparison(2.5, -0.5, 5.5), 3.0, 1.0, INCONCLUSIVE),
        ("difference", comparison(1.0, 0.5, 1.5), 3.0, 1.0, FAILS),
        ("difference", comparison(1.0, 0.5, 2.5), 3.0, 1.0, INCONCLUSIVE),
        ("difference", UNKNOWN, 3.0, 1.0, INCONCLUSIVE),
        ("ordering", comparison(1.0, 0.1, 1.9), None, None, HOLDS),
        ("ordering", comparison(1.0, -0.1, 2.1), None, None, INCONCLUSIVE),
        ("ordering", comparison(-1.0, -1.9, -0.1), None, None, FAILS),
        ("ordering", comparison(1.0, 0.0, 2.0), None, None, INCONCLUSIVE),
        ("ordering", comparison(-1.0, -2.0, 0.0), None, None, INCONCLUSIVE),
        ("ordering", comparison(0.3, 0.3, 0.3), None, None, HOLDS),
        ("ordering", comparison(0.0, 0.0, 0.0), None, None, INCONCLUSIVE),
        ("ordering", UNKNOWN, None, None, INCONCLUSIVE),
    ],
)
def test_verdicts(kind, ours, paper_value, tolerance, verdict) -> None:
    assert judged(kind, ours, paper_value, tolerance) == verdict


@pytest.mark.parametrize(
    ("claim", "fact", "holds"),
    [
        ("parameters", 50_000_000, True),
        ("parameters", 49_999_999, False),
        ("gradient", 1e-11, True),
        ("gradient", 1e-9, False),
        ("zheng-cells", 68450, True),
        ("zheng-cells", 68579, False),
        ("pretraining-cells", 1_764_921, True),
        ("ari-attended", 0.26, False),
        ("top-gene", "B2M", True),
        ("top-gene", "ACTB", False),
        ("ari-attended", 0.253, True),
        ("ari-attended", 0.2531, False),
        ("ari-gain", 0.088, True),
        ("ari-gain", 0.0879, False),
        ("ari-gain", 0.9, True),
        ("gradient", 1.0e-10, True),
        ("chunk-of-one", 1.1e-10, False),
        ("few-shot-share", 5.0, True),
        ("few-shot-share", 10.0, False),
        ("expressed-genes", 50.0, True),
        ("expressed-genes", 49.99, False),
    ],
)
def test_facts(claim: str, fact, holds: bool) -> None:
    assert fact_holds(CLAIMS[claim], fact) is holds


def test_default_tolerances_follow_the_printed_spread() -> None:
    book = published.load()
    assert tolerance_of(CLAIMS["annotation-f1"], book) == 2.0  # two sd of 1.0
    assert tolerance_of(CLAIMS["baron-weighted"], book) == 1.0  # two sd of 0.1 are less than a point
    assert tolerance_of(CLAIMS["warm-rmse"], book) == pytest.approx(0.082)
    assert tolerance_of(CLAIMS["annotation-gain"], book) == 1.0
    assert tolerance_of(CLAIMS["cold-gain"], book) == 0.01
    assert tolerance_of(CLAIMS["zheng-macro-best"], book) is None


@pytest.fixture
def ledger(tmp_path, score_file, spread, models):
    """The ledger of a run with Table 1 (without MoCo), by claim id."""
    gap = spread(0.03, 0.004)
    scbert = spread(0.688, 0.006)
    values = {
        ("scbert", ZHENG, "strict", "macro_f1"): scbert,
        ("celllm", ZHENG, "strict", "macro_f1"): [a + b for a, b in zip(scbert, gap, strict=True)],
        ("celllm", ZHENG, "paper", "macro_f1"): spread(0.60, 0.001),
        ("scbert", ZHENG, "paper", "macro_f1"): spread(0.60, 0.001),
        ("scanpy", ZHENG, "strict", "macro_f1"): spread(0.9, 0.01),
        ("logistic", ZHENG, "strict", "macro_f1"): spread(0.70, 0.03),
        ("logistic", BARON, "strict", "macro_f1"): spread(0.70, 0.03),
        ("celllm", BARON, "strict", "macro_f1"): spread(0.90, 0.01),
    }
    out = tmp_path / "claims"
    path = score_file(values)

    def make(facts: dict | None = None, **settings) -> pd.DataFrame:
        (tmp_path / "facts.json").write_text(json.dumps(facts or {}))
        run_claims([path], models, {"run": "test"} | settings, out, [tmp_path / "facts.json"])
        return pd.read_csv(f"{out}.csv", keep_default_na=False).set_index("id")

    make.out = out  # type: ignore[attr-defined]
    return make


def test_a_difference_is_paired_and_oriented(ledger, spread) -> None:
    row = ledger().loc["annotation-gain"]
    expected = corrected_resampled_t([100 * d for d in spread(0.03, 0.004)], 0.25)
    assert float(row["our_value"]) == pytest.approx(3.0, abs=1e-9)
    assert float(row["low"]) == pytest.approx(expected.low, rel=1e-9)
    assert float(row["high"]) == pytest.approx(expected.high, rel=1e-9)
    assert (row["verdict"], float(row["n"]), float(row["tolerance"])) == (HOLDS, 5, 1.0)
    assert float(row["effect"]) == pytest.approx(7.5, rel=1e-9)


def test_the_other_protocol_is_told_where_it_says_otherwise(ledger) -> None:
    row = ledger().loc["annotation-gain"]
    assert (row["other_protocol"], row["other_verdict"]) == ("paper", FAILS)
    assert "Under protocol paper: fails." in Path(f"{ledger.out}.md").read_text()
    assert ledger(protocol="paper").loc["annotation-gain", "verdict"] == FAILS


def test_an_ordering_takes_its_weakest_pair(ledger) -> None:
    row = ledger().loc["zheng-macro-best"]
    assert row["verdict"] == FAILS
    assert float(row["our_value"]) == pytest.approx(-18.2, abs=1e-9)
    assert "Weakest pair: against Scanpy, Zheng68K macro F1." in row["note"]


def test_state_of_the_art_is_measured_against_the_controls(ledger) -> None:
    row = ledger().loc["sota-annotation"]
    assert row["verdict"] == INCONCLUSIVE
    assert "against L1 logistic_regression & more, Zheng68K macro F1" in row["note"]
    assert CONTROL not in row["note"]


def test_a_control_that_does_not_apply_is_no_rival(tmp_path, score_file, spread, models) -> None:
    models |= {name: {"title": name, "group": "control"} for name in ("drug_mean", "line_mean")}
    values, failures = {}, {}
    for metric in ("pearson", "r2", "rmse", "mae"):
        values["celllm", "gdsc_ccle", "strict", metric] = spread(0.9, 0.01)
        values["drug_mean", "gdsc_ccle", "strict", metric] = spread(0.8, 0.01)
        failures["line_mean", "gdsc_ccle", "strict", metric] = dict.fromkeys(
            range(5), ("not-applicable", "new")
        )
    warm = score_file(values, task="response_warm", name="warm")
    verdicts = []
    broken = {key: {0: ("failed", "no memory")} for key in failures}
    for number, failed in enumerate((failures, {}, broken)):
        cold = score_file(values, failed, task="response_cold", name="cold")
        run_claims([warm, cold], models, {"run": "x"}, tmp_path / f"claims{number}")
        frame = pd.read_csv(tmp_path / f"claims{number}.csv", keep_default_na=False).set_index("id")
        verdicts.append(frame.loc["sota-response", "verdict"])
    assert verdicts[0] == verdicts[1] != NOT_RUN
    assert verdicts[2] == NOT_RUN


def test_what_was_not_made_is_not_run_and_says_why(ledger) -> None:
    frame = ledger()
    assert frame.loc["moco-zheng", "verdict"] == NOT_RUN
    assert frame.loc["moco-zheng", "note"] == "No scores of CellLM MoCo, Zheng68K macro F1, protocol strict."
    assert frame.loc["parameters", "note"] == "Not measured in this run."
    assert "No scores of CellLM 25M" in frame.loc["size-25m", "note"]


def test_a_toy_is_never_judged(ledger) -> None:
    frame = ledger(toy=True, facts={"model": {"n_parameters": 3}})
    assert frame.loc["annotation-gain", "verdict"] == TOY
    assert frame.loc["parameters", "verdict"] == TOY
    assert not set(frame["verdict"]) & {HOLDS, FAILS, INCONCLUSIVE}
    assert set(frame["size"]) == {"toy"}
    for suffix in ("md", "html"):
        assert TOY_NOTE.lower() in Path(f"{ledger.out}.{suffix}").read_text().lower()


def test_the_papers_contradictions_stand_whatever_a_run_says(ledger) -> None:
    for toy in (True, False):
        row = ledger(toy=toy).loc["warm-gain"]
        assert row["verdict"] == CONTRADICTION
        assert row["note"].startswith("The paper's own table gives 0.071, the sentence 0.062.")


def test_facts_are_judged(ledger) -> None:
    facts = {"model": {"n_parameters": 52_000_000}, "data_sets": {"zheng68k": {"n_cells": 700}}}
    frame = ledger(facts=facts)
    assert (frame.loc["parameters", "verdict"], frame.loc["zheng-cells", "verdict"]) == (HOLDS, FAILS)
    assert "| 68,450<br>exactly | 700 |" in Path(f"{ledger.out}.md").read_text()


def test_every_claim_has_a_line_with_a_known_verdict(ledger) -> None:
    frame = ledger()
    assert list(frame.index) == list(CLAIMS)
    assert set(frame["verdict"]) <= set(VERDICTS)
    assert list(frame.columns[-2:]) == ["verdict", "note"]


def test_p_values_are_adjusted_over_the_ledger(ledger) -> None:
    frame = ledger()
    tested = frame[frame["p"] != ""]
    assert list(tested.index) == ["annotation-gain", "sota-annotation", "zheng-macro-best"]
    smallest = tested["p"].astype(float).idxmin()
    assert float(frame.loc[smallest, "p_holm"]) == pytest.approx(3 * float(frame.loc[smallest, "p"]))


def test_a_mean_over_data_sets_pairs_the_split_numbers(tmp_path, score_file, models) -> None:
    """Differences of splits 0 and 1: 10 and 20 points, 2 and 4 points; their means 6 and 12."""
    values = {
        ("celllm", "gse149383", "strict", "f1"): [0.80, 0.90],
        ("scbert", "gse149383", "strict", "f1"): [0.70, 0.70],
        ("celllm", "gse117872", "strict", "f1"): [0.92, 0.94],
        ("scbert", "gse117872", "strict", "f1"): [0.90, 0.90],
    }
    settings = {"test_over_train": {"drug_few_shot": 0.5}}
    run_claims([score_file(values, task="drug_few_shot")], models, settings, tmp_path / "claims")
    row = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id").loc["few-shot-gain"]
    expected = corrected_resampled_t([6.0, 12.0], 0.5)
    assert float(row["our_value"]) == pytest.approx(9.0)
    assert (float(row["low"]), float(row["high"])) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert row["verdict"] == INCONCLUSIVE


def test_errors_are_improvements_when_smaller(tmp_path, score_file, spread, models) -> None:
    values = {}
    for row, shift in (("celllm", 0.0), ("scbert", 0.1), ("deepcdr", 0.2)):
        for metric, sign in (("pearson", -1), ("r2", -1), ("rmse", 1), ("mae", 1)):
            values[(row, "gdsc_ccle", "strict", metric)] = [v + sign * shift for v in spread(0.9, 0.001)]
    run_claims([score_file(values, task="response_warm")], models, {}, tmp_path / "claims")
    row = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id").loc["warm-best"]
    assert row["verdict"] == HOLDS
    assert float(row["our_value"]) == pytest.approx(0.1)


@pytest.fixture
def verdict_on(tmp_path, score_file, models):
    """The line of a claim on CellLM and scBERT on Zheng68K, from macro F1 in percent."""

    def make(celllm, scbert, claim: str = "annotation-gain", failures: dict | None = None) -> pd.Series:
        values = {
            ("celllm", ZHENG, "strict", "macro_f1"): [v / 100 for v in celllm],
            ("scbert", ZHENG, "strict", "macro_f1"): [v / 100 for v in scbert],
        }
        run_claims([score_file(values, failures)], models, {"run": "x"}, tmp_path / "claims")
        return pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id").loc[claim]

    return make


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([2.9, 3.0, 3.1, 3.0, 3.0], HOLDS),
        ([1.9, 2.0, 2.1, 2.0, 2.0], HOLDS),  # the paper's 3.0 less one point
        ([1.8, 1.9, 1.9, 2.0, 1.9], INCONCLUSIVE),  # the interval ends at 2.03
        ([1.8, 1.8, 1.9, 1.8, 1.8], FAILS),
        ([9.0, -1.0, 3.0, 6.0, -2.0], INCONCLUSIVE),
        ([3.0] * 5, HOLDS),  # no spread at all
        ([0.0] * 5, FAILS),
        ([-3.0, -2.0, -4.0, -3.0, -3.0], FAILS),
    ],
)
def test_a_difference_from_scores_to_verdict(verdict_on, gains, verdict) -> None:
    row = verdict_on([70 + gain for gain in gains], [70.0] * 5)
    assert row["verdict"] == verdict
    assert float(row["our_value"]) == pytest.approx(sum(gains) / 5)


def test_one_split_is_never_enough_for_a_difference(verdict_on) -> None:
    row = verdict_on([75.0], [70.0])
    assert (row["verdict"], row["low"], row["p"], float(row["n"])) == (INCONCLUSIVE, "", "", 1)
    assert row["note"] == "One split, no interval."
    value = verdict_on([71.0], [70.0], "annotation-f1")
    assert (value["verdict"], value["note"]) == (HOLDS, "One split, no interval.")


def test_splits_that_failed_are_left_out_and_told(verdict_on) -> None:
    failed = {("scbert", ZHENG, "strict", "macro_f1"): {3: ("failed", "x"), 4: ("failed", "y")}}
    row = verdict_on([73.0, 73.1, 72.9, 99.0, 99.0], [70.0, 70.1, 69.8], failures=failed)
    assert row["note"] == "Over 3 of 5 splits; the others have no score of each."
    assert float(row["our_value"]) == pytest.approx(3.0333333, abs=1e-6)
    assert float(row["n"]) == 3


def test_scores_without_a_common_split_are_no_comparison(verdict_on) -> None:
    lost = {("celllm", ZHENG, "strict", "macro_f1"): dict.fromkeys(range(3), ("failed", "x"))}
    row = verdict_on([], [70.0, 70.1, 69.8], failures=lost)
    assert row["verdict"] == NOT_RUN
    assert row["note"] == "No scores of CellLM, Zheng68K macro F1, protocol strict."


def test_the_weakest_pair_is_so_by_t_and_not_by_its_unit(tmp_path, score_file, spread, models) -> None:
    """RMSE is ahead by 0.2 and unsteady, Pearson by 0.1 and steady: the former decides."""
    values = {}
    for row, ahead in (("celllm", 1.0), ("scbert", 0.0), ("deepcdr", 0.0)):
        for metric, gain, sd in (
            ("pearson", 0.1, 1e-3),
            ("r2", 0.1, 1e-3),
            ("rmse", -0.2, 0.3),
            ("mae", -0.1, 1e-3),
        ):
            noise = spread(0.0, sd) if ahead else [0.0] * 5
            values[(row, "gdsc_ccle", "strict", metric)] = [0.5 + ahead * (gain + x) for x in noise]
    run_claims([score_file(values, task="response_warm")], models, {}, tmp_path / "claims")
    row = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id").loc["warm-best"]
    assert row["verdict"] == INCONCLUSIVE
    assert row["note"].endswith("Warm start RMSE.")
    assert float(row["our_value"]) == pytest.approx(0.2)


def test_facts_that_are_compared_with_each_other(ledger) -> None:
    both = {"interpretation": {"ari_attended": 0.3, "ari_expressed": 0.1}}
    row = ledger(facts=both).loc["ari-gain"]
    assert (row["verdict"], float(row["our_value"])) == (HOLDS, pytest.approx(0.2))
    assert ledger(facts={"interpretation": {"ari_attended": 0.3}}).loc["ari-gain", "verdict"] == NOT_RUN


def test_what_counts_as_the_papers_value_is_printed(ledger) -> None:
    ledger(facts={"model": {"n_parameters": 52_000_000}, "data_sets": {"zheng68k": {"n_cells": 700}}})
    text = Path(f"{ledger.out}.md").read_text()
    assert "| 50,000,000<br>or more | 52,000,000 | parameters |" in text
    assert "| 68,450<br>exactly | 700 |" in text
    assert "| +3.0 points<br>± 1.0 | +3.0 points<br>2.3 to 3.7<br>n = 5, d = 7.5<br>p (Holm) " in text
    for suffix in ("md", "html"):
        assert "adjusted over the 3 differences and orderings" in Path(f"{ledger.out}.{suffix}").read_text()


def test_ratios_of_test_to_training_cells_are_those_of_the_full_run() -> None:
    """From the splits of config/paper.yaml; a training side includes its validation part."""
    config = load(Path(__file__).parents[2] / "config/paper.yaml")
    expected = {"annotation": 1 / (config["annotation"]["splits"]["n_folds"] - 1)}
    for task, splits in config["drug_sensitivity"]["splits"].items():
        expected[task] = (1 - splits["train_fraction"]) / splits["train_fraction"]
    for task, splits in config["drug_response"]["splits"].items():
        expected[task] = splits["test_fraction"] / (1 - splits["test_fraction"])
    ratios = {name: task.test_over_train for name, task in published.load().tasks.items()}
    assert ratios == pytest.approx(expected, rel=1e-9)
    assert ratios == pytest.approx(
        {
            "annotation": 0.25,
            "drug_few_shot": 19,
            "drug_full": 0.25,
            "response_warm": 1 / 9,
            "response_cold": 1 / 9,
        }
    )
