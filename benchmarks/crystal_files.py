"""One crystal in every format that pymatgen, ASE and gemmi write and the readers read."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from moma_cl.structures.crystals import Crystal


def crystal_of(structure: Any) -> Crystal:
    """Take the arrays of a structure of pymatgen."""
    return Crystal(
        lattice=np.array(structure.lattice.matrix),
        atomic_numbers=np.array([specie.Z for specie in structure.species]),
        frac_coords=np.array(structure.frac_coords),
    )


@dataclass(frozen=True, eq=False)
class Sample:
    """A structure that is written.

    Attributes
    ----------
    number
        Its number.
    structure
        A structure of pymatgen.
    """

    number: int
    structure: Any

    @cached_property
    def atoms(self) -> Any:
        """The same as atoms of ASE."""
        from pymatgen.io.ase import AseAtomsAdaptor

        return AseAtomsAdaptor.get_atoms(self.structure)

    @cached_property
    def refined(self) -> Any:
        """The structure whose atoms are where its symmetry wants them."""
        from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

        return SpacegroupAnalyzer(self.structure, symprec=0.01).get_refined_structure()

    @cached_property
    def symmetric_cif(self) -> str:
        """CIF text of the sites that differ by symmetry."""
        from pymatgen.io.cif import CifWriter

        return str(CifWriter(self.structure, symprec=0.01, significant_figures=8))

    def right(self, writer: str) -> Crystal:
        """Give the crystal that a file describes, by its writer."""
        return crystal_of(self.refined if "symmetry" in writer else self.structure)


def _pymatgen_cif(sample: Sample) -> str:
    from pymatgen.io.cif import CifWriter

    return str(CifWriter(sample.structure))


def _pymatgen_poscar(sample: Sample, **how: Any) -> str:
    from pymatgen.io.vasp.inputs import Poscar

    rng = np.random.default_rng(sample.number)
    moves = (rng.random((len(sample.structure), 3)) < 0.5).tolist()
    free = moves if sample.number % 3 == 0 else None
    return str(Poscar(sample.structure, selective_dynamics=free).get_str(**how))


def _pymatgen_entry(sample: Sample) -> str:
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    return json.dumps(ComputedStructureEntry(sample.structure, -1.5).as_dict(), default=_plain)


def _plain(value: Any) -> Any:
    """Write what pymatgen leaves of numpy in its dictionaries, and objects as it does."""
    return value.as_dict() if hasattr(value, "as_dict") else value.tolist()


def _pymatgen_short(sample: Sample) -> str:
    return json.dumps(sample.structure.as_dict(verbosity=0), default=_plain)


def _ase(sample: Sample, kind: str, **how: Any) -> bytes:
    stream: Any = io.BytesIO() if kind == "cif" else io.StringIO()
    sample.atoms.write(stream, format=kind, **how)
    content = stream.getvalue()
    return content if isinstance(content, bytes) else content.encode()


def _ase_dictionary(sample: Sample) -> str:
    from ase.io.jsonio import encode

    return str(encode(sample.atoms.todict()))


def _ase_atoms(sample: Sample) -> str:
    from ase.io.jsonio import encode

    return str(encode(sample.atoms))


def _gemmi_cif(sample: Sample) -> str:
    import gemmi

    small = gemmi.SmallStructure()
    small.cell = gemmi.UnitCell(*sample.structure.lattice.parameters)
    small.spacegroup_hm = "P 1"
    for place, site in enumerate(sample.structure):
        symbol = getattr(site.specie, "element", site.specie).symbol
        atom = gemmi.SmallStructure.Site()
        atom.label = f"{symbol}{place}"
        atom.type_symbol = symbol
        atom.fract = gemmi.Fractional(*site.frac_coords)
        small.add_site(atom)
    return str(small.make_cif_block().as_string())


def _gemmi_symmetric_cif(sample: Sample) -> str:
    """Write the sites that differ by symmetry; gemmi names the group by its symbol only.

    Near the tolerance of spglib, pymatgen may list the operations of a larger group than it names.
    Such a file contradicts itself, and with the symbol alone it would be another crystal.
    """
    import gemmi

    block = gemmi.cif.read_string(sample.symmetric_cif).sole_block()
    small = gemmi.make_small_structure_from_block(block)
    group = gemmi.find_spacegroup_by_name(small.spacegroup_hm.replace("_", ""))
    if len(group.operations()) != len(block.find_values("_symmetry_equiv_pos_as_xyz")):
        raise ValueError(f"the operations are not those of {small.spacegroup_hm}")
    return str(small.make_cif_block().as_string())


def _all_frames(path: Path, samples: list[Sample]) -> None:
    from ase.io import write

    write(path, [sample.atoms for sample in samples], format="extxyz")


def _database(path: Path, samples: list[Sample]) -> None:
    from ase.db import connect

    with connect(path) as database:  # one transaction
        for sample in samples:
            database.write(sample.atoms, number=sample.number)


def _list(path: Path, samples: list[Sample]) -> None:
    documents = [sample.structure.as_dict() for sample in samples]
    path.write_text(json.dumps(documents, default=_plain))


Write = Callable[[Sample], str | bytes]

FILES: dict[str, tuple[str, Write]] = {
    "CIF, pymatgen": (".cif", _pymatgen_cif),
    "CIF with symmetry, pymatgen": (".cif", lambda sample: sample.symmetric_cif),
    "CIF, ASE": (".cif", lambda sample: _ase(sample, "cif")),
    "CIF, gemmi": (".cif", _gemmi_cif),
    "CIF with symmetry, gemmi": (".cif", _gemmi_symmetric_cif),
    "POSCAR, pymatgen": (".vasp", _pymatgen_poscar),
    "POSCAR Cartesian, pymatgen": (".vasp", lambda s: _pymatgen_poscar(s, direct=False)),
    "POSCAR, ASE": (".vasp", lambda s: _ase(s, "vasp", direct=True, sort=s.number % 2 > 0)),
    "POSCAR Cartesian, ASE": (".vasp", lambda s: _ase(s, "vasp")),
    "POSCAR of VASP 4, ASE": (".vasp", lambda s: _ase(s, "vasp", vasp5=False)),
    "extended XYZ, ASE": (".xyz", lambda sample: _ase(sample, "extxyz")),
    "JSON, pymatgen": (".json", lambda sample: str(sample.structure.to(fmt="json"))),
    "short JSON, pymatgen": (".json", _pymatgen_short),
    "JSON of an entry, pymatgen": (".json", _pymatgen_entry),
    "JSON dictionary, ASE": (".json", _ase_dictionary),
    "JSON of atoms, ASE": (".json", _ase_atoms),
    "JSON database, ASE": (".json", lambda sample: _ase(sample, "json")),
}
"""For each way to write one structure to a file: the suffix, and the function that writes."""

DATABASES: dict[str, tuple[str, Callable[[Path, list[Sample]], None]]] = {
    "extended XYZ of many, ASE": (".xyz", _all_frames),
    "JSON of many, pymatgen": (".json", _list),
    "JSON database of many, ASE": (".json", _database),
    "database, ASE": (".db", _database),
}
"""The same for many structures in one file."""
