"""CHGNet's layers, their first products split so that each runs once per atom, bond or angle.

Let v_i be the features of atom i, e_ij those of the bond between atoms i and j, and a_ijk those of
the angle between the bonds ij and jk. Let ‖ join features, and let ẽᵃ and ẽᵇ be linear functions of
the radial functions of a bond. One round of CHGNet is::

    v_i   ← v_i   + L Σ_j ẽᵃ_ij ⊙ φ(v_i ‖ v_j ‖ e_ij)                    AtomConv
    e_ij  ← e_ij  + L Σ_k ẽᵇ_ij ⊙ ẽᵇ_jk ⊙ φ(e_ij ‖ e_jk ‖ a_ijk ‖ v_j)   BondConv
    a_ijk ← a_ijk + φ(e_ij ‖ e_jk ‖ a_ijk ‖ v_j)                         AngleUpdate

Each L is a linear layer, and each φ(x) = SiLU(L_core(x)) ⊙ σ(L_gate(x)) has two branches of linear
layers with a normalisation at the end, *core* and *gate*. Both lie side by side in 2 × 64 columns.

Each φ begins with a product of joined features, one row for an edge or an angle. Here it is split
into one product for each kind of feature, whose rows are gathered and added afterwards. The sum is
the same and costs a fraction.

References
----------
Deng et al., *CHGNet as a pretrained universal neural network potential for charge-informed
atomistic modelling*, Nat. Mach. Intell. 5, 1031 (2023), arXiv 2302.14231, Methods.

"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from moma_cl.backbones.chgnet.kernels import gated, gathered_sum, product

FEATURE_DIM = 64
"""Width of atom, bond and angle features."""

N_RADIAL = 31
"""Radial functions of a bond."""

N_ANGULAR = 15
"""Sines, and as many cosines, of an angle."""

# CHGNet's constant angular function 1/√2 was rounded to float32 when it was trained.
_CONSTANT = 0.7071067690849304 / math.sqrt(math.pi)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Messages:
    """What the messages of a batch, along its edges or its angles, are made of.

    Their first layer adds up rows of a table. That of edges has two rows for each node (as centre,
    as neighbour), then one for each bond; that of angles has two for each short bond (as first, as
    other), then one for each node.
    """

    receivers: Tensor  # node, or first short bond, of each message, shape (n_messages,)
    terms: Tensor  # rows of the table, shape (n_messages, 3)
    factors: Tensor  # what each message is multiplied by, shape (n_messages, feature_dim)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BondChange:
    """The sum of what bond convolutions have added to the features of short bonds."""

    bonds: Tensor  # indices of the short bonds among all bonds, shape (n_short,)
    features: Tensor  # the sum, shape (n_short, feature_dim)


def table_rows(pairs: tuple[Tensor, Tensor], singles: Tensor, n_pairs: int) -> Tensor:
    """Give row numbers in a table of two rows for each member of one kind, then one of another.

    ``pairs`` are the members of the first kind, ``n_pairs`` in number, whose first row is gathered,
    and those whose second row is; ``singles`` are members of the other kind. All have shape
    ``(n_rows,)``, the row numbers ``(n_rows, 3)``.
    """
    first, second = pairs
    return torch.stack([2 * first, 2 * second + 1, singles + 2 * n_pairs], dim=1)


class RadialBasis(nn.Module):
    """Spherical Bessel functions of a length with learned frequencies and a smooth cutoff.

    The n-th function of a length r is √(2/c) sin(f_n d) / r · u(d), where c is the cutoff, d = r/c,
    f_n the frequency, at first n π, and u(d) = 1 − 45 d⁸ + 80 d⁹ − 36 d¹⁰.

    Parameters
    ----------
    cutoff
        Length at which the functions vanish with two derivatives, Å.

    References
    ----------
    Gasteiger et al., arXiv 2003.03123, equations 7 and 8, with exponent 8.
    """

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.frequencies = nn.Parameter(math.pi * torch.arange(1.0, N_RADIAL + 1))

    def forward(self, lengths: Tensor) -> Tensor:
        """Expand bond lengths, float64, shape ``(n_bonds,)``, Å.

        The functions, shape ``(n_bonds, n_radial)``, are in the precision of the frequencies.
        """
        lengths = lengths.to(self.frequencies.dtype)
        scaled = lengths / self.cutoff
        # this form rounds by 5e-6 in float32, but the parameters were trained with it: a better one
        # would be the largest difference from the published model
        envelope = 1.0 - 45.0 * scaled**8 + 80.0 * scaled**9 - 36.0 * scaled**10
        envelope = torch.where(scaled < 1.0, envelope, 0.0)
        amplitude = envelope * (math.sqrt(2.0 / self.cutoff) / lengths)
        return torch.sin(torch.outer(scaled, self.frequencies)) * amplitude[:, None]


class AngularBasis(nn.Module):
    """Fourier series of an angle: 1/√(2π), sin(f_n θ)/√π and cos(f_n θ)/√π with learned f_n."""

    def __init__(self) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.arange(1.0, N_ANGULAR + 1))

    def forward(self, angles: Tensor) -> Tensor:
        """Expand angles, float64, shape ``(n_angles,)``, rad.

        The functions are a constant, sines and cosines, shape ``(n_angles, 2 * n_angular + 1)``.
        """
        phases = torch.outer(angles.to(self.frequencies.dtype), self.frequencies)
        scale = 1.0 / math.sqrt(math.pi)
        constant = phases.new_full((len(phases), 1), _CONSTANT)
        return torch.cat([constant, torch.sin(phases) * scale, torch.cos(phases) * scale], dim=1)


class Gate(nn.Module):
    """The end of φ: normalise both branches and let one gate the other."""

    def __init__(self) -> None:
        super().__init__()
        self.core_norm = nn.LayerNorm(FEATURE_DIM)
        self.gate_norm = nn.LayerNorm(FEATURE_DIM)

    def forward(self, core: Tensor, gate: Tensor, factors: Tensor | None = None) -> Tensor:
        """Combine the branches, centred; all shapes ``(n_rows, feature_dim)``."""
        return gated(core, gate, (self.core_norm, self.gate_norm), factors)


class GatedLayers(nn.Module):
    """The part of a convolution's φ that follows its first products: second layers and gate."""

    def __init__(self) -> None:
        super().__init__()
        self.core = nn.Linear(FEATURE_DIM, FEATURE_DIM)
        self.gate = nn.Linear(FEATURE_DIM, FEATURE_DIM)
        self.norms = Gate()

    def forward(self, hidden: Tensor, factors: Tensor) -> Tensor:
        """Turn first-layer sums, shape ``(n_rows, 2 * feature_dim)``, into messages."""
        hidden = functional.silu(hidden, inplace=not hidden.requires_grad)
        core, gate = (
            product(branch, layer.weight, layer.bias, centered=FEATURE_DIM)
            for branch, layer in zip(hidden.chunk(2, dim=1), (self.core, self.gate), strict=True)
        )
        message: Tensor = self.norms(core, gate, factors)
        return message


