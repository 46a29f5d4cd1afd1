import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from celllm.config import load
from celllm.report import published
from celllm.report.claims import Finding, fact_holds, judged, run_claims, tolerance_of
from celllm.report.explain import explained
from celllm.report.ledger import (
    BY_CONSTRUCTION,
    CONTRADICTION,
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    NOT_RUN,
    OTHER_DATA,
    TOY,
    VERDICTS,
    number_text,
)
from celllm.report.published import CONTROL
from celllm.report.run import TOY_NOTE
from celllm.report.settings import ClaimSettings, TableSettings
from celllm.report.tables import run_table
from celllm.scores.statistics import Comparison, corrected_resampled_t
from celllm.settings import as_settings

ZHENG, BARON = "zheng68k", "baron"
CLAIMS = {claim.id: claim for claim in published.load().claims}


def comparison(mean: float, low: float, high: float) -> Comparison:
    return Comparison(5, mean, low, high, 3.0, 0.01 if low > 0 or high < 0 else 0.5, 1.0, "")


UNKNOWN = Comparison(1, 3.0, math.nan, math.nan, math.nan, math.nan, math.nan, "")


@pytest.mark.parametrize(
    ("kind", "ours", "paper_value", "tolerance", "verdict"),
    [
        ("value", comparison(71.0, 69.0, 73.0), 71.8, 2.0, HOLDS),
        ("value", comparison(68.0, 67.0, 69.0), 71.8, 2.0, FAILS),
        ("value", comparison(75.0, 74.0, 76.0), 71.8, 2.0, FAILS),
        ("value", comparison(68.0, 65.0, 71.0), 71.8, 2.0, INCONCLUSIVE),
        ("value", UNKNOWN, 71.8, 2.0, INCONCLUSIVE),
        ("value", UNKNOWN, 3.5, 1.0, INCONCLUSIVE),
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
        (
            "difference",
            comparison(-1.0, -2.0, -0.5),
            1.1,
            4.0,
            FAILS,
        ),  # a loss is no gain
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
        ("length-end-to-end", 55, True),
        ("length-end-to-end", 56, False),
        ("length-end-to-end", 20, True),
        ("top-gene", "B2M", True),
        ("top-gene", "ACTB", False),
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


def test_tolerances_are_intervals_of_the_papers_own_means() -> None:
    """t(0.975, 4) / sqrt(5) = 1.2416638 standard deviations of five runs, never two of single runs."""
    book, t = published.load(), 1.2416638
    assert tolerance_of(CLAIMS["annotation-f1"], book, Finding()) == pytest.approx(t * 1.0, rel=1e-6)
    assert tolerance_of(CLAIMS["scbert-gse149383-few-shot"], book, Finding()) == pytest.approx(
        t * 8.5, rel=1e-6
    )
    assert tolerance_of(CLAIMS["warm-rmse"], book, Finding()) == pytest.approx(t * 0.041, rel=1e-6)
    # Of two means: half of the root of both variances; of a gain: both rows.
    assert tolerance_of(CLAIMS["few-shot-f1"], book, Finding()) == pytest.approx(
        t * math.hypot(1.7, 1.0) / 2, rel=1e-6
    )
    assert tolerance_of(CLAIMS["annotation-gain"], book, Finding()) == pytest.approx(
        t * math.hypot(1.0, 0.6), rel=1e-6
    )
    spread = math.sqrt(8.5**2 + 1.7**2 + 4.3**2 + 1.0**2) / 2
    assert tolerance_of(CLAIMS["few-shot-gain"], book, Finding()) == pytest.approx(t * spread, rel=1e-6)
    assert tolerance_of(CLAIMS["zheng-macro-best"], book, Finding()) is None
    # Printed without any spread: taken to be as uncertain as what this run measured.
    ours = Finding(Comparison(300, 0.2, 0.1, 0.28, math.nan, math.nan, math.nan, ""))
    assert tolerance_of(CLAIMS["ari-attended"], book, ours) == pytest.approx(0.09)


def test_no_score_is_judged_by_a_tolerance_of_our_own() -> None:
    assert [claim.id for claim in CLAIMS.values() if claim.cells and claim.tolerance is not None] == []


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
        run_claims(
            [path],
            models,
            as_settings(ClaimSettings, {"run": "test"} | settings),
            out,
            [tmp_path / "facts.json"],
        )
        return pd.read_csv(f"{out}.csv", keep_default_na=False).set_index("id")

    make.out = out  # type: ignore[attr-defined]
    return make


def test_a_difference_is_paired_and_oriented(ledger, spread) -> None:
    row = ledger().loc["annotation-gain"]
    expected = corrected_resampled_t([100 * d for d in spread(0.03, 0.004)], 0.25)
    assert float(row["our_value"]) == pytest.approx(3.0, abs=1e-9)
    assert float(row["low"]) == pytest.approx(expected.low, rel=1e-9)
    assert float(row["high"]) == pytest.approx(expected.high, rel=1e-9)
    assert (row["verdict"], float(row["n"])) == (HOLDS, 5)
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
    assert row["explanation"].startswith(
        "The weakest of 2 comparisons is against Scanpy, Zheng68K macro F1: the paper is 22.3 points ahead, "
        "this run 18.2 points behind (95 % interval"
    )
    assert row["explanation"].endswith(", corrected for 2): this one is worse beyond chance.")


def test_state_of_the_art_is_measured_against_the_controls(ledger) -> None:
    row = ledger().loc["sota-annotation"]
    assert row["verdict"] == INCONCLUSIVE
    assert "against L1 logistic_regression & more, Zheng68K macro F1" in row["explanation"]
    assert CONTROL not in row["explanation"]


def test_an_ablation_is_no_state_of_the_art_to_beat(tmp_path, score_file, spread, models) -> None:
    models["frozen"] = {"title": "CellLM frozen", "group": "ablation"}
    means = {"celllm": 0.9, "frozen": 0.95, "logistic": 0.7}
    values = {
        (model, data_set, "strict", "macro_f1"): spread(mean, 0.001)
        for model, mean in means.items()
        for data_set in (ZHENG, BARON)
    }
    run_claims([score_file(values)], models, ClaimSettings(), tmp_path / "claims")
    row = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id").loc["sota-annotation"]
    assert row["verdict"] == HOLDS
    assert "against L1 logistic" in row["explanation"]


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
        run_claims([warm, cold], models, ClaimSettings(run="x"), tmp_path / f"claims{number}")
        frame = pd.read_csv(tmp_path / f"claims{number}.csv", keep_default_na=False).set_index("id")
        verdicts.append(frame.loc["sota-response", "verdict"])
    assert verdicts[0] == verdicts[1] != NOT_RUN
    assert verdicts[2] == NOT_RUN


def test_what_was_not_made_is_not_run_and_says_why(ledger) -> None:
    frame = ledger()
    assert frame.loc["moco-zheng", "verdict"] == NOT_RUN
    why = frame["explanation"]
    assert why["moco-zheng"] == (
        "No scores of CellLM MoCo, Zheng68K macro F1, protocol strict; the paper reports a gain of 4.8 "
        "points, uncertain by ± 1.9."
    )
    assert why["parameters"] == "Not measured in this run; the paper says 50,000,000 or more."
    assert why["size-25m"] == (
        "CellLM 25M is no row of this run; the paper reports 70.4 %, uncertain by ± 0.7."
    )


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
        assert row["explanation"] == (
            "Nothing to test: the paper's own table gives 0.071, the sentence 0.062 (No scores of CellLM, "
            "Warm start Pearson, protocol strict)."
        )


def test_facts_are_judged(ledger) -> None:
    ari = {"ari_attended": 0.5, "ari_attended_interval": [0.45, 0.55, 300]}
    facts = {"contrastive": {"gradient_relative_error": 2e-12}, "interpretation": ari}
    frame = ledger(facts=facts)
    assert (frame.loc["gradient", "verdict"], frame.loc["ari-attended", "verdict"]) == (HOLDS, FAILS)
    assert frame.loc["gradient", "explanation"] == (
        "The paper gives no number and a relative error of 1e-10 or less is meant by it here, this run has "
        "2e-12: no more than that."
    )
    assert frame.loc["ari-attended", "explanation"] == (
        "The paper reports 0.203 without an uncertainty, taken to be as uncertain as ours (± 0.05), this run "
        "has 0.5 (95 % interval 0.45 to 0.55, 300 cells): the two are further apart than both uncertainties."
    )


def test_what_the_config_sets_and_other_data_decide_is_shown_and_not_judged(ledger) -> None:
    facts = {"model": {"n_parameters": 52_000_000}, "data_sets": {"zheng68k": {"n_cells": 68450}}}
    frame = ledger(facts=facts)
    assert frame.loc["parameters", "verdict"] == BY_CONSTRUCTION
    assert "the configuration sets this number" in frame.loc["parameters", "explanation"]
    assert frame.loc["zheng-cells", "verdict"] == OTHER_DATA
    assert "| 68,450<br>exactly | 68,450 |" in Path(f"{ledger.out}.md").read_text()


def test_the_second_and_third_gene_are_not_ranked_by_the_paper(ledger) -> None:
    frame = ledger(facts={"interpretation": {"top_genes": ["B2M", "ACTB", "TMSB4X", "MALAT1"]}})
    assert list(frame.loc[["top-gene", "second-gene", "third-gene"], "verdict"]) == [HOLDS] * 3
    frame = ledger(facts={"interpretation": {"top_genes": ["B2M", "MALAT1", "ACTB", "TMSB4X"]}})
    assert (frame.loc["second-gene", "verdict"], frame.loc["third-gene", "verdict"]) == (FAILS, HOLDS)
    assert frame.loc["second-gene", "explanation"] == (
        "The paper names TMSB4X, the first 3 here are B2M, MALAT1, ACTB: it is none of them."
    )


def test_fig_4_is_judged_with_the_released_attention(ledger) -> None:
    lengths = {"max_length_end_to_end": 149, "max_length_divided": 89876}
    ours = {"memory": lengths | {"by_attention": {"favor": lengths}}}
    assert set(ledger(facts=ours).loc[["length-end-to-end", "length-divided"], "verdict"]) == {NOT_RUN}
    released = {"max_length_end_to_end": 49, "max_length_divided": 20000}
    ours["memory"]["by_attention"]["released"] = released
    frame = ledger(facts=ours)
    assert set(frame.loc[["length-end-to-end", "length-divided"], "verdict"]) == {HOLDS}
    assert "20,000: at least as much" in frame.loc["length-divided", "explanation"]


def test_the_benchmarks_own_claims_are_marked(ledger) -> None:
    frame = ledger()
    own = frame.index[frame["source"] == "benchmark"]
    assert "zheng-macro-best" in own and "moco-hurts-accuracy" in own
    assert {"sota-annotation", "contrast-helps", "annotation-f1", "scbert-zheng"}.isdisjoint(own)
    assert "(the benchmark's own)" in Path(f"{ledger.out}.md").read_text()


def test_every_verdict_is_one_sentence_with_both_numbers_interval_and_n(ledger) -> None:
    row = ledger().loc["annotation-gain"]
    assert row["explanation"] == (
        "The paper reports a gain of 3.0 points, uncertain by ± 1.4, this run has 3.0 points (95 % interval "
        "2.3 to 3.7, 5 splits): the gain is real and at least as large as the paper's, within its "
        "uncertainty."
    )
    assert (ledger()["explanation"].str.endswith(".")).all()
    assert ledger(toy=True).loc["annotation-gain", "explanation"].endswith("; a toy run is not judged.")


def test_pairs_of_an_ordering_are_corrected_within_the_claim(tmp_path, score_file, spread, models) -> None:
    """One pair of p = 0.03 decides alone, and does not among six."""
    metrics = ("macro_f1", "weighted_f1", "accuracy")
    values = {}
    for data_set in (ZHENG, BARON):
        for metric in metrics:
            sd = 0.0221 if (data_set, metric) == (ZHENG, "macro_f1") else 0.001
            values["celllm", data_set, "strict", metric] = spread(0.75, sd)
            for rival in ("celllm_moco", "scbert", "scanpy"):
                values[rival, data_set, "strict", metric] = [0.70] * 5
    run_claims([score_file(values)], models, ClaimSettings(), tmp_path / "claims")
    frame = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id")
    plain = corrected_resampled_t([100 * v - 70 for v in spread(0.75, 0.0221)], 0.25)
    assert 0.02 < plain.p < 0.05
    row = frame.loc["divided-beats-moco"]
    assert float(row["p"]) == pytest.approx(plain.p)  # the largest of six is not multiplied
    assert row["verdict"] == HOLDS
    assert float(frame.loc["zheng-macro-best", "p"]) == pytest.approx(2 * plain.p)
    assert frame.loc["zheng-macro-best", "verdict"] == INCONCLUSIVE


def test_a_seed_without_an_encoder_is_not_run(tmp_path, score_file, spread, models) -> None:
    models["celllm"]["seeds"] = {"annotation": [0, 1], "response_warm": [0, 1, 2]}
    values = {(m, ZHENG, "strict", "macro_f1"): spread(0.7, 0.01) for m in ("celllm", "scbert")}
    path = score_file(values)
    run_claims([path], models, ClaimSettings(), tmp_path / "claims")
    frame = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id")
    for claim in ("annotation-f1", "annotation-gain", "zheng-macro-best"):
        assert frame.loc[claim, "verdict"] == NOT_RUN
        assert frame.loc[claim, "explanation"].startswith("No scores of seed 1 of CellLM, Zheng68K macro F1")
    second = pd.read_csv(path, keep_default_na=False)
    second = second[second["model"] == "celllm"].assign(seed=1, value=lambda f: f["value"] + 0.04)
    second.to_csv(tmp_path / "second.csv", index=False)
    run_claims([path, tmp_path / "second.csv"], models, ClaimSettings(), tmp_path / "claims")
    row = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id").loc["annotation-gain"]
    assert float(row["our_value"]) == pytest.approx(2.0)
    assert row["note"].endswith(
        "2 pre-trainings: standard deviation 0 over the splits of one, 2.8 over their means."
    )
    assert "variance of 2 seeds added" in row["method"]
    assert "5 splits of each of 2 pre-trainings" in row["explanation"]


@pytest.mark.parametrize(
    ("seeds", "conditional"),
    [
        ({}, "Conditional on one encoder of CellLM and of CellLM w/o CL: the interval leaves out"),
        ({"celllm": 2}, "Conditional on one encoder of CellLM w/o CL: the interval leaves out"),
        ({"celllm": 2, "celllm_wo_cl": 2}, ""),
    ],
)
def test_a_claim_on_training_names_the_rows_that_were_trained_once(
    tmp_path, score_file, spread, models, seeds, conditional
) -> None:
    values = {
        (m, ZHENG, "strict", "macro_f1"): spread(0.7, 0.01) for m in ("celllm", "celllm_wo_cl", "scbert")
    }
    first = pd.read_csv(score_file(values), keep_default_na=False)
    frames = [
        first[first["model"] == name].assign(seed=1, value=lambda f: f["value"] - 0.03) for name in seeds
    ]
    pd.concat([first, *frames]).to_csv(tmp_path / "all.csv", index=False)
    run_claims([tmp_path / "all.csv"], models, ClaimSettings(), tmp_path / "claims")
    notes = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id")["note"]
    assert ("Conditional on one encoder" in notes["wo-cl-zheng"]) == bool(conditional)
    assert conditional in notes["wo-cl-zheng"]
    assert ("2 pre-trainings" in notes["wo-cl-zheng"]) == bool(seeds)
    assert "Conditional" not in notes["annotation-gain"]


@pytest.mark.parametrize("absent", ["celllm", "celllm_wo_cl"])
def test_scores_of_a_row_that_the_run_does_not_have_decide_nothing(
    tmp_path, score_file, spread, models, absent
) -> None:
    values = {
        (m, ZHENG, "strict", "macro_f1"): spread(0.7, 0.01) for m in ("celllm", "celllm_wo_cl", "logistic")
    }
    title = models.pop(absent)["title"]
    run_claims([score_file(values)], models, ClaimSettings(), tmp_path / "claims")
    frame = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id")
    assert frame.loc["wo-cl-zheng", "verdict"] == NOT_RUN
    assert frame.loc["wo-cl-zheng", "explanation"].startswith(f"{title} is no row of this run; the paper ")
    assert frame.loc["wo-cl-zheng", "our_value"] == ""


def test_every_claim_has_a_line_with_a_known_verdict(ledger) -> None:
    frame = ledger()
    assert list(frame.index) == list(CLAIMS)
    assert set(frame["verdict"]) <= set(VERDICTS)
    assert list(frame.columns[-3:]) == ["verdict", "explanation", "note"]


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
    run_claims(
        [score_file(values, task="drug_few_shot")],
        models,
        as_settings(ClaimSettings, settings),
        tmp_path / "claims",
    )
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
    models["deepcdr"] = {"title": "DeepCDR"}
    run_claims([score_file(values, task="response_warm")], models, ClaimSettings(), tmp_path / "claims")
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
        run_claims([score_file(values, failures)], models, ClaimSettings(run="x"), tmp_path / "claims")
        return pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id").loc[claim]

    return make


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([2.9, 3.0, 3.1, 3.0, 3.0], HOLDS),
        ([1.6, 1.5, 1.6, 1.6, 1.6], HOLDS),  # the paper's 3.0 less 1.45
        ([1.4, 1.5, 1.5, 1.6, 1.5], INCONCLUSIVE),  # the interval ends at 1.63
        ([1.4, 1.4, 1.5, 1.4, 1.4], FAILS),
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


def test_an_interval_ends_where_the_metric_does(verdict_on) -> None:
    row = verdict_on([99.9, 60.0, 99.9, 99.9, 99.9], [70.0] * 5, "annotation-f1")
    assert (float(row["high"]), float(row["low"]) > 0) == (100.0, True)
    row = verdict_on([1.0, 30.0, 0.0, 0.0, 0.0], [70.0] * 5, "annotation-f1")
    assert float(row["low"]) == 0.0
    row = verdict_on([0.0, 90.0, 0.0, 0.0, 99.0], [99.0] * 5)
    assert (float(row["low"]), float(row["high"]) < 100) == (-100.0, True)  # of a difference, twice as far


def test_one_split_is_never_enough(verdict_on) -> None:
    row = verdict_on([75.0], [70.0])
    assert (row["verdict"], row["low"], row["p"], float(row["n"])) == (INCONCLUSIVE, "", "", 1)
    assert row["note"] == "One split, no interval."
    value = verdict_on([71.0], [70.0], "annotation-f1")
    assert (value["verdict"], value["note"]) == (INCONCLUSIVE, "One split, no interval.")


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
    assert row["explanation"].startswith("No scores of CellLM, Zheng68K macro F1, protocol strict; ")


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
    models["deepcdr"] = {"title": "DeepCDR"}
    run_claims([score_file(values, task="response_warm")], models, ClaimSettings(), tmp_path / "claims")
    row = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id").loc["warm-best"]
    assert row["verdict"] == INCONCLUSIVE
    assert "Warm start RMSE: the paper is 0.263 ahead, this run 0.200 ahead" in row["explanation"]
    assert float(row["our_value"]) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        ([0.10, 0.30, 300], HOLDS),
        ([-0.05, 0.45, 300], INCONCLUSIVE),  # as large as the paper's, and perhaps nothing
        ([0.16, 0.24, 300], HOLDS),
    ],
)
def test_facts_that_are_compared_with_each_other(ledger, gain, verdict) -> None:
    both = {"ari_attended": 0.3, "ari_expressed": 0.1, "ari_gain_interval": gain}
    row = ledger(facts={"interpretation": both}).loc["ari-gain"]
    assert (row["verdict"], float(row["our_value"])) == (verdict, pytest.approx(0.2))
    assert (float(row["n"]), float(row["low"]), float(row["high"])) == (300, *gain[:2])
    assert ledger(facts={"interpretation": {"ari_attended": 0.3}}).loc["ari-gain", "verdict"] == NOT_RUN


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ([0.21, 0.16, 0.26], HOLDS),
        ([0.14, 0.09, 0.19], INCONCLUSIVE),
        ([0.14, 0.11, 0.16], FAILS),
        ([0.30, 0.27, 0.33], FAILS),
    ],
)
def test_a_number_without_a_spread_is_judged_by_what_was_measured_and_no_constant(
    ledger, ours, verdict
) -> None:
    facts = {"ari_attended": ours[0], "ari_attended_interval": [*ours[1:], 1000]}
    row = ledger(facts={"interpretation": facts}).loc["ari-attended"]
    assert row["verdict"] == verdict
    assert "1,000 cells" in row["explanation"]
    # A tolerance of ours stands only where a count or a size is not judged, or where the paper rounds.
    judged_by = {c.id for c in CLAIMS.values() if c.tolerance and not c.undecidable}
    assert judged_by == {"length-end-to-end"}


