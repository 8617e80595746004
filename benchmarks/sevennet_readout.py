"""The energy of SevenNet, read from the features of our encoder, to compare with the package's."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from torch import Tensor, nn

from moma_cl.backbones.sevennet.backbone import N_SCALARS, SevenNetBackbone
from moma_cl.backbones.sevennet.weights import checkpoint
from moma_cl.core.pyg import Batch

_HIDDEN = 64


class SevenNetReadout(nn.Module):
    """SevenNet's linear maps after the last layer, and the scale and shift of each element."""

    def __init__(self, n_elements: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(N_SCALARS, _HIDDEN, bias=False)
        self.energy = nn.Linear(_HIDDEN, 1, bias=False)
        self.scale = nn.Embedding(n_elements, 1)
        self.shift = nn.Embedding(n_elements, 1)

    @classmethod
    def pretrained(cls, backbone: type[SevenNetBackbone]) -> Self:
        """Take the parameters out of the package, in float64."""
        source = checkpoint(*backbone.checkpoint_file)
        order = np.argsort(source["elements"])
        readout = cls(len(order)).eval().double()
        for layer, name, n_in in (
            (readout.hidden, "reduce_input_to_hidden", N_SCALARS),
            (readout.energy, "reduce_hidden_to_energy", _HIDDEN),
        ):
            weight = source[f"{name}.linear.weight"].double().view(n_in, -1)
            layer.weight.data = weight.T / math.sqrt(n_in)
        for table, name in ((readout.scale, "scale"), (readout.shift, "shift")):
            values = source[f"rescale_atomic_energy.{name}"].double()
            table.weight.data = values[order][:, None]
        return readout

    def forward(self, features: Tensor, batch: Batch, rows: Tensor) -> Tensor:
        """Give the energy of each structure, eV; ``rows`` is the row of each element."""
        element = rows[batch.atomic_numbers]
        atoms = self.energy(self.hidden(features[:, :N_SCALARS])) * self.scale(
            element
        ) + self.shift(element)
        total = atoms[:, 0] * batch.node_weight
        return total.new_zeros(batch.num_graphs).index_add(0, batch.batch, total)
