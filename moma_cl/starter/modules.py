"""Where the starter modules are: one archive for each backbone, as ``moma-cl export`` writes it."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
"""Folder of the archives."""


def archive_of(backbone: str) -> Path:
    """Give the path of a backbone's archive, whether there is one or not."""
    return FOLDER / f"{backbone}.moma"


def archives() -> list[Path]:
    """List the archives that there are, by backbone."""
    return sorted(FOLDER.glob("*.moma"))
