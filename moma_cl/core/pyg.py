"""The graphs of torch_geometric, without the seconds that importing the whole of it takes.

Its ``__init__`` imports every data set, torch's compiler and Numba, three quarters of its time, of
which graphs need nothing. Here these modules are loaded when somebody first looks into them, as
`importlib.util.LazyLoader` does it; whoever needs them finds them as ever. Import graphs from here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

import torch  # noqa: F401  before: only what torch_geometric asks for is to wait

__all__ = ["Batch", "Data"]

_DEFERRED = frozenset({"numba", "torch._dynamo", "torch_geometric.datasets"})


class _Finder:
    """Finds modules as ever, but some of them are loaded when they are first looked into."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module that is to wait, and no other."""
        spec = PathFinder.find_spec(name, path, target) if name in _DEFERRED else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


@contextmanager
def _deferring() -> Iterator[None]:
    sys.meta_path.insert(0, _Finder)
    try:
        yield
    finally:
        sys.meta_path.remove(_Finder)


with _deferring():
    from torch_geometric.data import Batch, Data
