"""Caesium chloride in every form, and whether a row holds it."""

import numpy as np

from moma_cl.testing.input_files import CIF, CSCL, LATTICE, POSCAR, WATER, XYZ

__all__ = ["CIF", "CSCL", "LATTICE", "POSCAR", "WATER", "XYZ", "codes", "is_cscl"]


def is_cscl(row) -> bool:
    """Whether a row was read, and is caesium chloride."""
    assert row.error is None, row
    return (
        row.crystal.atomic_numbers.tolist() == [55, 17]
        and np.allclose(row.crystal.lattice, LATTICE, atol=1e-6)
        and np.allclose(row.crystal.frac_coords, [[0, 0, 0], [0.5, 0.5, 0.5]], atol=1e-6)
    )


def codes(rows) -> list[str | None]:
    """Code of the error of each row; none for a good one."""
    return [row.error and row.error.code for row in rows]
