"""Molecules against facts of chemistry, drug encoders against their formulas in plain torch."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from celllm.graph.drugs import Drugs, GcnEncoder, GinEncoder
from celllm.graph.molecules import ELEMENTS, N_FEATURES, Molecule, read_smiles
from celllm.graph.settings import DrugPooling

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
CISPLATIN = "N.N.[Cl-].[Cl-].[Pt+2]"
# Where the parts of an atom's features start.
DEGREE, HYDROGENS_IMPLICIT, CHARGE, RADICALS, HYBRID, AROMATIC, HYDROGENS, RING, HAND = (
    43, 54, 61, 62, 63, 68, 69, 74, 75
)  # fmt: skip


def molecule(smiles: str) -> Molecule:
    found = read_smiles(smiles)
    assert found is not None
    return found


def test_atoms_and_bonds_of_aspirin() -> None:
    aspirin = molecule(ASPIRIN)
    assert aspirin.atoms.shape == (13, N_FEATURES) == (13, 77)
    assert aspirin.bonds.shape == (2, 26)
    assert sorted(map(tuple, aspirin.bonds.T)) == sorted(map(tuple, aspirin.bonds[::-1].T))
    elements = aspirin.atoms[:, :43].sum(axis=0)
    assert (elements[ELEMENTS.index("C")], elements[ELEMENTS.index("O")], elements.sum()) == (9, 4, 13)
    assert aspirin.atoms[:, AROMATIC].sum() == aspirin.atoms[:, RING].sum() == 6
    hydrogens = aspirin.atoms[:, HYDROGENS : HYDROGENS + 5] @ np.arange(5)
    assert hydrogens.sum() == 8
    # Methyl carbon: one neighbour, three hydrogens, sp3.
    first = {DEGREE + 1, HYDROGENS_IMPLICIT + 3, HYBRID + 2, HYDROGENS + 3, ELEMENTS.index("C")}
    assert set(np.flatnonzero(aspirin.atoms[0])) == first


def test_charges_radicals_and_hands() -> None:
    assert molecule(CISPLATIN).atoms[:, CHARGE].tolist() == [0, 0, -1, -1, 2]
    assert molecule("C[CH2]").atoms[:, RADICALS].tolist() == [0, 1]
    left, right = (molecule(smiles).atoms[1, HAND : HAND + 2] for smiles in ("C[C@H](N)O", "C[C@@H](N)O"))
    assert sorted([left.tolist(), right.tolist()]) == [[0, 1], [1, 0]]
    assert molecule("CC(N)O").atoms[1, HAND : HAND + 2].tolist() == [0, 0]


def test_a_molecule_without_bonds() -> None:
    assert molecule("[Pt+2]").bonds.shape == (2, 0)


@pytest.mark.parametrize("smiles", ["C1CC", "", "no molecule", "C(C)(C)(C)(C)C"])
def test_what_cannot_be_read_is_none_and_makes_no_noise(
    smiles: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert read_smiles(smiles) is None
    assert capfd.readouterr() == ("", "")


def drugs() -> Drugs:
    return Drugs([molecule(smiles) for smiles in (ASPIRIN, CISPLATIN, "CCO", "[Pt+2]")])


def test_drugs_stand_side_by_side() -> None:
    batch = drugs().take(np.array([2, 0, 2]))
    assert batch.sizes.tolist() == [3, 13, 3]
    assert batch.atoms.shape == (19, 77)
    atoms = [molecule(smiles).atoms for smiles in ("CCO", ASPIRIN, "CCO")]
    assert batch.atoms.tolist() == np.concatenate(atoms).tolist()
    bonds = torch.stack([batch.graph.source, batch.graph.target])
    assert bonds[:, :4].tolist() == [[0, 1, 1, 2], [1, 2, 0, 1]]
    assert bonds[:, -4:].tolist() == [[16, 17, 17, 18], [17, 18, 16, 17]]
    assert batch.graph.num_edges() == 4 + 26 + 4
    assert batch.graph_with_loops().num_edges() == 4 + 26 + 4 + 19


def adjacency(encoder: nn.Module, numbers: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Dense adjacency of the chosen drugs, their atoms, and the drug of each atom."""
    batch = drugs().take(np.array(numbers))
    linked = torch.zeros(len(batch.atoms), len(batch.atoms), dtype=torch.float64)
    linked[batch.graph.target, batch.graph.source] = 1.0
    owner = torch.repeat_interleave(torch.arange(len(numbers)), batch.sizes)
    return linked, batch.atoms.double(), owner