@pytest.mark.parametrize(("sd", "verdict"), [(0.010, HOLDS), (0.024, HOLDS), (0.027, INCONCLUSIVE)])
def test_a_mean_that_lies_right_by_chance_does_not_hold(
    tmp_path, score_file, spread, models, sd, verdict
) -> None:
    """The paper's sd is 1.0 over five runs: beyond 2.53 of it (F of 4 and 4, 6.388) nothing is decided."""
    path = score_file({("celllm", ZHENG, "strict", "macro_f1"): spread(0.718, sd)})
    run_claims([path], models, ClaimSettings(), tmp_path / "claims")
    row = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id").loc["annotation-f1"]
    assert row["verdict"] == verdict
    assert ("too far apart" in row["explanation"]) == (verdict == INCONCLUSIVE)


KINDS = ("value", "difference", "ordering", "fact", "interval", "among")


def kind_of(claim) -> str:
    if claim.among:
        return "among"
    if claim.fact:
        return "interval" if claim.interval else "fact"
    return claim.kind


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_claim_and_verdict_is_one_sentence_with_its_numbers(kind: str, verdict: str) -> None:
    """The paper's number, ours, the interval and n, whatever the verdict."""
    claims = [claim for claim in CLAIMS.values() if kind_of(claim) == kind]
    assert claims
    for claim in claims:
        claim = replace(claim, undecidable=verdict if verdict in (BY_CONSTRUCTION, OTHER_DATA) else "")
        slip = "The paper also says 5" if verdict == CONTRADICTION else ""
        ours = Comparison(7, 12.5, 11.25, 13.75, 3.0, 0.04, 1.0, "")
        finding = Finding(ours, fact=None if claim.cells else 12.5)
        if kind == "ordering":
            finding = replace(finding, pair="against Z, macro F1", printed=-3.5, n_pairs=4)
        if kind == "fact":
            finding = Finding(fact=12.5 if isinstance(claim.paper, float | int) else "PDPN")
        if kind == "among":
            finding = Finding(fact=["PDPN", "KRT7", "B2M", "ACTB"])
        if verdict == NOT_RUN:
            finding = Finding(missing="No scores of Z")
        if verdict == INCONCLUSIVE and kind in ("fact", "among"):
            continue  # a number without an interval is the same or not
        tolerance = 1.25 if kind in ("value", "difference", "interval") else claim.tolerance
        text = explained(claim, finding, tolerance, verdict, slip)
        assert text.endswith(".") and ". " not in text, text
        assert text[0].isupper() and "None" not in text and "nan" not in text, text
        wanted = []
        if verdict == NOT_RUN:
            wanted += ["No scores of Z"]
        elif kind in ("value", "difference", "ordering", "interval"):
            wanted += ["12.5", "11.2", "13.75", "7 "]
        elif kind == "fact":
            wanted += ["12.5" if isinstance(claim.paper, float | int) else "PDPN"]
        else:
            wanted += ["PDPN, KRT7, B2M"]
        if verdict == CONTRADICTION:
            wanted += ["the paper also says 5"]
        elif kind != "ordering":
            wanted += [claim.taken_as or number_text(claim.paper, claim.unit)]
        elif verdict != NOT_RUN:
            wanted += ["the paper is 3.5", "behind"]
        if verdict in (BY_CONSTRUCTION, OTHER_DATA):
            wanted += ["configuration" if verdict == BY_CONSTRUCTION else "release"]
        assert [w for w in wanted if w not in text] == [], text


