"""One pass over the tasks of a hub, which asks the champions first about the rows that are new."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from moma_cl.automation import drift
from moma_cl.reconciling.pass_actions import Done, PassAction

if TYPE_CHECKING:
    from moma_cl.reconciling.composer import Composer
    from moma_cl.reconciling.pass_lock import PassRunningError


def one_pass(composer: Composer, *, only: Collection[str] | None = None) -> list[Done]:
    """Make a pass over all tasks, or some, and over those that change meanwhile."""

    def new_rows(only: Collection[str] | None) -> list[Done]:
        return drift.measure(
            composer.store, only=only, progress=composer.progress, device=composer.device
        )

    return composer.run(only=only, before=new_rows)


def left_to_another(task: str, error: PassRunningError) -> Done:
    """Note that another process is at work, so that no pass follows here."""
    who, _, _ = error.message.rpartition("; ")
    text = f"{who}; its pass takes this up, else the next `moma-cl update` does"
    return Done.of(task, PassAction.LEFT_TO_ANOTHER, "", text)
