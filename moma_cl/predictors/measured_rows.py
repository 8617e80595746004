"""The rows of a task by their structures, to tell a question whose answer was measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from moma_cl.arraytypes import FloatArray
from moma_cl.datasets.segments import LiveRows
from moma_cl.structures.crystals import Crystal
from moma_cl.structures.fingerprints import fingerprint, reduced_formula, steps_apart


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MeasuredRows:
    """The live rows of a task, found by structure.

    Attributes
    ----------
    ids
        Id of each row.
    values
        Their targets, shape ``(n_rows,)``, in the task's unit.
    fingerprints
        Of their structures, shape ``(n_rows,)``.
    places
        Rows of each reduced formula: most questions are answered by a look into it.
    """

    ids: tuple[str, ...]
    values: FloatArray
    fingerprints: NDArray[np.uint64]
    places: Mapping[str, list[int]]

    @classmethod
    def none(cls) -> Self:
        """Know no rows."""
        return cls(ids=(), values=np.zeros(0), fingerprints=np.zeros(0, np.uint64), places={})

    @classmethod
    def of(cls, rows: LiveRows) -> Self:
        """Index the live rows of a dataset by their formulas."""
        places: defaultdict[str, list[int]] = defaultdict(list)
        for place, formula in enumerate(rows.formulas):
            places[formula].append(place)
        return cls(
            ids=rows.ids, values=rows.targets, fingerprints=rows.fingerprints, places=dict(places)
        )

    def find(self, crystal: Crystal) -> tuple[str, float] | None:
        """Find the row with this structure, within the noise that fingerprints allow for.

        Parameters
        ----------
        crystal
            The structure, in any cell.

        Returns
        -------
        tuple[str, float] | None
            Id and target of the row, of several the nearest; none where there is no such row.
        """
        places = self.places.get(reduced_formula(crystal.atomic_numbers))
        if places is None:
            return None
        steps = steps_apart(fingerprint(crystal), self.fingerprints[places])
        nearest = int(np.argmin(steps.sum(axis=1) + np.where(steps.max(axis=1) > 1, np.inf, 0)))
        if steps[nearest].max() > 1:
            return None
        return self.ids[places[nearest]], float(self.values[places[nearest]])
