"""Tables beyond the paper (S1 to S6), from the scores, predictions and measures that a run has anyway."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from celllm.errors import UserError
from celllm.io import from_spreadsheets, read_csv
from celllm.report import published as printed
from celllm.report.ledger import p_text
from celllm.report.lookup import over_splits_and_seeds
from celllm.report.published import DIGITS, SCALE
from celllm.report.render import GROUPS, plain_view, write_pages
from celllm.report.run import Model, read_models
from celllm.report.settings import RunLabel
from celllm.report.tables import mean_sd
from celllm.scores import metrics
from celllm.scores import scores as score_files
from celllm.scores.columns import COSTS, HELD_OUT
from celllm.scores.scores import OK, probabilities_of, read_predictions, read_probabilities
from celllm.scores.statistics import corrected_resampled_t, holm

STRICT = "strict"
LEAST_PAIRS = 5  # of a drug in a split, for a correlation
MAIN = {"macro_f1": "percent", "f1": "percent", "pearson": "fraction"}  # what a task is summed up by
CELL = ["task", "data_set", "model", "metric"]  # what has one mean over splits
PERMUTED = "permuted"  # the row of Table S6
LEVEL = 0.05
SCENARIOS = {"drug_few_shot": ", few-shot", "drug_full": ", full data"}
ON = {"pooled": "pooled", "cls": "[CLS]"}
SHOWN = ("celllm", "scbert", "logistic_regression")  # whose classes stand in Table S4


@dataclass(frozen=True)
class Sources:
    """What the supplement is made from; each table takes its part.

    ``predictions`` are files by ``task/data_set/model``, ``contrast`` is what ``celllm contrast`` wrote.
    """

    scores: pd.DataFrame
    models: Mapping[str, Model]
    predictions: Mapping[str, str | Path] = field(default_factory=dict)
    contrast: pd.DataFrame | None = None

    def row(self, model: str) -> tuple[str, str]:
        """The titles of a model's group and of the model itself; those of the config, where it has them."""
        known = self.models.get(model)
        group, title = (known.group, known.title) if known else ("added", model)
        return GROUPS.get(group, group), title

    def why_not(self, task: str, model: str) -> str:
        """Why a row has no scores of a task."""
        rows = self.scores[(self.scores["task"] == task) & (self.scores["model"] == model)]
        return "; ".join(rows.loc[rows["status"] != OK, "reason"].unique())

    def files(self, prefixes: tuple[str, ...]) -> Iterator[tuple[str, str, str, str | Path]]:
        """Task, data set, model and file of the predictions whose task begins with one of these."""
        for prefix in prefixes:
            for key, path in self.predictions.items():
                task, data_set, model = key.split("/")
                if task.startswith(prefix):
                    yield task, data_set, model, path


def run_supplement(
    name: str,
    /,
    out: str | Path,
    models: str | Path | Mapping[str, Any],
    settings: RunLabel,
    scores: Sequence[str | Path] = (),
    predictions: Mapping[str, str | Path] | None = None,
    contrast: str | Path | None = None,
) -> None:
    """Scores, predictions and measures -> a table beyond the paper.

    Parameters
    ----------
    name
        ``table_s1`` (contrast), ``table_s2`` (response within a drug), ``table_s3`` (held-out groups),
        ``table_s4`` (classes), ``table_s5`` (cost), ``table_s6`` (permuted labels).
    models
        The run's models (see :func:`celllm.report.run.read_models`).
    scores, predictions, contrast
        Score files; predictions by ``task/data_set/model``; the contrast of each encoder, as ``celllm
        contrast`` writes it.

    Raises
    ------
    UserError
        For an unknown table and for malformed files.
    """
    if name not in TABLES:
        raise UserError(f"table '{name}': no such table of the supplement; known are {', '.join(TABLES)}")
    rows, found = read_models(models), read_csv(contrast) if contrast else None
    given = Sources(score_files.read_many(scores), rows, predictions or {}, found)
    frame = pd.DataFrame(list(TABLES[name].cells(given)), columns=list(COLUMNS))
    frame.insert(0, "run", settings.run)
    frame.insert(1, "size", settings.size)
    frame.insert(2, "table", name)
    view = view_of(name, frame, settings.run, settings.toy)
    write_pages(out, frame, "table", ("md", "tex", "html"), table=view)


