"""Drugs of the toy screen: real names, structures and ids; potency and what it depends on are made up."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Drug:
    """A drug and how the toy cell lines respond to it."""

    gdsc_ids: tuple[int, ...]  # screens in GDSC: some drugs have two, with two results per line
    name: str
    cid: str  # PubChem compound, or `none` / `several` where GDSC gives no single one
    target: str
    pathway: str
    mean: float  # ln IC50 (µM)
    slopes: Mapping[str, float]  # programme -> change of ln IC50 per unit of its activity in a line
    smiles: str  # without stereochemistry; empty where there is no single compound


_EGFR = {"growth_signal": -0.9, "epithelial": -0.8, "mesenchymal_shift": 0.7}
_MEK = {"growth_signal": -1.1, "melanocyte": -0.9, "oxidative_stress": 0.3}
_DNA = {"damage_response": -0.7, "s_phase": -0.5, "oxidative_stress": 0.8}
_MITOSIS = {"g2m_phase": -0.9, "oxidative_stress": 0.9}

DRUGS = (
    Drug(
        (1,), "Erlotinib", "176870", "EGFR", "EGFR signaling", 2.4, _EGFR,
        "C#Cc1cccc(Nc2ncnc3cc(OCCOC)c(OCCOC)cc23)c1",
    ),
    Drug(
        (1010,), "Gefitinib", "123631", "EGFR", "EGFR signaling", 1.2, _EGFR,
        "COc1cc2ncnc(Nc3ccc(F)c(Cl)c3)c2cc1OCCCN1CCOCC1",
    ),
    Drug(
        (1032, 1377), "Afatinib", "10184653", "ERBB2, EGFR", "EGFR signaling", 1.0, _EGFR,
        "CN(C)CC=CC(=O)Nc1cc2c(Nc3ccc(F)c(Cl)c3)ncnc2cc1OC1CCOC1",
    ),
    Drug(
        (119,), "Lapatinib", "208908", "ERBB2, EGFR", "EGFR signaling", 2.5,
        {"luminal_breast": -0.8, "epithelial": -0.7, "growth_signal": -0.4},
        "CS(=O)(=O)CCNCc1ccc(-c2ccc3ncnc(Nc4ccc(OCc5cccc(F)c5)c(Cl)c4)c3c2)o1",
    ),
    Drug(
        (1372,), "Trametinib", "11707110", "MEK1, MEK2", "ERK MAPK signaling", -1.0, _MEK,
        "CC(=O)Nc1cccc(-n2c(=O)n(C3CC3)c(=O)c3c(Nc4ccc(I)cc4F)n(C)c(=O)c(C)c32)c1",
    ),
    Drug(
        (1062, 1498), "Selumetinib", "10127622", "MEK1, MEK2", "ERK MAPK signaling", 2.2, _MEK,
        "Cn1cnc2c(F)c(Nc3ccc(Br)cc3Cl)c(C(=O)NOCCO)cc21",
    ),
    Drug(
        (1373,), "Dabrafenib", "44462760", "BRAF", "ERK MAPK signaling", 3.2,
        {"melanocyte": -1.6, "growth_signal": -0.4},
        "CC(C)(C)c1nc(-c2cccc(NS(=O)(=O)c3c(F)cccc3F)c2F)c(-c2ccnc(N)n2)s1",
    ),
    Drug(
        (1005,), "Cisplatin", "84691", "DNA crosslinker", "DNA replication", 2.9, _DNA,
        "N.N.[Cl-].[Cl-].[Pt+2]",
    ),
    Drug(
        (1007,), "Docetaxel", "148124", "Microtubule stabiliser", "Mitosis", -4.7, _MITOSIS,
        "CC(=O)OC12COC1CC(O)C1(C)C(=O)C(O)C3=C(C)C(OC(=O)C(O)C(NC(=O)OC(C)(C)C)c4ccccc4)CC(O)"
        "(C(OC(=O)c4ccccc4)C21)C3(C)C",
    ),
    Drug(
        (11,), "Paclitaxel", "36314", "Microtubule stabiliser", "Mitosis", -3.1, _MITOSIS,
        "CC(=O)OC1C(=O)C2(C)C(O)CC3OCC3(OC(C)=O)C2C(OC(=O)c2ccccc2)C2(O)CC(OC(=O)C(O)C(NC(=O)"
        "c3ccccc3)c3ccccc3)C(C)=C1C2(C)C",
    ),
    Drug(
        (135,), "Gemcitabine", "60750", "Pyrimidine antimetabolite", "DNA replication", -2.2, _DNA,
        "Nc1ccn(C2OC(CO)C(O)C2(F)F)c(=O)n1",
    ),
    Drug(
        (133,), "Doxorubicin", "31703", "Anthracycline", "DNA replication", -1.8, _DNA,
        "COc1cccc2c1C(=O)c1c(O)c3c(c(O)c1C2=O)CC(O)(C(=O)CO)CC3OC1CC(N)C(O)C(C)O1",
    ),
    Drug(
        (134,), "Etoposide", "36462", "TOP2", "DNA replication", 1.6, _DNA,
        "COc1cc(C2c3cc4c(cc3C(OC3OC5COC(C)OC5C(O)C3O)C3COC(=O)C23)OCO4)cc(OC)c1O",
    ),
    Drug(
        (1017,), "Olaparib", "23725625", "PARP1, PARP2", "Genome integrity", 3.6,
        {"s_phase": -0.6, "damage_response": -0.4},
        "O=C(c1cc(Cc2n[nH]c(=O)c3ccccc23)ccc1F)N1CCN(C(=O)C2CC2)CC1",
    ),
    Drug(
        (104,), "Bortezomib", "387447", "Proteasome", "Protein stability and degradation", -5.5,
        {"proteasome": -0.5, "leukocyte": -0.5},
        "CC(C)CC(NC(=O)C(Cc1ccccc1)NC(=O)c1cnccn1)B(O)O",
    ),
    Drug(
        (1012,), "Vorinostat", "5311", "HDAC inhibitor Class I, IIa, IIb, IV",
        "Chromatin histone acetylation", 1.0, {"tumour_suppression": 0.5, "leukocyte": -0.5},
        "O=C(CCCCCCC(=O)Nc1ccccc1)NO",
    ),
    Drug(
        (34,), "Imatinib", "5291", "ABL, KIT, PDGFR", "RTK signaling", 2.8,
        {"leukocyte": -0.9, "mesenchymal_shift": -0.4},
        "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1",
    ),
    Drug(
        (1047,), "Nutlin-3a (-)", "11433190", "MDM2", "p53 pathway", 3.5, {"damage_response": -1.2},
        "COc1ccc(C2=NC(c3ccc(Cl)cc3)C(c3ccc(Cl)cc3)N2C(=O)N2CCNC(=O)C2)c(OC(C)C)c1",
    ),
    Drug(
        (1054,), "Palbociclib", "5330286", "CDK4, CDK6", "Cell cycle", 1.9,
        {"s_phase": -0.5, "luminal_breast": -0.6, "tumour_suppression": -0.4},
        "CC(=O)c1c(C)c2cnc(Nc3ccc(N4CCNCC4)cn3)nc2n(C2CCCC2)c1=O",
    ),
    Drug(
        (1199,), "Tamoxifen", "2733526", "ESR1", "Hormone-related", 3.6, {"luminal_breast": -0.9},
        "CCC(=C(c1ccccc1)c1ccc(OCCN(C)C)cc1)c1ccccc1",
    ),
    Drug(
        (1375,), "Temozolomide", "5394", "DNA alkylating agent", "DNA replication", 5.4,
        {"damage_response": -0.4},
        "Cn1nnc2c(C(N)=O)ncn2c1=O",
    ),
    # No single compound: DeepCDR's rule drops these two.
    Drug((190,), "Bleomycin", "several", "dsDNA break induction", "DNA replication", 1.6, _DNA, ""),
    Drug((1261,), "rTRAIL", "none", "TRAIL receptor agonist", "Apoptosis regulation", -0.5, {}, ""),
)  # fmt: skip
