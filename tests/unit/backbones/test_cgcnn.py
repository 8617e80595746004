import hashlib
import os

import numpy as np
import torch

from moma_cl.backbones.cgcnn import CGCNNBackbone
from moma_cl.backbones.parameters import manifest_of, to_vector
from moma_cl.records.records import ModuleKind
from moma_cl.structures.crystals import Crystal
from moma_cl.testing.crystals import example_crystals, isolated_atom
from tests.helpers.processes import run_python


def test_a_shell_of_neighbours_is_taken_whole():
    graph = CGCNNBackbone.to_graph(example_crystals()["rock salt"], quotient=False)
    # 6 at 2.82 Å, then a shell of 12 of which the last 6 would be arbitrary
    assert torch.bincount(graph.edge_index[1]).tolist() == [18] * 8
    assert np.allclose(np.unique(graph.edge_length.round(decimals=4)), [2.82, 3.9881])


def test_a_full_shell_ends_the_neighbours():
    primitive = Crystal(
        lattice=np.array([[0, 2, 2], [2, 0, 2], [2, 2, 0.0]]),
        atomic_numbers=np.array([29]),
        frac_coords=np.zeros((1, 3)),
    )
    graph = CGCNNBackbone.to_graph(primitive, quotient=False)
    assert graph.edge_index.shape == (2, 12)


def test_atoms_without_neighbours_have_no_edges():
    assert CGCNNBackbone.to_graph(isolated_atom()).edge_index.shape == (2, 0)


def test_parameters_depend_on_nothing_but_the_seed():
    torch.manual_seed(11)
    one = CGCNNBackbone.pretrained()
    vector = to_vector(one, manifest_of(one, ModuleKind.FULL))
    assert hashlib.sha256(vector.tobytes()).hexdigest() == (
        "d9f8f07eca5f6463d8370821a1f7f29aa9e13fba62516d3e69cfdce95754c172"
    )


def test_it_leaves_nothing_in_the_temporary_folder(tmp_path):
    script = "from moma_cl.backbones.cgcnn import CGCNNBackbone; CGCNNBackbone.pretrained()"
    run_python(script, env={**os.environ, "TMPDIR": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []
