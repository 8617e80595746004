import pytest

from moma_cl.backbones.cgcnn import CGCNNBackbone
from moma_cl.backbones.chgnet.backbone import CHGNetBackbone
from moma_cl.backbones.registry import backbone_class, backbone_names
from moma_cl.backbones.sevennet.backbone import SevenNet0Backbone, SevenNetL3i5Backbone
from moma_cl.testing import BackboneContract
from moma_store.errors import BackboneError
from tests.helpers.processes import run_python


class TestCHGNet(BackboneContract):
    backbone_class = CHGNetBackbone


class TestCGCNN(BackboneContract):
    backbone_class = CGCNNBackbone


class TestSevenNet0(BackboneContract):
    backbone_class = SevenNet0Backbone


class TestSevenNetL3i5(BackboneContract):
    backbone_class = SevenNetL3i5Backbone


def test_built_in_backbones_are_found_by_name():
    assert {"chgnet", "cgcnn", "sevennet-0", "sevennet-l3i5"} <= set(backbone_names())
    assert backbone_class("chgnet") is CHGNetBackbone
    assert backbone_class("cgcnn") is CGCNNBackbone
    assert backbone_class("sevennet-0") is SevenNet0Backbone
    assert backbone_class("sevennet-l3i5") is SevenNetL3i5Backbone


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(BackboneError, match="did you mean 'chgnet'"):
        backbone_class("chgnett")


def test_training_on_prepared_graphs_needs_no_pymatgen():
    script = (
        "import sys, moma_cl.backbones.chgnet.backbone, moma_cl.backbones.cgcnn, moma_cl.graphs.batching, "
        "moma_cl.backbones.sevennet.backbone, moma_cl.backbones.parameters\n"
        "print(sorted({'pymatgen', 'chgnet', 'ase', 'sevenn', 'e3nn'} & set(sys.modules)))"
    )
    assert run_python(script).strip() == "[]"
