"""SevenNet's layers: linear maps of each degree, the radial network, the convolution and the gate.

Let h be the features of the nodes, of several degrees l; linear maps act on the channels of each
degree by itself. With the edge tensors K (`moma_cl.backbones.sevennet.quotient`) one layer is::

    w = network(basis(length))                       RadialNetwork, once for each distinct length
    m_i = Σ_j K_ij (w_ij ∘ (L₁ h)_j)                 all paths, `convolve`
    y = L₂ m + L₀ h
    h' = SiLU(y⁰) for degree 0, and y ∘ SiLU(gate) for each higher degree

where y⁰ has, after its own channels, one gate for each channel of the higher degrees. Parameters
are as published, of the order of one. Every matrix is multiplied by a factor with which SevenNet
was trained: one over the root of the number of its columns, times the scale of a SiLU before it,
and in L₂ divided by the mean number of neighbours. So one learning rate suits all of them.

A node has 2l + 1 rows of features of degree l, or fewer where symmetry leaves fewer; they lie
together, and channels are contiguous.

References
----------
Batzner et al., Nat. Commun. 13, 2453 (2022), arXiv 2101.03164, figure 1 and equations 6 to 9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from moma_cl.backbones.sevennet.convolution import Edges, Rows, convolve
from moma_cl.backbones.sevennet.paths import LayerPaths, layer_paths

N_RADIAL = 8
"""Radial functions of a length."""

SILU_SCALE = 1.6791767923989418
"""1/√⟨SiLU(x)²⟩ for normally distributed x, as e3nn estimates it and SevenNet was trained with."""

_HIDDEN = 64
_MIN_SQUARE = 1e-8


class Envelope(NamedTuple):
    """How messages vanish at the cutoff: smoothly from a length on, or as a polynomial."""

    cutoff: float  # Å
    start: float | None  # Å; none stands for the polynomial of power 6

    def __call__(self, lengths: Tensor) -> Tensor:
        """Compute the factor of each length, Å; it is 1 at zero and 0 at the cutoff.

        References
        ----------
        Polynomial: Gasteiger et al., arXiv 2003.03123, equation 8. The other: Brooks et al.,
        J. Comput. Chem. 4, 187 (1983), equation 12.
        """
        if self.start is None:
            ratio = lengths / self.cutoff
            return 1.0 - ratio**6 * (28.0 - ratio * (48.0 - ratio * 21.0))
        end, start, square = self.cutoff**2, self.start**2, lengths * lengths
        falling = (end - square) ** 2 * (end + 2.0 * square - 3.0 * start) / (end - start) ** 3
        return torch.where(lengths < self.start, torch.ones_like(falling), falling)


class RadialBasis(nn.Module):
    """Spherical Bessel functions of order 0 with trained frequencies, times the envelope.

    References
    ----------
    Gasteiger et al., arXiv 2003.03123, equation 7.
    """

    def __init__(self, envelope: Envelope) -> None:
        super().__init__()
        self.envelope = envelope
        self.frequencies = nn.Parameter(
            torch.arange(1.0, N_RADIAL + 1) * (math.pi / envelope.cutoff)
        )

    def forward(self, lengths: Tensor) -> Tensor:
        """Compute the functions of lengths, shape ``(n_lengths,)``, Å; ``(n_lengths, 8)``."""
        factor = self.envelope(lengths) * (2.0 / self.envelope.cutoff) / lengths
        # in the precision of the lengths: a gradient of frequencies is a small sum of large terms
        waves = torch.sin(lengths[:, None] * self.frequencies.to(lengths.dtype))
        return (waves * factor[:, None]).to(self.frequencies.dtype)


class ScaledLinear(nn.Linear):
    """A linear map without bias, whose matrix is multiplied by a factor.

    Parameters
    ----------
    n_in
        Columns before.
    n_out
        Columns after.
    factor
        The factor, beside one over the root of ``n_in``.
    """

    def __init__(self, n_in: int, n_out: int, factor: float = 1.0) -> None:
        super().__init__(n_in, n_out, bias=False)
        self.factor = factor / math.sqrt(n_in)

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows, shape ``(n_rows, n_in)``, to ``(n_rows, n_out)``."""
        return functional.linear(rows, self.weight * self.factor)


