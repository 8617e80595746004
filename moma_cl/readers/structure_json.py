"""Crystals from JSON documents: the compact form, and what pymatgen writes.

pymatgen's own reader is not used. It resolves ``@module`` and ``@class`` anywhere in a document,
which lets a file choose code to run, and it is a hundred times slower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.elements import atomic_number
from moma_cl.structures.molecules import Molecule, structure_of
from moma_store.errors import InvalidInputError

FULL_OCCUPANCY = 1 - 1e-6
"""Least occupancy of a site that counts as filled; occupancies have rounding errors."""

_CLASSES = ("Structure", "IStructure", "Molecule", "IMolecule")


def structure_from_document(document: Mapping[str, object]) -> Crystal | Molecule:
    """Read one structure.

    Parameters
    ----------
    document
        Either ``species`` and ``frac_coords`` with ``lattice`` (shape ``(3, 3)``, rows, Å), or
        ``species`` and ``positions`` (Cartesian, Å) with or without it, or the dictionary of a
        pymatgen ``Structure`` or ``Molecule``.

    Returns
    -------
    Crystal | Molecule
        The structure, coordinates as given; a molecule where a lattice vector is lacking or its
        direction is stated not to be periodic.

    Raises
    ------
    InvalidInputError
        The document is not a fully ordered structure; the code says why.
    """
    _check_class(document)
    cell, periodic = _lattice(document)
    if "species" in document:
        numbers = _numbers(_listed(document["species"], "species"))
        fractional = document.get("frac_coords")
        cartesian = document.get("positions")
    elif "sites" in document:
        sites = [_mapping(site, "a site") for site in _listed(document["sites"], "sites")]
        numbers = _numbers([_site_species(site) for site in sites])
        is_fractional = cell is not None and all("abc" in site for site in sites)
        fractional = [site["abc"] for site in sites] if is_fractional else None
        cartesian = None if is_fractional else [site.get("xyz") for site in sites]
    else:
        raise _malformed(
            f"a structure with the keys {sorted(map(str, document))[:8]}; expected lattice, "
            "species and frac_coords, a pymatgen Structure, or CIF or POSCAR text"
        )
    return _placed(np.array(numbers, dtype=np.int64), cell, periodic, fractional, cartesian)


def _placed(
    numbers: IntArray,
    cell: FloatArray | None,
    periodic: NDArray[np.bool_] | None,
    fractional: object,
    cartesian: object,
) -> Crystal | Molecule:
    """Put atoms where the document says."""
    shape = (len(numbers), 3)
    if cartesian is not None:
        positions = _numeric(cartesian, "positions", shape=shape)
        vectors = np.zeros((3, 3)) if cell is None else cell
        return structure_of(numbers, positions, vectors, periodic)
    if cell is None:
        raise InvalidInputError(
            "the structure has fractional coordinates but no lattice: add it, or give a "
            "molecule's Cartesian positions",
            code="invalid-input.no-lattice",
        )
    frac_coords = _numeric(fractional, "frac_coords", shape=shape)
    if periodic is not None:
        return structure_of(numbers, frac_coords @ cell, cell, periodic)
    return Crystal(lattice=cell, atomic_numbers=numbers, frac_coords=frac_coords)


def _check_class(document: Mapping[str, object]) -> None:
    """Refuse what calls itself something else; no class is ever looked up by its name."""
    name = document.get("@class")
    if name is not None and name not in _CLASSES:
        raise _malformed(
            f"a document of class {str(name)[:40]!r}; expected one of {', '.join(_CLASSES)}"
        )


def is_structure(document: Mapping[str, object]) -> bool:
    """Say whether a document is a structure itself, not a row with one in a column."""
    return "sites" in document or (
        "species" in document and ("frac_coords" in document or "positions" in document)
    )


def disordered(problem: str) -> InvalidInputError:
    """Make the error of a structure with a site that no one element fills."""
    return InvalidInputError(
        f"disordered structure: {problem}; order it first, e.g. with pymatgen's "
        "OrderDisorderedStructureTransformation",
        code="invalid-input.disordered",
    )


def _malformed(problem: str) -> InvalidInputError:
    return InvalidInputError(f"got {problem}", code="invalid-input.malformed-structure")


def _listed(value: object, name: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise _malformed(f"{name} of type {type(value).__name__}; expected a list")
    return value


def _mapping(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _malformed(f"{name} of type {type(value).__name__}; expected an object")
    return value


def _numeric(value: object, name: str, *, shape: tuple[int, ...]) -> FloatArray:
    """Turn nested lists of numbers into an array."""
    try:
        array = np.array(value, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise _malformed(f"{name} that is not an array of numbers of shape {shape}") from error
    if array.size == 0 and shape[0] == 0:
        return array.reshape(shape)
    if array.shape != shape:
        raise _malformed(f"{name} of shape {array.shape}; expected {shape}")
    return array


def _lattice(document: Mapping[str, object]) -> tuple[FloatArray | None, NDArray[np.bool_] | None]:
    """Read the lattice vectors, and along which of them the structure is periodic if not all."""
    lattice, pbc = document.get("lattice"), document.get("pbc")
    matrix = lattice
    if isinstance(lattice, Mapping):
        matrix, pbc = lattice.get("matrix"), lattice.get("pbc", pbc)
    cell = None if matrix is None else _numeric(matrix, "lattice", shape=(3, 3))
    if pbc is None or pbc == [True, True, True]:
        return cell, None
    periodic = _numeric(pbc, "pbc", shape=(3,)) != 0
    return cell, None if periodic.all() else periodic


def _numbers(species: Sequence[object]) -> list[int]:
    for name in species:
        if not isinstance(name, str):
            raise _malformed(f"species {str(name)[:64]!r}; expected an element symbol")
    return [atomic_number(str(name)) for name in species]


def _site_species(site: Mapping[str, object]) -> str:
    """Symbol of the one element that fills a site."""
    species = [_mapping(one, "a species") for one in _listed(site.get("species"), "site species")]
    if len(species) != 1:
        raise disordered(f"a site shared by {len(species)} species" if species else "an empty site")
    occupancy = species[0].get("occu", 1)
    if not isinstance(occupancy, (int, float)) or not occupancy >= FULL_OCCUPANCY:
        raise disordered(f"a site with occupancy {str(occupancy)[:32]}")
    element = species[0].get("element")
    if not isinstance(element, str):
        raise _malformed("a species without element")
    return element
