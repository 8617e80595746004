"""Crystals, as objects and as they stand in files."""

import numpy as np

from moma_cl.structures.crystals import Crystal

ALKALI = ("Li", "Na", "K", "Rb", "Cs")
ALKALINE = ("Mg", "Ca", "Sr", "Ba")
HALOGENS = ("F", "Cl", "Br", "I")
CHALCOGENS = ("O", "S", "Se", "Te")
RADII = dict(
    zip((*ALKALI, *ALKALINE, *HALOGENS, *CHALCOGENS), np.linspace(0.7, 2.2, 17), strict=True)
)
PAIRS = [(cation, anion) for cation in ALKALI for anion in HALOGENS] + [
    (cation, anion) for cation in ALKALINE for anion in CHALCOGENS
]
IMAGES = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3)


def crystal(lattice, atomic_numbers, frac_coords) -> Crystal:
    """A crystal from lists of numbers."""
    return Crystal(
        lattice=np.array(lattice, dtype=float),
        atomic_numbers=np.array(atomic_numbers, dtype=np.int64),
        frac_coords=np.array(frac_coords, dtype=float).reshape(-1, 3),
    )


def is_apart(site, sites, lattice, distance: float) -> bool:
    """Whether a site is further than a distance (Å) from all images of others."""
    separations = (site - np.array(sites).reshape(-1, 3))[:, None] + IMAGES
    return np.linalg.norm(separations @ lattice, axis=-1).min(initial=np.inf) > distance


def supercell(crystal: Crystal, *repeats: int) -> Crystal:
    """The same crystal, repeated along its three axes."""
    shifts = np.stack(np.meshgrid(*map(np.arange, repeats)), axis=-1).reshape(-1, 3)
    return Crystal(
        lattice=crystal.lattice * np.array(repeats)[:, None],
        atomic_numbers=np.repeat(crystal.atomic_numbers, len(shifts)),
        frac_coords=(crystal.frac_coords[:, None] + shifts).reshape(-1, 3) / repeats,
    )


def rocksalt(cation: str, anion: str, strain: float = 0.0) -> dict[str, object]:
    """The primitive cell of a rocksalt, its lattice constant made from made-up radii."""
    half = (RADII[cation] + RADII[anion]) * (1.0 + strain)
    return {
        "lattice": [[0.0, half, half], [half, 0.0, half], [half, half, 0.0]],
        "species": [cation, anion],
        "frac_coords": [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]],
    }
