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

import torch
from torch import Tensor, nn
from torch.nn import functional

from moma_cl.backbones.chgnet.messages import Layers, Messages, Tables, add_messages

FEATURE_DIM = 64
"""Width of atom, bond and angle features."""

N_RADIAL = 31
"""Radial functions of a bond."""

N_ANGULAR = 15
"""Sines, and as many cosines, of an angle."""

# CHGNet's constant angular function 1/√2 was rounded to float32 when it was trained.
_CONSTANT = 0.7071067690849304 / math.sqrt(math.pi)


def widened(columns: Tensor) -> Tensor:
    """Append a column of zeros to one column for each function of a basis.

    Products over 31 columns take twice as long as products over 32.
    """
    return functional.pad(columns, (0, 1))


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


class Norms(nn.Module):
    """Normalisation of both branches at the end of φ."""

    def __init__(self) -> None:
        super().__init__()
        self.core_norm = nn.LayerNorm(FEATURE_DIM)
        self.gate_norm = nn.LayerNorm(FEATURE_DIM)

    def pair(self) -> tuple[nn.LayerNorm, nn.LayerNorm]:
        """Give those of core and gate."""
        return self.core_norm, self.gate_norm


class SecondLayers(nn.Module):
    """The part of a convolution's φ that follows its first products: second layers and norms."""

    def __init__(self) -> None:
        super().__init__()
        self.core = nn.Linear(FEATURE_DIM, FEATURE_DIM)
        self.gate = nn.Linear(FEATURE_DIM, FEATURE_DIM)
        self.norms = Norms()


class AtomConv(nn.Module):
    """Update atoms by messages along edges, weighted by bond and summed over each atom's edges."""

    def __init__(self) -> None:
        super().__init__()
        self.atoms = nn.Linear(FEATURE_DIM, 4 * FEATURE_DIM, bias=False)
        self.bonds = nn.Linear(FEATURE_DIM, 2 * FEATURE_DIM)
        self.layers = SecondLayers()
        self.out = nn.Linear(FEATURE_DIM, FEATURE_DIM, bias=False)

    def of_bonds(self, basis: Tensor, embedding: Tensor) -> Tensor:
        """Give each bond's part of the first layer, no bias, ``(n_bonds, 2 * feature_dim)``.

        Initial features of bonds are the product of radial functions and the ``embedding``, both
        `widened`, ``(n_bonds, n_radial + 1)`` and ``(feature_dim, n_radial + 1)``. The product with
        this product is one with the product of the weights.
        """
        return functional.linear(basis, self.bonds.weight @ embedding)

    def forward(
        self,
        atoms: Tensor,
        bond_terms: Tensor,
        bond_weights: Tensor,
        change: Tensor | None,
        edges: Messages,
    ) -> Tensor:
        """Update the features of atoms, shape ``(n_nodes, feature_dim)``.

        ``bond_terms``, shape ``(n_bonds, 2 * feature_dim)``, come from `of_bonds`; messages are
        multiplied by the ``bond_weights``, shape ``(n_bonds, feature_dim)``. ``change``, shape
        ``(n_short, feature_dim)``, has been added to the features of short bonds since.
        """
        terms = None if change is None else functional.linear(change, self.bonds.weight)
        tables = Tables(
            pairs=self.atoms(atoms).view(-1, 2 * FEATURE_DIM),
            singles=bond_terms,
            changes=terms,
            factors=bond_weights,
        )
        layers = Layers(
            norms=self.layers.norms.pair(),
            bias=self.bonds.bias,  # added to few rows at a time, not to a table of them
            second=(self.layers.core, self.layers.gate),
        )
        total = add_messages(edges, tables, layers, torch.zeros_like(atoms))
        updated: Tensor = atoms + self.out(total)
        return updated


class BondConv(nn.Module):
    """Update short bonds by messages along angles, weighted by both bonds and summed."""

    def __init__(self) -> None:
        super().__init__()
        self.bonds = nn.Linear(FEATURE_DIM, 4 * FEATURE_DIM, bias=False)
        self.angles = nn.Linear(FEATURE_DIM, 2 * FEATURE_DIM)
        self.atoms = nn.Linear(FEATURE_DIM, 2 * FEATURE_DIM, bias=False)
        self.layers = SecondLayers()
        self.out = nn.Linear(FEATURE_DIM, FEATURE_DIM, bias=False)

    def forward(
        self, atoms: Tensor, bonds: Tensor, bond_weights: Tensor, features: Tensor, angles: Messages
    ) -> Tensor:
        """Compute what to add to the features of short bonds, shape ``(n_short, feature_dim)``.

        Features of atoms have shape ``(n_nodes, feature_dim)``, those of angles
        ``(n_angles, feature_dim)``. Messages are multiplied by the ``bond_weights`` of both bonds,
        shape ``(n_short, feature_dim)``.
        """
        tables = Tables(
            pairs=self.bonds(bonds).view(-1, 2 * FEATURE_DIM),
            singles=self.atoms(atoms),
            factors=bond_weights,
            features=features,
        )
        layers = Layers(
            norms=self.layers.norms.pair(),
            features=self.angles,
            second=(self.layers.core, self.layers.gate),
        )
        total = add_messages(angles, tables, layers, torch.zeros_like(bonds))
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
        self.norms = Norms()

    def forward(self, atoms: Tensor, bonds: Tensor, features: Tensor, angles: Messages) -> Tensor:
        """Update the features of angles, shape ``(n_angles, feature_dim)``.

        Features of atoms have shape ``(n_nodes, feature_dim)``, those of short bonds
        ``(n_short, feature_dim)``. Each angle is the one that receives its message.
        """
        tables = Tables(
            pairs=self.bonds(bonds).view(-1, 2 * FEATURE_DIM),
            singles=self.atoms(atoms),
            features=features,
        )
        layers = Layers(norms=self.norms.pair(), features=self.angles)
        return add_messages(angles, tables, layers, features)
