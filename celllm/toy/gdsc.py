"""Toy drug screen: the files of DeepCDR's repository and a table of GDSC release 8.5."""

from collections.abc import Iterator, Sequence

import numpy as np

from celllm.toy.biology import Biology, stream
from celllm.toy.cell_lines import LINES
from celllm.toy.drugs import DRUGS
from celllm.toy.packing import ToyFile, by_column, csv_table, table

FITTED_COLUMNS = """DATASET NLME_RESULT_ID NLME_CURVE_ID COSMIC_ID CELL_LINE_NAME SANGER_MODEL_ID TCGA_DESC
    DRUG_ID DRUG_NAME PUTATIVE_TARGET PATHWAY_NAME COMPANY_ID WEBRELEASE MIN_CONC MAX_CONC LN_IC50 AUC RMSE
    Z_SCORE"""
ANNOTATION_COLUMNS = """CCLE_ID depMapID Name Pathology Site_Primary Site_Subtype1 Site_Subtype2 Site_Subtype3
    Histology Hist_Subtype1 Hist_Subtype2 Hist_Subtype3 Gender Life_Stage Age Race Geo_Loc inferred_ethnicity
    Site_Of_Finding Disease Annotation_Source Original.Source.of.Cell.Line Characteristics Growth.Medium
    Supplements Freezing.Medium Doubling.Time.from.Vendor Doubling.Time.Calculated.hrs type type_refined
    PATHOLOGIST_ANNOTATION mutRate tcga_code"""
# All screens, by GDSC id.
_SCREENS = sorted((number, drug) for drug in DRUGS for number in drug.gdsc_ids)


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
    header = ["drug_id", "Name", "Synonyms", "Targets", "Target pathway", "PubCHEM", "Sample Size", "Count"]
    listed = (
        [number, drug.name, "", drug.target, drug.pathway, drug.cid, len(LINES), len(LINES)]
        for number, drug in sorted(_SCREENS, key=lambda pair: (pair[1].name.lower(), pair[0]))
    )
    about_drugs = {
        "GDSC/1.Drug_listMon Jun 24 09_00_55 2019.csv": csv_table([header, *listed], end="\r\n"),
        "anti_drug.info": table((number, drug.cid, drug.name) for number, drug in _SCREENS if drug.smiles),
        "223drugs_pubchem_smiles.txt": table((drug.cid, drug.smiles) for drug in DRUGS if drug.smiles),
    }
    head = ",".join(f'"{name}"' for name in ("", *(line.ach for line in LINES))) + "\n"
    rows = (
        [f'"GDSC:{number}"', *("NA" if np.isnan(value) else f"{value:.6f}" for value in screens[number])]
        for number, _ in _SCREENS
    )
    # A line per screen would be easier to read; the original has two lines, names and numbers
    names = [drug.name for _, drug in _SCREENS]
    thresholds = [f"{np.nanquantile(screens[number], 0.2):.5g}" for number, _ in _SCREENS]
    lines = (
        {
            "CCLE_ID": line.ccle,
            "depMapID": line.ach,
            "Name": line.name,
            "Pathology": "primary",
            "Site_Primary": line.site,
            "Annotation_Source": "CCLE",
            "Original.Source.of.Cell.Line": "Universität zu Köln",
            "tcga_code": line.cancer or "NA",
        }
        for line in LINES
    )
    # Windows line ends and Latin-1 letters, as in the original
    annotations = table(by_column(ANNOTATION_COLUMNS.split(), lines), end="\r\n", encoding="latin-1")
    about_lines = {
        "CCLE/GDSC_IC50.csv": head.encode() + table(rows, ","),
        "CCLE/IC50_thred.txt": table([names, thresholds]),
        "CCLE/Cell_lines_annotations_20181226.txt": annotations,
        "cancer_cell_line.info": table((line.ach, line.name, line.cancer or "NA") for line in LINES),
    }
    fitted = csv_table([FITTED_COLUMNS.split(), *_fitted_rows(screens)])
    path = "gdsc/GDSC_release8.5/GDSC2_fitted_dose_response_27Oct23.csv"
    return [
        *(
            ToyFile(f"gdsc/deepcdr/data/{place}", content, f"DeepCDR repository: data/{place}", kind)
            for contents, kind in ((about_drugs, "real drugs"), (about_lines, "generated"))
            for place, content in contents.items()
        ),
        ToyFile(path, fitted, "GDSC release 8.5: GDSC2", "real drugs; responses are generated"),
    ]


def _fitted_rows(screens: dict[int, np.ndarray]) -> Iterator[Sequence[object]]:
    """The newer of the two screens only (ids from 1000), one row per drug and line measured."""
    curve = 0
    for number, drug in _SCREENS:
        values = screens[number]
        scores = (values - np.nanmean(values)) / np.nanstd(values)
        for line, value, score in zip(LINES, values, scores, strict=True):
            if number < 1000 or np.isnan(value):
                continue
            curve += 1
            who = [line.cosmic, line.name, "", line.cancer or "UNCLASSIFIED"]
            what = [number, drug.name, drug.target, drug.pathway, 0, "Y", 0.01, 10.0]
            # Area under a logistic curve of slope 1 in log dose, as a share of the dose range
            low, high = np.log(0.01), np.log(10.0)
            below = np.logaddexp(0.0, value - low) - np.logaddexp(0.0, value - high)
            fit = [f"{value:.6f}", f"{float(below / (high - low)):.6f}", 0.05, f"{score:.6f}"]
            yield ["GDSC2", 0, curve, *who, *what, *fit]
