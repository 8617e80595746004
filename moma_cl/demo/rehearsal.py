"""Rehearsing ``add-task``: everything that could refuse it, and nothing written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moma_cl.backbones.registry import backbone_class
from moma_cl.commands.add_rows import check_task_name
from moma_cl.datasets import added_rows
from moma_cl.datasets.folds import FOLD_NAMES, assign_folds
from moma_cl.datasets.intake import Intake
from moma_cl.progress import Progress, quiet
from moma_cl.properties.table import Transform, unit_of_task
from moma_cl.readers.rows import Reading
from moma_cl.readers.target_column import Units
from moma_cl.records.hub import hub_of
from moma_cl.records.records import Grouping
from moma_cl.records.refs import RefKind
from moma_cl.structures.checks import Refusal
from moma_store.errors import AlreadyExistsError
from moma_store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """What ``add-task`` would take in.

    Attributes
    ----------
    task
        The task's name.
    rows
        Rows that would be stored.
    repeated
        Rows that came twice.
    left_out
        Rows without a value in the fold column.
    grouping
        What would decide the folds.
    folds
        Rows by fold.
    refusals
        Rows that would be refused.
    flagged
        Rows whose target the property cannot have.
    """

    task: str
    rows: int
    repeated: int
    left_out: int
    grouping: str
    folds: dict[str, int]
    refusals: tuple[Refusal, ...]
    flagged: tuple[Refusal, ...]


def rehearse(
    path: Path,
    name: str,
    sources: Sequence[Path],
    *,
    target: str,
    unit: str | None = None,
    property_name: str | None = None,
    transform: Transform = Transform.NONE,
    fold_column: str | None = None,
    reading: Reading | None = None,
    progress: Progress = quiet,
) -> Rehearsed:
    """Validate the rows of a task without bringing it.

    Parameters
    ----------
    path
        The hub.
    name
        The task's name.
    sources
        Files and folders with structures and targets.
    target
        Column of the target.
    unit
        Its unit, and that of values which name none; by default that of the property.
    property_name
        What is measured; by default the name of the column.
    transform
        Of the target before learning.
    fold_column
        Column that assigns folds; by default a hash does.
    reading
        What the user says of the files.
    progress
        Told how many rows were read.

    Returns
    -------
    Rehearsed
        What would be taken in.

    Raises
    ------
    AlreadyExistsError
        If there is a task of this name.
    InvalidInputError
        If name, unit or data cannot be used.
    """
    check_task_name(name)
    measured = property_name or target
    units = Units(wanted=unit_of_task(unit, measured), property=measured)
    wanted = added_rows.Wanted(
        target=target, transform=transform, fold_column=fold_column, units=units, reading=reading
    )
    with Store.open(path) as store:
        if store.ref(RefKind.TASK.of(name)) is not None:
            raise AlreadyExistsError(
                f"task {name!r} exists in hub {path}; `moma-cl add-data {name}` adds rows to it"
            )
        intake = added_rows.take(
            sources,
            wanted,
            elements=backbone_class(store.backbone["name"]).elements,
            appended=False,
            progress=progress,
        )
        grouping = added_rows.grouping(intake)
        return Rehearsed(
            task=name,
            rows=len(intake.ids),
            repeated=intake.repeats,
            left_out=intake.left_out,
            grouping=str(grouping),
            folds=_folds(store, intake, grouping),
            refusals=intake.refusals,
            flagged=intake.flagged,
        )


def _folds(store: Store, intake: Intake, grouping: Grouping) -> dict[str, int]:
    labels = intake.fold_labels
    if labels is None:
        salt = hub_of(store).salt
        codes = assign_folds(intake.formulas, intake.fingerprints, grouping, salt)
        labels = [FOLD_NAMES[code] for code in codes]
    counts = Counter(labels)
    return {fold: counts[fold] for fold in FOLD_NAMES}