class RadialNetwork(nn.Module):
    """The weights of all paths of a convolution, as a function of the length."""

    def __init__(self, n_weights: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                ScaledLinear(N_RADIAL, _HIDDEN),
                ScaledLinear(_HIDDEN, _HIDDEN, SILU_SCALE),
                ScaledLinear(_HIDDEN, n_weights, SILU_SCALE),
            ]
        )

    def forward(self, basis: Tensor) -> Tensor:
        """Compute the weights, shape ``(n_lengths, n_weights)``, from the basis."""
        first, second, third = self.layers
        weights: Tensor = third(functional.silu(second(functional.silu(first(basis)))))
        return weights


class DegreeLinear(nn.Module):
    """A linear map of the channels of each degree.

    Parameters
    ----------
    n_in
        Channels of each degree, from 0.
    n_out
        Channels of each degree after the map, which ends with the shorter of the two.
    factor
        What all matrices are multiplied by.
    """

    def __init__(self, n_in: Sequence[int], n_out: Sequence[int], factor: float = 1.0) -> None:
        super().__init__()
        self.maps = nn.ModuleList(
            ScaledLinear(one, other, factor) for one, other in zip(n_in, n_out, strict=False)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Map the rows of each degree, shape ``(n_rows, n_channels)``."""
        return [one(rows) for one, rows in zip(self.maps, features, strict=False)]


class Convolution(nn.Module):
    """One layer: messages along edges, summed at their targets and gated.

    Parameters
    ----------
    n_in
        Channels of each degree before, from 0.
    n_out
        Channels of each degree after.
    degree
        Largest degree of the harmonics.
    neighbors
        The mean number of neighbours in the data that the parameters were trained on.
    """

    def __init__(
        self, n_in: Sequence[int], n_out: Sequence[int], degree: int, neighbors: float
    ) -> None:
        super().__init__()
        self.paths: LayerPaths = layer_paths(n_in, degree, len(n_out) - 1)
        gated = [n_out[0] + sum(n_out[1:]), *n_out[1:]]
        self.n_out = tuple(n_out)
        self.network = RadialNetwork(self.paths.n_weights)
        self.before = DegreeLinear(n_in, n_in)
        self.after = DegreeLinear(self.paths.widths, gated, 1.0 / neighbors)
        self.kept = DegreeLinear(n_in, gated)

    def forward(
        self, features: Sequence[Tensor], basis: Tensor, rows: Rows, edges: Edges
    ) -> list[Tensor]:
        """Update features, one tensor of rows for each degree."""
        weights = self.network(basis)
        messages = convolve(self.paths, rows, edges, weights, self.before(features))
        updated = self.after(messages)
        for degree, kept in enumerate(self.kept(features)):
            updated[degree] = updated[degree] + kept
        return self._gated(updated, rows)

    def _gated(self, features: list[Tensor], rows: Rows) -> list[Tensor]:
        opened = functional.silu(features[0]) * SILU_SCALE
        scalars, *gates = torch.split(opened, list(self.n_out), dim=1)
        higher = zip(features[1:], gates, rows.owners[1:], strict=False)
        return [scalars, *(one * gate[owners] for one, gate, owners in higher)]


def norms_of(features: Tensor, owners: Tensor, n_nodes: int) -> Tensor:
    """Compute the norm of each node's rows of a degree, shape ``(n_nodes, n_channels)``.

    Rows have shape ``(n_rows, n_channels)``; a small constant keeps gradients finite.
    """
    squares = features.new_zeros(n_nodes, features.shape[1])
    return (squares.index_add(0, owners, features.square()) + _MIN_SQUARE).sqrt()