Place = tuple[str, str, str]  # block, group, title
# A line of the tidy form: one number with its block, section and row, and its column in two levels.
COLUMNS = ("block", "group", "title", "over", "column", "value", "text", "reason")


def _cell(
    where: Place, over: str, column: str, value: float = math.nan, text: str | int = "", reason: str = ""
) -> tuple[Any, ...]:
    """One line; ``text`` may be the number of digits to print, NaN is no number."""
    if math.isnan(value):
        return *where, over, column, None, "", reason
    text = f"{value:.{text}f}".replace("-", "−") if isinstance(text, int) else text
    return *where, over, column, value, text, reason


def _main_scores(given: Sources) -> pd.DataFrame:
    """The main metric of every task under ``strict``, values of splits that went well."""
    scores = given.scores
    return scores[(scores["protocol"] == STRICT) & scores["metric"].isin(MAIN)]


def _score_text(rows: pd.DataFrame, metric: str) -> tuple[float, str]:
    """Mean of score rows and its text, per cent where the tables have per cent."""
    scale, digits = SCALE[MAIN[metric]], DIGITS[MAIN[metric]]
    found = over_splits_and_seeds(rows.set_index(["split", "seed"])["value"] * scale)
    seeds = f" (seeds ± {found.seed_sd:.{digits}f})" if found.n_seeds > 1 else ""
    return found.mean, mean_sd(found.mean, found.sd, digits) + seeds


def _task_title(task: str) -> str:
    known = printed.load().tasks.get(task)
    return known.title if known else task


def contrast_cells(given: Sources) -> Iterator[tuple[Any, ...]]:
    """S1: what a row contrasts, its loss, its score and the geometry that came of it."""
    scores = _main_scores(given)
    rows = [] if given.contrast is None else given.contrast.to_dict("records")
    for model in dict.fromkeys(row["model"] for row in rows):
        where = ("Pre-trained rows", *given.row(model))
        of_model = [row for row in rows if row["model"] == model and row["embedding"] == "mean"]
        first = of_model[0]
        kind = "none"
        if first["contrast"] != "none":
            kind = f"{ON[first['contrast_on']]}, τ = {first['temperature']}"
        yield _cell(where, "Contrast", "on", 0.0, kind)
        for column in ("ignorant", "start", "end"):
            value = float(first[column] or "nan")
            reason = "" if value == value else "trained without contrast"
            yield _cell(where, "Loss of the contrast", column, value, f"{value:.2g}", reason)
        of_task = scores[(scores["model"] == model) & (scores["task"] == "annotation")]
        for (data_set, metric), found in of_task[of_task["status"] == OK].groupby(["data_set", "metric"]):
            name = printed.data_set_title(str(data_set))
            yield _cell(where, "macro F1 (%)", name, *_score_text(found, str(metric)))
        for row in of_model:
            name = printed.data_set_title(row["data_set"])
            yield _cell(where, "Uniformity", name, float(row["uniformity"]), 3)
            yield _cell(where, "Alignment", name, float(row["alignment"]), 3)
            share = 100 * float(row["effective_rank"]) / float(row["dim"])
            yield _cell(where, "Effective rank / dim (%)", name, share, 1)


def within_drug_cells(given: Sources) -> Iterator[tuple[Any, ...]]:
    """S2: correlation and error inside each drug; means and quartiles over drugs."""
    for task, _, model, path in given.files(("response",)):
        frame = read_predictions(path)
        where = (_task_title(task), *given.row(model))
        if frame.empty:
            reason = given.why_not(task, model) or "no predictions"
            yield _cell(where, "Pearson", "mean over drugs", reason=reason)
            continue
        frame = frame.assign(drug=frame["cell"].str.split("|").str[1])
        frame[["label", "predicted"]] = frame[["label", "predicted"]].astype(float)
        of_split = [part["label"].corr(part["predicted"]) for _, part in frame.groupby("split")]
        drugs = pd.DataFrame(
            [(drug, *within(part)) for (drug, _), part in frame.groupby(["drug", "split"])],
            columns=["drug", "pearson", "spearman", "rmse"],
        )
        of_drug = drugs.groupby("drug").mean().dropna()
        yield _cell(where, "Pooled", "Pearson", float(np.mean(of_split)), 3)
        if of_drug.empty:
            reason = f"no drug has {LEAST_PAIRS} tested pairs in a split"
            yield _cell(where, "Pearson", "mean over drugs", reason=reason)
            continue
        for name, title in (("pearson", "Pearson"), ("spearman", "Spearman"), ("rmse", "RMSE")):
            low, mean, high = of_drug[name].quantile(0.25), of_drug[name].mean(), of_drug[name].quantile(0.75)
            yield _cell(where, title, "mean over drugs", mean, 3)
            quartiles = f"{low:.2f} to {high:.2f}".replace("-", "−")
            yield _cell(where, title, "quartiles", float(high - low), quartiles)
        yield _cell(where, "", "drugs", len(of_drug), 0)


