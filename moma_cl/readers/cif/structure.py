"""From the text of a CIF to all atoms of its cell, or a refusal that says why."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.readers.cif.operations import PARTS, Operations, parse_operations, symmetry_error
from moma_cl.readers.cif.sites import Site, has_sites, read_sites
from moma_cl.readers.cif.space_groups import all_settings, hall_key, named, operations_of
from moma_cl.readers.cif.syntax import Block, blocks, malformed, number, value_of
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.elements import NUMBERS, SYMBOLS
from moma_store.errors import InvalidInputError

_OPERATION_TAGS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_NAME_TAGS = (
    "_space_group_name_h-m_alt",
    "_space_group_name_h-m_full",
    "_space_group_name_h-m",
    "_symmetry_space_group_name_h-m",
)
_HALL_TAGS = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_NUMBER_TAGS = ("_space_group_it_number", "_symmetry_int_tables_number")
_CLOSEST = 0.4  # Å; nearer than this, two images are one atom or a mistake
_SMALL = 0.02  # Å; images this near are one atom, whatever the digits


def read_cif(text: str) -> Crystal:
    """Read the one structure of a CIF.

    Its symmetry operations, the symbols and the number of its space group, its formula and the
    number of formula units have to agree.
    """
    found = [block for block in blocks(text) if has_sites(block)]
    if len(found) > 1:
        raise InvalidInputError(
            f"the CIF holds {len(found)} structures: give each its own file",
            code="invalid-input.many-structures",
        )
    if not found:
        raise malformed("it lists no atoms")
    (block,) = found
    lattice = _lattice(block)
    formula = _formula(block)
    sites = read_sites(block, formula)
    if not sites:
        raise malformed("it lists no atoms")
    _refuse_modulated(block)
    return _only_crystal(block, lattice, sites, formula)


def _only_crystal(
    block: Block, lattice: FloatArray, sites: list[Site], formula: Mapping[int, float]
) -> Crystal:
    """Try each symmetry that the file may mean; exactly one crystal may come out."""
    crystals: list[Crystal] = []
    first_error: InvalidInputError | None = None
    symmetries = _symmetries(block, lattice, bool(formula))
    for operations in symmetries:
        orbits = [_orbit(lattice, site, operations) for site in sites]
        crystal = _crystal(lattice, sites, orbits)
        try:
            _check_multiplicities(sites, orbits)
            _check_formula(crystal, formula, value_of(block, "_cell_formula_units_z"))
        except InvalidInputError as error:
            first_error = first_error or error
            continue
        if len(operations) > 1:
            # Atoms too near exclude no setting: the file may be in that setting, and wrong.
            _check_apart(crystal, sites, orbits, len(symmetries))
        if not any(_same_atoms(crystal, other) for other in crystals):
            crystals.append(crystal)
    if len(crystals) == 1:
        return crystals[0]
    if first_error is not None and not crystals:
        raise first_error
    raise symmetry_error(
        f"its space group has several settings, which give {len(crystals)} different crystals: "
        "add the symmetry operations"
    )


def _lattice(block: Block) -> FloatArray:
    """Lattice vectors as rows, Å; a along x in the plane of x and z, c along z."""
    cell = []
    for name in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"):
        value = value_of(block, f"_cell_{name}")
        if not value:
            raise malformed(f"it has no _cell_{name}")
        cell.append(number(value, f"_cell_{name}"))
    if not all(map(math.isfinite, cell)) or min(cell) <= 0 or max(cell[3:]) >= 180:
        raise malformed(f"its cell is {cell}")
    from pymatgen.core import Lattice

    lattice: FloatArray = np.array(Lattice.from_parameters(*cell).matrix, dtype=np.float64)
    stated = value_of(block, "_cell_volume")
    volume = abs(float(np.linalg.det(lattice)))
    if stated and not math.isclose(number(stated, "_cell_volume"), volume, rel_tol=0.01):
        raise InvalidInputError(
            f"the CIF is not clear: _cell_volume is {stated[:20]}, its cell has {volume:.6g} Å³",
            code="invalid-input.cif-cell",
        )
    return lattice


def _formula(block: Block) -> dict[int, float]:
    """Read the sum formula: how many of each atomic number; empty if there is none."""
    written = value_of(block, "_chemical_formula_sum")
    found: dict[int, float] = {}
    for word in re.split(r"[\s,]+", written.strip()):
        parts = re.findall(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+)?", word)
        if "".join(symbol + count for symbol, count in parts) != word or any(
            symbol not in NUMBERS for symbol, _ in parts
        ):
            capitals = re.fullmatch(r"([A-Z]{2})(\d+\.?\d*|\.\d+)?", word)
            parts = [(capitals[1].title(), capitals[2])] if capitals else []
            if not parts or parts[0][0] not in NUMBERS:
                raise InvalidInputError(
                    f"the CIF is not clear: _chemical_formula_sum {written[:60]!r} is no sum "
                    "formula",
                    code="invalid-input.cif-formula",
                )
        for symbol, count in parts:
            element = NUMBERS[symbol]
            found[element] = found.get(element, 0.0) + float(count or 1)
    return {element: count for element, count in found.items() if count > 0}


def _symmetries(block: Block, lattice: FloatArray, has_formula: bool) -> list[Operations]:
    """List the symmetries that a file may mean: one where it lists operations."""
    names = [value for tag in _NAME_TAGS if (value := value_of(block, tag))]
    hall = value_of(block, *_HALL_TAGS)
    stated = value_of(block, *_NUMBER_TAGS)
    it_number = round(number(stated, "the number of the space group")) if stated else 0
    metric = lattice @ lattice.T
    listed = [
        text for tag in _OPERATION_TAGS for text in block.get(tag, []) if text not in {"?", "."}
    ]
    if listed:
        operations = parse_operations(tuple(listed))
        _check_named(operations, names, hall, it_number)
        possible = [operations]
    elif names or hall or it_number:
        possible = _settings(names, hall, it_number)
    elif has_formula and value_of(block, "_cell_formula_units_z"):
        possible = [operations_of(1)]  # the composition says whether all atoms are listed
    elif not any(tag.startswith(("_symmetry_", "_space_group_", "_parent_")) for tag in block):
        possible = [operations_of(1)]  # the dictionary's default: x, y, z
    else:
        raise symmetry_error(
            "its space group and symmetry operations are unknown: if all atoms are listed, write "
            "_symmetry_space_group_name_H-M 'P 1'"
        )
    kept = [operations for operations in possible if operations.keep(metric)]
    if not kept:
        raise symmetry_error("its cell does not have the symmetry of its space group")
    return kept


def _settings(names: list[str], hall: str, it_number: int) -> list[Operations]:
    """Find the settings that all symbols and the number allow."""
    known = list(all_settings())
    for name in names:
        allowed = named(name)
        if not allowed:
            raise symmetry_error(
                f"the space group {name[:30]!r} is not known: add the symmetry operations"
            )
        known = [setting for setting in known if setting in allowed]
    if hall:
        allowed = tuple(s for s in all_settings() if s.hall == hall_key(hall))
        if not allowed:
            raise symmetry_error(
                f"the Hall symbol {hall[:30]!r} is not known: add the symmetry operations"
            )
        known = [setting for setting in known if setting in allowed]
    if it_number:
        known = [setting for setting in known if setting.number == it_number]
    if not known:
        raise symmetry_error(
            "the names of its space group contradict each other: "
            f"{', '.join(filter(None, [*names, hall, str(it_number or '')]))[:80]}"
        )
    different: list[Operations] = []
    for setting in known:
        operations = operations_of(setting.hall_number)
        if not any(operations.same_as(other) for other in different):
            different.append(operations)
    return different


def _check_named(operations: Operations, names: list[str], hall: str, it_number: int) -> None:
    """Refuse operations that are not those of the space group that the file names."""
    for name in names:
        _check_origin(operations, name)
    numbers = [{setting.number for setting in named(name)} for name in names]
    wanted = [(", ".join(names)[:40], found) for found in numbers if found]
    if it_number:
        wanted.append((str(it_number), {it_number}))
    halls = [s for s in all_settings() if s.hall == hall_key(hall)] if hall else []
    if halls and not any(operations.same_as(operations_of(s.hall_number)) for s in halls):
        raise symmetry_error(f"its symmetry operations are not those of {hall[:30]!r}")
    if not wanted:
        return
    actual = operations.space_group_number()
    for name, found in wanted:
        if actual not in found:
            raise symmetry_error(
                f"its symmetry operations are those of group {actual}, but it names {name}"
            )


def _check_origin(operations: Operations, name: str) -> None:
    """Refuse operations that differ from those of a symbol in their translations alone.

    In other axes they differ in their rotations, too; then the group tells whether they agree.
    """
    settings = [operations_of(setting.hall_number) for setting in named(name)]
    alike = [s for s in settings if np.array_equal(s.rotations, operations.rotations)]
    if alike and not any(operations.same_as(setting) for setting in alike):
        raise symmetry_error(
            f"the translations of its symmetry operations are not those of {name[:30]!r}: one is "
            "wrong, or its origin is not that of the symbol"
        )


def _refuse_modulated(block: Block) -> None:
    dimension = value_of(block, "_cell_modulation_dimension")
    if dimension and number(dimension, "_cell_modulation_dimension"):
        raise symmetry_error("it is modulated, and has no cell of three dimensions")


def _crystal(lattice: FloatArray, sites: list[Site], orbits: list[FloatArray]) -> Crystal:
    numbers = [site.atomic_number for site in sites]
    return Crystal(
        lattice=lattice,
        atomic_numbers=np.repeat(np.array(numbers, dtype=np.int64), [len(o) for o in orbits]),
        frac_coords=np.concatenate(orbits),
    )


def _check_multiplicities(sites: list[Site], orbits: list[FloatArray]) -> None:
    """Refuse a number of equivalent sites that is not what the file states."""
    if not any(site.multiplicity > 1 for site in sites):  # some programs write 1 for all
        return
    for site, orbit in zip(sites, orbits, strict=True):
        if site.multiplicity and site.multiplicity != len(orbit):
            raise symmetry_error(
                f"site {site.label[:20]!r} is said to have a multiplicity of "
                f"{site.multiplicity}; the symmetry makes it {len(orbit)}"
            )


def _orbit(lattice: FloatArray, site: Site, operations: Operations) -> FloatArray:
    """Give the equivalent positions of a site, shape ``(multiplicity, 3)``.

    A site within its digits of a special position is put there: 0.333 is a third.
    """
    start = np.array(site.frac_coords)
    if len(operations) == 1:
        return start[None] % 1.0
    images = operations.rotations @ start + operations.translations / PARTS
    apart = images - start
    apart -= np.rint(apart)
    lengths = np.linalg.norm(apart @ lattice, axis=1)
    edge = float(np.linalg.norm(lattice, axis=1).max())
    own = lengths <= max(_SMALL, min(3 * site.precision * edge, _CLOSEST / 2))
    special = start + apart[own].mean(axis=0)
    orbit = _distinct(lattice, operations, special)
    if len(orbit) * int(own.sum()) == len(operations):
        return orbit
    return _distinct(lattice, operations, start)  # some are too near, which is found later


def _distinct(lattice: FloatArray, operations: Operations, start: FloatArray) -> FloatArray:
    """Give the images of a position, each once."""
    images = (operations.rotations @ start + operations.translations / PARTS) % 1.0
    chosen: list[FloatArray] = []
    left = np.ones(len(images), dtype=bool)
    while left.any():
        image = images[np.argmax(left)]
        shift = images - image
        chosen.append(image)
        left &= np.linalg.norm((shift - np.rint(shift)) @ lattice, axis=1) > _SMALL / 10
    return np.array(chosen)


def _check_apart(
    crystal: Crystal, sites: list[Site], orbits: list[FloatArray], n_settings: int
) -> None:
    """Refuse sites of which the symmetry makes one nearly another, or nearly itself."""
    owner = np.repeat(np.arange(len(sites)), [len(orbit) for orbit in orbits])
    start = 0
    for place, orbit in enumerate(orbits):
        shift = crystal.frac_coords[start + 1 :] - crystal.frac_coords[start]
        lengths = np.linalg.norm((shift - np.rint(shift)) @ crystal.lattice, axis=1)
        if len(lengths) and lengths.min() < _CLOSEST:
            other = sites[owner[start + 1 + int(lengths.argmin())]]
            raise _overlap(sites[place].label, other.label, lengths.min(), n_settings)
        start += len(orbit)


def _overlap(one: str, other: str, distance: float, n_settings: int) -> InvalidInputError:
    choice = (
        f" in one of the {n_settings} settings that its space group may be in: add the symmetry "
        "operations"
    )
    return InvalidInputError(
        f"the CIF is not clear: {one[:20]!r} and {other[:20]!r} are {distance:.2g} Å apart after "
        f"the symmetry was applied{choice if n_settings > 1 else ''}",
        code="invalid-input.cif-overlap",
    )


def _check_formula(crystal: Crystal, formula: Mapping[int, float], units: str) -> None:
    """Refuse a cell that does not hold what the sum formula and Z say."""
    if not formula:
        return
    elements, amounts = np.unique(crystal.atomic_numbers, return_counts=True)
    cell = dict(zip(elements.tolist(), amounts.tolist(), strict=True))
    ratios = {element: cell.get(element, 0) / count for element, count in formula.items()}
    ratio = max(ratios.values())
    good = cell.keys() == formula.keys() and all(
        abs(found - ratio) <= 0.01 * ratio for found in ratios.values()
    )
    if good and units:
        stated = number(units, "_cell_formula_units_Z")
        good = abs(ratio - stated) <= 0.01 * stated or (
            abs(ratio - 1) < 0.01 and _units_by_pymatgen(cell) == stated
        )
    if not good:
        raise InvalidInputError(
            f"the CIF is not clear: its sites make {_text(cell)} in the cell, its formula is "
            f"{_text(formula)}{f' with Z = {units[:10]}' if units else ''}: sites are missing, "
            "repeated or of another element",
            code="invalid-input.cif-composition",
        )


def _units_by_pymatgen(cell: Mapping[int, int]) -> int:
    """Give the Z that pymatgen writes beside the formula of a whole cell, such as K4 O4.

    It reduces H to H2, of which one atom is half, and writes whole numbers.
    """
    from pymatgen.core import Composition

    named = {SYMBOLS[element]: count for element, count in cell.items()}
    return int(Composition(named).get_reduced_formula_and_factor()[1])


def _text(amounts: Mapping[int, float]) -> str:
    return " ".join(f"{SYMBOLS[element]}{count:g}" for element, count in sorted(amounts.items()))


def _same_atoms(first: Crystal, second: Crystal) -> bool:
    """Say whether two crystals in one cell have the same atoms in the same places."""
    if first.n_atoms != second.n_atoms:
        return False
    shift = first.frac_coords[:, None] - second.frac_coords[None]
    lengths = np.linalg.norm((shift - np.rint(shift)) @ first.lattice, axis=2)
    nearest: IntArray = lengths.argmin(axis=1)
    return bool(
        (lengths.min(axis=1) < _SMALL).all()
        and (first.atomic_numbers == second.atomic_numbers[nearest]).all()
        and len(set(nearest.tolist())) == first.n_atoms
    )
