"""Methods from outside the package: how they are found, and what happens when they misbehave."""

import importlib.metadata
import re
from pathlib import Path
from typing import Any

import pytest

from celllm.config import complete, lay_over, merged
from celllm.errors import UserError
from celllm.methods import CELLS, look_up, outside
from celllm.methods.method import Method
from celllm.plan import Plan
from tests.tasks import test_drug_response as screen
from tests.tasks.conftest import Files, files  # noqa: F401
from tests.tasks.test_annotation import mean, run

files_of_screen = screen.files
CONFIG = Path(__file__).parents[2] / "config"
GOOD = """
from celllm.methods.method import Method
from celllm.settings import Settings, setting

class Mine(Settings):
    word: str = setting("T cell", "what to say")

def fit(train, settings, seed):
    return lambda part: [settings.word] * len(part)

METHOD = Method(fit, Mine)
"""


def written(folder: Path, text: str, name: str = "mine.py") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return f"{folder / name}:METHOD"


def row(method: str, **more: Any) -> dict[str, Any]:
    return {"name": "mine", "kind": "baseline", "method": method} | more


def configured(changes: dict[str, Any], method: dict[str, Any]) -> dict[str, Any]:
    base = merged(CONFIG / "toy.yaml")
    mine = {"title": "Mine", "kind": "baseline", "group": "added"} | method
    return complete(lay_over(base, {"models": {"mine": mine}} | changes), CONFIG, environ={})


IN_TABLE1 = {"annotation": {"models": {"add": ["mine"]}}}


def test_a_file_is_scored_with_its_own_settings(files: Files, tmp_path: Path) -> None:  # noqa: F811
    method = row(written(tmp_path, GOOD))
    assert mean(run(files, tmp_path, method, settings={"word": "B cell"}), "accuracy") == pytest.approx(
        0.5, abs=0.08
    )
    with pytest.raises(UserError, match=r"settings.wort: unknown key 'wort'; did you mean 'word'"):
        run(files, tmp_path, method, settings={"wort": "B cell"})


def test_a_file_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    assert isinstance(look_up("mine.py:METHOD", CELLS), Method)
    assert look_up("mine.py:METHOD", CELLS) is look_up("./mine.py:METHOD", CELLS)


def test_a_module_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_package_of_a_test").mkdir()
    written(tmp_path / "my_package_of_a_test", GOOD, "inner.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if path])
    assert look_up("my_package_of_a_test.inner:METHOD", CELLS).settings(word="x").word == "x"


def test_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [importlib.metadata.EntryPoint("nearest", "celllm.methods.neighbours:METHODS", outside.GROUP)]
    monkeypatch.setattr(outside, "entry_points", lambda group: points if group == outside.GROUP else [])
    with pytest.raises(UserError, match=r"^nearest: is a dict; expected a celllm.methods.method.Method$"):
        look_up("nearest", CELLS)
    with pytest.raises(UserError, match="unknown method 'nearst'; did you mean 'nearest'"):
        look_up("nearst", CELLS)


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (GOOD, "nowhere.py:METHOD", "nowhere.py: no such file"),
        (GOOD, "mine.py:OTHER", "mine.py: defines no 'OTHER'; there are METHOD"),
        (GOOD, "mine.py:fit", "mine.py:fit: is a function; expected a celllm.methods.method.Method"),
        (GOOD, "mine.py", "mine.py: expected the method's name behind the file, as in mine.py:METHOD"),
        (GOOD, "mine.py:my method", "expected MODULE:NAME or FILE.py:NAME"),
        (GOOD, "no_such_package.x:METHOD", "no_such_package.x: cannot be imported (ModuleNotFoundError"),
        ("def fit(:", "mine.py:METHOD", "mine.py: cannot be imported (SyntaxError"),
        ("import nonesuch", "mine.py:METHOD", "cannot be imported (ModuleNotFoundError: No module named"),
        ("raise SystemExit(0)", "mine.py:METHOD", "mine.py: cannot be imported (SystemExit: 0)"),
        (
            GOOD.replace("Method(fit, Mine)", "Method(fit, dict)"),
            "mine.py:METHOD",
            "settings: expected a subclass of celllm.settings.Settings",
        ),
    ],
)
def test_what_is_no_method_is_refused_before_the_first_job(
    text: str, name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(words)) as told:
        configured(IN_TABLE1, {"method": name})
    assert str(told.value).startswith("config: models.mine.method: ")
    assert "\n" not in str(told.value)