class AtomConv(nn.Module):
    """Update atoms by messages along edges, weighted by bond and summed over each atom's edges."""

    def __init__(self) -> None:
        super().__init__()
        self.atoms = nn.Linear(FEATURE_DIM, 4 * FEATURE_DIM, bias=False)
        self.bonds = nn.Linear(FEATURE_DIM, 2 * FEATURE_DIM)
        self.layers = GatedLayers()
        self.out = nn.Linear(FEATURE_DIM, FEATURE_DIM, bias=False)

    def forward(
        self, atoms: Tensor, bond_terms: Tensor, change: BondChange | None, edges: Messages
    ) -> Tensor:
        """Update the features of atoms, shape ``(n_nodes, feature_dim)``.

        ``bond_terms``, shape ``(n_bonds, 2 * feature_dim)``, is the product of ``self.bonds`` with
        the initial features of bonds; ``change`` has been added to those of short bonds since.
        """
        pairs = self.atoms(atoms).view(-1, 2 * FEATURE_DIM)
        table = torch.cat([pairs, bond_terms])
        if change is not None:
            terms = functional.linear(change.features, self.bonds.weight)
            table.index_add_(0, change.bonds + len(pairs), terms)
        messages = self.layers(gathered_sum(table, edges.terms), edges.factors)
        total = torch.zeros_like(atoms).index_add(0, edges.receivers, messages)
        updated: Tensor = atoms + self.out(total)
        return updated


class BondConv(nn.Module):
    """Update short bonds by messages along angles, weighted by both bonds and summed."""

    def __init__(self) -> None:
        super().__init__()
        self.bonds = nn.Linear(FEATURE_DIM, 4 * FEATURE_DIM, bias=False)
        self.angles = nn.Linear(FEATURE_DIM, 2 * FEATURE_DIM)
        self.atoms = nn.Linear(FEATURE_DIM, 2 * FEATURE_DIM, bias=False)
        self.layers = GatedLayers()
        self.out = nn.Linear(FEATURE_DIM, FEATURE_DIM, bias=False)

    def forward(
        self, atoms: Tensor, bonds: Tensor, bond_weights: Tensor, features: Tensor, angles: Messages
    ) -> Tensor:
        """Compute what to add to the features of short bonds, shape ``(n_short, feature_dim)``.

        Features of atoms have shape ``(n_nodes, feature_dim)``, those of angles
        ``(n_angles, feature_dim)``. Messages to each short bond are multiplied by its
        ``bond_weights``, shape ``(n_short, feature_dim)``.
        """
        pairs = self.bonds(bonds).view(-1, 2 * FEATURE_DIM)
        table = torch.cat([pairs, self.atoms(atoms)])
        hidden = product(features, self.angles.weight, self.angles.bias)
        hidden = gathered_sum(table, angles.terms, hidden)
        messages = self.layers(hidden, angles.factors)
        total = torch.zeros_like(bonds).index_add(0, angles.receivers, messages)
        # the first bond's factor is common to its messages, so it waits until they are summed
        change: Tensor = self.out(total * bond_weights)
        return change


class AngleUpdate(nn.Module):
    """Update angles by their bonds and atoms."""

    def __init__(self) -> None:
        super().__init__()
        self.bonds = nn.Linear(FEATURE_DIM, 4 * FEATURE_DIM, bias=False)
        self.angles = nn.Linear(FEATURE_DIM, 2 * FEATURE_DIM)
        self.atoms = nn.Linear(FEATURE_DIM, 2 * FEATURE_DIM, bias=False)
        self.norms = Gate()

    def forward(self, atoms: Tensor, bonds: Tensor, features: Tensor, angles: Messages) -> Tensor:
        """Update the features of angles, shape ``(n_angles, feature_dim)``.

        Features of atoms have shape ``(n_nodes, feature_dim)``, those of short bonds
        ``(n_short, feature_dim)``.
        """
        pairs = product(bonds, self.bonds.weight, centered=FEATURE_DIM).view(-1, 2 * FEATURE_DIM)
        table = torch.cat([pairs, product(atoms, self.atoms.weight, centered=FEATURE_DIM)])
        hidden = product(features, self.angles.weight, self.angles.bias, centered=FEATURE_DIM)
        core, gate = gathered_sum(table, angles.terms, hidden).chunk(2, dim=1)
        updated: Tensor = features + self.norms(core, gate)
        return updated
