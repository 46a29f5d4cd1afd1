import hashlib
import json
import logging
from collections import Counter

import numpy as np
import pytest

from celllm.corpus.splits import (
    Fold,
    Parts,
    Splits,
    cells_sha256,
    group_folds,
    named,
    pair_folds,
    read_splits,
    rows_of,
    stratified_folds,
    stratified_fractions,
    write_splits,
)
from celllm.errors import UserError
from celllm.tasks.score import run_splits

SIZES = {"alpha": 83, "beta": 101, "delta": 24, "epsilon": 3, "mast": 1}
LABELS = [name for name, n in SIZES.items() for _ in range(n)]
IDS = [f"cell{i:03d}" for i in np.random.default_rng(5).permutation(len(LABELS))]


def folds_of(seed: int = 0, n_folds: int = 5) -> list[Parts]:
    return stratified_folds(IDS, LABELS, n_folds, seed)


@pytest.mark.parametrize("n_folds", [2, 5, 7])
def test_every_cell_is_tested_once_and_never_seen_before(n_folds: int) -> None:
    folds = folds_of(n_folds=n_folds)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(IDS)))
    for fold in folds:
        assert sorted(np.concatenate(fold)) == list(range(len(IDS)))
        assert len(fold.train) + len(fold.validation) + len(fold.test) == len(IDS)
        assert len(fold.validation) == round(0.1 * (len(IDS) - len(fold.test)))


def test_classes_have_their_share_in_every_part() -> None:
    for fold in folds_of():
        test, validation = (Counter(LABELS[i] for i in part) for part in (fold.test, fold.validation))
        assert {16, 17} >= {test["alpha"]} and {20, 21} >= {test["beta"]} and {4, 5} >= {test["delta"]}
        assert {6, 7} >= {validation["alpha"]} and {8} >= {validation["beta"]}
        assert {1, 2} >= {validation["delta"]}
        assert validation["mast"] == 0


def test_rare_classes_are_spread_over_as_many_folds_as_they_have_cells() -> None:
    folds = folds_of()
    for name in ("epsilon", "mast"):
        tested = [sum(LABELS[i] == name for i in fold.test) for fold in folds]
        assert sorted(tested, reverse=True) == [1] * SIZES[name] + [0] * (5 - SIZES[name])


DONORS = [f"donor{i % 7 % 4}" for i in range(len(IDS))]


@pytest.mark.parametrize("validation", ["rows", "groups"])
@pytest.mark.parametrize("n_folds", [None, 2, 3])
def test_whole_groups_are_held_out(n_folds: int | None, validation: str) -> None:
    folds = group_folds(IDS, DONORS, LABELS, n_folds, 0, 0.1, validation)
    assert len(folds) == (n_folds or 4)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(IDS)))
    for fold in folds:
        assert sorted(np.concatenate(fold)) == list(range(len(IDS)))
        train, validated, test = ({DONORS[i] for i in part} for part in fold)
        assert train and validated and test and not (train | validated) & test
        if validation == "groups":
            assert not train & validated
        else:
            assert len(fold.validation) == round(0.1 * (len(IDS) - len(fold.test)))
    sizes = [len(fold.test) for fold in folds]
    assert max(sizes) - min(sizes) < len(IDS) / 4


def test_groups_do_not_depend_on_the_order_of_the_file() -> None:
    order = np.random.default_rng(1).permutation(len(IDS))
    lists = [[values[i] for i in order] for values in (IDS, DONORS, LABELS)]
    found = group_folds(*lists, None, 3, 0.2, "groups")
    expected = group_folds(IDS, DONORS, LABELS, None, 3, 0.2, "groups")
    for a, b in zip(found, expected, strict=True):
        assert named(a, lists[0]) == named(b, IDS)
    assert [list(f.validation) for f in group_folds(IDS, DONORS, LABELS, None, 4, 0.2, "groups")] != [
        list(f.validation) for f in expected
    ]


