"""Toy drug screen: the files of DeepCDR's repository and a table of GDSC release 8.5."""

from collections.abc import Iterator, Sequence

import numpy as np

from celllm.toy.biology import Biology, stream
from celllm.toy.cell_lines import LINES
from celllm.toy.drugs import DRUGS, Drug
from celllm.toy.packing import ToyFile, csv_table, table

_FITTED = """DATASET NLME_RESULT_ID NLME_CURVE_ID COSMIC_ID CELL_LINE_NAME SANGER_MODEL_ID TCGA_DESC DRUG_ID
    DRUG_NAME PUTATIVE_TARGET PATHWAY_NAME COMPANY_ID WEBRELEASE MIN_CONC MAX_CONC LN_IC50 AUC RMSE Z_SCORE"""
FITTED_COLUMNS = tuple(_FITTED.split())
_ANNOTATION = """CCLE_ID depMapID Name Pathology Site_Primary Site_Subtype1 Site_Subtype2 Site_Subtype3
    Histology Hist_Subtype1 Hist_Subtype2 Hist_Subtype3 Gender Life_Stage Age Race Geo_Loc inferred_ethnicity
    Site_Of_Finding Disease Annotation_Source Original.Source.of.Cell.Line Characteristics Growth.Medium
    Supplements Freezing.Medium Doubling.Time.from.Vendor Doubling.Time.Calculated.hrs type type_refined
    PATHOLOGIST_ANNOTATION mutRate tcga_code"""
ANNOTATION_COLUMNS = tuple(_ANNOTATION.split())


def responses(biology: Biology, activities: np.ndarray, seed: int) -> dict[int, np.ndarray]:
    """GDSC id -> ln IC50 of every line, NaN where not measured.

    ln IC50 = mean of the drug + line effect + slopes x (activities - their mean) + screen effect + noise.
    """
    rng = stream(seed, "gdsc")
    line_effect = rng.normal(0.0, 0.7, len(LINES))
    centred = activities - activities.mean(axis=0)
    screens = {}
    for drug in DRUGS:
        specific = centred @ biology.activities(drug.slopes)[0]
        for gdsc_id in drug.gdsc_ids:
            noise = rng.normal(0.0, 0.55, len(LINES)) + rng.normal(0.0, 0.4)
            values = drug.mean + line_effect + specific + noise
            values[rng.random(len(LINES)) < 0.12] = np.nan
            screens[gdsc_id] = values
    return screens


def gdsc_files(screens: dict[int, np.ndarray]) -> list[ToyFile]:
    """The seven files that DeepCDR reads and the fitted responses of GDSC2."""
    about_drugs = {
        "GDSC/1.Drug_listMon Jun 24 09_00_55 2019.csv": _drug_list(),
        "anti_drug.info": table(
            ((number, drug.cid, drug.name) for number, drug in _by_screen() if drug.smiles)
        ),
        "223drugs_pubchem_smiles.txt": table((drug.cid, drug.smiles) for drug in DRUGS if drug.smiles),
    }
    about_lines = {
        "CCLE/GDSC_IC50.csv": _ic50_matrix(screens),
        "CCLE/IC50_thred.txt": _thresholds(screens),
        "CCLE/Cell_lines_annotations_20181226.txt": _annotations(),
        "cancer_cell_line.info": table((line.ach, line.name, line.cancer.code or "NA") for line in LINES),
    }
    return [
        *_deepcdr_files(about_drugs, "real drugs"),
        *_deepcdr_files(about_lines, "generated"),
        ToyFile(
            "gdsc/GDSC_release8.5/GDSC2_fitted_dose_response_27Oct23.csv",
            csv_table(_fitted_rows(screens)),
            "real drugs; responses are generated",
            "GDSC release 8.5: GDSC2",
        ),
    ]


def _deepcdr_files(contents: dict[str, bytes], kind: str) -> Iterator[ToyFile]:
    for path, content in contents.items():
        yield ToyFile(f"gdsc/deepcdr/data/{path}", content, kind, f"DeepCDR repository: data/{path}")


def _by_screen() -> Iterator[tuple[int, Drug]]:
    """All screens, by GDSC id."""
    screens = {number: drug for drug in DRUGS for number in drug.gdsc_ids}
    yield from sorted(screens.items(), key=lambda pair: pair[0])


def _ic50_matrix(screens: dict[int, np.ndarray]) -> bytes:
    head = ",".join(f'"{name}"' for name in ("", *(line.ach for line in LINES))) + "\n"
    rows = (
        [f'"GDSC:{number}"', *("NA" if np.isnan(v) else f"{v:.6f}" for v in screens[number])]
        for number, _ in _by_screen()
    )
    return head.encode() + table(rows, ",")


def _thresholds(screens: dict[int, np.ndarray]) -> bytes:
    """A line per screen would be easier to read; the original has two lines, names and numbers."""
    names = [drug.name for _, drug in _by_screen()]
    return table([names, [f"{np.nanquantile(screens[number], 0.2):.5g}" for number, _ in _by_screen()]])


def _drug_list() -> bytes:
    header = ["drug_id", "Name", "Synonyms", "Targets", "Target pathway", "PubCHEM", "Sample Size", "Count"]
    ordered = sorted(_by_screen(), key=lambda pair: (pair[1].name.lower(), pair[0]))
    rows = ([n, d.name, "", d.target, d.pathway, d.cid, len(LINES), len(LINES)] for n, d in ordered)
    return csv_table([header, *rows], end="\r\n")


def _annotations() -> bytes:
    """Windows line ends and Latin-1 letters, as in the original."""
    rows: list[Sequence[str]] = [ANNOTATION_COLUMNS]
    for line in LINES:
        known = {
            "CCLE_ID": f"{line.bare_name}_{line.cancer.site.upper()}",
            "depMapID": line.ach,
            "Name": line.name,
            "Pathology": "primary",
            "Site_Primary": line.cancer.site,
            "Annotation_Source": "CCLE",
            "Original.Source.of.Cell.Line": "Universität zu Köln",
            "tcga_code": line.cancer.code or "NA",
        }
        rows.append([known.get(column, "NA") for column in ANNOTATION_COLUMNS])
    return table(rows, end="\r\n", encoding="latin-1")


def _fitted_rows(screens: dict[int, np.ndarray]) -> Iterator[Sequence[object]]:
    """The newer of the two screens only (ids from 1000), one row per drug and line measured."""
    yield FITTED_COLUMNS
    curve = 0
    for number, drug in _by_screen():
        values = screens[number]
        scores = (values - np.nanmean(values)) / np.nanstd(values)
        for line, value, score in zip(LINES, values, scores, strict=True):
            if number < 1000 or np.isnan(value):
                continue
            curve += 1
            who = [line.cosmic, line.name, "", line.cancer.code or "UNCLASSIFIED"]
            what = [number, drug.name, drug.target, drug.pathway, 0, "Y", 0.01, 10.0]
            # Area under a logistic curve of slope 1 in log dose, as a share of the dose range
            low, high = np.log(0.01), np.log(10.0)
            below = np.logaddexp(0.0, value - low) - np.logaddexp(0.0, value - high)
            fit = [f"{value:.6f}", f"{float(below / (high - low)):.6f}", 0.05, f"{score:.6f}"]
            yield ["GDSC2", 0, curve, *who, *what, *fit]
