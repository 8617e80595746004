"""Damage to files."""

from __future__ import annotations

from pathlib import Path


def count_bits(path: Path) -> int:
    """Give the number of bits in a file."""
    return path.stat().st_size * 8


def flip_bit(path: Path, bit: int) -> None:
    """Invert one bit of a file; doing so twice restores it.

    Parameters
    ----------
    path
        The file.
    bit
        Which bit, from 0 to `count_bits`.
    """
    with path.open("r+b") as stream:
        stream.seek(bit // 8)
        (byte,) = stream.read(1)
        stream.seek(bit // 8)
        stream.write(bytes([byte ^ 1 << bit % 8]))


def truncate(path: Path, n_bytes: int) -> None:
    """Cut a file off.

    Parameters
    ----------
    path
        The file.
    n_bytes
        What is left of it.
    """
    with path.open("r+b") as stream:
        stream.truncate(n_bytes)
