import json
from pathlib import Path

import pandas as pd
import pytest

from celllm.errors import UserError
from celllm.report.render import GROUPS, markdown, read_table, signed, tex
from celllm.report.run import TOY_NOTE
from celllm.report.settings import TableSettings
from celllm.report.tables import mean_sd, run_table
from celllm.settings import as_settings

ZHENG, BARON = "zheng68k", "baron"


def cells(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(f"{path}.csv", keep_default_na=False)
    return frame.set_index(["protocol", "model", "column"])


@pytest.fixture
def table(tmp_path, score_file, spread, models):
    """Table 1 of a run in which one model failed on a data set, one lost a split and one was not run."""
    values = {}
    for protocol, gain in (("strict", 0.0), ("paper", 0.004)):
        for metric in ("macro_f1", "weighted_f1", "accuracy"):
            values |= {
                ("celllm", ZHENG, protocol, metric): spread(0.7134 + gain, 0.012),
                ("celllm", BARON, protocol, metric): spread(0.9, 0.01),
                ("celllm_wo_cl", ZHENG, protocol, metric): spread(0.69, 0.01),
                ("celllm_wo_cl", BARON, protocol, metric): [0.95] * 4,
                ("logistic", ZHENG, protocol, metric): spread(0.71349, 0.01),
                ("logistic", BARON, protocol, metric): spread(0.93, 0.0),
            }
    no_room = ("out-of-memory", "needs 40 GiB & more")
    failures = {
        ("scbert", ZHENG, "strict", "macro_f1"): dict.fromkeys(range(5), no_room),
        ("celllm_wo_cl", BARON, "strict", "macro_f1"): {4: ("failed", "loss is not finite")},
    }
    del models["celllm_moco"]
    out = tmp_path / "tables" / "table1"
    path = score_file(values, failures)

    def make(**settings) -> Path:
        run_table("table1", [path], models, as_settings(TableSettings, {"run": "test"} | settings), out)
        return out

    return make


def test_a_cell_is_printed_as_the_paper_prints_it(table) -> None:
    cell = cells(table()).loc[("strict", "celllm", "zheng68k/macro_f1")]
    assert cell["text"] == "71.3 ± 1.2"
    assert cell["n"] == 5
    assert float(cell["mean"]) == pytest.approx(71.34, abs=1e-9)
    assert float(cell["sd"]) == pytest.approx(1.2, abs=1e-9)
    assert float(cell["paper_value"]) == 71.8
    assert float(cell["difference"]) == pytest.approx(-0.46, abs=1e-9)
    assert (cell["status"], cell["reason"]) == ("ok", "")


def test_equal_print_is_an_equal_place_and_gaps_never_win(table) -> None:
    frame = cells(table())
    best = frame[frame["best"].astype(str) == "True"]
    strict = best.loc["strict"].index.to_frame(index=False)
    assert sorted(strict.query("column == 'zheng68k/macro_f1'")["model"]) == ["celllm", "logistic"]
    # The model with 0.95 lost a split: the complete row with 0.93 is the best one.
    assert list(strict.query("column == 'baron/macro_f1'")["model"]) == ["logistic"]


def test_no_cell_is_empty_without_a_reason(table) -> None:
    frame = cells(table())
    missing = frame[frame["text"] == ""]
    assert len(missing) > 0
    assert (missing["reason"] != "").all()
    strict = frame.loc["strict"]
    assert strict.loc[("celllm_moco", "zheng68k/macro_f1"), "reason"] == "not among the models of this run"
    assert strict.loc[("scanpy", "baron/accuracy"), "reason"] == "no scores in this run"
    failed = strict.loc[("scbert", "zheng68k/macro_f1")]
    assert failed["status"] == "out-of-memory"
    assert failed["reason"] == "split 0, 1, 2, 3, 4: out-of-memory, needs 40 GiB & more"
    partial = strict.loc[("celllm_wo_cl", "baron/macro_f1")]
    assert (partial["status"], partial["n"]) == ("partial", 4)
    assert partial["reason"] == "4 of 5 splits; split 4: failed, loss is not finite"
    fewer = frame.loc[("paper", "celllm_wo_cl", "baron/macro_f1")]
    assert fewer["reason"] == "4 of 5 splits; the others have no scores"


def test_optimism_is_the_paired_difference_of_the_protocols(table) -> None:
    frame = cells(table())
    cell = frame.loc[("paper", "celllm", "zheng68k/macro_f1")]
    assert float(cell["optimism"]) == pytest.approx(0.4, abs=1e-9)
    assert float(cell["optimism_sd"]) == pytest.approx(0.0, abs=1e-9)
    assert frame.loc[("strict", "celllm", "zheng68k/macro_f1"), "optimism"] == ""
    assert "+0.4 ± 0.0" in Path(f"{table()}.md").read_text()


@pytest.mark.parametrize(
    ("name", "task", "data_set", "metric", "choice"),
    [
        ("table1", "annotation", ZHENG, "macro_f1", 4.0),  # paper less strict: both learned from both parts
        (
            "table3",
            "response_warm",
            "gdsc_ccle",
            "pearson",
            0.06,
        ),  # paper less no_refit: from the training part
    ],
)
def test_the_choice_and_the_larger_training_part_are_apart(
    tmp_path, score_file, spread, models, name, task, data_set, metric, choice
) -> None:
    means = {"strict": 0.72, "no_refit": 0.70, "paper": 0.76}
    values = {("celllm", data_set, protocol, metric): spread(mean, 0.01) for protocol, mean in means.items()}
    run_table(
        name,
        [score_file(values, task=task)],
        models,
        as_settings(TableSettings, {"protocols": list(means)}),
        tmp_path / name,
    )
    frame = pd.read_csv(f"{tmp_path / name}.csv")
    frame = frame[(frame["model"] == "celllm") & (frame["metric"] == metric) & (frame["n"] > 0)]
    frame = frame.set_index("protocol")
    assert frame.loc["paper", "optimism"] == pytest.approx(choice)
    assert frame.loc["strict", "refit"] == pytest.approx(2.0 if name == "table1" else 0.02)
    assert frame.loc[["strict", "no_refit"], "optimism"].isna().all()
    assert frame.loc[["paper", "no_refit"], "refit"].isna().all()
    view = read_table(f"{tmp_path / name}.csv")
    assert [block["key"] for block in view["blocks"]] == [*means, "optimism", "refit"]
    text = Path(f"{tmp_path / name}.md").read_text()
    against = "strict" if name == "table1" else r"no\_refit"
    assert f"protocol paper minus {against}, which learned from the same rows" in text
    assert r"What the larger training part adds: protocol strict minus no\_refit" in text


def test_a_cell_of_several_seeds_shows_both_spreads(tmp_path, score_file, spread, models) -> None:
    """Two pre-trainings whose means are 4 points apart, and whose splits spread by 1 and by 3 points."""
    models["celllm"]["seeds"] = {"annotation": [0, 1]}
    key = (ZHENG, "strict", "macro_f1")
    first = score_file({("celllm", *key): spread(0.70, 0.01), ("scbert", *key): spread(0.7, 0.02)}, name="0")
    second = pd.read_csv(score_file({("celllm", *key): spread(0.74, 0.03)}, name="1"), keep_default_na=False)
    second.assign(seed=1).to_csv(tmp_path / "1.csv", index=False)
    settings = {"protocols": ["strict"]}
    run_table(
        "table1",
        [first, tmp_path / "1.csv"],
        models,
        as_settings(TableSettings, settings),
        tmp_path / "table1",
    )
    cell = cells(tmp_path / "table1").loc[("strict", "celllm", "zheng68k/macro_f1")]
    assert (cell["n"], cell["n_seeds"], cell["status"], cell["reason"]) == (5, 2, "ok", "")
    assert float(cell["mean"]) == pytest.approx(72.0)
    assert float(cell["sd"]) == pytest.approx(5**0.5)  # root of the mean of 1 and 9
    assert float(cell["seed_sd"]) == pytest.approx(8**0.5)
    for suffix in ("md", "tex", "html"):
        text = Path(f"{tmp_path}/table1.{suffix}").read_text().replace(r"$\pm$", "±")
        assert "72.0 ± 2.2" in text and "2 seeds ± 2.8" in text
        assert "± of the seeds" in text.replace("&#39;", "'")
    run_table("table1", [first], models, as_settings(TableSettings, settings), tmp_path / "table1")
    cell = cells(tmp_path / "table1").loc[("strict", "celllm", "zheng68k/macro_f1")]
    assert (cell["status"], cell["reason"]) == ("partial", "5 of 10 splits; seed 1 of 2 has no scores")
    assert not cell["best"]


def test_rows_stand_in_printed_order_then_controls(table) -> None:
    frame = cells(table()).loc["strict"]
    assert list(dict.fromkeys(frame.reset_index()["model"])) == [
        "scanpy", "scbert", "celllm_wo_cl", "celllm_moco", "celllm", "logistic",
    ]  # fmt: skip


def test_data_sets_and_groups_of_the_run_stand_beside_those_of_the_paper(
    tmp_path, score_file, spread, models
) -> None:
    models["mine"] = {"title": "Mine", "group": "our lab"}
    values = {
        (model, data_set, "strict", metric): spread(0.6 + 0.1 * (model == "mine"), 0.01)
        for model in ("celllm", "mine", "logistic")
        for data_set in (ZHENG, "atlas_2025")
        for metric in ("macro_f1", "weighted_f1", "accuracy")
    }
    run_table(
        "table1",
        [score_file(values)],
        models,
        as_settings(TableSettings, {"protocols": ["strict"]}),
        tmp_path / "table1",
    )
    frame = cells(tmp_path / "table1").loc["strict"]
    assert list(dict.fromkeys(frame.index.get_level_values("column")))[6:] == [
        "atlas_2025/macro_f1", "atlas_2025/weighted_f1", "atlas_2025/accuracy",
    ]  # fmt: skip
    ours = frame.loc[("celllm", "atlas_2025/accuracy")]
    assert (ours["text"], ours["paper_value"], ours["difference"]) == ("60.0 ± 1.0", "", "")
    assert str(frame.loc[("mine", "atlas_2025/macro_f1"), "best"]) == "True"
    block = read_table(tmp_path / "table1.csv")["blocks"][0]
    assert [group["title"] for group in block["groups"]] == ["Zheng68K", "Baron", "atlas_2025"]
    assert [section["title"] for section in block["sections"]] == [
        "Rows of the paper",
        GROUPS["control"],
        "our lab",
    ]
    assert {len(row["cells"]) for section in block["sections"] for row in section["rows"]} == {9}
    for suffix in ("md", "html", "tex"):
        assert "atlas" in Path(f"{tmp_path}/table1.{suffix}").read_text()


def test_a_further_drug_data_set_has_a_column_for_each_scenario(tmp_path, score_file, spread, models) -> None:
    values = {("celllm", "gse1", "strict", "f1"): spread(0.6, 0.01)}
    paths = [score_file(values, task=task, name=task) for task in ("drug_few_shot", "drug_full")]
    run_table(
        "table2", paths, models, as_settings(TableSettings, {"protocols": ["strict"]}), tmp_path / "table2"
    )
    block = read_table(tmp_path / "table2.csv")["blocks"][0]
    assert [group["title"] for group in block["groups"]][4:] == ["gse1, few-shot", "gse1, full data"]


def test_all_formats_hold_both_protocols_and_the_reasons(table) -> None:
    out = table()
    for suffix in ("md", "tex", "html"):
        text = Path(f"{out}.{suffix}").read_text()
        assert "Protocol strict" in text and "What the paper's choice adds" in text.replace("&#39;", "'")
        assert "needs 40 GiB" in text
        assert TOY_NOTE not in text and "(toy)" not in text


def test_markdown_shows_ours_the_papers_and_the_difference(table) -> None:
    text = Path(f"{table()}.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| CellLM |"))
    assert row.split(" | ")[1] == "**71.3 ± 1.2**<br>paper 71.8 ± 1.0, Δ −0.5"
    assert "| L1 logistic\\_regression & more |" in text
    assert "| out of memory <sup>" in text


