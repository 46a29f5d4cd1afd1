import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from celllm.errors import UserError
from celllm.scores import scores
from celllm.scores.scores import Score

ROW = Score("1", "annotation", "zheng68k", "celllm", "strict", "0", 7, "macro_f1", 1 / 3, "ok", 1.25, 300.5)
HEADER = "table,task,data_set,model,protocol,split,seed,metric,value,status,seconds,peak_mib,reason"
GOOD = "1,annotation,zheng68k,celllm,strict,0,7,macro_f1,0.5,ok,1.0,300.0,"


def written(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "strict.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def test_header_is_the_contract() -> None:
    assert ",".join(scores.COLUMNS) == HEADER


def test_round_trip_keeps_every_digit(tmp_path: Path) -> None:
    failed = dataclasses.replace(
        ROW, split="1", value=None, status="out-of-memory", reason="two\nlines, a comma"
    )
    path = tmp_path / "sub" / "strict.csv"
    scores.write(path, [ROW, failed])
    frame = scores.read_many([path])
    assert list(frame.columns) == list(scores.COLUMNS)
    assert frame.loc[0, "value"] == 1 / 3
    assert frame.loc[0, "split"] == "0"
    assert frame.loc[0, "seed"] == 7
    assert math.isnan(frame.loc[1, "value"])
    assert frame.loc[1, "reason"] == "two lines, a comma"


def test_several_files_are_one_frame(tmp_path: Path) -> None:
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, split in zip(paths, "01", strict=True):
        scores.write(path, [dataclasses.replace(ROW, split=split)])
    assert scores.read_many(paths)["split"].tolist() == ["0", "1"]
    assert list(scores.read_many([]).columns) == list(scores.COLUMNS)


def test_values_become_rows_and_an_undefined_one_says_so() -> None:
    rows = scores.with_values(ROW, {"pearson": math.nan, "rmse": 2.0})
    assert [(row.metric, row.value, row.status) for row in rows] == [
        ("pearson", None, "not-applicable"),
        ("rmse", 2.0, "ok"),
    ]
    assert "pearson is undefined" in rows[0].reason


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD.replace(",ok,", ",fine,"), "status is 'fine', expected one of ok, failed"),
        (GOOD.replace("strict", "loose"), "protocol is 'loose'"),
        (GOOD.replace("macro_f1", "auc"), "metric is 'auc'"),
        (GOOD.replace("0.5", "half"), "value is 'half', expected a finite number"),
        (GOOD.replace("0.5", ""), "value is '', expected a finite number"),
        (GOOD.replace("0.5", "nan"), "value is 'nan', expected a finite number"),
        (GOOD.replace("1.0", "inf"), "seconds is 'inf', expected a finite number"),
        (GOOD.replace(",ok,", ",failed,") + "why", "value is '0.5', expected nothing"),
        (GOOD.replace(",0.5,ok,", ",,failed,"), "reason is '', expected why"),
    ],
)
def test_a_bad_row_is_told_in_one_line(tmp_path: Path, line: str, message: str) -> None:
    path = written(tmp_path, GOOD.replace(",0,7", ",1,7"), line)
    with pytest.raises(UserError) as error:
        scores.read_many([path])
    assert message in str(error.value)
    assert f"{path}, line 3" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_same_score_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="celllm / strict / 0 / 7 / macro_f1 occurs twice"):
        scores.read_many([written(tmp_path, GOOD, GOOD)])


def test_other_columns_missing_file_and_no_csv_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        scores.read_many([tmp_path / "none.csv"])
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="columns are a,b; expected exactly table,task"):
        scores.read_many([other])
    other.write_text("")
    with pytest.raises(UserError, match="not a CSV file"):
        scores.read_many([other])


def test_probabilities_round_trip(tmp_path: Path) -> None:
    path = scores.probabilities_of(tmp_path / "strict.predictions.csv")
    assert path == tmp_path / "strict.probabilities.npz"
    values = np.array([[0.25, 0.75], [np.nan, np.nan]])
    scores.write_probabilities(path, ["B", "NK, dim"], values)
    classes, found = scores.read_probabilities(path)
    assert classes.tolist() == ["B", "NK, dim"] and found.dtype == np.float32
    np.testing.assert_array_equal(found, values.astype(np.float32))
    first = path.read_bytes()
    scores.write_probabilities(path, ["B", "NK, dim"], values)
    assert path.read_bytes() == first


@pytest.mark.parametrize("damage", ["gone", "cut", "text", "empty", "other", "narrow"])
def test_damaged_probabilities_are_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "p.npz"
    scores.write_probabilities(path, ["a", "b"], np.full((50, 2), 0.5))
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "other":
        np.savez(path, values=np.ones(3))
    elif damage == "narrow":
        np.savez(path, classes=np.array(["a", "b"]), values=np.ones((4, 3)))
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"a,b\n", "empty": b""}[damage])
    with pytest.raises(
        UserError, match=r"p\.npz: (no such file|not a whole file|.* score the row again)"
    ) as error:
        scores.read_probabilities(path)
    assert "\n" not in str(error.value)


def test_predictions_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "strict.predictions.csv"
    scores.write_predictions(path, [("c1", "0", "CD8+ T, naive", "B")])
    assert path.read_text() == 'cell,split,label,predicted\nc1,0,"CD8+ T, naive",B\n'
    assert scores.read_predictions(path).loc[0, "label"] == "CD8+ T, naive"


def test_an_unfinished_file_is_never_seen(tmp_path: Path) -> None:
    path = tmp_path / "strict.csv"
    scores.write(path, [ROW])
    before = path.read_text()

    def rows() -> "object":
        yield ROW
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        scores.write(path, rows())
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]