def test_a_row_that_is_not_what_the_paper_calls_it_says_so(tmp_path, score_file, spread, models) -> None:
    models["scbert"]["title"] = "scBERT without gene2vec"
    values = {(m, ZHENG, "strict", "macro_f1"): spread(0.7, 0.01) for m in ("celllm", "scbert")}
    run_claims([score_file(values)], models, ClaimSettings(), tmp_path / "claims")
    notes = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id")["note"]
    for claim in ("annotation-gain", "scbert-zheng"):
        assert "The row here is scBERT without gene2vec." in notes[claim]
    assert "The row here" not in notes["annotation-f1"]


def test_a_collapsed_row_is_named_beside_the_verdict(tmp_path, score_file, spread, models) -> None:
    """Splits 0 and 1: all cells are called a; split 2: a row that finds one class and confuses the others."""
    values = {("celllm", ZHENG, "strict", "macro_f1"): [0.2, 0.2, 0.3]}
    of = {
        "recall:a": [1, 1, 1],
        "recall:b": [0, 0, 0],
        "precision:a": [0.4, 0.3, 0.8],
        "accuracy": [0.4, 0.3, 0.4],
    }
    values |= {("celllm", ZHENG, "strict", name): list(map(float, series)) for name, series in of.items()}
    run_claims([score_file(values)], models, ClaimSettings(), tmp_path / "claims")
    notes = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id")["note"]
    assert (
        "CellLM, Zheng68K: every test cell is given the same class in 2 of 3 splits."
        in notes["annotation-f1"]
    )
    run_table("table1", [tmp_path / "scores.csv"], models, TableSettings(), tmp_path / "table1")
    frame = pd.read_csv(tmp_path / "table1.csv", keep_default_na=False).set_index(
        ["model", "column", "protocol"]
    )
    row = frame.loc[("celllm", "zheng68k/macro_f1", "strict")]
    assert row["reason"] == "every test cell is given the same class in 2 of 3 splits"
    assert "same class in 2 of 3 splits" in (tmp_path / "table1.md").read_text()