def test_latex_is_escaped_and_bold(table) -> None:
    text = Path(f"{table()}.tex").read_text()
    assert r"L1 logistic\_regression \& more" in text
    assert r"needs 40 GiB \& more" in text
    assert r"\textbf{71.3 $\pm$ 1.2}" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\end{table}") == 3
    assert text.count(r"\begin{tabular}{lrrrrrr}") == 3
    for line in text.splitlines():
        assert "$" not in line or line.count("$") % 2 == 0, line


def test_html_is_self_contained_and_escaped(table) -> None:
    text = Path(f"{table()}.html").read_text()
    assert "<b>71.3 ± 1.2</b>" in text
    assert "L1 logistic_regression &amp; more" in text
    assert "http://" not in text and "https://" not in text and "src=" not in text


def test_a_toy_says_so_everywhere_and_is_not_coloured(table) -> None:
    out = table(toy=True)
    assert (pd.read_csv(f"{out}.csv")["size"] == "toy").all()
    assert Path(f"{out}.md").read_text().startswith("# Table 1: Cell type annotation (toy)\n")
    for suffix in ("md", "tex", "html"):
        assert TOY_NOTE in Path(f"{out}.{suffix}").read_text().replace("Toy size", "toy size")
    html = Path(f"{out}.html").read_text()
    assert 'class="num worse"' not in html
    assert 'class="num near"' in Path(f"{table()}.html").read_text()