def within(part: pd.DataFrame) -> tuple[float, float, float]:
    """Pearson, Spearman and RMSE of the pairs of one drug.

    NaN where they are too few or all alike; one prediction for all lines correlates with nothing: 0.
    """
    truth, predicted = part["label"].to_numpy(), part["predicted"].to_numpy()
    if len(part) < LEAST_PAIRS or np.ptp(truth) == 0:
        return (float("nan"),) * 3
    error = float(np.sqrt(np.mean((truth - predicted) ** 2)))
    if np.ptp(predicted) <= 1e-9:
        return 0.0, 0.0, error
    ranks = part["label"].rank().corr(part["predicted"].rank())
    return float(np.corrcoef(truth, predicted)[0, 1]), float(ranks), error


def held_out_cells(given: Sources) -> Iterator[tuple[Any, ...]]:
    """S3: scores on donors, patients, tissues or drugs held out, and beside them those of groups mixed."""
    of = dict(iter(_main_scores(given).groupby(CELL, sort=False)))
    for (task, data_set, model, metric), rows in of.items():
        if task not in HELD_OUT:
            continue
        mixed, title = HELD_OUT[task]
        where = (f"{_task_title(mixed).partition(' (')[0]}, {title}", *given.row(model))
        over = f"{printed.data_set_title(data_set)} {printed.load().metrics[metric].title}"
        for column, found in (("held out", rows), ("mixed", of.get((mixed, data_set, model, metric)))):
            if found is None:
                continue
            good = found[(found["status"] == OK) & found["seed"].isin(rows["seed"])]
            if good.empty:
                yield _cell(where, over, column, reason=str(found["reason"].iloc[0]))
            else:
                yield _cell(where, over, column, *_score_text(good, metric))


def class_cells(given: Sources) -> Iterator[tuple[Any, ...]]:
    """S4: precision, recall and F1 of each class by some models, all test cells together."""
    for task, data_set, model, path in given.files(("annotation", "drug")):
        if model not in SHOWN or (frame := read_predictions(path)).empty:
            continue
        names = printed.load().classes.get(data_set, {})
        classes = [*(c for c in names if c in set(frame["label"])), *sorted(set(frame["label"]) - set(names))]
        measured = metrics.per_class(frame["label"], frame["predicted"])
        n_rows = frame["label"].value_counts()
        block = f"{printed.data_set_title(data_set)}{SCENARIOS.get(task, '')}"
        for label in classes:
            n_cells = round(n_rows[label] / (1 if task == "annotation" else frame["split"].nunique()))
            title = f"{names.get(label, label)} ({n_cells:,} cells)"
            for column in ("precision", "recall", "F1"):
                value = 100 * measured[f"{column.lower()}:{label}"]
                yield _cell((block, "", title), given.row(model)[1], column, value, 1)
    yield from calibration_cells(given)


