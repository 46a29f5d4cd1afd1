"""The whole graph of jobs, as a user runs it."""

import json
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import unquote

import anndata
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import celllm
from celllm.config import load
from celllm.plan import Plan
from celllm.report import published
from celllm.report.published import ScoreTable
from celllm.scores import scores

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
# Predicted from means of cell lines: there is nothing to say of a line that was never seen. And released
# weights that were not given.
NOT_APPLICABLE = {
    "celllm_released": "annotation",
    "drug_mean_line_mean": "response_cold",
    "line_mean_ridge_by_drug": "response_cold",
}


# Heavy module -> the jobs of a toy run that may import it, and do: each would wait for it by the second.
IMPORTED_BY = {
    # Where an encoder or a network is trained, run or, for its parameters, built.
    "torch": {
        *("graphmae", "pretrain", "geometry", "interpret", "embedding-map", "memory", "gradient-error"),
        *("settings-facts", "score encoder", "score deepcdr", "score deepcdr_original"),
    },
    "torch._dynamo": {"memory"},  # nothing compiles; PyTorch's operations on tensors without values need it
    "scanpy": {"toy-mirror", "score scanpy_ingest"},  # its blood cells are in the mirror
    "matplotlib": {"figure", "toy-mirror", "score scanpy_ingest"},  # Scanpy imports it
    "dgl": {"graphmae"},  # the graphs of drugs go through plain PyTorch
    "tensorboard": {"pretrain"},
}