@pytest.mark.parametrize(
    ("groups", "n_folds", "validation", "message"),
    [
        (["a"] * 6, None, "rows", r"1 groups \(a\) are too few to hold some out: expected 2 at least"),
        (list("aabbcc"), 4, "rows", r"3 groups \(a, b, c\) are too few to hold some out: expected 4"),
        (list("aaabbb"), None, "groups", r"2 groups \(a, b\) are too few to hold some out: expected 3"),
    ],
)
def test_too_few_groups(groups: list[str], n_folds: int | None, validation: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        group_folds(list("123456"), groups, list("xyxyxy"), n_folds, 0, 0.3, validation)


def test_order_of_the_file_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(len(IDS))
    shuffled = stratified_folds([IDS[i] for i in order], [LABELS[i] for i in order], 5, 0)
    for a, b in zip(folds_of(), shuffled, strict=True):
        assert named(a, IDS) == named(b, [IDS[i] for i in order])


def test_seed_decides() -> None:
    assert [named(fold, IDS) for fold in folds_of(1)] == [named(fold, IDS) for fold in folds_of(1)]
    assert named(folds_of(1)[0], IDS).test != named(folds_of(0)[0], IDS).test


def test_golden_folds() -> None:
    """Folds drawn today can be drawn again: a change of this hash makes old and new scores incomparable."""
    text = json.dumps([[part.tolist() for part in fold] for fold in folds_of()])
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "110bda7c14c25169aaaa1c3bca8e642921a0b118d4684ca51f05a4ecbfca1ee1"


def test_too_few_cells_for_the_folds() -> None:
    with pytest.raises(UserError, match="the largest class has 3 cells, too few for 5 folds"):
        stratified_folds(list("abcde"), ["x", "x", "x", "y", "y"], 5, 0)


def test_no_validation_part_without_a_class_of_two() -> None:
    with pytest.raises(UserError, match="too few for a validation part"):
        stratified_folds(list("abcd"), ["x", "x", "y", "y"], 2, 0)


def test_repeated_names_are_refused() -> None:
    with pytest.raises(UserError, match="'a' occurs twice"):
        stratified_folds(["a", "b", "a"], ["x", "x", "x"], 2, 0)


BINARY = ["sensitive"] * 127 + ["resistant"] * 73
BINARY_IDS = [f"c{i:03d}" for i in range(200)]


@pytest.mark.parametrize(("fraction", "n_side", "n_validation"), [(0.8, 160, 16), (0.05, 10, 1)])
def test_fractions_are_stratified_partitions(fraction: float, n_side: int, n_validation: int) -> None:
    splits = stratified_fractions(BINARY_IDS, BINARY, fraction, range(5))
    assert len({tuple(split.test) for split in splits}) == 5
    for split in splits:
        assert sorted(np.concatenate(split)) == list(range(200))
        assert len(split.validation) == n_validation
        side = np.concatenate([split.train, split.validation])
        assert len(side) == n_side
        assert abs(sum(BINARY[i] == "sensitive" for i in side) - n_side * 127 / 200) < 1
        assert {BINARY[i] for i in split.train} == {"sensitive", "resistant"}


def test_a_fraction_is_its_seed_alone() -> None:
    alone = stratified_fractions(BINARY_IDS, BINARY, 0.05, [3])[0]
    among = stratified_fractions(BINARY_IDS, BINARY, 0.05, range(5))[3]
    assert all(np.array_equal(a, b) for a, b in zip(alone, among, strict=True))


def test_a_fraction_without_a_class_is_refused() -> None:
    with pytest.raises(UserError, match="no training cell of class 'rare' is left"):
        stratified_fractions(BINARY_IDS, ["rare"] * 2 + ["common"] * 198, 0.05, [0])


LINES = [f"ACH-{i:03d}" for i in range(40) for _ in range(26)]
DRUGS = [f"drug{i % 25}" for _ in range(40) for i in range(26)]  # drug0 was screened twice


def parts_by_row(parts: Parts) -> np.ndarray:
    assert sorted(np.concatenate(parts)) == list(range(len(LINES)))
    where = np.empty(len(LINES), dtype=int)
    for number, part in enumerate(parts):
        where[part] = number
    return where


def test_warm_pairs_keep_repeated_measurements_together() -> None:
    splits = pair_folds(LINES, DRUGS, "warm", n_repeats=5, seed=0)
    for parts in splits:
        where = parts_by_row(parts)
        places: dict[tuple[str, str], set[int]] = {}
        for line, drug, part in zip(LINES, DRUGS, where, strict=True):
            places.setdefault((line, drug), set()).add(part)
        assert all(len(found) == 1 for found in places.values())
        assert Counter(part for found in places.values() for part in found) == {0: 800, 1: 100, 2: 100}
    assert len({tuple(parts.test) for parts in splits}) == 5


def test_warm_pairs_as_in_the_paper_leak_repeated_measurements() -> None:
    parts = pair_folds(LINES, DRUGS, "warm", 1, 0, keep_repeats_together=False)[0]
    assert [len(part) for part in parts] == [832, 104, 104]
    where = parts_by_row(parts)
    cut = sum(where[26 * i] != where[26 * i + 25] for i in range(40))
    assert 5 < cut < 25


def test_cold_pairs_share_no_line() -> None:
    for parts in pair_folds(LINES, DRUGS, "cold", 5, seed=7):
        parts_by_row(parts)
        lines = [{LINES[i] for i in part} for part in parts]
        assert [len(names) for names in lines] == [32, 4, 4]
        assert not (lines[0] & lines[1] or lines[0] & lines[2] or lines[1] & lines[2])


def test_pairs_do_not_depend_on_the_order_of_the_file() -> None:
    order = np.random.default_rng(1).permutation(len(LINES))
    mixed = [LINES[i] for i in order], [DRUGS[i] for i in order]
    for kind in ("warm", "cold"):
        first, second = pair_folds(LINES, DRUGS, kind, 1, 3)[0], pair_folds(*mixed, kind, 1, 3)[0]
        assert np.array_equal(first.test, np.sort(order[second.test]))


def test_golden_pairs() -> None:
    parts = [pair_folds(LINES, DRUGS, kind, 2, 0) for kind in ("warm", "cold")]
    text = json.dumps([[part.tolist() for part in split] for splits in parts for split in splits])
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "1d6ca8dd60101e092745e34ebdcf4375997b6e97c66585d5f172677d06036002"
    )


