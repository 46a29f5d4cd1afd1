import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from celllm.errors import UserError
from celllm.report import published
from celllm.report.captions import CAPTIONS, GROUPS, caption_of
from celllm.report.claims import run_claims
from celllm.report.manifest import run_manifest
from celllm.report.page import run_report
from celllm.report.run import TOY_NOTE
from celllm.report.settings import ClaimSettings, ManifestSettings, RunLabel, TableSettings
from celllm.report.tables import run_table
from celllm.settings import as_settings

CLAIMS = published.load().claims


class _Page(HTMLParser):
    """Ids and the addresses that a page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.loads: list[str] = []
        self.anchors: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {k: v or "" for k, v in attrs}
        self.ids += [given["id"]] if "id" in given else []
        self.loads += [given[k] for k in ("src", "srcset", "data") if k in given]
        self.loads += [given["href"]] if tag == "link" else []
        self.anchors += [given["href"]] if tag == "a" else []


def test_the_page_needs_nothing_else(report) -> None:
    text = report().read_text()
    page = _Page(text)
    assert page.loads and all(address.startswith("data:") for address in page.loads)
    assert len(page.ids) == len(set(page.ids))
    assert {a.removeprefix("#") for a in page.anchors} <= set(page.ids)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|https?://", text)
    assert len(text) < 1_000_000


def test_it_holds_tables_ledger_manifest_and_citation(report) -> None:
    text = report().read_text()
    assert f"Verdicts on {len(CLAIMS)} claims" in text
    assert "<b>75.0 ± 1.0</b>" in text and "paper 71.8 ± 1.0" in text
    assert "arXiv preprint arXiv:2306.04371" in text
    assert text.count('<tr data-verdict="') == len(CLAIMS)
    assert text.count("data:image/svg+xml;base64,") == 1 and "data:image/png" not in text
    assert 'class="num worse"' in text and 'class="num near"' in text
    assert TOY_NOTE.capitalize() not in text


def test_a_toy_report_says_so_first_and_last(report) -> None:
    text = report(toy=True).read_text()
    assert "<h1>CellLM benchmark (toy)</h1>" in text
    assert text.count(TOY_NOTE.capitalize()) >= 2
    assert 'class="num worse"' not in text


def test_a_large_svg_gives_way_to_its_pixels(report, tmp_path: Path) -> None:
    svg = tmp_path / "fig3_zheng68k.svg"
    svg.write_text(svg.read_text() + f"<!--{'x' * 1_000_001}-->")
    text = report().read_text()
    assert "data:image/png;base64," in text and "image/svg" not in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("claims.csv", "a,b\n1,2\n", r"claims\.csv: not a table or ledger"),
        ("table1.csv", "", r"table1\.csv: not a CSV file"),
        ("manifest.json", "{", r"manifest\.json: not a JSON file"),
    ],
)
def test_a_file_that_is_something_else(report, tmp_path: Path, name: str, content: str, message: str) -> None:
    report()
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        run_report(
            [tmp_path / "table1.csv"],
            [],
            tmp_path / "claims.csv",
            tmp_path / "manifest.json",
            RunLabel(),
            tmp_path / "r.html",
        )
    assert not (tmp_path / "r.html").exists()


def test_figures_stand_in_groups_with_what_to_look_at(report) -> None:
    text = report().read_text()
    assert '<h3 id="figures-of-the-paper">' in text
    assert "Fig. 3: confusion of cell types (Zheng68K)." in text
    assert "Look off the diagonal" in text
    assert "This run made no figure" not in text
    assert {caption.group for caption in CAPTIONS.values()} <= set(GROUPS)
    assert caption_of("something_else").title == "something else"


def test_every_figure_has_a_module_and_a_caption() -> None:
    root = Path(__file__).parents[2]
    modules = {
        path.stem for path in (root / "celllm/figures").glob("*.py") if "def draw(" in path.read_text()
    }
    assert modules == set(CAPTIONS)


def test_the_page_cites_paper_and_software(report) -> None:
    text = report().read_text()
    assert "author  = {Zhao, Suyuan and Zhang, Jiahuan and Nie, Zaiqing}" in text
    assert "@software{celllm_benchmark" in text


REASONS = {0: ("failed", "loss is <nan> & more"), 1: ("out-of-memory", "CUDA out of memory")}


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ({}, "no scores in this run"),
        ({("celllm", "zheng68k", "strict", "macro_f1"): REASONS}, "loss is &lt;nan&gt; &amp; more"),
    ],
)
def test_a_gap_says_why(tmp_path: Path, score_file, models, failures: dict, told: str) -> None:
    """No scores at all, or only failures: the page stands, and says why it is empty."""
    scores, settings = [score_file({}, failures)], {"run": "gaps"}
    table, claims, manifest = (tmp_path / name for name in ("table1.csv", "claims.csv", "manifest.json"))
    run_table("table1", scores, models, as_settings(TableSettings, settings), table.with_suffix(""))
    run_claims(scores, models, as_settings(ClaimSettings, settings), claims.with_suffix(""))
    run_manifest({}, as_settings(ManifestSettings, settings), manifest)
    run_report([table], [], claims, manifest, as_settings(RunLabel, settings), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert told in text
    assert "This run made no figure" in text
    assert re.search(r"Table 1: \d+ of \d+ numbers are missing", text)
