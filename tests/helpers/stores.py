"""Stores that know of no program."""

from pathlib import Path
from typing import Any

from moma_store.store import Store

BACKBONE = {"name": "b", "digest": "d"}


def new_store(path: Path, **options: Any) -> Store:
    """Make a hub with nothing in it, and open it for writing."""
    return Store.create(path, **{"backbone": BACKBONE, **options})
