"""Rounds of a pass: it holds no lock while it derives, so that tasks may change under it.

A round works on its tasks as they are when it begins, as their refs say. What comes later is left
to the next round, before which the champions are asked the rows that are new.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from moma_cl.reconciling.commits import Inputs, inputs_of
from moma_cl.records.tasks import task_names

if TYPE_CHECKING:
    from moma_cl.records.hub import Reads

MOST_ROUNDS = 10

Tasks = Collection[str] | None
"""Names of tasks; none for all."""


Round = Callable[[Tasks, dict[str, Inputs]], bool]
"""Gets its tasks and what all tasks are then; says whether something became stale under it."""


def in_rounds(store: Reads, one_round: Round, only: Tasks, *, spread: bool = True) -> set[str]:
    """Make rounds over tasks until nobody changes one in a round; give those left to the next pass.

    Tasks that are changed in a round, or come, are among those of the next; those that went need
    nothing; where it does not spread, only those of the first count. The round itself notes which
    refs it has moved.
    """
    changed: set[str] = set()
    for _ in range(MOST_ROUNDS):
        before = _inputs(store)
        is_stale = one_round(only, before)
        after = _inputs(store)
        changed = {name for name, inputs in after.items() if before.get(name) != inputs}
        if not spread and only is not None:
            changed &= {*only}
        if not changed and not is_stale:
            break
        only = None if only is None else {*only, *changed}
    return changed


def _inputs(store: Reads) -> dict[str, Inputs]:
    return {name: inputs_of(store, name) for name in task_names(store)}
