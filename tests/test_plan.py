"""What a run makes and from what, asked without Snakemake."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from celllm.config import complete, lay_over, merged
from celllm.errors import UserError
from celllm.io import read_yaml
from celllm.plan import CELLS, FACT_TABLES, SCREEN, SUPPLEMENT, Plan, is_control
from celllm.report.captions import CAPTIONS
from tests.places import CONFIG


def planned(overlay: dict[str, Any] | None = None) -> Plan:
    base = merged(CONFIG / "toy.yaml")
    return Plan(complete(lay_over(base, overlay), CONFIG, environ={}))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return planned()


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [
        ("embedded", ("results/toy/mirror", "results/toy/raw")),
        ("/data/mirror", ("/data/mirror", "results/toy/raw")),
        (None, (None, "data/raw")),
    ],
)
def test_downloads_from_the_internet_are_shared_and_those_of_a_mirror_are_not(
    mirror: str | None, expected: tuple[str | None, str]
) -> None:
    plan = planned({"mirror": mirror})
    assert (plan.mirror, plan.raw) == expected
    assert plan.embedded == (mirror == "embedded")


def test_files_by_name(plan: Plan) -> None:
    assert plan.paths(CELLS, ["a", "b"]) == ["results/toy/prepared/a.h5ad", "results/toy/prepared/b.h5ad"]
    assert plan.by_name(CELLS, ["a"]) == ["a=results/toy/prepared/a.h5ad"]
    assert plan.role_flags("--cells", CELLS, "expression") == [
        "--cells",
        "ccle=results/toy/prepared/ccle.h5ad",
    ]
    without = planned({"data_sets": {"single_cell_drug": []}, "tables": ["table1"]})
    assert without.role_flags("--cells", CELLS, "single_cell_drug") == []


def test_a_sample_adds_its_own_file_to_those_of_its_source(plan: Plan) -> None:
    of_source = plan.raw_by_name("cancerscem")
    of_sample = plan.raw_by_name("cancerscem", "BRCA-001")
    added = {name: path for name, path in of_sample.items() if name not in of_source}
    assert added and all("BRCA-001" in path for path in added.values())
    assert plan.raw_files("cancerscem", "BRCA-001") == list(of_sample.values())
    assert plan.raw_flags("cancerscem") == [f"{name}={path}" for name, path in of_source.items()]


def test_downloads_are_those_of_the_data_sets_of_the_run() -> None:
    plan = planned({"data_sets": {"annotation": ["baron"], "single_cell_drug": []}, "tables": ["table1"]})
    assert len(set(plan.downloads)) == len(plan.downloads)
    assert set(plan.raw_files("baron")) | set(plan.raw_files("string")) < set(plan.downloads)
    assert not any("zheng68k" in path or "gse149383" in path for path in plan.downloads)


def test_the_choice_of_samples_changes_no_sample() -> None:
    plan = planned({"reader_options": {"panglaodb": {"samples": "3"}}})
    options = plan.options("panglaodb")
    assert options["samples"] == "3"
    assert plan.options("panglaodb", "SRA1") == {k: v for k, v in options.items() if k != "samples"}


def test_a_download_is_made_again_when_its_row_changes_and_only_then(plan: Plan) -> None:
    def changed(row: dict[str, Any]) -> Plan:
        config = copy.deepcopy(dict(plan.config))
        config["catalogue"]["string"]["files"]["links"] |= row
        return Plan(config)

    path = plan.config["catalogue"]["string"]["files"]["links"]["path"]
    other = plan.config["catalogue"]["string"]["files"]["info"]["path"]
    new = changed({"url": "https://example.org/elsewhere"})
    assert list(plan.catalogue_rows(path)) == ["links"]
    assert new.catalogue_rows(path) != plan.catalogue_rows(path)
    assert new.catalogue_rows(other) == plan.catalogue_rows(other)


def test_a_file_of_a_sample_belongs_to_the_rows_of_its_folder(plan: Plan) -> None:
    of_sample = set(plan.raw_files("cancerscem", "X")) - set(plan.raw_files("cancerscem"))
    for path in of_sample:
        rows = plan.catalogue_rows(path.removeprefix(f"{plan.raw}/"))
        assert rows == plan.config["catalogue"]["cancerscem"]["sample_files"]
    assert of_sample


@pytest.mark.parametrize(
    ("model", "encoder"),
    [("celllm", "celllm"), ("frozen", "celllm"), ("random_init", None), ("logistic_regression", None)],
)
def test_the_encoder_of_a_row(plan: Plan, model: str, encoder: str | None) -> None:
    files = [f"results/toy/checkpoints/{encoder}/encoder.safetensors"] if encoder else []
    assert plan.pretrained(model) == encoder
    assert plan.encoder_files(model) == (files or plan.gene_embeddings(model))
    assert plan.scored_row(model, "baron").get("encoder") == (files[0] if files else None)


def test_only_rows_of_the_tables_are_pre_trained() -> None:
    plan = planned({"tables": ["table2"], "drug_sensitivity": {"models": ["scbert", "frozen", "majority"]}})
    assert plan.encoders == ["scbert", "celllm"]
    assert plan.compared == ["celllm"]
    assert plan.untrained == []
    assert planned().untrained == ["random_init_random_genes", "random_init"]


def test_an_untrained_row_has_graphmaes_vectors_or_random_ones(plan: Plan) -> None:
    vectors = "results/toy/graph/gene_embeddings_32.safetensors"
    assert plan.encoder_files("random_init") == [vectors]
    assert plan.scored_row("random_init")["gene_embeddings"] == vectors
    assert plan.encoder_files("random_init_random_genes") == []
    assert plan.scored_row("random_init_random_genes")["gene_embeddings"] == "trained"
    assert plan.encoder_files("majority") == []


def test_further_seeds_are_rows_of_their_own_and_scored_under_the_name_of_theirs(plan: Plan) -> None:
    """The toy: two seeds of two rows, in annotation only."""
    assert plan.replicates("annotation") == ["celllm.seed1", "celllm_wo_cl.seed1"]
    assert plan.replicates("drug_response") == []
    assert set(plan.all_encoders) - set(plan.encoders) == {"celllm.seed1", "celllm_wo_cl.seed1"}
    for name, of in (("celllm.seed1", "celllm"), ("celllm_wo_cl.seed1", "celllm_wo_cl")):
        assert plan.pretraining(name) == plan.pretraining(of) | {"seed": 1}
        assert plan.settings("annotation", name) == plan.settings("annotation", of)
        assert plan.gene_embeddings(name) == plan.gene_embeddings(of)
        row, scored = plan.row(name), plan.scored_row(name)
        assert row == plan.row(of) | {"name": name, "title": f"{plan.row(of)['title']}, seed 1"}
        assert scored["encoder"] == f"results/toy/checkpoints/{name}/encoder.safetensors"
        assert scored["replicate_of"] == of
        assert f"results/toy/scores/annotation/baron/{name}/strict.csv" in plan.table_scores("table1")
        assert (plan.seed(name), plan.seed(of)) == (1, 0)
    assert not any("seed1" in key for key in plan.predictions)
    shown = json.loads(plan.shown_models())
    assert "celllm.seed1" not in shown
    assert shown["celllm"]["seeds"] == {"annotation": [0, 1]}
    assert "seeds" not in shown["celllm_moco"]
    assert "seeds" not in json.loads(plan.shown_models("table3"))["celllm"]


def test_settings_of_a_row_hold_for_all_its_seeds() -> None:
    plan = planned(
        {
            "pretraining": {"seeds": [0, 4], "by_model": {"celllm": {"epochs": 7}}},
            "annotation": {"finetuning_by_model": {"celllm": {"epochs": 9}}},
        }
    )
    assert plan.pretraining("celllm.seed4")["epochs"] == 7
    assert plan.settings("annotation", "celllm.seed4")["epochs"] == 9


def test_the_full_run_trains_every_row_once_with_each_seed() -> None:
    plan = Plan(complete(read_yaml(CONFIG / "paper.yaml"), CONFIG, environ={}))
    names = {f"{name}.seed{seed}" for name in plan.encoders for seed in (1, 2)}
    assert set(plan.all_encoders) == {*plan.encoders, *names}
    seeds = json.loads(plan.shown_models())["celllm"]["seeds"]
    assert set(seeds) == {"annotation", "drug_few_shot", "drug_full", "response_warm", "response_cold"}
    assert all(of_task == [0, 1, 2] for of_task in seeds.values())


def test_a_row_holds_its_size_and_the_tokens_of_the_run(plan: Plan) -> None:
    row = plan.row("celllm")
    assert row["size"] == plan.config["sizes"][plan.config["models"]["celllm"]["size"]]
    assert row["tokens"].items() >= plan.config["tokens"].items()
    assert row["name"] == "celllm"
    assert "finetuning" not in planned({"models": {"celllm": {"finetuning": {"epochs": 3}}}}).row("celllm")


def test_gene_embeddings_are_as_wide_as_the_encoder(plan: Plan) -> None:
    dim = plan.row("celllm")["size"]["dim"]
    (path,) = plan.gene_embeddings("celllm")
    assert path == f"results/toy/graph/gene_embeddings_{dim}.safetensors"
    assert plan.gene_embedding_flags("celllm") == ["--gene-embeddings", path]
    trained = planned({"models": {"celllm": {"gene_embeddings": "trained"}}})
    assert trained.gene_embeddings("celllm") == trained.gene_embedding_flags("celllm") == []
    assert plan.graphmae(str(dim)) == plan.config["graphmae"] | {"dim": dim, "seed": plan.config["seed"]}


@pytest.mark.parametrize(
    ("change", "epochs"),
    [
        ({}, None),
        ({"models": {"celllm": {"finetuning": {"epochs": 5}}}}, 5),
        ({"annotation": {"finetuning_by_model": {"celllm": {"epochs": 7}}}}, 7),
    ],
)
def test_settings_of_a_row_lie_over_those_of_its_section(change: dict[str, Any], epochs: int | None) -> None:
    settings = planned(change).settings("annotation", "celllm")
    assert settings["epochs"] == (epochs or planned().config["annotation"]["finetuning"]["epochs"])


def test_pre_training_of_a_row_lies_over_that_of_all() -> None:
    plan = planned({"seed": 9, "pretraining": {"seeds": [], "by_model": {"scbert": {"epochs": 11}}}})
    assert plan.pretraining("scbert")["epochs"] == 11
    assert plan.pretraining("celllm")["epochs"] == plan.config["pretraining"]["settings"]["epochs"]
    assert plan.pretraining("celllm")["seed"] == 9


@pytest.mark.parametrize(
    "task", ["annotation", "drug_few_shot", "drug_full", "response_warm", "response_cold"]
)
def test_splits_of_a_task(plan: Plan, task: str) -> None:
    section = {"a": "annotation", "d": "drug_sensitivity", "r": "drug_response"}[task[0]]
    chosen = plan.config[section]["splits"]
    assert plan.splits(task) == chosen.get(task, chosen) | {"seed": plan.config["seed"]}


def test_claims_know_the_test_part_over_the_training_part() -> None:
    plan = planned(
        {
            "annotation": {"splits": {"n_folds": 5}},
            "drug_sensitivity": {"splits": {"drug_few_shot": {"train_fraction": 0.05}}},
            "drug_response": {"splits": {"response_cold": {"test_fraction": 0.2}}},
        }
    )
    ratios = plan.claim_settings()["test_over_train"]
    assert ratios["annotation"] == 0.25
    assert ratios["drug_few_shot"] == pytest.approx(19)
    assert ratios["response_cold"] == pytest.approx(0.25)


def test_scores_are_those_of_every_task_protocol_data_set_and_row() -> None:
    plan = planned(
        {
            "drug_sensitivity": {"models": ["celllm", "majority"], "protocols": ["strict", "paper"]},
            "data_sets": {"single_cell_drug": ["gse149383"]},
        }
    )
    assert plan.scores("drug_sensitivity") == [
        f"results/toy/scores/{task}/gse149383/{model}/{protocol}.csv"
        for task in ("drug_few_shot", "drug_full")
        for protocol in ("strict", "paper")
        for model in ("celllm", "majority")
    ]
    assert plan.table_scores("table2", "table2") == plan.scores("drug_sensitivity")
    assert {path.split("/")[4] for path in plan.scores("drug_response")} == {SCREEN}
    assert plan.table_scores() == [path for s in plan.sections() for path in plan.scores(s)]


def test_two_tables_of_one_section_share_its_scores(plan: Plan) -> None:
    assert plan.sections(["table1", "tableb2", "table2"]) == ["annotation", "drug_sensitivity"]
    assert plan.table_scores("table1", "tableb2") == plan.scores("annotation")


def test_predictions_are_those_of_protocol_strict(plan: Plan) -> None:
    predictions = plan.predictions
    assert predictions["annotation/baron/celllm"] == (
        "results/toy/scores/annotation/baron/celllm/strict.predictions.csv"
    )
    strict = [path for path in plan.table_scores() if path.endswith("/strict.csv")]
    assert len(predictions) == sum(".seed1/" not in path for path in strict) < len(strict)


def test_without_protocol_strict_there_are_no_predictions() -> None:
    plan = planned({"annotation": {"protocols": ["paper"]}, "tables": ["table1"]})
    assert plan.predictions == {}
    assert plan.table_settings("table1")["protocols"] == ["paper"]


def test_controls_are_scored_together() -> None:
    plan = planned({"annotation": {"models": ["celllm", "scanpy", "majority", "knn_pca"]}})
    assert plan.controls("annotation") == ["majority", "knn_pca"]
    assert {"celllm", "scanpy", "deepcdr"} <= set(plan.scored_alone)
    assert not {"majority", "ridge"} & set(plan.scored_alone)
    rows = json.loads(plan.control_rows("annotation"))
    assert [(row["name"], row["settings"]) for row in rows] == [("majority", {}), ("knn_pca", {})]
    outputs = plan.control_outputs("annotation")
    assert len(outputs) == 2 * 3 * 3  # scores, predictions and probabilities under three protocols
    assert "results/toy/scores/annotation/{data_set}/knn_pca/paper.csv" in outputs


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, True),
        ({"group": "added"}, False),
        ({"kind": "encoder"}, False),
        ({"method": "mine.py:METHOD"}, False),
        ({"conda": "mine.yaml"}, False),
    ],
)
def test_a_method_of_ones_own_is_scored_alone(change: dict[str, str], wanted: bool) -> None:
    assert is_control({"kind": "baseline", "group": "control", "method": "ridge"} | change) == wanted


def test_rows_are_shown_in_the_order_of_the_configuration() -> None:
    plan = planned({"annotation": {"models": ["majority", "celllm", "frozen"]}, "tables": ["table1"]})
    shown = json.loads(plan.shown_models())
    assert list(shown) == ["majority", "celllm", "frozen"]
    assert set(shown["celllm"]) <= {"title", "group", "paper_row", "seeds"}
    assert plan.shown_models("table1") == plan.shown_models()


def test_a_run_without_celllm_has_no_figures_of_it() -> None:
    rows = {"models": ["majority"]}
    plan = planned({"annotation": rows, "drug_sensitivity": rows, "tables": ["table1", "table2"]})
    assert list(plan.figure_files) == ["fig4"]
    assert plan.contrast == [] and plan.encoders == []
    assert plan.facts == [plan.path(f"facts/{n}.json") for n in ("counts", "settings", "gradient", "memory")]


def test_every_kind_of_figure_is_made_with_its_caption(plan: Plan) -> None:
    kinds = {name.removesuffix("_baron").removesuffix("_zheng68k") for name in plan.figure_files}
    assert kinds == set(CAPTIONS)
    assert plan.figure_labels("fig3_baron")["data set"] == "baron"
    assert plan.figure_caption("fig4") == CAPTIONS["fig4"].text
    assert plan.figure_flags("fig4") == [
        "table=results/toy/memory.csv",
        "facts=results/toy/facts/memory.json",
    ]
    assert plan.figure_inputs("fig4") == ["results/toy/memory.csv", "results/toy/facts/memory.json"]
    assert set(plan.figure_settings()["titles"]) == {*plan.encoders, *plan.untrained}


def test_tables_of_a_run(plan: Plan) -> None:
    names = [path.rpartition("/")[2].removesuffix(".csv") for path in plan.tables]
    assert names == [*plan.config["tables"], *FACT_TABLES, *SUPPLEMENT]
    assert plan.table_labels("table1")["table"] == "Table 1"
    assert plan.table_labels("table_s1") == {"table": "Table S1", "subject": "What contrast does to a row"}


def test_planning_needs_no_heavy_library() -> None:
    code = "import sys, celllm.plan; print(*({'torch', 'scanpy', 'anndata'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_held_out_groups_are_those_of_the_runs_tables_data_sets_and_rows(plan: Plan) -> None:
    sets = {"annotation_donor": ["baron"], "drug_patient": ["gse117872"], "response_tissue": [SCREEN]}
    assert plan.held_out == sets | {"response_drug": [SCREEN]}
    assert "results/toy/scores/annotation_donor/baron/celllm/strict.csv" in plan.held_out_scores
    assert plan.splits("response_tissue") == {
        "group": "tissue", "n_folds": 2, "validation_fraction": 0.1, "validation": "groups", "seed": 0,
    }  # fmt: skip
    assert plan.settings("drug_patient", "celllm") == plan.settings("drug_sensitivity", "celllm")
    assert plan.cells(SCREEN) == ["results/toy/prepared/ccle.h5ad"]
    assert plan.response_flags(SCREEN) == ["--responses", "results/toy/prepared/gdsc.responses.csv"]
    assert plan.cells("baron") == ["results/toy/prepared/baron.h5ad"] and plan.responses("baron") == []
    few = planned({"tables": ["table1"], "annotation": {"models": ["majority"]}})
    assert few.held_out_scores == ["results/toy/scores/annotation_donor/baron/majority/strict.csv"]
    other = planned({"tables": ["table1"], "data_sets": {"annotation": ["zheng68k"]}})
    assert other.held_out == {"annotation_donor": []} and other.held_out_scores == []
    none = planned({"held_out": dict.fromkeys(plan.held_out)})
    assert none.held_out == {} and none.held_out_scores == []


def test_without_a_file_of_gene2vec_scbert_trains_its_own_and_its_title_says_so(plan: Plan) -> None:
    row = plan.config["models"]["scbert"]
    assert (row["gene_embeddings"], row["title"], row["paper_row"]) == (
        "trained", "scBERT without gene2vec", "scBERT"
    )  # fmt: skip
    assert plan.config["models"]["scbert_own"]["title"] == "scBERT, its own recipe without gene2vec"
    assert plan.gene_embeddings("scbert") == plan.gene2vec == []
    assert row["sources"] == ["panglaodb"]
    assert plan.row("scbert")["size"]["dropout"] == 0


def test_a_file_of_gene2vec_is_what_scbert_is_trained_with(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("TP53 1 2\n")
    plan = planned({"gene2vec": str(tmp_path / "vectors.txt")})
    assert plan.config["models"]["scbert"]["title"] == "scBERT"
    assert plan.gene_embeddings("scbert") == ["results/toy/graph/gene2vec_24.safetensors"]
    assert plan.gene_digests("scbert") == ["results/toy/graph/gene2vec_24.sha256"]
    assert plan.gene2vec == [str(tmp_path / "vectors.txt")]


def test_a_lost_file_of_gene2vec_leaves_its_rows_without_encoder_and_with_a_reason() -> None:
    plan = planned({"gene2vec": "nowhere/vectors.txt", "pretraining": {"seeds": [0, 1]}})
    for name in ("scbert", "scbert_own"):
        assert "gene2vec: nowhere/vectors.txt: no such file" in plan.scored_row(name)["missing"]
        assert plan.encoder_files(name) == []
    assert not [name for name in plan.all_encoders if name.startswith("scbert")]
    assert "celllm" in plan.encoders
    assert not [path for paths in plan.figure_files.values() for path in paths.values() if "scbert" in path]
    assert [path for path in plan.table_scores() if "/scbert/" in path], (
        "its rows are scored as not applicable"
    )


def test_an_encoder_needs_cells_of_its_sources_in_the_run() -> None:
    with pytest.raises(
        UserError, match=r"models\.scbert\.sources: panglaodb is not in data_sets\.pretraining"
    ):
        planned({"data_sets": {"pretraining": ["cancerscem"]}})
