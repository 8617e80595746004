"""The energy of CHGNet, read from the features of our encoder, to compare with the package's."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from moma_cl.backbones.chgnet.backbone import N_ELEMENTS
from moma_cl.backbones.chgnet.layers import FEATURE_DIM
from moma_cl.backbones.chgnet.weights import package_state
from moma_cl.core.pyg import Batch
from moma_cl.learning.head import node_mean

# Names in the package by names here.
_READOUT = {
    "norm.weight": "readout_norm.weight",
    "norm.bias": "readout_norm.bias",
    "hidden.0.weight": "mlp.layers.0.weight",
    "hidden.0.bias": "mlp.layers.0.bias",
    "hidden.1.weight": "mlp.layers.2.weight",
    "hidden.1.bias": "mlp.layers.2.bias",
    "hidden.2.weight": "mlp.layers.4.weight",
    "hidden.2.bias": "mlp.layers.4.bias",
    "energy.weight": "mlp.layers.7.weight",
    "energy.bias": "mlp.layers.7.bias",
}


class CHGNetReadout(nn.Module):
    """CHGNet's layers after the last block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(FEATURE_DIM)
        self.hidden = nn.ModuleList([nn.Linear(FEATURE_DIM, FEATURE_DIM) for _ in range(3)])
        self.energy = nn.Linear(FEATURE_DIM, 1)
        self.reference = nn.Embedding(N_ELEMENTS, 1)

    @classmethod
    def pretrained(cls) -> Self:
        """Take the parameters out of the ``chgnet`` package."""
        with torch.random.fork_rng(devices=[]):
            readout = cls().eval()
        source = package_state()
        state = {ours: source[theirs] for ours, theirs in _READOUT.items()}
        state["reference.weight"] = source["composition_model.fc.weight"].T
        readout.load_state_dict(state)
        return readout

    def forward(self, features: Tensor, batch: Batch) -> Tensor:
        """Give the energy of each structure, shape ``(n_structures,)``, eV/atom."""
        hidden = self.norm(features)
        for layer in self.hidden:
            hidden = functional.silu(layer(hidden))
        energies = self.energy(hidden) + self.reference(batch.atomic_numbers - 1)
        mean: Tensor = node_mean(energies, batch)[:, 0]
        return mean
