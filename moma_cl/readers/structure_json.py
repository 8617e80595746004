"""Crystals from JSON documents: the compact form, and those of programs and databases.

pymatgen's own reader is not used. It resolves ``@module`` and ``@class`` anywhere in a document,
which lets a file choose code to run, and it is a hundred times slower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray, IntArray
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.elements import SYMBOLS, atomic_number
from moma_cl.structures.molecules import Molecule, structure_of
from moma_store.errors import InvalidInputError

FULL_OCCUPANCY = 1 - 1e-6
"""Least occupancy of a site that counts as filled; occupancies have rounding errors."""

_CLASSES = ("Structure", "IStructure", "Molecule", "IMolecule")

Document: TypeAlias = Mapping[str, object]


def structure_from_document(document: Document) -> Crystal | Molecule:
    """Read one structure.

    Parameters
    ----------
    document
        In one of these layouts:

        - ``species`` and ``frac_coords`` with ``lattice`` (shape ``(3, 3)``, rows, Å), or
          ``species`` and ``positions`` (Cartesian, Å) with or without it;
        - the dictionary of a pymatgen ``Structure`` or ``Molecule``;
        - that of ``Atoms`` of JARVIS: ``lattice_mat``, ``coords`` and ``elements``;
        - the attributes of a structure of OPTIMADE;
        - that of ``Atoms`` of ASE: ``numbers`` and ``positions`` with ``cell`` and ``pbc``.

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
    read = _layout(document)
    if read is None:
        raise _malformed(
            f"a structure with the keys {sorted(map(str, document))[:8]}; expected lattice, "
            "species and frac_coords; the dictionary of a pymatgen Structure, or of Atoms of ASE "
            "or JARVIS; the attributes of an OPTIMADE structure; or CIF or POSCAR text"
        )
    return read(document)


def is_structure(document: Document) -> bool:
    """Say whether a document is a structure itself, not a row with one in a column."""
    return _layout(document) is not None


def without_structure(document: Document) -> dict[str, object]:
    """Give what a document that is a structure says besides, such as an id and measured values."""
    return {
        name: value
        for name, value in document.items()
        if name not in _STRUCTURE_KEYS and not name.startswith("@")
    }


def _layout(document: Document) -> Callable[[Document], Crystal | Molecule] | None:
    """Find the reader of a document's layout."""
    return next((read for keys, read in _LAYOUTS if document.keys() >= keys), None)


def _pymatgen(document: Document) -> Crystal | Molecule:
    cell, periodic = _lattice(document)
    sites = [_mapping(site, "a site") for site in _listed(document["sites"], "sites")]
    numbers = _numbers([_site_species(site) for site in sites])
    if cell is not None and all("abc" in site for site in sites):
        return _in_cell(numbers, cell, periodic, [site["abc"] for site in sites])
    return _in_space(numbers, cell, periodic, [site.get("xyz") for site in sites])


def _compact(document: Document) -> Crystal | Molecule:
    cell, periodic = _lattice(document)
    numbers = _numbers(_listed(document["species"], "species"))
    if document.get("positions") is not None:
        return _in_space(numbers, cell, periodic, document["positions"])
    return _in_cell(numbers, cell, periodic, document.get("frac_coords"))


def _jarvis(document: Document) -> Crystal | Molecule:
    numbers = _numbers(_listed(document["elements"], "elements"))
    cell = numeric(document["lattice_mat"], "lattice_mat", shape=(3, 3))
    place = _in_space if document.get("cartesian") else _in_cell
    return place(numbers, cell, None, document["coords"])


def _ase(document: Document) -> Crystal | Molecule:
    listed = _listed(document["numbers"], "numbers")
    numbers = numeric(listed, "numbers", shape=(len(listed),))
    if not np.isin(numbers, np.arange(1, len(SYMBOLS))).all():
        raise _malformed("numbers that are not all atomic numbers")
    cell = document.get("cell")
    vectors = None if cell is None else numeric(cell, "cell", shape=(3, 3))
    periodic = _periodic(document.get("pbc"))
    return _in_space(numbers.astype(np.int64), vectors, periodic, document["positions"])


def _optimade(document: Document) -> Crystal | Molecule:
    lost = {"implicit_atoms", "assemblies", "site_attachments"}
    features = document.get("structure_features") or []
    if lost & set(map(str, _listed(features, "structure_features"))):
        raise disordered(f"the OPTIMADE structure has the features {str(features)[:80]}")
    numbers = _optimade_numbers(document)
    n_sites = document.get("nsites", len(numbers))
    if n_sites != len(numbers):
        raise _malformed(f"{len(numbers)} sites where nsites is {str(n_sites)[:20]}")
    # A direction without a lattice vector has nulls.
    rows = _listed(document.get("lattice_vectors") or [[0, 0, 0]] * 3, "lattice_vectors")
    vectors = [[x or 0 for x in _listed(row or [0, 0, 0], "a lattice vector")] for row in rows]
    cell = numeric(vectors, "lattice_vectors", shape=(3, 3))
    periodic = _periodic(document.get("dimension_types"))
    return _in_space(numbers, cell, periodic, document["cartesian_site_positions"])


