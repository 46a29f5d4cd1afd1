"""Molecules from SMILES by RDKit: one row of features per atom, and the bonds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from celllm.errors import UserError

try:
    from rdkit import Chem, rdBase
except ImportError as error:
    raise UserError(
        f"rdkit cannot be imported ({error}); install it with: pip install 'celllm[graph]'"
    ) from error

ELEMENTS = (
    "C", "N", "O", "S", "F", "Si", "P", "Cl", "Br", "Mg", "Na", "Ca", "Fe", "As", "Al", "I", "B", "V", "K",
    "Tl", "Yb", "Sb", "Sn", "Ag", "Pd", "Co", "Se", "Ti", "Zn", "H", "Li", "Ge", "Cu", "Au", "Ni", "Cd", "In",
    "Mn", "Zr", "Cr", "Pt", "Hg", "Pb",
)  # fmt: skip
_HYBRIDISATIONS = tuple(
    getattr(Chem.HybridizationType, name) for name in ("SP", "SP2", "SP3", "SP3D", "SP3D2")
)


@dataclass(frozen=True)
class Molecule:
    """A molecule without its hydrogens.

    Attributes
    ----------
    atoms : float32 array (n_atoms, 77)
        See :func:`atom_features`.
    bonds : int64 array (2, 2 n_bonds)
        Source and target atom, each bond in both directions.
    """

    atoms: NDArray[np.float32]
    bonds: NDArray[np.int64]


def read_smiles(smiles: str) -> Molecule | None:
    """Read a molecule; None when RDKit cannot, or finds no atom in it.

    All fragments are kept, salts included, as TGSA keeps them.
    """
    with rdBase.BlockLogs():  # the caller names the drug
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumAtoms() == 0:
        return None
    atoms = np.array([atom_features(atom) for atom in molecule.GetAtoms()], dtype=np.float32)
    ends = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()]
    one_way = np.array(ends, dtype=np.int64).reshape(-1, 2).T
    return Molecule(atoms, np.concatenate([one_way, one_way[::-1]], axis=1))


def atom_features(atom: "Chem.Atom") -> list[float]:
    """The 77 features of an atom in TGSA (Zhu et al. 2022, Bioinformatics 38:461).

    Element (43), degree (11), implicit valence (7), charge, radical electrons, hybridisation (5), aromatic,
    hydrogens (5), in a ring, R or S (2). A value outside the classes gives zeros. Without the last
    three they are DeepCDR's features.
    """
    handedness = atom.GetProp("_CIPCode") if atom.HasProp("_CIPCode") else ""
    return [
        *_one_hot(atom.GetSymbol(), ELEMENTS),
        *_one_hot(atom.GetDegree(), range(11)),
        *_one_hot(atom.GetNumImplicitHs(), range(7)),
        float(atom.GetFormalCharge()),
        float(atom.GetNumRadicalElectrons()),
        *_one_hot(atom.GetHybridization(), _HYBRIDISATIONS),
        float(atom.GetIsAromatic()),
        *_one_hot(atom.GetTotalNumHs(), range(5)),
        float(atom.IsInRing()),
        *_one_hot(handedness, "RS"),
    ]


N_FEATURES = len(ELEMENTS) + 34
"""Length of :func:`atom_features`."""


def _one_hot(value: object, classes: Sequence[object]) -> list[float]:
    return [float(value == one) for one in classes]
