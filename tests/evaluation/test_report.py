import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from celllm.errors import UserError
from celllm.evaluation.claims import run_claims
from celllm.evaluation.manifest import run_manifest
from celllm.evaluation.report import run_report
from celllm.evaluation.run import TOY_NOTE
from celllm.evaluation.tables import run_table

BROWSER = next(
    (p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")) if p), None
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><rect width="10" height="10"/></svg>'


@pytest.fixture
def report(tmp_path: Path, score_file, spread, models):
    """Write a report of Table 1 and of Table D.1 (with no facts), one figure, the ledger and a manifest."""
    values = {
        (model, data_set, protocol, metric): spread(mean, 0.01)
        for model, mean in (("celllm", 0.70), ("scbert", 0.75), ("logistic", 0.60))
        for data_set in ("zheng68k", "baron")
        for protocol in ("strict", "paper")
        for metric in ("macro_f1", "weighted_f1", "accuracy")
    }
    scores = [score_file(values)]
    (tmp_path / "fig3_zheng68k.svg").write_text(SVG)
    (tmp_path / "fig3_zheng68k.png").write_bytes(b"\x89PNG")

    def make(toy: bool = False) -> Path:
        settings = {"run": "test", "toy": toy}
        for name in ("table1", "tabled1"):
            run_table(name, scores, models, settings, tmp_path / name)
        run_claims(scores, models, settings, tmp_path / "claims")
        run_manifest({"seed": 1}, settings, tmp_path / "manifest.json")
        tables = [tmp_path / "table1.csv", tmp_path / "tabled1.csv"]
        figures = [tmp_path / "fig3_zheng68k.png", tmp_path / "fig3_zheng68k.svg"]
        claims, manifest, out = tmp_path / "claims.csv", tmp_path / "manifest.json", tmp_path / "report.html"
        run_report(tables, figures, claims, manifest, settings, out)
        return out

    return make


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
    assert "Verdicts on 83 claims" in text
    assert "<b>75.0 ± 1.0</b>" in text and "paper 71.8 ± 1.0" in text
    assert "arXiv preprint arXiv:2306.04371" in text
    assert text.count('<tr data-verdict="') == 83
    assert text.count("data:image/svg+xml;base64,") == 1 and "data:image/png" not in text
    assert 'class="num worse"' in text and 'class="num near"' in text
    assert TOY_NOTE.capitalize() not in text


def test_a_toy_report_says_so_first_and_last(report) -> None:
    text = report(toy=True).read_text()
    assert "<h1>CellLM benchmark (toy)</h1>" in text
    assert text.count(TOY_NOTE.capitalize()) >= 2
    assert 'class="num worse"' not in text


def test_a_large_svg_gives_way_to_its_pixels(report, tmp_path: Path) -> None:
    (tmp_path / "fig3_zheng68k.svg").write_text(SVG + "<!--" + "x" * 1_000_001 + "-->")
    text = report().read_text()
    assert "data:image/png;base64," in text and "image/svg" not in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("claims.csv", "a,b\n1,2\n", r"claims\.csv: not a table or ledger"),
        ("table1.csv", "", r"table1\.csv: not a table or ledger"),
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
            None,
            tmp_path / "r.html",
        )
    assert not (tmp_path / "r.html").exists()


def _dom(page: Path, state: str = "") -> tuple[str, str]:
    """The page as a browser has it after its scripts ran, and what the browser had to say."""
    if BROWSER is None:
        pytest.skip("no Chromium on this machine: the page was not opened")
    address = page.resolve().as_uri() + state
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", "--dump-dom"]
    profile = f"--user-data-dir={page.parent / 'browser'}"
    done = subprocess.run(
        [BROWSER, *flags, profile, address], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout, done.stderr


def _shown(dom: str) -> list[str]:
    rows = re.findall(r"<tr data-verdict=[^>]*>", dom)
    return [re.search(r'id="claim-([^"]*)"', row)[1] for row in rows if 'hidden=""' not in row]


def test_a_browser_loads_it_without_a_complaint(report) -> None:
    dom, said = _dom(report())
    assert "CONSOLE" not in said
    assert "83 of 83 claims" in dom
    assert len(_shown(dom)) == 83
    assert dom.count('class="sorter"') > 20


def test_filters_work_in_a_browser(report) -> None:
    dom, _ = _dom(report(), "#verdict=paper+disagrees+with+itself&q=pearson")
    assert _shown(dom) == ["response-pearson", "response-gain", "warm-gain", "wo-cls-warm"]
    assert "4 of 83 claims" in dom
    assert 'data-verdict="paper disagrees with itself" aria-pressed="true"' in dom
    dom, _ = _dom(report(), "#section=4.3")
    assert _shown(dom) == ["batch-size", "length-end-to-end", "length-divided"]


@pytest.mark.parametrize(
    ("direction", "order"),
    [("ascending", ["CellLM", "scBERT", "Scanpy"]), ("descending", ["scBERT", "CellLM", "Scanpy"])],
)
def test_sorting_works_in_a_browser_and_gaps_stay_last(report, direction: str, order: list[str]) -> None:
    dom, _ = _dom(report(), f"#sort=table1-strict:1:{direction}")
    table = re.search(r'<table class="scores" id="table1-strict">.*?</table>', dom, re.S)[0]
    assert f'aria-sort="{direction}"' in table
    titles = re.findall(r'<th scope="row">([^<]*)</th>', table)
    assert titles[:3] == order
    assert titles[-1] == "L1 logistic_regression &amp; more"  # a control stays among the controls
