"""Targets on data alone, planned and not run."""

from pathlib import Path

import pytest

from tests.places import ROOT

META = "data/raw/gse149383/erl_total_2K_meta.csv"  # has no address


def planned(text: str) -> dict[str, int]:
    """Rules of a dry run and how many jobs each has, from its table of job counts."""
    lines = text[text.rindex("Job stats:") :].splitlines()[3:]
    rows = [line.split() for line in lines]
    end = next(i for i, row in enumerate(rows) if row[:1] == ["total"])
    return {row[0]: int(row[1]) for row in rows[:end]}


@pytest.fixture
def plan(snakemake, tmp_path: Path):
    """Dry run of a target; its text, as far as checkpoints allow."""

    def dry_run(*arguments: str, overlay: str = "") -> str:
        (tmp_path / "overlay.yaml").write_text(overlay or "{}\n")
        files = ["--configfile", str(ROOT / "config/toy.yaml"), str(tmp_path / "overlay.yaml")]
        done = snakemake(tmp_path / "run", "-n", *files, "--", *arguments)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    return dry_run


def test_sources_prepares_every_data_set_and_trains_nothing(plan) -> None:
    text = plan("sources")
    for name in ("zheng68k", "baron", "gse149383", "gse117872", "ccle"):
        assert f"results/toy/prepared/{name}.h5ad" in text
    assert "results/toy/prepared/gdsc.responses.csv" in text
    assert "string/9606.protein.links.v11.0.txt.gz" in text
    assert "gene_list" not in text
    rules = planned(text)
    assert set(rules) == {"toy_mirror", "fetch", "genes", "samples", "prepare", "responses", "sources"}
    assert (rules["prepare"], rules["responses"]) == (5, 1)


def test_the_release_of_gdsc_takes_its_lines_and_drugs_from_elsewhere(plan) -> None:
    text = plan("results/toy/prepared/gdsc2.responses.csv", overlay="data_sets: {response: [gdsc2]}\n")
    for path in ("ccle/sample_info.csv", "gdsc/deepcdr/data/223drugs_pubchem_smiles.txt"):
        assert f"results/toy/raw/{path}" in text
    assert planned(text) == {"toy_mirror": 1, "fetch": 4, "responses": 1}


def test_a_gene_list_is_asked_for_only_where_it_is_read(plan) -> None:
    target = "results/toy/prepared/zheng68k.h5ad"
    text = plan(target, overlay="reader_options: {zheng68k: {filter_genes: list}}\n")
    assert "gene_list=results/toy/raw/zheng68k/gene_list.txt" in text
    assert planned(text)["fetch"] == planned(plan(target))["fetch"] + 1


def test_drug_response_takes_the_release_of_gdsc_where_the_config_names_it(plan) -> None:
    overlay = """
data_sets: {response: [gdsc2]}
reader_options: {gdsc2: {deduplicate: true}}
tables: [table3]
"""
    target = "results/toy/scores/response_cold/gdsc_ccle/ridge/strict.csv"
    text = plan(target, overlay=overlay)
    assert planned(text)["drug_response_controls"] == 1
    assert "--responses results/toy/prepared/gdsc2.responses.csv" in text
    assert "gdsc.responses.csv" not in text
    assert '"deduplicate": true' in text
    assert '"keep_repeats_together": true' in text
    assert "splits --task response_cold" in text


@pytest.mark.parametrize("drop", [False, True])
def test_the_corpus_waits_for_the_leakage_report_only_to_drop(plan, drop: bool) -> None:
    text = plan("results/toy/corpus/index.json", overlay=f"leakage: {{drop: {str(drop).lower()}}}\n")
    assert ("rule leakage:" in text) == drop
    assert ("--exclude results/toy/leakage.csv" in text) == drop


@pytest.fixture
def real(snakemake, tmp_path: Path):
    """Run a target with downloads from the internet, in a folder of its own."""
    overlay = tmp_path / "real.yaml"
    overlay.write_text("{mirror: null, run: real}\n")

    def run(*arguments: str):
        files = ["--configfile", str(ROOT / "config/toy.yaml"), str(overlay)]
        return snakemake(tmp_path, *arguments[1:], *files, "--", arguments[0])

    return run


def test_fetched_brings_every_file_and_needs_nothing_else(plan) -> None:
    text = plan("fetched")
    assert set(planned(text)) == {"toy_mirror", "fetch", "samples", "fetched"}
    assert planned(text)["fetch"] == planned(plan("all"))["fetch"]


def test_what_a_user_has_to_supply_is_listed_before_the_first_job(real, tmp_path: Path) -> None:
    dry = real("fetched", "-n")
    assert dry.returncode == 0
    refused = real("fetched")
    assert refused.returncode == 1
    for done in (dry, refused):
        assert "3 files have no address; put there" in done.stderr
        assert f"{META}: data/GSE149383/erl_total_2K_meta.csv of scDEAL.zip" in done.stderr
        assert "cancerscem/CancerSCEM.metadata.xlsx: the sample table" in done.stderr
    assert not (tmp_path / "data").exists()


def test_nothing_deletes_a_file_that_a_user_supplied(real, tmp_path: Path) -> None:
    place = tmp_path / META
    place.parent.mkdir(parents=True)
    for content, status in (("cell,label\nA,1\n", 0), ("<!DOCTYPE html><html></html>\n", 1)):
        place.write_text(content)
        for _ in range(2):
            done = real(META, "--forcerun", "fetch", "--forceall")
            assert (done.returncode, place.read_text()) == (status, content)
        (tmp_path / "data/raw/data.lock").unlink(missing_ok=True)


def test_a_run_without_a_shared_file_system_is_refused(snakemake, tmp_path: Path) -> None:
    done = snakemake(tmp_path, "-n", "--shared-fs-usage", "none", "--", "all")
    assert done.returncode == 1
    assert "the jobs of this workflow share one file system: leave --default-storage" in done.stdout