def batch_norm(norm: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(norm, nn.BatchNorm1d)
    centred = (x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + norm.eps)
    return centred * norm.weight + norm.bias


def largest(x: Tensor, owner: Tensor) -> Tensor:
    return torch.stack([x[owner == number].amax(0) for number in range(int(owner.max()) + 1)])


def double(encoder: nn.Module) -> nn.Module:
    """In float64, atoms too."""
    return encoder.double().train()


def assert_same(ours: Tensor, theirs: Tensor, encoder: nn.Module) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    weights = torch.randn_like(ours)
    parameters = list(encoder.parameters())
    pairs = zip(
        torch.autograd.grad((ours * weights).sum(), parameters),
        torch.autograd.grad((theirs * weights).sum(), parameters),
        strict=True,
    )
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_gin_is_its_formula() -> None:
    """x' = norm(relu(MLP(x + sum of neighbours))), maximum of all levels, one linear layer."""
    torch.manual_seed(0)
    encoder = double(GinEncoder(drugs(), n_layers=3, width=8, size=5, dropout=0.0))
    linked, x, owner = adjacency(encoder, [1, 0, 2])
    levels = []
    for layer, norm in zip(encoder.layers, encoder.norms, strict=True):
        x = batch_norm(norm, F.relu(layer.apply_func(x + linked @ x)))
        levels.append(x)
    theirs = F.relu(encoder.out[0](largest(torch.cat(levels, 1), owner)))
    assert_same(encoder(np.array([1, 0, 2])), theirs, encoder)


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_gcn_is_its_formula(pooling: DrugPooling) -> None:
    """x' = norm(relu(D^-1/2 (A + I) D^-1/2 x W + b)), maximum or mean over the atoms."""
    torch.manual_seed(0)
    encoder = double(GcnEncoder(drugs(), sizes=(8, 6), dropout=0.0, pooling=pooling))
    linked, x, owner = adjacency(encoder, [1, 0, 2])
    looped = linked + torch.eye(len(linked), dtype=torch.float64)
    scale = looped.sum(1).rsqrt()
    for layer, norm in zip(encoder.layers, encoder.norms, strict=True):
        x = batch_norm(norm, F.relu((scale[:, None] * looped * scale) @ x @ layer.weight + layer.bias))
    pooled = largest(x, owner)
    if pooling == "mean":
        pooled = torch.stack([x[owner == number].mean(0) for number in range(3)])
    assert_same(encoder(np.array([1, 0, 2])), pooled, encoder)


@pytest.mark.parametrize("kind", [GinEncoder, GcnEncoder])
def test_in_evaluation_a_drug_is_the_same_in_any_company(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    encoder = kind(drugs()).eval()
    with torch.no_grad():
        together = encoder(np.array([0, 1, 2, 3]))
        for number in range(4):
            alone = encoder(np.array([number]))
            torch.testing.assert_close(alone[0], together[number], rtol=1e-5, atol=1e-6)


def test_published_sizes() -> None:
    """TGDRP: three layers of 128, 256 out (paper, Table F.1); DeepCDR: 256, 256, 256, 100."""
    gin, gcn = GinEncoder(drugs()), GcnEncoder(drugs())
    assert [layer.apply_func[0].in_features for layer in gin.layers] == [77, 128, 128]
    assert (gin.out[0].in_features, gin.out[0].out_features) == (384, 256)
    assert [tuple(layer.weight.shape) for layer in gcn.layers] == [
        (77, 256),
        (256, 256),
        (256, 256),
        (256, 100),
    ]


@pytest.mark.parametrize("kind", [GinEncoder, GcnEncoder])
def test_graphs_move_with_the_encoder_and_are_no_weights(kind: type[nn.Module]) -> None:
    """The plain back end works wherever the encoder is; dgl's is on the CPU alone."""
    encoder = kind(drugs())
    assert not [name for name in encoder.state_dict() if name.startswith("drugs")]
    assert {buffer.device.type for buffer in encoder.to("meta").drugs.buffers()} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", [GinEncoder, GcnEncoder])
def test_a_gpu_gives_the_vectors_of_the_cpu(kind: type[nn.Module]) -> None:
    encoder = kind(drugs()).eval()
    with torch.no_grad():
        wanted = encoder(np.arange(4))
        found = encoder.to("cuda")(np.arange(4))
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-4, atol=1e-5)
