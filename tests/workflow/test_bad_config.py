"""What a slip in the configuration tells: one line that names the key."""

from pathlib import Path

import pytest

from celllm.config import ROOT, complete, lay_over, load
from celllm.errors import UserError
from celllm.io import read_yaml


def completed(overlay: dict, environ: dict[str, str] | None = None) -> dict:
    base = lay_over(read_yaml(ROOT / "config/paper.yaml"), read_yaml(ROOT / "config/toy.yaml"))
    return complete(lay_over(base, overlay), environ=environ or {})


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ({"seeed": 1}, ["unknown key 'seeed'", "seed"]),
        ({"seed": "one"}, ["'seed'", "expected integer", "'one'"]),
        ({"tokens": {"max_length": 0}}, ["'tokens.max_length'", "0"]),
        ({"tokens": {"keep": "last"}}, ["'tokens.keep'", "'last'", "highest, first"]),
        ({"data_sets": {"annotation": ["zheng"]}}, ["unknown data set 'zheng'", "zheng68k, baron"]),
        ({"annotation": {"models": ["cellm"]}}, ["unknown model 'cellm'", "celllm"]),
        ({"annotation": {"folds": 3}}, ["unknown key 'folds'", "'annotation'"]),
        ({"reader_options": {"baron": {"drop": []}}}, ["reader_options.baron", "'drop'", "drop_labels"]),
        ({"reader_options": {"barron": {}}}, ["unknown data set 'barron'"]),
        ({"models": {"celllm": {"size": "51m"}}}, ["models.celllm", "unknown size '51m'", "50m"]),
        ({"models": {"celllm": {"contrast": "simclr"}}}, ["models.celllm.contrast", "simclr", "moco"]),
        ({"sizes": {"50m": {"dim": -1}}}, ["sizes.50m.dim", "-1"]),
        ({"run": "../up"}, ["'run'", "../up"]),
    ],
)
def test_a_slip_is_one_line_naming_the_key(overlay: dict, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        completed(overlay)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for word in words:
        assert word in message


def test_both_configurations_are_valid() -> None:
    assert completed({})["results"] == "results/toy"
    assert load(ROOT / "config/toy.yaml")["toy"] is True
    assert complete(read_yaml(ROOT / "config/paper.yaml"), environ={})["results"] == "results/paper"


def test_a_mirror_has_a_run_of_its_own(tmp_path: Path) -> None:
    place = tmp_path / "files"
    place.mkdir()
    config = completed({}, {"CELLLM_MIRROR": str(place)})
    assert config["mirror"] == str(place)
    assert config["results"] == "results/toy-files"


def test_a_mirror_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"CELLLM_MIRROR: .*nowhere is no folder"):
        completed({}, {"CELLLM_MIRROR": str(tmp_path / "nowhere")})


def test_snakemake_tells_the_slip_and_stops(snakemake, tmp_path: Path) -> None:
    overlay = tmp_path / "slip.yaml"
    overlay.write_text("seeed: 1\n")
    done = snakemake(tmp_path, "-n", "--configfile", str(ROOT / "config/toy.yaml"), str(overlay), "--", "all")
    assert done.returncode != 0
    told = done.stdout + done.stderr
    assert "config: unknown key 'seeed'" in told
    assert "Traceback" not in told


def test_a_data_set_has_the_files_that_its_reader_takes() -> None:
    files = {name: set(row["files"]) for name, row in completed({})["catalogue"].items()}
    assert files["zheng68k"] == {"matrix", "labels"}
    assert files["gdsc2"] == {"response", "lines", "drugs", "smiles"}
    listed = completed({"reader_options": {"zheng68k": {"filter_genes": "list"}}})["catalogue"]["zheng68k"]
    assert set(listed["files"]) == {"matrix", "labels", "gene_list"}