def test_pairs_refuse_what_cannot_be_cut() -> None:
    with pytest.raises(UserError, match="expected warm or cold, got 'tepid'"):
        pair_folds(LINES, DRUGS, "tepid", 1, 0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="2 groups are too few"):
        pair_folds(["a", "a", "b"], ["x", "y", "x"], "cold", 1, 0)


# --- files -------------------------------------------------------------------------------------------------


def saved(path, n_folds: int = 5) -> Splits:
    splits = Splits("baron", "annotation", 0, tuple(named(fold, IDS) for fold in folds_of(n_folds=n_folds)))
    write_splits(path, splits)
    return splits


def test_splits_come_back(tmp_path) -> None:
    splits = saved(tmp_path / "baron.json")
    assert read_splits(tmp_path / "baron.json", IDS) == splits
    content = json.loads((tmp_path / "baron.json").read_text())
    keys = ["data_set", "task", "seed", "n_folds", "cells_sha256", "sha256", "folds"]
    assert list(content) == keys and content["n_folds"] == 5
    assert content["cells_sha256"] == hashlib.sha256("\n".join(sorted(IDS)).encode()).hexdigest()
    assert list(content["folds"][0]) == ["train", "validation", "test"]


def test_rows_of_a_fold_are_those_of_the_file_at_hand() -> None:
    fold = Fold(("c", "a"), ("d",), ("b",))
    parts = rows_of(fold, ["d", "c", "b", "a"])
    assert [part.tolist() for part in parts] == [[1, 3], [0], [2]]


def test_edited_folds_are_refused(tmp_path) -> None:
    saved(tmp_path / "s.json")
    content = json.loads((tmp_path / "s.json").read_text())
    content["folds"][0]["train"].append(content["folds"][0]["test"].pop())
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"s\.json: the folds were changed"):
        read_splits(tmp_path / "s.json")


def test_cells_of_another_data_set_are_refused(tmp_path) -> None:
    saved(tmp_path / "s.json")
    gone = [name for name in IDS if name != "cell007"]
    with pytest.raises(UserError, match=r"the cell 'cell007' is not in the data set \(1 are not\)"):
        read_splits(tmp_path / "s.json", gone)
    with pytest.raises(UserError, match="drawn for 212 cells, the data set has 213"):
        read_splits(tmp_path / "s.json", [*IDS, "new"])


