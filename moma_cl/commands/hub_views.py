"""What a hub shows of itself; `moma_cl.Hub` has these verbs beside the others."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moma_cl.automation.status import HubStatus
    from moma_cl.reconciling.plan import Step
    from moma_cl.views.log import LogEntry
    from moma_cl.views.modules import ModuleListed
    from moma_cl.views.show import Shown
    from moma_cl.views.tasks import TaskListed


class HubViews:
    """The verbs of a hub that write nothing.

    Parameters
    ----------
    path
        The hub's folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def tasks(self) -> list[TaskListed]:
        """List the tasks with their errors and compositions, by name."""
        from moma_cl.views.tasks import tasks

        return tasks(self.path)

    def task(self, name: str) -> TaskListed:
        """List one task.

        Parameters
        ----------
        name
            The task's name.

        Returns
        -------
        TaskListed
            The task.

        Raises
        ------
        NotFoundError
            If there is no such task.
        """
        from moma_cl.views.tasks import task

        return task(self.path, name)

    def modules(self) -> list[ModuleListed]:
        """List the modules and which tasks compose them."""
        from moma_cl.views.modules import modules

        return modules(self.path)

    def show(self, name: str) -> Shown:
        """Show a task, a module, a ref or a record in full.

        Parameters
        ----------
        name
            A task; a module; a ref, such as ``hub/recipe``; or the digest of a record, of which
            six digits do if no other record has them.

        Returns
        -------
        Shown
            All that is stored of it.

        Raises
        ------
        NotFoundError
            If there is nothing of that name.
        InvalidInputError
            If several digests begin like this.
        """
        from moma_cl.views.show import show

        return show(self.path, name)

    def log(self, *, limit: int | None = None, task: str | None = None) -> list[LogEntry]:
        """Read what happened, newest first; at most `limit` entries, of one task if it is named."""
        from moma_cl.views.log import log

        return log(self.path, limit=limit, task=task)

    def status(self) -> HubStatus:
        """Show the state of the hub: tasks, inbox, last pass, daemon."""
        from moma_cl.automation.status import status

        return status(self.path)

    def plan(self, *, tasks: Collection[str] | None = None) -> list[Step]:
        """Work out what a pass would compute, and why; of all tasks, or of some."""
        from moma_cl.commands.update import plan

        return plan(self.path, tasks=tasks)

    def plan_graph(self, *, tasks: Collection[str] | None = None) -> str:
        """Draw what a pass would compute, and from what, in Graphviz's language."""
        from moma_cl.commands.update import plan_graph

        return plan_graph(self.path, tasks=tasks)
