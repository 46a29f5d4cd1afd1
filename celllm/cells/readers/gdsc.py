"""GDSC: response of cell lines to drugs, in DeepCDR's layout and in that of GDSC's own releases.

Both end in the same table, one row per screen of a drug on a line. Yang et al. 2013, Nucleic Acids Research
41:D955; Liu et al. 2020, Bioinformatics 36:i911 (DeepCDR).
"""

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from celllm.cells.readers.depmap import model_id, read_lines
from celllm.cells.settings import GdscOptions as Options
from celllm.errors import UserError
from celllm.sources import delimited

log = logging.getLogger(__name__)

DEEPCDR_FILES = ("ic50", "annotation", "lines", "drugs", "smiles")
RELEASE_FILES = ("response", "lines", "drugs", "smiles")
COLUMNS = ("cell_line", "drug", "drug_name", "smiles", "screen", "ln_ic50")
"""DepMap id, PubChem compound id, GDSC's name of the drug, SMILES, GDSC's drug id, ln of IC50 in µM."""

TCGA_LABELS = frozenset((
    "ALL", "BLCA", "BRCA", "CESC", "COAD/READ", "DLBC", "ESCA", "GBM", "HNSC", "KIRC", "LAML", "LCML", "LGG",
    "LIHC", "LUAD", "LUSC", "MESO", "MM", "NB", "OV", "PAAD", "SCLC", "SKCM", "STAD", "THCA",
))  # fmt: skip
"""The cancer types that DeepCDR's code lists; its test for them is commented out there."""


MAX_LN_IC50 = 25.0
ENOUGH = 30
"""Responses from which on their range says something."""


@dataclass(frozen=True)
class Drug:
    """A drug of GDSC's list with its structure."""

    cid: str
    name: str
    smiles: str


def read_deepcdr(files: Mapping[str, Path], options: Options) -> tuple[pd.DataFrame, dict[str, int]]:
    """Read DeepCDR's matrix of ln IC50, 107,446 rows of 561 lines and 223 drugs, as :data:`COLUMNS`.

    A drug counts when GDSC's list gives it one PubChem id that has a SMILES, a line when it is one of the 561
    with expression, mutation and methylation features and has an annotation. Beside it: numbers for the log.
    """
    drugs = _drugs_by_screen(files)
    annotations = delimited.rows(files["annotation"], ("depMapID",), encoding="latin-1")
    annotated = {row["depMapID"] for row in annotations}
    listed = {
        model_id(row["line"], row.where): row["label"]
        for row in delimited.rows(files["lines"], ("line", "name", "label"), header=False)
    }
    measured = list(_matrix(files["ic50"]))
    in_matrix = [{row[i] for row in measured} for i in range(2)]
    _warn_of(set(listed) - annotated, listed, f"lines of {files['lines']}", files["annotation"])
    _warn_of(set(listed) - in_matrix[1], listed, f"lines of {files['lines']}", files["ic50"])
    _warn_of(set(drugs) - in_matrix[0], drugs, f"drugs of {files['drugs']}", files["ic50"])
    wanted = {line for line, label in listed.items() if not options.tcga_label or label in TCGA_LABELS}
    lines = wanted & annotated
    pairs = [
        (line, drug.cid, drug.name, drug.smiles, f"GDSC:{screen}", value)
        for screen, line, value in measured
        if line in lines and (drug := drugs.get(screen)) is not None
    ]
    if not pairs:
        raise UserError(
            f"{files['ic50']}: no response is left: no line of it is listed in {files['lines']} and "
            f"{files['annotation']}, or no drug in {files['drugs']}"
        )
    return _table(pairs, options, files["ic50"]), {"n_drug_ids": len(drugs), "n_lines_listed": len(lines)}


