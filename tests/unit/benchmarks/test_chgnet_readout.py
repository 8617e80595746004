import pytest
import torch

from benchmarks.chgnet_readout import CHGNetReadout
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.graphs.batching import collate
from moma_cl.testing.crystals import example_crystals


def test_energies_of_well_known_crystals():
    encoder, readout = CHGNetBackbone.pretrained(), CHGNetReadout.pretrained()
    names = ("rock salt", "diamond", "perovskite")
    batch = collate([encoder.to_graph(example_crystals()[name]) for name in names])
    with torch.no_grad():
        energies = readout(encoder(batch)[-1], batch)
    # as given by chgnet 0.4.2, eV/atom
    assert energies.tolist() == pytest.approx([-3.66643, -5.31218, -8.41826], abs=2e-5)