def calibration_cells(given: Sources) -> Iterator[tuple[Any, ...]]:
    """S4: how far the probabilities of every row can be trusted, from what was saved of all test cells."""
    for task, data_set, model, path in given.files(("annotation", "drug")):
        frame, (classes, values) = read_predictions(path), read_probabilities(probabilities_of(path))
        known = ~np.isnan(values).any(axis=1)
        if len(frame) != len(values):
            found = f"{len(frame)} predictions, {len(values)} rows of probabilities beside it"
            raise UserError(f"{path}: {found}")
        if not len(classes) or not known.any():
            continue
        frame, values = frame[known], values[known].astype(float)
        truth = frame["label"].to_numpy(dtype=str)
        right = truth == frame["predicted"].to_numpy(dtype=str)
        confidence = values.max(axis=1)
        of_split = [
            metrics.calibration_error(right[rows], confidence[rows])
            for rows in frame.reset_index(drop=True).groupby("split").indices.values()
        ]
        block = f"{printed.data_set_title(data_set)}{SCENARIOS.get(task, '')}: calibration"
        where = (block, *given.row(model))
        for column, value in (
            ("accuracy", right.mean()),
            ("mean probability", confidence.mean()),
            ("calibration error", np.mean(of_split)),
        ):
            yield _cell(where, "Likeliest class", column, 100 * float(value), 1)
        only = frame.groupby("split")["predicted"].nunique() == 1
        yield _cell(where, "Splits", "one class only", float(only.sum()), f"{only.sum()} of {len(only)}")
        brier = float(np.square(values - (truth[:, None] == classes)).sum(axis=1).mean())
        yield _cell(where, "All classes", "Brier score", brier, 3)


def chance_cells(given: Sources) -> Iterator[tuple[Any, ...]]:
    """S6: what the row that learned from permuted labels has above chance.

    Each split has a draw of its own, so that what they have above chance is independent under no leak,
    whatever cells the splits share: the plain t interval applies.
    """
    from scipy.stats import norm

    found: dict[tuple[str, str], tuple[str, list[float], list[float]]] = {}
    for task, data_set, model, path in given.files(("annotation", "drug")):
        if model == PERMUTED and not (frame := read_predictions(path)).empty:
            parts = [part for _, part in frame.groupby("split")]
            right = [float((part["label"] == part["predicted"]).mean()) for part in parts]
            found[task, data_set] = "accuracy", right, [agreement_by_chance(part) for part in parts]
    rows = given.scores
    rows = rows[(rows["model"] == PERMUTED) & (rows["protocol"] == STRICT) & (rows["status"] == OK)]
    inside = rows[rows["metric"] == "pearson_within_drug"].groupby(["task", "data_set"], sort=False)["value"]
    for (task, data_set), values in inside:
        found[task, data_set] = "Pearson within drugs", values.to_list(), [0.0] * len(values)
    gains = [corrected_resampled_t(np.subtract(a, b).tolist(), 0) for _, a, b in found.values()]
    adjusted = holm([gain.p for gain in gains])
    for of, gain, p in zip(found.items(), gains, adjusted, strict=True):
        (task, data_set), (metric, reached, chance) = of
        title = f"{printed.load().tasks[task].title}, {printed.data_set_title(data_set)}: {metric}"
        where = ("Permuted labels against chance", "", title)
        yield _cell(where, "", "reached", float(np.mean(reached)), 3)
        yield _cell(where, "", "chance", float(np.mean(chance)), 3)
        yield _cell(where, "", "above chance", gain.mean, f"{gain.mean:+.3f}".replace("-", "−"))
        alone = "" if gain.n > 1 else "one split, no interval"
        interval = f"{gain.low:.3f} to {gain.high:.3f}".replace("-", "−")
        yield _cell(where, "", "95 % interval", gain.high - gain.low, interval, alone)
        # Five splits estimate a standard error badly: counted as those of a normal variable with the same p.
        errors = float(np.copysign(norm.isf(gain.p / 2), gain.mean))
        yield _cell(where, "", "standard errors", errors, 1, alone)
        yield _cell(where, "", "draws", gain.n, 0)
        yield _cell(where, "", "p (Holm)", p, p_text(p), alone)
        leak = p < LEVEL and gain.mean > 0
        yield _cell(where, "", "leak", float(leak), "above chance" if leak else "none found", alone)


def agreement_by_chance(part: pd.DataFrame) -> float:
    """Expected accuracy of these predictions if they were independent of the labels (as in Cohen's kappa)."""
    shares = part["label"].value_counts(normalize=True)
    return float((shares * part["predicted"].value_counts(normalize=True)).sum())