def test_the_report_reads_the_csv_back_as_it_was(table) -> None:
    view = read_table(f"{table()}.csv")
    assert [block["key"] for block in view["blocks"]] == ["strict", "paper", "optimism"]
    rows = view["blocks"][0]["sections"][0]["rows"]
    assert [row["title"] for row in rows] == ["Scanpy", "scBERT", "CellLM w/o CL", "CellLM MoCo", "CellLM"]
    cell = rows[4]["cells"][0]
    assert (cell["text"], cell["paper"], cell["difference"]) == ("71.3 ± 1.2", "71.8 ± 1.0", "−0.5")
    assert cell["best"] is True
    assert rows[4]["cells"][3]["best"] is False


def test_errors_are_better_when_smaller(tmp_path, score_file, models) -> None:
    models["deepcdr"] = {"title": "DeepCDR"}
    values = {
        ("celllm", "gdsc_ccle", "strict", "rmse"): [1.1, 1.2],
        ("scbert", "gdsc_ccle", "strict", "rmse"): [1.4, 1.3],
    }
    path = score_file(values, task="response_warm")
    run_table(
        "table3",
        [path],
        models,
        as_settings(TableSettings, {"run": "x", "protocols": ["strict"]}),
        tmp_path / "table3",
    )
    frame = cells(tmp_path / "table3").loc["strict"]
    assert str(frame.loc[("celllm", "warm/rmse"), "best"]) == "True"
    assert str(frame.loc[("scbert", "warm/rmse"), "best"]) == "False"
    assert frame.loc[("celllm", "warm/rmse"), "text"] == "1.150 ± 0.071"
    assert frame.loc[("celllm", "cold/rmse"), "reason"] == "no scores in this run"


