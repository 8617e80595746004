"""SevenNet as the package ``sevenn`` runs it: what benchmarks and tests compare with.

The output of forces is taken out, which property training does not need, so that the package does
only what we do. Its double precision is mended: the checkpoint holds 3j symbols in single
precision, the embedding of elements is single, and so are edge vectors. The allocator may be tuned
(`tune_allocator`), because as shipped a third of the package's training time is page faults.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moma_cl.backbones.sevennet.backbone import CUTOFF, N_SCALARS, SevenNetBackbone
from moma_cl.backbones.symmetry import SymmetricCrystal
from moma_cl.structures.crystals import Crystal

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def tune_allocator() -> None:
    """Let the C library keep all memory, for both sides."""
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


class Package:
    """The package's model, its optimiser, and what its layers give.

    Parameters
    ----------
    backbone
        Our class, which says which checkpoint.
    dtype
        Precision.
    """

    def __init__(
        self, backbone: type[SevenNetBackbone], dtype: torch.dtype = torch.float32
    ) -> None:
        import sevenn
        from sevenn import _keys
        from sevenn.checkpoint import SevenNetCheckpoint

        folder = Path(sevenn.__file__).parent / "pretrained_potentials"
        model = SevenNetCheckpoint(folder / backbone.checkpoint_file[0]).build_model()
        model.set_is_batch_data(True)
        del model._modules["force_output"]
        model.key_grad = None
        self.keys, self.dtype, self.model = _keys, dtype, model.eval()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
        if dtype == torch.float64:
            self._mend()

    def graph(self, crystal: Crystal | SymmetricCrystal) -> Any:
        """Convert a structure."""
        from ase import Atoms
        from sevenn.atom_graph_data import AtomGraphData
        from sevenn.train.dataload import unlabeled_atoms_to_graph

        atoms = Atoms(
            crystal.atomic_numbers,
            cell=crystal.lattice,
            scaled_positions=crystal.frac_coords,
            pbc=True,
        )
        found = unlabeled_atoms_to_graph(atoms, CUTOFF)
        vectors = np.asarray(found[self.keys.EDGE_VEC])
        graph = AtomGraphData.from_numpy_dict(found)
        if self.dtype == torch.float64:
            graph[self.keys.EDGE_VEC] = torch.as_tensor(vectors).double()
        return graph

    def train(self, graphs: Sequence[Any]) -> None:
        """Take one step."""
        loss = self.energies(graphs).abs().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def embed(self, graphs: Sequence[Any]) -> Tensor:
        """Give energies, and on the way everything an embedding is made of."""
        with torch.no_grad():
            return self.energies(graphs)

    def energies(self, graphs: Sequence[Any]) -> Tensor:
        """Compute the energy of each structure, eV."""
        from torch_geometric.data import Batch

        energies: Tensor = self.model(Batch.from_data_list(list(graphs)))[
            self.keys.PRED_TOTAL_ENERGY
        ]
        return energies

    def answers(self, graphs: Sequence[Any]) -> tuple[list[Tensor], Tensor]:
        """Compute the scalars of atoms after every layer, and energies."""
        blocks: list[Tensor] = []
        hooks = [
            module.register_forward_hook(
                lambda _module, _in, out: blocks.append(out[self.keys.NODE_FEATURE])
            )
            for name, module in self.model._modules.items()
            if name.endswith("equivariant_gate")
        ]
        energies = self.energies(graphs)
        for hook in hooks:
            hook.remove()
        return [block[:, :N_SCALARS] for block in blocks], energies

    def _mend(self) -> None:
        from e3nn.o3 import wigner_3j

        self.model = self.model.double()

        def to_double(_module: Any, _in: Any, out: Any) -> Any:
            out[self.keys.NODE_FEATURE] = out[self.keys.NODE_FEATURE].double()
            return out

        self.model._modules["onehot_idx_to_onehot"].register_forward_hook(to_double)
        for name, buffer in self.model.named_buffers():
            found = re.search(r"_w3j_(\d)_(\d)_(\d)$", name)
            if found:
                exact = wigner_3j(*map(int, found.groups()), dtype=torch.float64)
                buffer.copy_(exact)
