"""Stores that know of no program."""

from pathlib import Path
from typing import Any

from moma_store.store import Store


def new_store(path: Path, **options: Any) -> Store:
    """Make a hub with nothing in it, and open it for writing."""
    return Store.create(path, **options)
