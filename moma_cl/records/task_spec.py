"""What a task is, as its user states it: the one object that the command line and Python make."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self, TypeVar

from moma_cl.properties.table import canonical_property, unit_of_task
from moma_cl.properties.transforms import Transform
from moma_cl.properties.units import per_atom
from moma_cl.records.records import Grouping, ModuleKind, Task
from moma_store.errors import InvalidInputError

Choice = TypeVar("Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """What a task predicts, and how it is learned.

    Attributes
    ----------
    target
        Column of the data with the values to predict.
    unit
        Unit of the task's targets, predictions and errors, such as ``eV/atom`` (``1`` for a
        number). Values that name no unit of their own are in it. By default the canonical unit of
        the property.
    property
        What is measured, such as ``bulk_modulus``; by default the name of the column.
    transform
        What happens to targets before learning: ``none``, ``log10`` or ``log``.
    module
        What the task's own module specialises: ``full``, ``adapter``, or ``none`` for no module.
    fold_column
        Column that says of each row ``train``, ``validation`` or ``held-out``; by default a hash
        of the formula decides.
    per_atom
        Whether values are of a whole cell, such as total energies: they are divided by the number
        of its atoms, and the unit becomes one per atom. Values that name a unit per atom are not.
    intensive
        States that values do not grow with the cell, where their name or numbers look so.

    Raises
    ------
    InvalidInputError
        If the unit is unknown, or left out where the property has no known unit, or transform or
        module is none of those.

    Examples
    --------
    >>> TaskSpec(target="k_vrh", property="bulk_modulus", transform="log10").unit
    'GPa'
    """

    target: str
    unit: str = ""
    property: str = ""
    transform: Transform = Transform.NONE
    module: ModuleKind = ModuleKind.FULL
    fold_column: str | None = None
    per_atom: bool = False
    intensive: bool = False

    def __post_init__(self) -> None:
        measured = self.property or self.target
        unit = unit_of_task(self.unit or None, measured)
        resolved = {
            "property": measured,
            "unit": per_atom(unit) if self.per_atom else unit,
            "transform": _choice(Transform, self.transform, "transform", tuple(Transform)),
            "module": _choice(ModuleKind, self.module, "module", ModuleKind.of_tasks()),
        }
        for name, value in resolved.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, task: Task) -> Self:
        """Give the specification that a stored task was added with."""
        return cls(
            target=task.target,
            unit=task.unit,
            property=task.property,
            transform=Transform(task.transform),
            module=task.module,
            fold_column=task.fold_column,
            per_atom=task.per_atom,
        )

    def task(self, name: str, grouping: Grouping) -> Task:
        """Give the record of a task with this specification; ``grouping`` decides its folds."""
        return Task(
            name=name,
            property=canonical_property(self.property),
            target=self.target,
            unit=self.unit,
            transform=self.transform.value,
            module=self.module,
            grouping=grouping,
            fold_column=self.fold_column,
            per_atom=self.per_atom,
        )


def _choice(kind: type[Choice], value: str, field: str, allowed: tuple[Choice, ...]) -> Choice:
    if value not in allowed:
        raise InvalidInputError(
            f"the {field} of a task is {str(value)!r}; expected one of {', '.join(allowed)}"
        )
    return kind(value)