def _optimade_numbers(document: Document) -> IntArray:
    """Read the element of each site, by way of the species that have names of their own."""
    elements: dict[str, object] = {}
    for species in _listed(document.get("species") or [], "species"):
        kind = _mapping(species, "a species")
        name = str(kind.get("name"))[:64]
        symbols = _listed(kind.get("chemical_symbols"), "chemical_symbols")
        shares = _listed(kind.get("concentration", [1] * len(symbols)), "concentration")
        if kind.get("attached"):
            raise disordered(f"atoms are attached to the species {name!r}")
        if name in elements or len(symbols) != len(shares):
            raise _malformed(f"the species {name!r} twice, or with a wrong number of shares")
        site = [{"element": one, "occu": share} for one, share in zip(symbols, shares, strict=True)]
        elements[name] = _site_species({"species": site})
    names = _listed(document["species_at_sites"], "species_at_sites")
    return _numbers([elements.get(str(name)[:64], name) for name in names])


_LAYOUTS: tuple[tuple[frozenset[str], Callable[[Document], Crystal | Molecule]], ...] = (
    (frozenset({"sites"}), _pymatgen),
    (frozenset({"species_at_sites", "cartesian_site_positions"}), _optimade),
    (frozenset({"lattice_mat", "coords", "elements"}), _jarvis),
    (frozenset({"numbers", "positions"}), _ase),
    (frozenset({"species", "frac_coords"}), _compact),
    (frozenset({"species", "positions"}), _compact),
)
_STRUCTURE_KEYS = frozenset().union(*(keys for keys, _ in _LAYOUTS)) | {
    *("lattice", "pbc", "charge", "properties"),  # pymatgen and the compact form
    *("cartesian", "props", "abc", "angles"),  # JARVIS
    *("lattice_vectors", "species", "dimension_types", "nperiodic_dimensions", "nsites"),
    *("structure_features", "cell"),
}


def _in_space(
    numbers: IntArray,
    cell: FloatArray | None,
    periodic: NDArray[np.bool_] | None,
    positions: object,
) -> Crystal | Molecule:
    """Put atoms at Cartesian positions."""
    places = numeric(positions, "positions", shape=(len(numbers), 3))
    return structure_of(numbers, places, np.zeros((3, 3)) if cell is None else cell, periodic)


def _in_cell(
    numbers: IntArray, cell: FloatArray | None, periodic: NDArray[np.bool_] | None, sites: object
) -> Crystal | Molecule:
    """Put atoms at fractional coordinates."""
    if cell is None:
        raise InvalidInputError(
            "the structure has fractional coordinates but no lattice: add it, or give a "
            "molecule's Cartesian positions",
            code="invalid-input.no-lattice",
        )
    frac_coords = numeric(sites, "frac_coords", shape=(len(numbers), 3))
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
    value = _plain(value)
    if not isinstance(value, (list, tuple)):
        raise _malformed(f"{name} of type {type(value).__name__}; expected a list")
    return value


def _plain(value: object) -> object:
    """Make a list of an array, or of the object that ASE writes to JSON for one."""
    if isinstance(value, Mapping) and "array" in value:
        return _plain(value["array"])
    if isinstance(value, Mapping) and "__ndarray__" in value:
        try:
            shape, _, numbers = _listed(value["__ndarray__"], "__ndarray__")
            array: FloatArray = np.reshape(np.array(numbers, dtype=np.float64), shape)  # type: ignore[call-overload]  # it is refused otherwise
        except (ValueError, TypeError, OverflowError) as error:
            raise _malformed("an array that is not shape, type and numbers") from error
        return array.tolist()
    return value.tolist() if isinstance(value, np.ndarray) else value


def _mapping(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _malformed(f"{name} of type {type(value).__name__}; expected an object")
    return value


def numeric(value: object, name: str, *, shape: tuple[int, ...]) -> FloatArray:
    """Turn nested lists of numbers into an array; what is none of its shape is refused."""
    try:
        array = np.array(_plain(value), dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise _malformed(f"{name} that is not an array of numbers of shape {shape}") from error
    if array.size == 0 and shape[0] == 0:
        return array.reshape(shape)
    if array.shape != shape:
        raise _malformed(f"{name} of shape {array.shape}; expected {shape}")
    return array


def _lattice(document: Mapping[str, object]) -> tuple[FloatArray | None, NDArray[np.bool_] | None]:
    """Read the lattice vectors, and along which of them the structure is periodic if not all."""
    lattice = document.get("lattice")
    told = lattice if isinstance(lattice, Mapping) else {"matrix": lattice}
    matrix, pbc = told.get("matrix"), told.get("pbc", document.get("pbc"))
    cell = None if matrix is None else numeric(matrix, "lattice", shape=(3, 3))
    return cell, _periodic(pbc)


def _periodic(pbc: object) -> NDArray[np.bool_] | None:
    """Read along which vectors a structure is periodic; none if it is along all."""
    if pbc is None or (isinstance(pbc, list) and pbc == [True, True, True]):
        return None
    if isinstance(pbc, bool):
        pbc = [pbc] * 3
    periodic = numeric(pbc, "pbc", shape=(3,)) != 0
    return None if periodic.all() else periodic


def _numbers(species: Sequence[object]) -> IntArray:
    for name in species:
        if not isinstance(name, str):
            raise _malformed(f"species {str(name)[:64]!r}; expected an element symbol")
    return np.array([atomic_number(str(name)) for name in species], dtype=np.int64)


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
