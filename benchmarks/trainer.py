"""An encoder in training, as :mod:`moma_cl.learning.training` puts one together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from moma_cl.backbones.base import Backbone, CrystalGraph
from moma_cl.core.denormals import without_denormals
from moma_cl.graphs.batching import collate
from moma_cl.learning.head import Head


class Trainer:
    """Encoder, head and optimiser.

    Parameters
    ----------
    backbone
        Class of the encoder.
    adapter_width
        Width of the adapters that are trained; without it the whole encoder is.
    """

    def __init__(self, backbone: type[Backbone], adapter_width: int | None = None) -> None:
        self.encoder = backbone.pretrained()
        if adapter_width is not None:
            self.encoder.add_adapters(adapter_width)
        self.head = Head(self.encoder.feature_dim, self.encoder.n_blocks, 128, seed=0)
        parameters = [*self.encoder.parameters(), *self.head.parameters()]
        self.trained = [parameter for parameter in parameters if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-5, fused=True)

    @without_denormals()
    def train(self, graphs: Sequence[CrystalGraph]) -> None:
        """Take one step."""
        batch = collate(graphs)
        loss = self.head(self.encoder(batch), batch).abs().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
