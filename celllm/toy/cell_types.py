"""Which programmes are active in which cells: the tables behind the generated toy data."""

EVERYDAY = {  # programme of every cell: mean log abundance of its genes
    "ribosome": 2.9,
    "translation": 1.9,
    "respiration": 1.2,
    "cytoskeleton": 1.3,
    "folding": 0.7,
    "glycolysis": 1.0,
    "proteasome": 0.2,
}
RESPONSES = (
    "s_phase",
    "g2m_phase",
    "growth_signal",
    "hypoxia",
    "mesenchymal_shift",
    "oxidative_stress",
    "damage_response",
    "oncofetal",
    "tumour_suppression",
    "interferon",
    "inflammation",
    "antigen_presentation",
)

CELL_TYPES: dict[str, dict[str, float]] = {
    "CD4 T cells": {"leukocyte": 1.0, "t_cell": 1.0, "cd4_naive": 0.9},
    "Regulatory T cells": {"leukocyte": 1.0, "t_cell": 1.0, "cd4_naive": 0.3, "regulatory_t": 0.9},
    "CD8 T cells": {"leukocyte": 1.0, "t_cell": 0.9, "cytotoxic": 0.8},
    "NK cells": {"leukocyte": 0.9, "cytotoxic": 0.8, "natural_killer": 1.0},
    "B cells": {"leukocyte": 0.9, "b_cell": 1.0, "mhc_two": 0.8},
    "Plasma cells": {"leukocyte": 0.3, "plasma_cell": 1.2, "b_cell": 0.2},
    "Monocytes": {"leukocyte": 0.9, "monocyte": 1.0, "mhc_two": 0.6},
    "Dendritic cells": {"leukocyte": 0.8, "dendritic": 1.0, "mhc_two": 1.1, "monocyte": 0.3},
    "Progenitor cells": {"leukocyte": 0.3, "progenitor": 1.1, "s_phase": 0.4},
    "Macrophages": {"leukocyte": 0.5, "macrophage": 1.0, "mhc_two": 0.8, "monocyte": 0.2},
    "Mast cells": {"leukocyte": 0.4, "mast_cell": 1.1},
    "Alpha cells": {"endocrine": 1.0, "alpha": 0.9},
    "Beta cells": {"endocrine": 1.0, "beta": 0.9},
    "Delta cells": {"endocrine": 1.0, "delta": 0.9, "beta": 0.1},
    "Gamma cells": {"endocrine": 0.9, "gamma": 0.9, "alpha": 0.3},
    "Epsilon cells": {"endocrine": 0.8, "epsilon": 1.0, "alpha": 0.2},
    "Acinar cells": {"acinar": 1.0, "epithelial": 0.3},
    "Ductal cells": {"ductal": 1.0, "epithelial": 0.8},
    "Schwann cells": {"schwann": 1.1, "fibroblast": 0.1},
    "Activated stellate cells": {"fibroblast": 0.9, "pericyte": 0.4, "mesenchymal_shift": 0.6},
    "Quiescent stellate cells": {"pericyte": 0.9, "fibroblast": 0.4},
    "Fibroblasts": {"fibroblast": 1.0, "mesenchymal_shift": 0.3},
    "Pericytes": {"pericyte": 1.0, "fibroblast": 0.2},
    "Endothelial cells": {"endothelial": 1.0},
    "Alveolar cells": {"alveolar": 1.0, "epithelial": 0.7},
    "Luminal epithelial cells": {"luminal_breast": 1.0, "epithelial": 0.8},
    "Melanocytes": {"melanocyte": 1.1},
}

SHARED_PROGRAMMES = {"leukocyte", "t_cell", "mhc_two", "endocrine", "epithelial"}
"""Programmes of families of cell types; each type has one of its own besides."""

MALIGNANT: dict[str, dict[str, float]] = {  # cancer type: what the tumour keeps of its tissue
    "LUAD": {"alveolar": 0.5, "epithelial": 0.8},
    "PAAD": {"ductal": 0.6, "epithelial": 0.7},
    "BRCA": {"luminal_breast": 0.7, "epithelial": 0.8},
    "SKCM": {"melanocyte": 0.9},
}
TUMOUR_SHIFT = {
    "s_phase": 0.7,
    "g2m_phase": 0.7,
    "growth_signal": 0.8,
    "oncofetal": 0.9,
    "hypoxia": 0.6,
    "mesenchymal_shift": 0.4,
    "oxidative_stress": 0.4,
    "glycolysis": 0.8,
    "tumour_suppression": -0.8,
    "antigen_presentation": -0.6,
}
TUMOUR_NEIGHBOUR_SHIFT = {"hypoxia": 0.5, "interferon": 0.5, "inflammation": 0.5, "glycolysis": 0.4}

# Tissues: cell types and their shares.
BLOOD = {
    "CD4 T cells": 26,
    "CD8 T cells": 16,
    "Regulatory T cells": 8,
    "NK cells": 12,
    "B cells": 14,
    "Monocytes": 14,
    "Dendritic cells": 7,
    "Progenitor cells": 3,
}
ISLETS = {
    "Beta cells": 26,
    "Alpha cells": 22,
    "Ductal cells": 12,
    "Acinar cells": 11,
    "Delta cells": 8,
    "Gamma cells": 4,
    "Activated stellate cells": 6,
    "Quiescent stellate cells": 4,
    "Endothelial cells": 5,
    "Macrophages": 2,
}
LUNG = {
    "Alveolar cells": 35,
    "Macrophages": 18,
    "Fibroblasts": 16,
    "Endothelial cells": 14,
    "CD8 T cells": 8,
    "NK cells": 5,
    "Mast cells": 4,
}
BREAST = {
    "Luminal epithelial cells": 40,
    "Fibroblasts": 22,
    "Endothelial cells": 14,
    "Pericytes": 8,
    "CD4 T cells": 7,
    "Macrophages": 6,
    "Plasma cells": 3,
}
SKIN = {
    "Melanocytes": 60,
    "Fibroblasts": 20,
    "Endothelial cells": 10,
    "CD8 T cells": 10,
}
NEIGHBOURS = {
    "Macrophages": 9,
    "CD8 T cells": 8,
    "CD4 T cells": 6,
    "B cells": 3,
    "Fibroblasts": 9,
    "Endothelial cells": 5,
}
