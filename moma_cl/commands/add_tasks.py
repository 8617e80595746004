"""``add-tasks``: a task for each of several columns of the same rows, which are read once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moma_cl.automation import inbox
from moma_cl.commands import new_task
from moma_cl.commands.add_rows import RowsAdded, after_pass, compose_now, new_task_added
from moma_cl.core.devices import AUTO, DeviceName, resolve_device
from moma_cl.progress import Progress, quiet
from moma_cl.records.task_spec import TaskSpec
from moma_cl.records.tasks import check_task_name
from moma_store.errors import InvalidInputError
from moma_store.store import Store

if TYPE_CHECKING:
    from moma_cl.readers.memory import Sources
    from moma_cl.readers.rows import Reading, Row
    from moma_cl.recipe import Recipe
    from moma_cl.reconciling.pass_actions import Done
    from moma_cl.records.records import ModuleKind

_NUMERIC = 0.5  # of a column's values are numbers in a column that is proposed
_NAMED = 5  # columns in a message
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksAdded:
    """Tasks that were added together.

    Attributes
    ----------
    added
        What was added to each, in the order of the columns.
    done
        What the pass did that followed.
    """

    added: tuple[RowsAdded, ...]
    done: tuple[Done, ...]


def find_targets(sources: Sources, reading: Reading | None = None) -> dict[str, str | None]:
    """Look for columns with numbers, of which each could be a task.

    Gives the unit of each by its name: that of its header, or the property's; none where neither is
    known.
    """
    from moma_cl.readers.dispatch import read_rows

    return _found(list(read_rows(sources, reading=reading, strict=True)))


def add_tasks(
    path: Path,
    sources: Sources,
    targets: Sequence[str] | None = None,
    *,
    units: Mapping[str, str] | None = None,
    module: ModuleKind | None = None,
    reading: Reading | None = None,
    recipe: Recipe | None = None,
    compose: bool = True,
    dry_run: bool = False,
    wait: float = 0.0,
    progress: Progress = quiet,
    device: DeviceName = AUTO,
) -> TasksAdded:
    """Validate all tasks, then store them, let each answer at once, and make one pass over them.

    Nothing is stored if one of them is refused.
    """
    from moma_cl.readers.dispatch import read_rows

    listed = new_task.origins(sources)  # before rows are read: files may change meanwhile
    rows = list(read_rows(sources, reading=reading, strict=True))
    specs = _specs(rows, targets, units or {}, module)
    with Store.open(path) as store:
        for name in specs:
            check_task_name(name)
            new_task.check_name_free(store, name)
        found = resolve_device(device)  # before anything is written
        new = [
            new_task.prepare(
                store,
                name,
                sources,
                spec,
                reading=reading,
                recipe=recipe,
                dry_run=dry_run,
                progress=progress,
                rows=rows,
            )
            for name, spec in specs.items()
        ]
        if dry_run:
            return TasksAdded(added=tuple(map(new_task_added, new)), done=())
        for one in new:
            new_task.store_new(store, one, origins=listed, wait=wait)
        inbox.open_for(store.path, list(specs))

        def passed(name: str, *, compose: bool) -> tuple[Done, ...]:
            return compose_now(
                store, name, compose=compose, wait=wait, progress=progress, device=found
            )

        answered = [passed(name, compose=False) for name in specs]
        done = passed(new[-1].name, compose=True) if compose else answered[-1]
        return TasksAdded(
            added=tuple(
                after_pass(store, one.name, one.n_rows, one.intake, own, one.advice, device=found)
                for one, own in zip(new, answered, strict=True)
            ),
            done=done,
        )


def _specs(
    rows: Sequence[Row],
    targets: Sequence[str] | None,
    units: Mapping[str, str],
    module: ModuleKind | None,
) -> dict[str, TaskSpec]:
    """Describe a task for each column, by the task's name."""
    from moma_cl.records.records import ModuleKind

    found = _found(rows)
    chosen = list(dict.fromkeys(targets if targets is not None else found))
    if not chosen:
        raise InvalidInputError(
            "no column holds numbers; name those that should be learned (`--targets a,b`)",
            code="invalid-input.missing-column",
        )
    of_each = {target: units.get(target) or found.get(target) for target in chosen}
    lacking = [target for target, unit in of_each.items() if unit is None and target in found]
    if lacking:
        raise InvalidInputError(
            f"nothing says in which unit {_listed(lacking)} are: write it in the header, as in "
            f"`{lacking[0]} [eV]`, or give `--unit {lacking[0]}=eV` (1 for a number)",
            code="invalid-input.missing-unit",
        )
    specs: dict[str, TaskSpec] = {}
    for target, unit in of_each.items():
        name = _NOT_IN_NAMES.sub("_", target).strip("_")
        if name in specs:
            raise InvalidInputError(
                f"columns {specs[name].target!r} and {target!r} would both be task {name!r}; add "
                "one of them by `moma-cl add-task`"
            )
        specs[name] = TaskSpec(target=target, unit=unit or "1", module=module or ModuleKind.FULL)
    return specs


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more


def _found(rows: Iterable[Row]) -> dict[str, str | None]:
    from moma_cl.datasets.target_column import split_header
    from moma_cl.properties.table import known_property

    n_values: dict[str, int] = {}
    n_numbers: dict[str, int] = {}
    for row in rows:
        for header, value in row.values.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and value != "":
                n_values[header] = n_values.get(header, 0) + 1
                n_numbers[header] = n_numbers.get(header, 0) + is_number
    units: dict[str, str | None] = {}
    for header, number in n_numbers.items():
        if number > _NUMERIC * n_values[header]:
            name, unit = split_header(header)
            listed = known_property(name)
            units[name] = unit or (listed.unit if listed else None)
    return units
