"""Crystals from JSON documents: the compact form, and what pymatgen writes.

pymatgen's own reader is not used. It resolves ``@module`` and ``@class`` anywhere in a document,
which lets a file choose code to run, and it is a hundred times slower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from moma_cl.structures.crystals import Crystal, FloatArray
from moma_cl.structures.elements import atomic_number
from moma_store.errors import InvalidInputError

DISORDERED = (
    "disordered structure: {found}; order it first, e.g. with pymatgen's "
    "OrderDisorderedStructureTransformation"
)
_FULL = 1 - 1e-6  # occupancies are written with rounding errors


def crystal_from_document(document: Mapping[str, object]) -> Crystal:
    """Read one structure.

    Parameters
    ----------
    document
        Either ``lattice`` (shape ``(3, 3)``, rows, Å), ``species`` and ``frac_coords``, or the
        dictionary of a pymatgen ``Structure``.

    Returns
    -------
    Crystal
        The structure, coordinates as given.

    Raises
    ------
    InvalidInputError
        The document is not a fully ordered periodic structure; the code says why.
    """
    if "species" in document and "frac_coords" in document:
        species, coordinates = document["species"], document["frac_coords"]
        lattice = _lattice(document)
        numbers = _numbers(_listed(species, "species"))
        frac_coords = _numeric(coordinates, "frac_coords", shape=(len(numbers), 3))
    elif "sites" in document:
        lattice = _lattice(document)
        sites = [_mapping(site, "a site") for site in _listed(document["sites"], "sites")]
        numbers = _numbers([_site_species(site) for site in sites])
        frac_coords = _site_coordinates(sites, lattice)
    else:
        raise _malformed(
            f"a structure with the keys {sorted(map(str, document))[:8]}; expected lattice, "
            "species and frac_coords, a pymatgen Structure, or CIF or POSCAR text"
        )
    return Crystal(
        lattice=lattice,
        atomic_numbers=np.array(numbers, dtype=np.int64),
        frac_coords=frac_coords,
    )


def _malformed(found: str) -> InvalidInputError:
    return InvalidInputError(f"got {found}", code="invalid-input.malformed-structure")


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


def _lattice(document: Mapping[str, object]) -> FloatArray:
    lattice = document.get("lattice")
    if isinstance(lattice, Mapping):
        lattice = lattice.get("matrix")
    if lattice is None:
        raise InvalidInputError(
            "the structure has no lattice: put a molecule into a periodic box first, e.g. with "
            "pymatgen's Molecule.get_boxed_structure",
            code="invalid-input.no-lattice",
        )
    return _numeric(lattice, "lattice", shape=(3, 3))


def _numbers(species: Sequence[object]) -> list[int]:
    for name in species:
        if not isinstance(name, str):
            raise _malformed(f"species {str(name)[:64]!r}; expected an element symbol")
    return [atomic_number(str(name)) for name in species]


def _site_species(site: Mapping[str, object]) -> str:
    """Symbol of the one element that fills a site."""
    species = [_mapping(one, "a species") for one in _listed(site.get("species"), "site species")]
    if len(species) != 1:
        found = f"a site shared by {len(species)} species" if species else "an empty site"
        raise InvalidInputError(DISORDERED.format(found=found), code="invalid-input.disordered")
    occupancy = species[0].get("occu", 1)
    if not isinstance(occupancy, (int, float)) or not occupancy >= _FULL:
        raise InvalidInputError(
            DISORDERED.format(found=f"a site with occupancy {str(occupancy)[:32]}"),
            code="invalid-input.disordered",
        )
    element = species[0].get("element")
    if not isinstance(element, str):
        raise _malformed("a species without element")
    return element


def _site_coordinates(sites: Sequence[Mapping[str, object]], lattice: FloatArray) -> FloatArray:
    """Fractional coordinates of pymatgen's sites, which may have Cartesian ones only."""
    shape = (len(sites), 3)
    if all("abc" in site for site in sites):
        return _numeric([site["abc"] for site in sites], "abc", shape=shape)
    cartesian = _numeric([site.get("xyz") for site in sites], "xyz", shape=shape)
    try:
        return np.linalg.solve(lattice.T, cartesian.T).T.astype(np.float64)
    except np.linalg.LinAlgError as error:
        raise InvalidInputError(
            "the lattice vectors lie in a plane", code="invalid-input.zero-volume"
        ) from error
