"""Real spherical harmonics, and the coefficients that couple them, in e3nn's convention.

The harmonics of degree l are Y_l(r), of 2l + 1 components, for a unit vector r = (x, y, z); y is
the polar axis, and Σ_m Y_lm² = 2l + 1 ("component" normalisation). They are those of the rotation
group alone: under an inversion odd degrees change sign, but features carry no parity.

References
----------
Geiger and Smidt, *e3nn: Euclidean Neural Networks*, arXiv 2207.09453, sections 2 and 3.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray
from moma_cl.backbones.sevennet.edge_tensors import harmonics_of

# Rotations are read off harmonics at these directions: enough, and spread enough, for degree 3.
_DIRECTIONS = np.random.default_rng(0).normal(size=(16, 3))
_DIRECTIONS /= np.linalg.norm(_DIRECTIONS, axis=1)[:, None]


def wigner_3j(first: int, second: int, third: int) -> FloatArray:
    """Compute the tensor that couples three degrees to an invariant, of norm 1.

    It is the Clebsch-Gordan coefficients (Racah's formula) in the basis of real harmonics, divided
    by √(2l₃ + 1). Degrees l must fulfil the triangle condition |l₁ - l₂| ≤ l₃ ≤ l₁ + l₂.

    Parameters
    ----------
    first
        Degree l₁.
    second
        Degree l₂.
    third
        Degree l₃.

    Returns
    -------
    FloatArray
        Shape ``(2 * first + 1, 2 * second + 1, 2 * third + 1)``.

    References
    ----------
    Varshalovich, Moskalev and Khersonskii, *Quantum Theory of Angular Momentum* (1988), 8.2.1.
    """
    coupling = np.zeros((2 * first + 1, 2 * second + 1, 2 * third + 1))
    for m1 in range(-first, first + 1):
        for m2 in range(-second, second + 1):
            if abs(m1 + m2) <= third:
                value = _clebsch_gordan(first, m1, second, m2, third)
                coupling[first + m1, second + m2, third + m1 + m2] = value
    real = np.einsum(
        "ai,bj,ck,abc->ijk",
        _real_basis(first),
        _real_basis(second),
        _real_basis(third).conj(),
        coupling,
    )
    return np.ascontiguousarray(real.real) / math.sqrt(2 * third + 1)


def wigner_matrices(rotations: FloatArray, degree: int) -> FloatArray:
    """Compute how rotations turn harmonics: Y_l(R r) = D_l(R) Y_l(r).

    This is solved for D_l at more directions r than there are harmonics.

    Parameters
    ----------
    rotations
        Matrices R, shape ``(n_rotations, 3, 3)``.
    degree
        Largest degree.

    Returns
    -------
    FloatArray
        The matrices D of all degrees one after another, shape ``(n_rotations, Σ (2l + 1)²)``.
    """
    turned = np.ascontiguousarray((_DIRECTIONS @ np.swapaxes(rotations, 1, 2)).reshape(-1, 3))
    values = harmonics_of(turned, degree).reshape(len(rotations), len(_DIRECTIONS), -1)
    matrices = [
        np.swapaxes(values[:, :, n * n : (n + 1) ** 2], 1, 2) @ inverse
        for n, inverse in enumerate(_inverses(degree))
    ]
    return np.concatenate([one.reshape(len(rotations), -1) for one in matrices], axis=1)


@lru_cache
def _inverses(degree: int) -> tuple[FloatArray, ...]:
    """Give the pseudo-inverse of Y_l at the directions, for each degree, shape ``(16, 2l + 1)``."""
    values = harmonics_of(_DIRECTIONS, degree).T
    parts = [values[n * n : (n + 1) ** 2] for n in range(degree + 1)]
    return tuple(np.asarray(np.linalg.pinv(part), dtype=np.float64) for part in parts)


def _clebsch_gordan(j1: int, m1: int, j2: int, m2: int, j3: int) -> float:
    """Compute ⟨j₁ m₁ j₂ m₂ | j₃ m₁+m₂⟩ by Racah's formula, whose terms are whole numbers."""
    m3 = m1 + m2
    factorial = math.factorial
    triangle = (
        factorial(j1 + j2 - j3) * factorial(j1 - j2 + j3) * factorial(j2 + j3 - j1)
    ) / factorial(j1 + j2 + j3 + 1)
    moments = ((j1, m1), (j2, m2), (j3, m3))
    states = math.prod(factorial(j + m) * factorial(j - m) for j, m in moments)
    total = 0.0
    for k in range(max(0, j2 - j3 - m1, j1 - j3 + m2), min(j1 + j2 - j3, j1 - m1, j2 + m2) + 1):
        first = (j1 + j2 - j3 - k, j1 - m1 - k, j2 + m2 - k)
        second = (j3 - j2 + m1 + k, j3 - j1 - m2 + k)
        parts = (k, *first, *second)
        total += (-1) ** k / math.prod(map(factorial, parts))
    return math.sqrt((2 * j3 + 1) * triangle * states) * total


def _real_basis(degree: int) -> NDArray[np.complex128]:
    """Give real harmonics as combinations of complex ones: column k of a unitary matrix.

    The phase (-i)^l makes all coefficients of `wigner_3j` real.
    """
    basis = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=complex)
    basis[degree, degree] = 1.0
    for m in range(1, degree + 1):
        sign = (-1) ** m
        basis[degree + m, degree + m] = sign / math.sqrt(2)
        basis[degree - m, degree + m] = 1 / math.sqrt(2)
        basis[degree + m, degree - m] = 1j * sign / math.sqrt(2)
        basis[degree - m, degree - m] = -1j / math.sqrt(2)
    return (-1j) ** degree * basis
