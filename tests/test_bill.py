"""The bill before a run: counted from its configuration."""

from pathlib import Path

import pytest

from celllm.bill import DATA, Bill, Line, page, run_cost
from celllm.config import load
from celllm.errors import UserError
from celllm.plan import Plan
from tests.places import CONFIG, ROOT

RUNS = ("paper.yaml", "weekend.yaml")


@pytest.fixture(scope="module")
def bills() -> dict[str, Bill]:
    return {name: Bill(Plan(load(CONFIG / name)), "a100") for name in RUNS}


def line(bill: Bill, rule: str, row: str) -> Line:
    [found] = [x for x in bill.lines if (x.rule, x.row) == (rule, row)]
    return found


def test_the_page_is_what_the_command_writes(bills: dict[str, Bill]) -> None:
    assert (ROOT / "docs/scale.md").read_text() == page(bills, "a100", 0.4)


def test_pretraining_is_counted_by_hand(bills: dict[str, Bill]) -> None:
    """Per token and layer 2 (4 dim inner + 8 dim^2 + 4 features inner), eight passes, three seeds."""
    per_token = 2 * 10 * (4 * 512 * 1024 + 8 * 512**2 + 4 * 266 * 1024)
    cells = DATA["panglaodb"].cells + DATA["cancerscem"].cells
    flops = 3 * 5 * cells * 1501 * 8 * per_token
    found = line(bills["paper.yaml"], "pretrain", "celllm")
    assert found.jobs == 3
    assert found.gpu_hours == pytest.approx(flops / (0.4 * 312e12) / 3600, rel=1e-6)
    twice = Bill(bills["paper.yaml"].plan, "a100", share=0.2)
    assert line(twice, "pretrain", "celllm").gpu_hours == pytest.approx(2 * found.gpu_hours)


def test_fits_are_counted_as_the_runner_makes_them(bills: dict[str, Bill]) -> None:
    paper = bills["paper.yaml"]
    assert [paper.n_fits(s) for s in ("annotation", "drug_sensitivity", "drug_response")] == [10, 20, 20]


def test_a_row_whose_frozen_states_do_not_fit_says_so(bills: dict[str, Bill]) -> None:
    """scBERT reads every gene: 0.5 TB for Zheng68k. CellLM's are in bfloat16 on disk."""
    paper = bills["paper.yaml"]
    assert "zheng68k: frozen states do not fit" in line(paper, "annotate", "scbert").note
    assert line(paper, "annotate", "celllm").note == ""


def test_every_job_of_a_table_is_on_the_bill(bills: dict[str, Bill]) -> None:
    for bill in bills.values():
        rules = ("annotate", "drug_sensitivity", "drug_response")
        jobs = sum(x.jobs for x in bill.lines if x.rule.removesuffix("_controls") in rules)
        parts = [Path(path).parts[-3:-1] for path in bill.plan.table_scores()]
        alone = bill.plan.scored_alone
        scored = {(data_set, model if model in alone else "controls") for data_set, model in parts}
        assert jobs == len(scored)
        assert sum(x.jobs for x in bill.lines if x.rule == "pretrain") == len(bill.plan.all_encoders)


def test_a_weekend_is_a_weekend(bills: dict[str, Bill]) -> None:
    """Also at half of the assumed share of the peak; and eight GPUs shorten the paper's run."""
    plan = bills["weekend.yaml"].plan
    assert bills["weekend.yaml"].wall_hours <= Bill(plan, "a100", share=0.2).wall_hours <= 48
    assert {"annotation", "drug_sensitivity", "drug_response"} == set(plan.sections())
    paper = bills["paper.yaml"]
    assert Bill(paper.plan, "a100", 8).wall_hours < paper.wall_hours / 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gpu": "a1000"}, "--gpu: unknown GPU 'a1000'.*a100"),
        ({"gpus": 0}, "--gpus, --share: expected 1 or more"),
        ({"share": 40}, "--gpus, --share: .* got 1 and 40"),
    ],
)
def test_a_wrong_word_is_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_cost([CONFIG / "paper.yaml"], **arguments)


@pytest.mark.slow
def test_the_weekend_is_planned(snakemake, tmp_path: Path) -> None:
    done = snakemake(tmp_path, "-n", "--", "all", config="weekend.yaml")
    assert done.returncode == 0, done.stderr[-2000:]
