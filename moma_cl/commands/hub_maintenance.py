"""Passes, recipes, earlier predictors, verification and removal of unneeded files.

`moma_cl.Hub` has these verbs beside those of tasks, rows and predictions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moma_cl.commands.hub_modules import HubModules
from moma_cl.core.devices import DeviceName, check_device_name
from moma_cl.progress import Progress

if TYPE_CHECKING:
    from moma_cl.commands.maintenance import Migrated, Pinned
    from moma_cl.commands.set_recipe import RecipeSet
    from moma_cl.commands.tasks import Confirmed, RolledBack
    from moma_cl.reconciling.executors import ExecutorSettings
    from moma_cl.reconciling.pass_actions import Done
    from moma_store.collection import Collected
    from moma_store.verification import Verification


class HubMaintenance(HubModules):
    """The verbs of a hub that update and maintain it.

    Parameters
    ----------
    path
        The hub's folder.
    wait
        How long a verb that writes or makes a pass waits for another program that does, s.
    progress
        Called with a label, the steps done and the steps planned.
    device
        Name of the device that encoders compute on.
    """

    def __init__(self, path: Path, wait: float, progress: Progress, device: DeviceName) -> None:
        check_device_name(device)
        super().__init__(path, wait)
        self._progress = progress
        self.device = device

    def update(
        self,
        *,
        tasks: Collection[str] | None = None,
        max_seconds: float | None = None,
        retry: bool = False,
        executor: ExecutorSettings | None = None,
        settle: float = 2.0,
    ) -> list[Done]:
        """Make one pass: add what the inbox holds, and compute what is stale.

        Parameters
        ----------
        tasks
            Names of the tasks to look at; all by default.
        max_seconds
            What is likely to end later than this many seconds from now is left for another pass.
        retry
            Whether to try again what failed before.
        executor
            Where derivations are computed; by default in this process.
        settle
            How long a delivery must be unchanged before it is read, s.

        Returns
        -------
        list[Done]
            The steps of the pass; none where nothing was stale.

        Raises
        ------
        NotFoundError
            If a task does not exist.
        BusyError
            If another program makes a pass, or writes for long.
        InvalidInputError
            If a time is not finite, negative, or longer than a year.
        """
        from moma_cl.commands.update import update

        return update(
            self.path,
            tasks=tasks,
            max_seconds=max_seconds,
            retry=retry,
            executor=executor,
            settle=settle,
            wait=self._wait,
            progress=self._progress,
            device=self.device,
        )

    def set_recipe(
        self,
        task: str,
        settings: Mapping[str, Any] | None,
        *,
        dry_run: bool = False,
        compose: bool = True,
    ) -> RecipeSet:
        """Pin another recipe to a task.

        Parameters
        ----------
        task
            The task's name.
        settings
            Sections with the settings that change, the others stay; None for the recipe that a new
            task of this hub starts with.
        dry_run
            Whether only to say what would change, and what that makes stale.
        compose
            Whether a whole pass follows.

        Returns
        -------
        RecipeSet
            What changed, and what that makes stale.

        Raises
        ------
        NotFoundError
            If there is no such task.
        InvalidInputError
            If a setting is unknown, has the wrong type, or is not a task's to change.
        """
        from moma_cl.commands.set_recipe import set_recipe

        return set_recipe(
            self.path,
            task,
            settings,
            dry_run=dry_run,
            compose=compose,
            wait=self._wait,
            progress=self._progress,
            device=self.device,
        )

    def rollback(self, name: str, *, to: str | None = None) -> RolledBack:
        """Let an earlier predictor answer again; it answers until another is promoted.

        Parameters
        ----------
        name
            The task's name.
        to
            Digest of the predictor, or its beginning; by default the champion before this one.

        Returns
        -------
        RolledBack
            Which predictor answers now.

        Raises
        ------
        NotFoundError
            If there is no such task or predictor.
        """
        from moma_cl.commands.tasks import rollback

        return rollback(self.path, name, to=to, wait=self._wait)

    def confirm(self, name: str) -> Confirmed:
        """Promote the predictor whose promotion is held because of new rows.

        Raises `NotFoundError` if there is no such task, or no promotion of it is held.
        """
        from moma_cl.commands.tasks import confirm

        return confirm(self.path, name, wait=self._wait)

    # checking and tidying

    def verify(
        self, *, deep: bool = False, repair: bool = False, catalogue: str | Path | None = None
    ) -> Verification:
        """Check that everything in the hub is as it was written.

        Parameters
        ----------
        deep
            Whether to decode all arrays rather than hash files only.
        repair
            Whether to put damaged blobs into quarantine and to restore a damaged catalogue.
        catalogue
            The catalogue's folder, for the repair of a ``hub.toml`` that does not name it.

        Returns
        -------
        Verification
            What is damaged, and what was repaired.

        Raises
        ------
        NotFoundError
            If there is no hub.
        InvalidInputError
            If `catalogue` is not this hub's.
        IntegrityError
            If what should be repaired cannot be.
        """
        from moma_cl.commands.maintenance import verify

        return verify(
            self.path,
            deep=deep,
            repair=repair,
            catalogue=None if catalogue is None else Path(catalogue),
            wait=self._wait,
        )

    def gc(self, *, dry_run: bool = False) -> Collected:
        """Remove what nothing needs any more.

        Kept are what refs and pins reach, the last five predictors of each task, and what a pass
        would look up.

        Parameters
        ----------
        dry_run
            Whether only to say what would be removed.

        Returns
        -------
        Collected
            What was removed.

        Raises
        ------
        IntegrityError
            If the catalogue is damaged; nothing was removed.
        """
        from moma_cl.commands.maintenance import gc

        return gc(self.path, dry_run=dry_run, wait=self._wait)

    def migrate(self, target: str | Path) -> Migrated:
        """Copy a hub of an earlier format into the present one; the original stays as it is.

        Parameters
        ----------
        target
            The copy; nothing may be there.

        Returns
        -------
        Migrated
            The copy.

        Raises
        ------
        AlreadyExistsError
            If there is something at the target.
        InvalidInputError
            If the hub is in the present format.
        FormatError
            If a newer version made the hub.
        IntegrityError
            If the hub is damaged.
        """
        from moma_cl.commands.maintenance import migrate

        return migrate(self.path, Path(target))

    def pin(self, name: str) -> Pinned:
        """Keep a record and all it reaches, whatever becomes of its task; named as in `show`."""
        from moma_cl.commands.maintenance import pin

        return pin(self.path, name, wait=self._wait)

    def unpin(self, name: str) -> Pinned:
        """Let :meth:`gc` remove a record again once nothing else needs it."""
        from moma_cl.commands.maintenance import unpin

        return unpin(self.path, name, wait=self._wait)