@pytest.mark.parametrize(
    ("n_collapsed", "sd", "verdict", "reason"),
    [
        (2, 0.005, HOLDS, "the gain is real"),
        (3, 0.005, INCONCLUSIVE, "a lead over that shows nothing"),
        (3, 0.8, INCONCLUSIVE, "the splits do not decide"),  # with any rival
    ],
)
def test_a_lead_over_a_row_that_gives_one_class_shows_nothing(
    tmp_path, score_file, spread, models, n_collapsed: int, sd: float, verdict: str, reason: str
) -> None:
    values = {("celllm", ZHENG, "strict", "macro_f1"): spread(0.75, sd)}
    values |= {("scbert", ZHENG, "strict", "macro_f1"): spread(0.1, 0.005)}
    one = [True] * n_collapsed + [False] * (5 - n_collapsed)
    of = {"recall:a": (1, 0.5), "recall:b": (0, 0.5), "precision:a": (0.4, 0.6), "accuracy": (0.4, 0.5)}
    for name, (if_one, else_) in of.items():
        values["scbert", ZHENG, "strict", name] = [float(if_one if here else else_) for here in one]
    run_claims([score_file(values)], models, ClaimSettings(), tmp_path / "claims")
    line = pd.read_csv(tmp_path / "claims.csv", keep_default_na=False).set_index("id").loc["annotation-gain"]
    assert line["verdict"] == verdict
    assert reason in line["explanation"]


def test_what_counts_as_the_papers_value_is_printed(ledger) -> None:
    ledger(facts={"model": {"n_parameters": 52_000_000}, "data_sets": {"zheng68k": {"n_cells": 700}}})
    text = Path(f"{ledger.out}.md").read_text()
    assert "| 50,000,000<br>or more | 52,000,000 | parameters |" in text
    assert "| 68,450<br>exactly | 700 |" in text
    assert "| +3.0 points<br>± 1.4 | +3.0 points<br>2.3 to 3.7<br>n = 5, d = 7.5<br>p (Holm) " in text
    for suffix in ("md", "html"):
        text = Path(f"{ledger.out}.{suffix}").read_text()
        assert "adjusted over the 3 differences and orderings" in text
        assert "five runs of each are assumed, since it names no number" in text
    assert {task.n for task in published.load().tasks.values()} == {5}


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