def test_a_row_of_another_name_stands_for_the_papers(tmp_path, score_file, models) -> None:
    models = {"mine": {"title": "My CellLM", "paper_row": "CellLM"}}
    path = score_file({("mine", ZHENG, "strict", "macro_f1"): [0.5]})
    run_table("table1", [path], models, TableSettings(run="x"), tmp_path / "table1")
    cell = cells(tmp_path / "table1").loc[("strict", "mine", "zheng68k/macro_f1")]
    assert (cell["title"], cell["text"], float(cell["difference"])) == (
        "CellLM",
        "50.0",
        pytest.approx(-21.8),
    )


def test_added_methods_get_a_group_of_their_own(tmp_path, score_file, models) -> None:
    models["new"] = {"title": "New | method", "group": "added"}
    path = score_file({("new", ZHENG, "strict", "macro_f1"): [0.5, 0.6]})
    run_table("table1", [path], models, TableSettings(run="x"), tmp_path / "table1")
    text = (tmp_path / "table1.md").read_text()
    assert "| *Added methods* |" in text
    assert "| New \\| method | **55.0 ± 7.1** |" in text
    assert text.index("Controls: no encoder of ours") < text.index("Added methods")


def test_a_row_of_another_table_stands_where_the_paper_has_none_of_it(tmp_path, score_file, models) -> None:
    """Table 2 takes Scanpy as an added row; Table 1 leaves a row of Table B.2 out, which has its columns."""
    models |= {"scanpy": {"title": "Scanpy", "group": "paper"}, "celllm_8m": {"title": "CellLM 8M"}}
    path = score_file({("scanpy", "gse149383", "strict", "f1"): [0.5, 0.6]}, task="drug_full")
    run_table("table2", [path], models, TableSettings(run="x"), tmp_path / "table2")
    row = cells(tmp_path / "table2").loc[("strict", "scanpy", "gse149383_full/f1")]
    assert (row["group"], row["text"]) == ("added", "55.0 ± 7.1")
    run_table("table1", [], models, TableSettings(run="x"), tmp_path / "table1")
    assert "celllm_8m" not in set(cells(tmp_path / "table1").reset_index()["model"])