@pytest.fixture(scope="module")
def measured(snakemake, mirror, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    done = snakemake(folder, "--", "all", mirror=str(mirror))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return folder / f"results/toy-{mirror.name}"


def test_types_that_a_reference_lacks_get_a_low_confidence(toy: Path) -> None:
    """Each type of Baron left out of the reference in turn, with the toy's encoder."""
    model = celllm.load(toy / "results/toy/checkpoints/celllm", "cpu")
    cells = anndata.read_h5ad(toy / "results/toy/prepared/baron.h5ad")
    query = np.random.default_rng(0).random(cells.n_obs) < 0.4
    known_types = cells.obs["label"][~query].value_counts()
    areas, confidence, right = [], [], []
    for missing in known_types.index[known_types >= 10]:
        reference = cells[~query & cells.obs["label"].isin(known_types.index[known_types >= 2]).to_numpy()]
        reference = reference[reference.obs["label"] != missing]
        asked = cells[query].copy()
        celllm.tl.annotate(asked, reference, "label", model, progress=False)
        known = asked.obs["label"].isin(reference.obs["label"]).to_numpy()
        unknown = (asked.obs["label"] == missing).to_numpy()
        sure = asked.obs["celllm_confidence"].to_numpy()
        areas.append(roc_auc_score(known[known | unknown], sure[known | unknown]))
        confidence.append(sure[known].mean())
        labels = asked.obs[["label", "celllm_label"]].astype(str)
        right.append((labels["label"] == labels["celllm_label"])[known].mean())
    assert len(areas) >= 6
    assert np.mean(areas) > 0.8
    assert np.mean(confidence) == pytest.approx(np.mean(right), abs=0.1)


def score_files(results: Path, task: str, protocol: str = "*") -> list[Path]:
    found = sorted(results.glob(f"scores/{task}/*/*/{protocol}.csv"))
    return [path for path in found if not path.name.endswith(".predictions.csv")]


def check_scores(results: Path) -> None:
    """Every model of the config on every split of every task, under all protocols."""
    config = load(ROOT / "config/toy.yaml")
    for section, tasks in {
        "annotation": ["annotation"],
        "drug_sensitivity": ["drug_few_shot", "drug_full"],
        "drug_response": ["response_warm", "response_cold"],
    }.items():
        for task in tasks:
            found = scores.read_many(score_files(results, task))
            assert set(found["model"]) == set(config[section]["models"])
            ok = found["status"] == "ok"
            assert (ok | (found["model"].map(NOT_APPLICABLE) == task)).all(), found[~ok]
            assert set(found.loc[~ok, "status"]) <= {"not-applicable"}
            # Of a rare class there are scores in the splits that test a cell of it.
            overall = found[~found["metric"].str.contains(":")]
            n_splits = overall.groupby(["model", "data_set", "protocol", "metric"])["split"].nunique()
            assert (n_splits == 5).all()
            assert set(found["protocol"]) == {"strict", "no_refit", "paper"}


def check_table(results: Path, table: ScoreTable) -> None:
    """All rows and columns of the paper's table: five splits, all protocols, the effect of the choice."""
    frame = pd.read_csv(results / f"tables/{table.name}.csv", keep_default_na=False, na_values=[""])
    printed = frame[frame["group"] == "paper"]
    assert len(printed) == len(table.rows) * len(table.columns) * 3
    assert (printed["status"] == "ok").all()
    assert (printed["n"] == 5).all()
    assert printed[["mean", "sd", "paper_value", "difference"]].notna().all().all()
    assert (printed.groupby("protocol").size() == len(table.rows) * len(table.columns)).all()
    assert printed.loc[printed["protocol"] == "paper", "optimism"].notna().all()
    others = frame[frame["group"] != "paper"]
    assert len(others) >= 4 * len(table.columns) * 3
    assert (others["mean"].notna() | others["reason"].fillna("").str.len().gt(0)).all()
    for suffix in ("md", "tex", "html"):
        text = (results / f"tables/{table.name}.{suffix}").read_text()
        headings = ("Protocol strict:", "Protocol paper:", "What the larger training part adds")
        for words in (*headings, *(row.title for row in table.rows)):
            assert words in text


def check_complete(results: Path) -> None:
    """Scores and tables without a gap, figures, ledger, facts, manifest, and the word that all is there."""
    check_scores(results)
    for table in published.load().tables.values():
        check_table(results, table)
    of_sets = [f"{kind}_{name}" for kind in ("fig3", "tsne") for name in ("zheng68k", "baron")]
    for name in (*of_sets, "fig4", "figc1", "figc2", "geometry", "loss_curves", "scaling"):
        assert not pd.read_csv(results / f"figures/{name}.csv").empty
        assert (results / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (results / f"figures/{name}.svg").read_text()[:1000]
    claims = pd.read_csv(results / "claims.csv")
    assert set(claims["verdict"]) & {"not comparable: toy"}
    assert not ((claims["verdict"] == "not run") & (claims["protocol"] == "strict")).any()
    for number in (1, 2, 3):
        assert (results / f"tables/tabled{number}.md").stat().st_size > 0
    settings = pd.read_csv(results / "tables/tablef1.csv")
    assert set(settings["status"]) == {"same", "differs"}, "a setting of Table F.1 is not measured"
    measured = claims.set_index("id")["our_value"].dropna()
    assert {"parameters", "gradient", "chunk-of-one", "sparsity", "expressed-genes"} <= set(measured.index)
    assert json.loads((results / "leakage.json").read_text())
    assert json.loads((results / "complete.json").read_text())
    manifest = json.loads((results / "manifest.json").read_text())
    assert manifest["packages"]["torch"]


def beats_majority(results: Path, model: str) -> None:
    found = scores.read_many(score_files(results, "annotation", "strict"))
    found = found[found["metric"].isin(["macro_f1", "weighted_f1", "accuracy"])]
    means = found.groupby(["data_set", "metric", "model"])["value"].mean().unstack("model")
    assert (means[model] > means["majority"]).all(), means[[model, "majority"]]


def test_toy_run_is_complete(toy: Path) -> None:
    check_complete(toy / "results/toy")
    assert "toy" in (toy / "results/toy/tables/table1.md").read_text().splitlines()[0].lower()


@pytest.mark.parametrize("model", ["logistic_regression", "celllm"])
def test_toy_models_beat_the_majority(toy: Path, model: str) -> None:
    beats_majority(toy / "results/toy", model)


def kind_of_job(words: list[str]) -> str:
    """The verb, and of a score the method."""
    if words[0] != "score":
        return words[0]
    row = json.loads(words[words.index("--model") + 1])
    return "score controls" if isinstance(row, list) else f"score {row.get('method', row['kind'])}"


@pytest.mark.parametrize("module", IMPORTED_BY)
def test_no_job_imports_what_it_does_not_use(toy: Path, records: Path, module: str) -> None:
    notes = [json.loads(path.read_text()) for path in records.iterdir()]
    assert {"score controls", "figure", "prepare", "table"} <= {kind_of_job(n["words"]) for n in notes}
    assert {kind_of_job(n["words"]) for n in notes if module in n["modules"]} == IMPORTED_BY[module]


def test_second_run_does_nothing(toy: Path, snakemake) -> None:
    again = snakemake(toy, "--", "all")
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr


def test_snakemake_writes_its_report(toy: Path, snakemake, tmp_path: Path) -> None:
    """As `make toy` does at its end; labels are read only here."""
    page = tmp_path / "report.html"
    done = snakemake(toy, "--report", str(page), "--", "all")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Every claim, with its verdict" in page.read_text()


def test_one_changed_value_reruns_what_depends_on_it(toy: Path, snakemake, tmp_path: Path) -> None:
    overlay = tmp_path / "changed.yaml"
    overlay.write_text("annotation: {finetuning: {learning_rate: 0.0015}}\n")
    plan = snakemake(toy, "-n", "--configfile", str(ROOT / "config/toy.yaml"), str(overlay), "--", "all")
    assert plan.returncode == 0, plan.stderr[-3000:]
    rules = planned(plan.stdout + plan.stderr)
    config = load(ROOT / "config/toy.yaml")
    names = [*config["annotation"]["models"], *Plan(config).replicates("annotation")]
    kinds = [config["models"][name]["kind"] for name in names]
    assert rules["annotate"] == kinds.count("encoder") * 2
    assert rules["table"] == 2
    ends = {
        "settings_facts",
        "fact_table",
        "claims",
        "embedding_map",
        "figure",
        "supplement",
        "manifest",
        "report",
        "crate",
        "gate",
        "all",
    }
    assert set(rules) == {"annotate", "held_out", "table", *ends}


def test_a_method_from_outside_stands_in_tables_1_and_2(toy: Path, snakemake, tmp_path: Path) -> None:
    """On a copy of the run: the example is scored, nothing else is; an edit scores it again."""
    folder = tmp_path / "copy"
    shutil.copytree(toy, folder)  # with the times of the files
    shutil.copytree(ROOT / "examples/own_method", folder / "examples/own_method")
    own = str(folder / "examples/own_method/config.yaml")
    tables = [f"results/toy/tables/table{number}.csv" for number in (1, 2)]
    words = ("--configfile", str(ROOT / "config/toy.yaml"), own, "--", *tables)
    plan = snakemake(folder, "-n", *words)
    rules = {"annotate": 2, "drug_sensitivity": 2, "table": 2}
    assert planned(plan.stdout + plan.stderr) == rules, plan.stderr[-3000:]
    done = snakemake(folder, *words)
    assert done.returncode == 0, done.stderr[-3000:]
    for table in tables:
        frame = pd.read_csv(folder / table)
        found = frame[frame["model"] == "pca_logistic"]
        assert set(found["title"]) == {"PCA + logistic regression"} and set(found["status"]) == {"ok"}
        assert set(found["protocol"]) == {"strict", "no_refit", "paper"} and (found["n"] == 5).all()
    frame = frame_of(folder / tables[0], "macro_f1")
    assert (frame["pca_logistic"] > frame["majority"] + 20).all()
    method = folder / "examples/own_method/own_method.py"
    method.write_text(method.read_text().replace("min(20,", "min(10,"))
    again = snakemake(folder, "-n", *words)
    assert planned(again.stdout + again.stderr) == rules


def test_cells_from_outside_are_a_column_of_table_1(toy: Path, snakemake, tmp_path: Path) -> None:
    """On a copy of the run, with the example's config and three rows: nothing there is made again."""
    folder = tmp_path / "copy"
    shutil.copytree(toy, folder)
    shutil.copytree(ROOT / "examples/own_data", folder / "examples/own_data")
    cells = anndata.read_h5ad(folder / "results/toy/prepared/baron.h5ad")
    obs = cells.obs.rename(columns={"label": "cell_type", "sample": "donor_id"})
    anndata.AnnData(cells.X, obs=obs, var=cells.var).write_h5ad(folder / "my_atlas.h5ad")
    (folder / "rows.yaml").write_text("annotation: {models: [majority, logistic_regression, celllm]}\n")
    own = (str(folder / "examples/own_data/config.yaml"), str(folder / "rows.yaml"))
    words = ("--configfile", str(ROOT / "config/toy.yaml"), *own)
    plan = snakemake(folder, "-n", *words, "--", "results/toy/tables/table1.csv")
    new = {
        "fetch": 1,
        "prepare": 1,
        "annotation_splits": 1,
        "annotate": 1 + 1,  # a further seed
        "annotate_controls": 3,  # where they are fewer, they are other jobs
        "table": 1,
    }
    assert planned(plan.stdout + plan.stderr) == new
    done = snakemake(folder, *words, "--", "results/toy/tables/table1.csv")
    assert done.returncode == 0, done.stderr[-3000:]
    frame = frame_of(folder / "results/toy/tables/table1.csv", "macro_f1")
    assert list(frame.index) == ["baron", "my_atlas", "zheng68k"]
    # The same cells, genes and folds: the same scores as the column that they were taken from.
    mine, theirs = (
        frame.loc[name, ["majority", "logistic_regression", "celllm"]] for name in ("my_atlas", "baron")
    )
    assert mine.round(9).to_dict() == theirs.round(9).to_dict()


def test_embeddings_and_scores_made_elsewhere_stand_in_table_1(toy: Path, snakemake, tmp_path: Path) -> None:
    """On a copy of the run: arrays as scVI gives them, in another order, and a score file of another row."""
    import anndata
    import numpy as np
    from sklearn.decomposition import PCA

    from celllm.methods.expression import log_normalised

    folder = tmp_path / "copy"
    shutil.copytree(toy, folder)
    (folder / "embeddings").mkdir()
    for name in ("baron", "zheng68k"):
        cells = anndata.read_h5ad(folder / f"results/toy/prepared/{name}.h5ad")
        latent = PCA(10, svd_solver="arpack", random_state=0).fit_transform(log_normalised(cells.X))
        order = np.random.default_rng(0).permutation(cells.n_obs)
        x, names = latent[order].astype(np.float32), cells.obs_names[order]
        if name == "baron":
            made = anndata.AnnData(obs=pd.DataFrame(index=names), obsm={"X_scVI": x})
            made.write_h5ad(folder / "embeddings/baron.h5ad")
        else:
            np.save(folder / "embeddings/zheng68k.npy", x)
            (folder / "embeddings/zheng68k.txt").write_text("\n".join(names))
    source = "results/toy/scores/annotation/baron/logistic_regression/strict.csv"
    shutil.copy(folder / source, folder / "theirs.csv")
    shutil.copy(folder / "results/toy/splits/annotation/baron.json", folder / "splits.json")
    theirs = {"title": "Theirs", "kind": "scores", "group": "added"}
    theirs["file"] = {"baron": "theirs.csv + splits.json"}
    config = {"models": {"theirs": theirs}, "annotation": {"models": {"add": ["theirs"]}}}
    (folder / "theirs.yaml").write_text(json.dumps(config))
    example = ROOT / "examples/own_embedding/config.yaml"
    table = "results/toy/tables/table1.csv"
    files = (ROOT / "config/toy.yaml", example, folder / "theirs.yaml")
    done = snakemake(folder, "--configfile", *map(str, files), "--", table)
    assert done.returncode == 0, done.stderr[-3000:]
    means = frame_of(folder / table, "macro_f1")
    for head in ("knn", "linear", "paper"):
        assert (means[f"scvi_{head}"] > means["majority"] + 10).all()
    assert means.loc["baron", "theirs"] == means.loc["baron", "logistic_regression"]
    frame = pd.read_csv(folder / table).set_index(["model", "data_set", "protocol", "metric"])["status"]
    assert set(frame.loc["theirs", "zheng68k"]) == {"not-applicable"}
    assert set(frame.loc["theirs", "baron", "paper"]) == {"not-applicable"}


def test_rows_of_an_encoder_that_is_not_trained_fail_and_the_tables_are_made(
    toy: Path, snakemake, tmp_path: Path
) -> None:
    """On a copy of the run: the weights of an encoder, for both seeds, are no numbers after a step."""
    folder = tmp_path / "copy"
    shutil.copytree(toy, folder)
    (folder / "rate.yaml").write_text("pretraining: {by_model: {celllm_wo_cl: {learning_rate: 1.0e+30}}}\n")
    config = (str(ROOT / "config/toy.yaml"), str(folder / "rate.yaml"))
    targets = ("results/toy/tables/table1.csv", "results/toy/contrast.csv", "results/toy/complete.json")
    done = snakemake(folder, "--configfile", *config, "--", *targets)
    assert done.returncode != 0
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("celllm gate: ") and "celllm_wo_cl on baron" in said
    assert "failed, its encoder was not trained: step 2: " in said
    assert not (folder / targets[2]).exists()
    frame = pd.read_csv(folder / targets[0], keep_default_na=False)
    lost = frame["model"] == "celllm_wo_cl"
    assert set(frame.loc[lost, "status"]) == {"failed"}
    assert set(frame.loc[~lost, "status"]) == {"ok", "not-applicable"}
    assert "celllm_wo_cl" not in set(pd.read_csv(folder / targets[1])["model"])


def frame_of(table: Path, metric: str) -> pd.DataFrame:
    """Means under protocol strict, data sets x models."""
    frame = pd.read_csv(table)
    frame = frame[(frame["metric"] == metric) & (frame["protocol"] == "strict")]
    return frame.pivot(index="data_set", columns="model", values="mean")


def test_report_of_the_run_in_a_browser(toy: Path, check_page, tmp_path: Path) -> None:
    report = toy / "results/toy/report.html"
    assert report.stat().st_size < 8e6
    check_page(report, tmp_path)


def test_crate_of_the_run_opens(toy: Path) -> None:
    from rocrate.rocrate import ROCrate

    crate = ROCrate(toy / "results/toy")
    run = crate.root_dataset["mentions"][0]
    assert run["instrument"].id == "workflow/Snakefile"
    made = {entity.id for entity in run["result"]}
    assert {"report.html", "tables/table1.csv", "figures/fig3_baron.svg", "claims.md"} <= made
    local = [unquote(e.id) for e in crate.get_by_type("File") if not e.id.startswith("http")]
    assert [name for name in local if not (toy / "results/toy" / name).is_file()] == []


def explained() -> list[str]:
    """Patterns of all places that docs/outputs.md names: <any> and {one,of} as in a shell."""
    found = []
    for name in re.findall(r"`([^`\n]+)`", (ROOT / "docs/outputs.md").read_text(encoding="utf-8")):
        before, brace, rest = re.sub(r"<[^>]+>", "*", name).partition("{")
        choices, _, after = rest.partition("}")
        found += [before + choice + after for choice in choices.split(",")] if brace else [before]
    return found


def test_every_file_is_explained(toy: Path) -> None:
    """Tables, figures and what stands beside the folders by name, the rest by its folder."""
    results, patterns = toy / "results/toy", explained()
    files = [path.relative_to(results) for path in results.rglob("*") if path.is_file()]
    by_name = [p for p in files if len(p.parts) == 1 or p.parts[0] in ("tables", "figures")]
    named = {p.as_posix() for p in by_name} | {f"{p.parts[0]}/" for p in files if p not in by_name}
    assert len(named) > 30
    assert [name for name in sorted(named) if not any(fnmatch(name, pattern) for pattern in patterns)] == []


def planned(text: str) -> dict[str, int]:
    """Rules of a dry run and how many jobs each has, from its table of job counts."""
    lines = text[text.rindex("Job stats:") :].splitlines()[3:]
    table = [
        line.split() for line in lines[: next(i for i, line in enumerate(lines) if line.startswith("total"))]
    ]
    return {rule: int(count) for rule, count in table}


@pytest.mark.mirror
def test_run_on_measured_cells_is_complete(measured: Path) -> None:
    check_complete(measured)


@pytest.mark.mirror
@pytest.mark.parametrize("model", ["logistic_regression", "celllm"])
def test_models_beat_the_majority_on_measured_cells(measured: Path, model: str) -> None:
    beats_majority(measured, model)


@pytest.mark.mirror
def test_logistic_regression_reaches_its_reference_on_measured_cells(measured: Path) -> None:
    """Macro-F1 and accuracy of pooled predictions as measured beforehand on these cells, within 0.03."""
    from sklearn.metrics import accuracy_score, f1_score

    for data_set, macro_f1, accuracy in (("zheng68k", 0.698, 0.835), ("baron", 0.974, 0.983)):
        path = measured / f"scores/annotation/{data_set}/logistic_regression/strict.predictions.csv"
        frame = pd.read_csv(path)
        assert f1_score(frame["label"], frame["predicted"], average="macro") == pytest.approx(
            macro_f1, abs=0.03
        )
        assert accuracy_score(frame["label"], frame["predicted"]) == pytest.approx(accuracy, abs=0.03)


# Pearson correlation, mean of five splits of 89,288 pairs, as measured beforehand.
RESPONSES = [
    ("drug_mean", "warm", 0.845),
    ("drug_mean", "cold", 0.845),
    ("drug_mean_line_mean", "warm", 0.882),
    ("ridge_by_drug", "warm", 0.873),
    ("ridge_by_drug", "cold", 0.873),
    ("line_mean_ridge_by_drug", "warm", 0.897),
    ("shuffled_ridge_by_drug", "cold", 0.843),
]


@pytest.mark.mirror
@pytest.mark.parametrize(("model", "start", "pearson"), RESPONSES)
def test_controls_of_drug_response_reach_their_references(
    measured: Path, model: str, start: str, pearson: float
) -> None:
    frame = pd.read_csv(measured / "tables/table3.csv").set_index(["model", "column", "protocol"])
    for protocol in ("strict", "paper"):
        cell = frame.loc[(model, f"{start}/pearson", protocol)]
        assert (cell["n"], cell["status"]) == (5, "ok")
        assert cell["mean"] == pytest.approx(pearson, abs=0.01)
