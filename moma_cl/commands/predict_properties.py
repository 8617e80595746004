"""Answers without a hub and without data: the modules that ship with the package, by property."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from threading import Lock

import torch

from moma_cl.commands.predict import Question, check_level, interleaved
from moma_cl.commands.predictions import PredictedRow, Predictions
from moma_cl.commands.ready_predictor import ReadyPredictor
from moma_cl.core.devices import AUTO, DeviceName, resolve_device
from moma_cl.predictors.loaded_module import LoadedModule
from moma_cl.predictors.measured_rows import MeasuredRows
from moma_cl.progress import Progress, quiet
from moma_cl.readers.dispatch import read_rows
from moma_cl.readers.memory import Data, sources_of
from moma_cl.readers.rows import Reading
from moma_cl.starter.modules import archive_of
from moma_cl.views.shipped_properties import (
    ChosenProperty,
    ShippedProperty,
    choose_properties,
)
from moma_cl.workspace.workspace import Workspace
from moma_store.archived_records import ArchivedRecords

_KEPT = 16  # loaded modules: those used last


def predict(
    structures: Data,
    properties: str | Sequence[str],
    *,
    level: float | None = None,
    reading: Reading | None = None,
    progress: Progress = quiet,
    device: DeviceName = AUTO,
) -> Predictions:
    """Predict properties by the modules that ship with moma-cl: no hub and no data are needed.

    A bad structure never stops the rest. Modules are loaded once and kept; threads may call this
    at the same time.

    Parameters
    ----------
    structures
        Paths of files and folders; or, from memory, a pandas table, rows as dictionaries, pymatgen
        structures, ASE atoms or texts of CIF files.
    properties
        Names of properties, such as ``band_gap`` and ``formation_energy``, under any name they go
        by; ``moma-cl modules --shipped`` lists them. Where several modules answer a property, the
        message of each answer says which of them did and what the others are called.
    level
        Coverage of the intervals, between 0 and 1; 0.9 by default.
    reading
        What the files do not say themselves: format, columns of structures and ids.
    progress
        Called with a label, the steps done and zero.
    device
        Where encoders compute: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the best there is.

    Returns
    -------
    Predictions
        For each structure, in order, one row for each property.

    Raises
    ------
    InvalidInputError
        If no module answers a property, the level is no coverage, or the data are of no kind that
        is read.
    """
    rows = iter_predictions(
        structures, properties, level=level, reading=reading, progress=progress, device=device
    )
    return Predictions(tuple(rows))


def iter_predictions(
    structures: Data,
    properties: str | Sequence[str],
    *,
    level: float | None = None,
    reading: Reading | None = None,
    progress: Progress = quiet,
    device: DeviceName = AUTO,
) -> Iterator[PredictedRow]:
    """Predict as `predict` does, row by row, for more structures than fit in memory."""
    check_level(level)
    chosen, sources = choose_properties(properties), sources_of(structures)
    place = resolve_device(device)
    modules = [_ready(one, place) for one in chosen]
    questions = [Question(ready=one, level=level or one.predictor.level) for one in modules]
    return interleaved(questions, read_rows(sources, reading=reading), progress=progress)


class _LoadedModules:
    """The modules that were loaded last, for a whole process; threads may share them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], ReadyPredictor] = OrderedDict()
        self._lock = Lock()
        self._busy = Lock()  # one for all: the number of threads of torch is one for a process

    def ready(self, shipped: ShippedProperty, device: torch.device) -> ReadyPredictor:
        """Give a module; it is loaded once, and kept."""
        key = shipped.digest, str(device)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = _load(shipped, device, self._busy)
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]


@cache
def _loaded_modules() -> _LoadedModules:
    return _LoadedModules()


def _ready(one: ChosenProperty, device: torch.device) -> ReadyPredictor:
    ready, chosen = _loaded_modules().ready(one.chosen, device), one.chosen
    return replace(ready, property=chosen.name, module=chosen.module, remark=one.remark)


def _load(shipped: ShippedProperty, device: torch.device, busy: Lock) -> ReadyPredictor:
    path = archive_of(shipped.backbone)
    with (
        ArchivedRecords(path) as archive,
        Workspace(store=archive, progress=quiet, device=device) as workspace,
    ):
        module = LoadedModule.load(workspace, shipped.digest)
        return ReadyPredictor(
            task="",
            unit=module.unit,
            digest=shipped.digest,
            predictor=module,
            known_slabs=module.answers.slabs,
            explainer=None,
            dataset="",
            measured=MeasuredRows.none(),
            busy=busy,
        )