def read_release(files: Mapping[str, Path], options: Options) -> tuple[pd.DataFrame, dict[str, int]]:
    """Read a release of GDSC (``GDSC2_fitted_dose_response_*.csv`` or ``.xlsx``) as :data:`COLUMNS`.

    Lines are joined to DepMap by Sanger's id or, failing that, by COSMIC's; drugs to their structure by
    GDSC's id or, failing that, by name. Rows without either are left out and counted, for the log.
    """
    if options.tcga_label:
        raise UserError("options of gdsc2: tcga_label belongs to DeepCDR's layout; leave it out")
    line_of = _line_ids(files["lines"])
    by_screen = _drugs_by_screen(files)
    by_name = {_plain(drug.name): drug for drug in by_screen.values()}
    pairs, lost = [], {"n_without_value": 0, "n_without_line": 0, "n_without_drug": 0}
    columns = ("COSMIC_ID", "SANGER_MODEL_ID", "DRUG_ID", "DRUG_NAME", "LN_IC50")
    for row in delimited.rows(files["response"], columns, ","):
        value = delimited.number(row["LN_IC50"], f"{row.where}: LN_IC50")
        cosmic, screen = (delimited.identifier(row[c], f"{row.where}: {c}") for c in ("COSMIC_ID", "DRUG_ID"))
        name = row["DRUG_NAME"]
        if value is None:
            lost["n_without_value"] += 1
            continue
        if wrong := next((one for one in (cosmic, screen) if one and not one.isdigit()), None):
            raise UserError(
                f"{row.where}: the id '{wrong}' is not a whole number, as COSMIC_ID and DRUG_ID are"
            )
        line = line_of.get(row["SANGER_MODEL_ID"]) or line_of.get(cosmic)
        drug = by_screen.get(screen) or by_name.get(_plain(name))
        if line and drug:
            pairs.append((line, drug.cid, drug.name, drug.smiles, f"GDSC:{screen}", value))
        lost["n_without_line"] += not line
        lost["n_without_drug"] += not drug
    if not pairs:
        counts = ", ".join(f"{name} {n}" for name, n in lost.items())
        raise UserError(
            f"{files['response']}: no response is left ({counts}); do its lines and drugs match the others?"
        )
    return _table(pairs, options, files["response"]), lost


def _table(pairs: list[tuple[str, str, str, str, str, float]], options: Options, path: Path) -> pd.DataFrame:
    table = pd.DataFrame(pairs, columns=list(COLUMNS))
    _check_ln_ic50(table, path)
    if (repeats := table[table.duplicated(["cell_line", "screen"])]).shape[0]:
        first = repeats.iloc[0]
        log.warning(
            "%s: %d rows repeat the drug and line of another one, e.g. drug %s on %s",
            path, len(repeats), first["screen"], first["cell_line"],
        )  # fmt: skip
    if not options.deduplicate:
        return table
    merged = table.groupby(["cell_line", "drug"], sort=False, as_index=False)
    how = {"drug_name": "first", "smiles": "first", "screen": ";".join, "ln_ic50": "mean"}
    return merged.agg(how)[list(COLUMNS)]


def _check_ln_ic50(table: pd.DataFrame, path: Path) -> None:
    """Refuse what is no ln IC50 by its range: GDSC's go from -10 to 13."""
    values = table["ln_ic50"]
    if (beyond := values.abs() > MAX_LN_IC50).any():
        row = table[beyond].iloc[0]
        what = f"{row['ln_ic50']:.6g} of drug {row['screen']} on {row['cell_line']}"
    elif len(values) < ENOUGH:
        return
    elif values.between(0, 1).all():
        what = f"values from {values.min():.4g} to {values.max():.4g}, as AUC has"
    elif (table.groupby("screen")["ln_ic50"].nunique() == 1).all():
        what = "one value for all lines of a drug"
    else:
        if values.min() > 0:
            log.warning("%s: no value is below 0; ln IC50 in µM is expected, not IC50 or pIC50", path)
        return
    raise UserError(f"{path}: {what}; expected ln IC50 in µM (-10 to 13 in GDSC); are the columns in order?")


def _warn_of(lacking: set[str], of: Collection[str], what: str, where: Path) -> None:
    if lacking:
        some = ", ".join(sorted(lacking)[:5])
        log.warning("%d of %d %s are not in %s: %s", len(lacking), len(of), what, where, some)