@pytest.mark.parametrize("text", ["[]", "{}", '{"folds": [{"train": []}]}', "42"])
def test_other_json_is_refused(tmp_path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(UserError, match="not a file of splits"):
        read_splits(tmp_path / "s.json")


def test_hash_of_cells_ignores_their_order() -> None:
    assert cells_sha256(["b", "a"]) == cells_sha256(["a", "b"]) != cells_sha256(["a", "c"])


# --- command -----------------------------------------------------------------------------------------------


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """A prepared data set as far as splits see one."""
    anndata = pytest.importorskip("anndata")
    pandas = pytest.importorskip("pandas")
    obs = pandas.DataFrame({"label": pandas.Categorical(LABELS)}, index=IDS)
    adata = anndata.AnnData(np.zeros((len(IDS), 1), dtype=np.float32), obs=obs)
    monkeypatch.setattr("celllm.cells.h5ad.read", lambda path, vocabulary: adata)
    return adata


def test_command_writes_folds_and_names_rare_classes(cells, tmp_path, caplog) -> None:
    out = tmp_path / "splits" / "baron.json"
    with caplog.at_level(logging.WARNING):
        run_splits("annotation", "baron.h5ad", "baron", out)
    assert read_splits(out, IDS).folds == tuple(named(fold, IDS) for fold in folds_of())
    assert caplog.messages == ["baron: classes with fewer cells than the 5 folds: epsilon (3), mast (1)"]


def test_command_draws_fractions(cells, tmp_path) -> None:
    cells.obs["label"] = ["x" if label == "beta" else "y" for label in LABELS]
    settings = {"n_folds": 3, "train_fraction": 0.05, "seed": 2}
    run_splits("annotation", "c.h5ad", "gse", tmp_path / "s.json", settings=json.dumps(settings))
    splits = read_splits(tmp_path / "s.json", IDS)
    assert len(splits.folds) == 3
    assert [len(fold.train) + len(fold.validation) for fold in splits.folds] == [11, 11, 11]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_fold": 5}, "unknown key 'n_fold'"),
        ({"n_folds": 1}, "n_folds: expected at least 2 without train_fraction, got 1"),
        ({"validation_fraction": 0.0}, "validation_fraction: expected more than 0, got 0.0"),
        ({"train_fraction": 1.5}, "train_fraction: expected less than 1, got 1.5"),
        ({"n_folds": 200}, "the largest class has 101 cells"),
    ],
)
def test_command_refuses_settings(cells, tmp_path, settings, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_splits("annotation", "c.h5ad", "baron", tmp_path / "s.json", settings=settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("settings", [{}, {"train_fraction": 0.5}])
def test_command_needs_two_classes(cells, tmp_path, settings) -> None:
    cells.obs["label"] = "beta"
    with pytest.raises(UserError, match=r"c\.h5ad: needs cells of two labels at least to be split, has 1"):
        run_splits("annotation", "c.h5ad", "baron", tmp_path / "s.json", settings=settings)
    assert list(tmp_path.iterdir()) == []


def test_command_needs_a_label_for_every_cell(cells, tmp_path) -> None:
    cells.obs["label"] = [None, *LABELS[1:]]
    with pytest.raises(UserError, match=r"c\.h5ad: this task needs a label for every cell"):
        run_splits("annotation", "c.h5ad", "baron", tmp_path / "s.json")


def test_command_needs_labels(cells, tmp_path) -> None:
    del cells.obs["label"]
    with pytest.raises(UserError, match=r"c\.h5ad: this task needs a label for every cell"):
        run_splits("annotation", "c.h5ad", "baron", tmp_path / "s.json")


@pytest.mark.parametrize("unknown", [None, ""])
def test_donors_come_from_a_column_of_the_cells(cells, tmp_path, caplog, unknown: str | None) -> None:
    cells.obs["donor"] = DONORS
    cells.obs.iloc[0, cells.obs.columns.get_loc("donor")] = unknown
    run_splits("annotation_donor", "c.h5ad", "baron", tmp_path / "s.json", settings={"group": "donor"})
    saved = read_splits(tmp_path / "s.json", IDS)
    assert (saved.task, len(saved.folds)) == ("annotation_donor", 5)
    assert (IDS[0],) in [fold.test for fold in saved.folds]
    assert "c.h5ad: 1 of 212 without a value in obs['donor']" in caplog.text


@pytest.mark.parametrize(
    ("donors", "settings", "message"),
    [
        (DONORS, {"group": "patient"}, r"c\.h5ad: no column 'patient' in obs .* expected one of .*donor"),
        (["d"] * 212, {"group": "donor"}, r"c\.h5ad: groups by 'donor': 1 groups \(d\) are too few"),
        (DONORS, {"group": "donor", "n_folds": 5}, r"groups by 'donor': 4 groups .* expected 5 at least"),
        (DONORS, {}, "group: is missing"),
        (DONORS, {"group": "donor", "n_folds": 1}, "n_folds: expected at least 2, got 1"),
        (LABELS, {"group": "donor", "n_folds": 2}, None),
        (
            ["b" if label == "beta" else "other" for label in LABELS],
            {"group": "donor"},
            r"groups by 'donor': with other held out, all rows to train on have the label 'beta'",
        ),
    ],
)
def test_groups_that_cannot_be_held_out(cells, tmp_path, donors, settings, message: str | None) -> None:
    cells.obs["donor"] = donors
    if message is None:
        run_splits("annotation_donor", "c.h5ad", "baron", tmp_path / "s.json", settings=settings)
        return
    with pytest.raises(UserError, match=message):
        run_splits("annotation_donor", "c.h5ad", "baron", tmp_path / "s.json", settings=settings)
    assert list(tmp_path.iterdir()) == []
