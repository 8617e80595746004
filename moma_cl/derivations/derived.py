"""What derivations give, before it is stored."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from moma_cl.records.base import Record
from moma_store.records import BlobLink

PENDING_BLOB = BlobLink(digest="0" * 64, file="0" * 64, n_bytes=0)
"""Stands for the link to a blob that is not written yet; the store would refuse it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What a derivation gave, before it is stored."""

    record: Record  # with `PENDING_BLOB` where there are arrays
    arrays: dict[str, NDArray[np.generic]] = field(default_factory=dict)  # of its blob
    base: BlobLink | None = None  # the blob from which its parameters differ little


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """The end of one of several computations."""

    index: int  # of its derivation among those given
    outcome: Derived | BaseException  # the result, or what went wrong instead
    seconds: float = 0.0  # how long it took, s

    def result(self) -> Derived:
        """Give the result, or raise what went wrong."""
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome
