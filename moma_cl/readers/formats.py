"""Formats of input files, which their names tell, and names for the rows of files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import PurePath


class InputFormat(StrEnum):
    """Formats of files that hold structures."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    TSV = "tsv"
    XLSX = "xlsx"
    CIF = "cif"
    POSCAR = "poscar"
    XYZ = "xyz"
    ASE_DB = "ase-db"
    ARCHIVE = "archive"


_SUFFIXES = {
    InputFormat.JSONL: ("jsonl", "ndjson"),
    InputFormat.JSON: ("json",),
    InputFormat.CSV: ("csv",),
    InputFormat.TSV: ("tsv",),
    InputFormat.XLSX: ("xlsx", "xlsm"),
    InputFormat.CIF: ("cif",),
    InputFormat.POSCAR: ("vasp", "poscar", "contcar"),
    InputFormat.XYZ: ("xyz", "extxyz"),
    InputFormat.ASE_DB: ("db",),
    InputFormat.ARCHIVE: ("zip", "tar", "tgz"),
}
_BY_SUFFIX = {f".{name}": one for one, names in _SUFFIXES.items() for name in names}

VASP_NAMES = ("POSCAR", "CONTCAR")
"""Files of VASP, which are named after what they are: their folders tell them apart."""


def format_of(name: str) -> InputFormat | None:
    """Tell the format of a file from its name, which may end with ``.gz``; none if it cannot."""
    bare = name.lower().removesuffix(".gz")
    by_suffix = _BY_SUFFIX.get(PurePath(bare).suffix)
    if by_suffix is None and any(name in bare.upper() for name in VASP_NAMES):
        return InputFormat.POSCAR
    return by_suffix


def stem_of(name: str) -> str:
    """Take the suffix off the name of a file; ``POSCAR.mp-1`` has none."""
    bare = name[:-3] if name.lower().endswith(".gz") else name
    path = PurePath(bare)
    known = path.suffix.lower() in _BY_SUFFIX
    return (path.stem if known or not bare.upper().startswith(VASP_NAMES) else bare) or name


def distinct_stems(paths: Sequence[PurePath]) -> dict[PurePath, str]:
    """Name files so that they can be told apart, for rows that have no id.

    A name is that of the file without suffixes. Where several are alike, as with ``*/POSCAR``, it
    is that of the folder, or as much of the path as is needed.
    """
    unique = list(dict.fromkeys(paths))
    stems = {path: stem_of(path.name) for path in unique}
    counts = Counter(stems.values())
    alike = [
        path for path in unique if counts[stems[path]] > 1 or stems[path].upper() in VASP_NAMES
    ]
    if not alike:
        return stems
    folders = {path: os.path.abspath(path.parent) for path in alike}  # noqa: PTH100  pure paths
    base = os.path.commonpath(folders.values())
    below = {
        path: "" if folder == base else PurePath(os.path.relpath(folder, base)).as_posix() + "/"
        for path, folder in folders.items()
    }
    forms: list[Callable[[PurePath], str]] = [
        lambda path: below[path] + stems[path],
        lambda path: below[path] + path.name,
    ]
    if all(stem.upper() in VASP_NAMES for stem in stems.values()) or len(counts) == 1:
        forms.insert(0, lambda path: below[path][:-1] or path.parent.name.strip(".") or stems[path])
    candidates = [{**stems, **{path: form(path) for path in alike}} for form in forms]
    return next((one for one in candidates if len({*one.values()}) == len(one)), candidates[-1])