def _drugs_by_screen(files: Mapping[str, Path]) -> dict[str, Drug]:
    """Drugs with one PubChem id and a structure, by GDSC's id of the drug."""
    smiles = _structures(files["smiles"])
    listed: dict[str, tuple[str, str]] = {}
    for row in delimited.rows(files["drugs"], ("drug_id", "Name", "PubCHEM"), ","):
        screen, cid = (delimited.identifier(row[c], f"{row.where}: {c}") for c in ("drug_id", "PubCHEM"))
        if not screen.isdigit():
            raise UserError(f"{row.where}: the drug_id '{screen}' is not a whole number, as GDSC's are")
        if listed.setdefault(screen, (cid, row["Name"])) != (cid, row["Name"]):
            raise UserError(f"{row.where}: the drug_id {screen} stands for two drugs; keep one")
        if odd := re.search(r"[^\w\s()\[\],.+/':&-]", row["Name"]):
            log.warning("%s: '%s' in the name of the drug '%s'", row.where, odd[0], row["Name"])
    cids = {cid for cid, _ in listed.values() if cid.isdigit()}
    _warn_of(cids - set(smiles), cids, f"PubChem ids of {files['drugs']}", files["smiles"])
    _warn_of(set(smiles) - cids, smiles, f"PubChem ids of {files['smiles']}", files["drugs"])
    drugs = {screen: Drug(cid, name, smiles[cid]) for screen, (cid, name) in listed.items() if cid in smiles}
    if not drugs:
        raise UserError(
            f"{files['drugs']}: none of its PubChem ids (PubCHEM) has a structure in {files['smiles']}; "
            "expected are lines of a PubChem id and a SMILES"
        )
    return drugs


def _structures(path: Path) -> dict[str, str]:
    """SMILES by PubChem id; those that RDKit cannot read are named here and left out with the pairs."""
    smiles: dict[str, str] = {}
    for row in delimited.rows(path, ("cid", "smiles"), header=False):
        cid = delimited.identifier(row["cid"], f"{row.where}: PubChem id")
        if not cid.isdigit():
            raise UserError(
                f"{row.where}: '{cid}' is not a PubChem id; expected are lines of an id and a SMILES"
            )
        if not row["smiles"]:
            raise UserError(f"{row.where}: the PubChem id {cid} has no SMILES; add it or remove the line")
        if smiles.setdefault(cid, row["smiles"]) != row["smiles"]:
            raise UserError(f"{row.where}: the PubChem id {cid} has two structures; keep one")
        if not _is_readable(row["smiles"]):
            log.warning("%s: '%s' is not a SMILES that RDKit can read", row.where, row["smiles"])
    return smiles


def _is_readable(smiles: str) -> bool:
    try:
        from rdkit import Chem, rdBase
    except ImportError:  # the command that draws the graphs needs it, and says so
        return True
    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(smiles) is not None


def _matrix(path: Path) -> Iterator[tuple[str, str, float]]:
    """Screen, line and ln IC50 of every measured field of DeepCDR's matrix."""
    seen: set[str] = set()
    for row in delimited.rows(path, None, ","):
        (_, name), *fields = row.items()
        prefix, _, screen = name.partition(":")
        if screen in seen:
            raise UserError(f"{row.where}: '{name}' stands there twice; remove one of the two lines")
        seen.add(screen)
        if prefix != "GDSC" or not screen.isdigit():
            raise UserError(f"{row.where} starts with '{name}', expected an id such as GDSC:1")
        for line, field in fields:
            model_id(line, str(path))
            value = delimited.number(field, f"{row.where}: {line}")
            if value is not None:
                yield screen, line, value


def _line_ids(path: Path) -> dict[str, str]:
    """DepMap id by Sanger's and by COSMIC's id."""
    models: dict[str, set[str]] = {}
    for model, line in read_lines(path).items():
        for other in {line.sanger, line.cosmic} - {""}:
            models.setdefault(other, set()).add(model)
    shared = {other for other, lines in models.items() if len(lines) > 1}
    if shared:
        log.warning("%s: ids of two lines are passed over: %s", path, ", ".join(sorted(shared)[:5]))
    return {other: lines.pop() for other, lines in models.items() if other not in shared}


def _plain(name: str) -> str:
    """Name of a drug without case, spaces and signs: PD-0325901 and PD0325901 are one."""
    return re.sub(r"[\W_]", "", name).lower()