def test_settings_of_the_method_are_checked_before_the_first_job(tmp_path: Path) -> None:
    changes = {"annotation": {"models": {"add": ["mine"]}, "baselines": {"mine": {"word": 3}}}}
    with pytest.raises(UserError, match=r"annotation.baselines.mine.word: expected a string, got 3"):
        configured(changes, {"method": written(tmp_path, GOOD)})


def test_a_row_is_added_and_its_file_is_an_input(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    config = configured(IN_TABLE1, {"method": path})
    assert config["annotation"]["models"][-1] == "mine" and "celllm" in config["annotation"]["models"]
    plan = Plan(config)
    assert plan.row_files("mine", "baron") == [path.removesuffix(":METHOD")]
    assert plan.row_files("majority", "baron") == []
    assert plan.row_files("celllm", "baron") == []
    again = {"annotation": {"models": {"add": ["celllm", "mine", "mine"]}}}
    with pytest.raises(UserError, match=r"annotation.models: 'mine' appears twice"):
        configured(again, {"method": path})


def test_an_environment_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only that environment can import is not imported here; what can be seen of its file is checked."""
    monkeypatch.chdir(tmp_path)
    method = {"method": written(tmp_path, "import nonesuch\n" + GOOD), "conda": "mine.yaml"}
    with pytest.raises(UserError, match=r"models.mine.conda: mine.yaml: no such file"):
        configured(IN_TABLE1, method)
    (tmp_path / "mine.yaml").write_text("dependencies: [python]\n")
    plan = Plan(configured(IN_TABLE1, method))
    assert plan.environment("mine") == str(tmp_path / "mine.yaml")
    assert plan.environment("celllm") == "../../envs/gpu.yaml"
    assert Plan(configured(IN_TABLE1, method | {"conda": "named"})).environment("mine") == "named"
    with pytest.raises(UserError, match=r"models.mine.method: .*mine.py: defines no 'OTHER'"):
        configured(IN_TABLE1, method | {"method": method["method"].replace("METHOD", "OTHER")})
    with pytest.raises(UserError, match=r"models.celllm.conda: expected none in a row of kind encoder"):
        configured({"models": {"celllm": {"conda": "x"}}}, {})


HEAD = "import numpy as np\nfrom celllm.methods.method import *\n"
FIT = HEAD + "def fit(train, settings, seed):\n    {}\nMETHOD = Method(fit)\n"
PREDICT = HEAD + "def fit(train, settings, seed):\n    return lambda part: {}\nMETHOD = Method(fit)\n"
SHARED = HEAD + (
    "def prepare(whole, settings, row):\n    {}\n"
    "METHOD = Method(lambda train, settings, seed, shared: None, prepare=prepare)\n"
)
CHOOSE = HEAD + (
    "def fit(train, settings, seed):\n    return lambda part: np.repeat('T cell', len(part))\n"
    "def choose(train, selection, settings, seed):\n"
    "    return Choice({}, fit(train, settings, seed))\n"
    "METHOD = Method(fit, choose=choose)\n"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FIT.format("raise ValueError('no\\nluck')"), "ValueError: no luck"),
        (FIT.format("raise SystemExit(0)"), "SystemExit: 0"),
        (FIT.format("return 3"), "TypeError: 'int' object is not callable"),
        (PREDICT.format("['T cell'] * (len(part) - 1)"), "49 values predicted for 50 test rows"),
        (PREDICT.format("None"), "1 values predicted for 50 test rows"),
        (PREDICT.format("['Treg'] * len(part)"), "predicted 'Treg', which is no label of the data set"),
        (PREDICT.format("np.full(len(part), np.nan)"), "predicted 'nan', which is no label of the data set"),
        (PREDICT.format("np.zeros(len(part), int)"), "predicted '0', which is no label of the data set"),
        (PREDICT.format("part.labels[:]"), "TypeError: 'NoneType' object is not subscriptable"),
        (PREDICT.format("part.known"), "a method asked for the labels of cells that it has to predict"),
        (PREDICT.format("part.classes.sort()"), "ValueError: "),
        (PREDICT.format("part.genes.ids.fill(0)"), "ValueError: "),
        (
            PREDICT.format("Probabilities(np.full((len(part), 3), np.nan), part.classes)"),
            "a predicted probability is not a finite number",
        ),
        (
            PREDICT.format("Probabilities(np.ones((len(part), 3)), part.classes)"),
            "predicted probabilities are negative, or do not add up to 1",
        ),
        (
            PREDICT.format("Probabilities(np.ones((len(part), 2)) / 2, part.classes)"),
            "50 x 2 probabilities predicted for 50 test rows and 3 classes",
        ),
        (SHARED.format("raise KeyError('x')"), "KeyError: 'x'"),
        (SHARED.format("return whole.known"), "asked for the labels of cells that it has to predict"),
        (CHOOSE.format("{'c': np.float32(1)}"), "Object of type float32 is not JSON serializable"),
        (CHOOSE.format("{'c': 1}"), "unknown key 'c'"),
    ],
)
def test_a_method_that_misbehaves_is_a_failed_row(
    text: str,
    reason: str,
    files: Files,  # noqa: F811
    tmp_path: Path,
) -> None:
    frame = run(files, tmp_path, row(written(tmp_path, text)))
    assert set(frame["status"]) == {"failed"}
    assert len(frame) == 9 and frame["reason"].str.contains(reason, regex=False).all(), frame["reason"][0]


def test_what_a_method_writes_into_its_cells_changes_no_score(files: Files, tmp_path: Path) -> None:  # noqa: F811
    text = PREDICT.format("(part.rows.fill(0), part.ids.fill('x'), np.repeat('B cell', len(part)))[2]")
    text = text.replace(
        "return", "train.rows.fill(0); train.labels.fill('T cell'); train.counts.data[:] = 0\n    return"
    )
    frame = run(files, tmp_path, row(written(tmp_path, text)))
    assert mean(frame, "accuracy") == pytest.approx(0.5, abs=0.08)


def test_a_method_that_is_not_applicable_says_why(files: Files, tmp_path: Path) -> None:  # noqa: F811
    text = SHARED.format("raise NotApplicableError('needs mouse cells')")
    frame = run(files, tmp_path, row(written(tmp_path, text)))
    assert set(frame["status"]) == {"not-applicable"} and set(frame["reason"]) == {"needs mouse cells"}


RESPONSE = HEAD + (
    "def fit(train, settings, seed):\n"
    "    mean = train.known.mean()\n"
    "    {}\n"
    "    return lambda pairs: np.full(len(pairs), mean)\n"
    "METHOD = Method(fit)\n"
)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("", {"ok", "not-applicable"}),  # no correlation with a constant
        ("mean = np.nan", {"failed"}),
        ("train.screen.counts.data[:] = 0", {"failed"}),
        ("train.screen.expression[:] = 0", {"failed"}),
    ],
)
def test_pairs(line: str, status: set[str], files_of_screen: Any, tmp_path: Path) -> None:
    frame = screen.run(files_of_screen, tmp_path, row(written(tmp_path, RESPONSE.format(line))))
    assert set(frame["status"]) == status