def test_the_largest_model_of_table_b2_is_celllm(tmp_path, score_file, models) -> None:
    path = score_file({("celllm", ZHENG, "strict", "macro_f1"): [0.5]})
    run_table("tableb2", [path], models, TableSettings(run="x"), tmp_path / "b2")
    frame = cells(tmp_path / "b2").loc["strict"].reset_index()
    assert list(dict.fromkeys(frame["title"])) == [
        "CellLM 8M", "CellLM 25M", "CellLM 50M", "L1 logistic_regression & more",
    ]  # fmt: skip


def test_tables_of_facts_compare_with_what_was_measured(tmp_path) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps({"data_sets": {"baron": {"labels": {"beta": 3, "alpha": 1}}}}))
    run_table("tabled2", [], {}, TableSettings(run="x", toy=True), tmp_path / "d2", [facts])
    frame = pd.read_csv(tmp_path / "d2.csv", dtype=str, keep_default_na=False).set_index(["title", "column"])
    assert list(frame.loc[("Beta", "Cells"), ["paper", "ours", "status"]]) == ["2,525", "3", "differs"]
    assert frame.loc[("Beta", "Share (%)"), "ours"] == "75.00"
    assert frame.loc[("Mast", "Cells"), "ours"] == "0"
    assert "Table D.2" in (tmp_path / "d2.html").read_text()


def test_settings_equal_to_the_papers_are_told_from_others(tmp_path) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps({"settings": {"model": {"dim": 512, "depth": 2}}}))
    run_table("tablef1", [], {}, TableSettings(run="x"), tmp_path / "f1", [facts])
    frame = pd.read_csv(tmp_path / "f1.csv", keep_default_na=False).set_index(["group", "title"])
    assert frame.loc[("Model", "Feature size"), "status"] == "same"
    assert frame.loc[("Model", "Number of layers"), "status"] == "differs"
    assert frame.loc[("Model", "Dropout"), "reason"] == "not measured in this run"