def cost_cells(given: Sources) -> Iterator[tuple[Any, ...]]:
    """S5: seconds of a split and peak memory of every row, beside its score."""
    for (task, data_set, model, metric), rows in _main_scores(given).groupby(CELL, sort=False):
        good = rows[rows["status"] == OK]
        where, place = (_task_title(task), *given.row(model)), printed.data_set_title(data_set)
        title = printed.load().metrics[metric].title
        if good.empty:
            yield _cell(where, place, title, reason=str(rows["reason"].iloc[0]))
            continue
        yield _cell(where, place, title, *_score_text(good, metric))
        seconds = float(good["seconds"].mean())
        yield _cell(where, place, COSTS[0], seconds, f"{seconds:,.1f}")
        yield _cell(where, place, COSTS[1], float(good["peak_mib"].max()) / 1024, 2)


@dataclass(frozen=True)
class Supplement:
    """A table of the supplement: title, where its cells come from, what a reader must know."""

    title: str
    cells: Any
    remarks: tuple[str, ...]


TABLES = {
    "table_s1": Supplement(
        "Table S1: What contrast does to a row",
        contrast_cells,
        (
            "Protocol strict. Ignorant: loss of knowing nothing; start: before the first step; end: last "
            "tenth of the steps. A contrast that starts near zero is no task: an untrained model solves it.",
            "Geometry of mean embeddings of cells that no encoder saw.",
        ),
    ),
    "table_s2": Supplement(
        "Table S2: Drug response within a drug",
        within_drug_cells,
        (
            "Protocol strict. The pooled correlation is mostly the mean of each drug; within a drug only the "
            "cell line is left to tell apart. A row that predicts one value for a drug has 0.",
            f"Of drugs with {LEAST_PAIRS} tested pairs in a split; a drug's value is the mean over splits.",
        ),
    ),
    "table_s3": Supplement(
        "Table S3: Held-out donors, patients, tissues and drugs",
        held_out_cells,
        (
            "Protocol strict, mean ± standard deviation over folds. Held out: no row to train or choose on "
            "is of a group that is tested. Mixed: the same model, of the same pre-trainings, on the random "
            "splits of the paper's tables: of cells; of lines where tissues are held out, of pairs where "
            "drugs are.",
            "A model that knows drugs by their name alone predicts the mean of all for a drug never seen.",
        ),
    ),
    "table_s4": Supplement(
        "Table S4: Classes one by one, and calibration",
        class_cells,
        (
            "Protocol strict, per cent; test cells of all splits together.",
            "Calibration, of all rows that give probabilities: expected calibration error of the likeliest "
            "class, 15 bins (Guo et al. 2017), mean over splits; the Brier score sums over classes.",
            "One class only: in how many splits a row gives all cells the same label, which is what learning "
            "nothing looks like.",
            "The two labels of GSE149383 are two samples of one cell line: its F1 may measure the batch.",
        ),
    ),
    "table_s5": Supplement(
        "Table S5: Cost of each row",
        cost_cells,
        (
            "Protocol strict. Mean seconds to fit and predict a split, pre-training not counted; highest "
            "memory of the process, or of the GPU where one is used. Training that a row shares with the "
            "protocol paper counts here as if it were its own, as far as its chosen epoch or penalty.",
        ),
    ),
    "table_s6": Supplement(
        "Table S6: Negative control, permuted labels against chance",
        chance_cells,
        (
            "Protocol strict, means over splits. The row learns from labels dealt out anew, another deal for "
            "each split, so that whatever it has above chance leaked: through the splits, the features or "
            "the scoring. Chance: the accuracy of its predictions if they were independent of the labels; "
            "0 for correlations within drugs.",
            "The deals are independent, and so is what the splits have above chance: t interval, one value a "
            "split. Standard errors are those of a normal variable with the same p (of the five splits' own "
            "estimate it takes 2.9 to be two off). p (Holm) is two-sided, adjusted for the number of tasks "
            "(Holm 1979); below 0.05 and above chance, there is a leak.",
        ),
    ),
}


def view_of(name: str, frame: pd.DataFrame, run: str, toy: bool) -> dict[str, Any]:
    """What the templates show of a table of the supplement."""
    return plain_view(name, frame, TABLES[name].title, TABLES[name].remarks, run, toy)


def read_supplement(path: str | Path, run: str, toy: bool) -> dict[str, Any]:
    """The view of a table's tidy CSV, as :func:`run_supplement` wrote it, called as its table."""
    frame = from_spreadsheets(read_csv(path))
    frame["value"] = pd.to_numeric(frame["value"], errors="coerce")
    return view_of(Path(path).stem, frame, run, toy)
