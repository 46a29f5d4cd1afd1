"""The command line follows from signatures and docstrings."""

import importlib
import inspect
import subprocess
import sys
import time

import pytest

from celllm import cli


@pytest.mark.parametrize("verb", cli.FUNCTIONS)
def test_flags_are_the_parameters_of_the_function(verb, capsys):
    module, _, name = cli.FUNCTIONS[verb].partition(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    actions = {action.dest: action for action in cli.parser(verb)._actions if action.dest != "help"}
    assert list(actions) == list(parameters)
    for name, parameter in parameters.items():
        is_word = parameter.kind is inspect.Parameter.POSITIONAL_ONLY
        assert bool(actions[name].option_strings) != is_word
        optional = parameter.default is not parameter.empty or str(parameter.annotation).endswith("None")
        assert actions[name].required != optional, name
    with pytest.raises(SystemExit) as end:
        cli.main([verb, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.count("--") >= len(parameters) - 2


@pytest.mark.parametrize("verb", cli.FUNCTIONS)
def test_every_flag_has_a_help(verb):
    lacking = [a.dest for a in cli.parser(verb)._actions if not a.help]
    assert lacking == []


def test_the_overview_names_every_verb_by_stage_and_imports_nothing_heavy():
    code = (
        "import sys; from celllm import cli; print(cli.overview());"
        "print(sorted({'torch', 'scanpy', 'anndata', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    start = time.perf_counter()
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert time.perf_counter() - start < 5  # 0.1 s on an idle machine; benchmarks/ has the figure
    assert told.endswith("[]\n")
    assert all(
        f"\n  {verb} " in told and f"\n{stage}:" in told
        for stage, verbs in cli.STAGES.items()
        for verb in verbs
    )


def test_an_unknown_verb_is_one_line_with_the_nearest(capsys):
    assert cli.main(["scores"]) == 2
    assert "did you mean 'score'?" in capsys.readouterr().err


def test_pairs_of_name_and_file(capsys):
    given = cli.parser("geometry").parse_args(
        ["--encoders", "a=x", "b=y=z", "--cells", "--genes", "g", "--out", "o"]
    )
    assert given.encoders == {"a": "x", "b": "y=z"}
    assert given.cells == {}
    with pytest.raises(SystemExit):
        cli.parser("geometry").parse_args(["--encoders", "a"])
    assert "expected NAME=FILE, got 'a'" in capsys.readouterr().err