def test_facts_that_contradict_each_other_are_refused(tmp_path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"model": {"n_parameters": value}}))
    with pytest.raises(UserError, match=r"b\.json: model: fact 'n_parameters' is 2, another file says 1"):
        run_table(
            "tablef1", [], {}, TableSettings(), tmp_path / "f1", [tmp_path / "a.json", tmp_path / "b.json"]
        )


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("{not json", "models: not valid JSON"),
        ({"a": 3}, "models: 'a': expected a title or a row"),
        ({"a": {"seeds": [0, 1]}}, "models: 'a': seeds: expected a list for each task by name, got"),
        ([], "expected"),
    ],
)
def test_models_that_are_none(tmp_path, models, message) -> None:
    with pytest.raises(UserError, match=message):
        path = tmp_path / "models.yaml"
        path.write_text("[]")
        run_table("table1", [], models or path, TableSettings(), tmp_path / "t")


def test_unknown_settings_are_told(tmp_path) -> None:
    with pytest.raises(UserError, match=r"settings\.toi: unknown key 'toi'"):
        run_table("table1", [], {}, as_settings(TableSettings, {"toi": True}), tmp_path / "t")


@pytest.mark.parametrize(
    ("value", "text"), [(0.34, "+0.3"), (-0.34, "−0.3"), (0.04, "0.0"), (-0.04, "0.0"), (12.25, "+12.2")]
)
def test_signs(value: float, text: str) -> None:
    assert signed(value, 1) == text


def test_mean_sd_of_one_split_is_the_mean() -> None:
    assert mean_sd(71.84, float("nan"), 1) == "71.8"
    assert mean_sd(0.93449, 0.0051, 3) == "0.934 ± 0.005"
    assert mean_sd(-0.0021, 0.003, 3) == "−0.002 ± 0.003"


def test_escapes() -> None:
    assert tex(r"50% of A_B & {C} \ ~^#$<") == (
        r"50\% of A\_B \& \{C\} \textbackslash{} \textasciitilde{}\textasciicircum{}\#\$\textless{}"
    )
    assert markdown("a|b *c*\n_d_ <e>") == r"a\|b \*c\* \_d\_ \<e\>"


@pytest.mark.parametrize(
    "title", ['=HYPERLINK("http://x")', "+cmd|' /C calc'!A0", "@SUM(A1)", "-2+3", "\t=1+1"]
)
def test_no_cell_is_a_formula_of_a_spreadsheet(tmp_path, score_file, spread, models, title: str) -> None:
    models["logistic"]["title"] = title
    values = {(m, ZHENG, "strict", "macro_f1"): spread(0.7, 0.01) for m in ("celllm", "logistic")}
    run_table("table1", [score_file(values)], models, TableSettings(), tmp_path / "table1")
    frame = pd.read_csv(tmp_path / "table1.csv", dtype=str, keep_default_na=False)
    assert set(frame.loc[frame["model"] == "logistic", "title"]) == {f"'{title}"}
    assert frame.loc[frame["model"] == "scbert", "difference"].str.startswith("'").sum() == 0
    titles = [
        row["title"]
        for s in read_table(tmp_path / "table1.csv")["blocks"][0]["sections"]
        for row in s["rows"]
    ]
    assert title in titles


def test_remarks_say_what_is_positive_who_learned_and_which_rows_are_one(
    tmp_path, score_file, spread, models
) -> None:
    values = {(m, "gse149383", "strict", "f1"): spread(0.7, 0.01) for m in ("celllm", "logistic")}
    values["scbert", "gse149383", "strict", "f1"] = spread(0.6, 0.01)
    run_table(
        "table2", [score_file(values, task="drug_few_shot")], models, TableSettings(), tmp_path / "table2"
    )
    for suffix in ("md", "html"):
        text = Path(f"{tmp_path}/table2.{suffix}").read_text()
        for part in ("F1 is that of the class", "are two samples of one cell line", "Who learned from what"):
            assert part in text
        assert "have the same numbers" in text
    remarks = read_table(tmp_path / "table2.csv")["remarks"]
    assert remarks[-1].startswith("CellLM and L1 logistic_regression & more have the same numbers")
