"""A hub: the object through which programs and the command line use a hub's folder.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from moma_cl.commands.hub_answers import HubAnswers
from moma_cl.core.devices import AUTO, DeviceName
from moma_cl.progress import Progress, quiet

if TYPE_CHECKING:
    from moma_cl.commands.add_rows import RowsAdded
    from moma_cl.commands.add_tasks import TasksAdded
    from moma_cl.commands.init import HubMade
    from moma_cl.readers.memory import Data
    from moma_cl.readers.rows import Reading
    from moma_cl.recipe import Recipe
    from moma_cl.records.records import ModuleKind
    from moma_cl.records.task_spec import TaskSpec


class Hub(HubAnswers):
    """A folder with tasks, modules and predictors, and every verb that works on them.

    Each method opens the hub, does one thing and closes it again, so that other programs and other
    threads may use the hub too; threads may share one object. Only loaded predictors are kept.
    Nothing is printed: long steps call `progress`, if it is given.

    Parameters
    ----------
    path
        The hub's folder. It may be made later, by :meth:`init`.
    wait
        How long a verb waits, s: one that writes, for another program that is writing; one that
        makes a pass, for another pass. Then it raises `BusyError`, or leaves what it has stored to
        that pass.
    progress
        Called with a label, the steps done and the steps planned (zero where nobody knows).
    device
        Where encoders are trained, embed and predict: ``cpu``, ``cuda`` (an NVIDIA or AMD GPU),
        ``mps`` (Apple's), or ``auto``, the best of them that is there. A verb that computes raises
        `InvalidInputError` if the device is not there. Equal bits are promised for ``cpu`` only.

    Notes
    -----
    These parameters mean the same in every method that has them:

    name
        The task's name: letters, digits, ``_``, ``-`` and ``.``. Where there is no such task,
        `NotFoundError` is raised.
    data, structures
        Paths of files and folders; or, from memory, a pandas table, rows as dictionaries, pymatgen
        structures, ASE atoms or texts of CIF files. Targets are a column of the rows, or stand in
        the ``properties`` (pymatgen) or ``info`` (ASE) of the structures. `InvalidInputError` is
        raised if the data cannot be used.
    reading
        What the files do not say themselves: format, columns of structures and ids.
    compose
        Whether a whole pass follows; a first predictor is made in any case.
    dry_run
        Whether to change nothing, and only check and say what would be done.

    Examples
    --------
    >>> hub = Hub("lab")
    >>> hub.exists()
    False
    """

    def __init__(
        self,
        path: str | Path,
        *,
        wait: float = 0.0,
        progress: Progress = quiet,
        device: DeviceName = AUTO,
    ) -> None:
        super().__init__(Path(path), wait, progress, device)

    def __repr__(self) -> str:
        return f"Hub({str(self.path)!r})"

    # making a hub

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        backbones: Sequence[str] | None = None,
        recipe: Recipe | None = None,
        wait: float = 0.0,
        progress: Progress = quiet,
        device: DeviceName = AUTO,
        **options: Any,
    ) -> Self:
        """Make a hub; parameters are those of the class and of :meth:`init`."""
        hub = cls(path, wait=wait, progress=progress, device=device)
        hub.init(backbones=backbones, recipe=recipe, **options)
        return hub

    def init(
        self,
        *,
        backbones: Sequence[str] | None = None,
        catalogue: str | Path | None = None,
        salt: str | None = None,
        recipe: Recipe | None = None,
        starter: bool = True,
    ) -> HubMade:
        """Make the hub with its backbones, which become its first blobs.

        Parameters
        ----------
        backbones
            Names of the backbones, the pretrained encoders that all tasks start from; by default
            ``chgnet`` and ``sevennet-0``.
        catalogue
            Local folder for the catalogue, where the hub itself is on a network file system.
        salt
            Of the hash that assigns folds; hubs with equal salts have equal folds.
        recipe
            Settings that new tasks start with.
        starter
            Whether the modules that come with moma-cl are added.

        Returns
        -------
        HubMade
            What was made.

        Raises
        ------
        AlreadyExistsError
            If there is a hub already.
        BackboneError
            If there is no backbone of such a name.
        """
        from moma_cl.commands.init import init

        return init(
            self.path,
            backbones=backbones,
            catalogue=None if catalogue is None else Path(catalogue),
            salt=salt,
            recipe=recipe,
            starter=starter,
        )

    def exists(self) -> bool:
        """Say whether there is a hub in the folder."""
        from moma_cl.records.hub import is_hub

        return is_hub(self.path)

    # tasks and their rows

    def add_task(
        self,
        name: str,
        data: Data,
        spec: TaskSpec | None = None,
        *,
        recipe: Recipe | None = None,
        reading: Reading | None = None,
        compose: bool = True,
        dry_run: bool = False,
        **columns: Any,
    ) -> RowsAdded:
        """Add a task: its rows are stored, it answers at once, then it is composed and fitted.

        `spec` says what the task predicts. Instead of it, the attributes of `TaskSpec` may be given
        one by one: ``target="k_vrh", unit="GPa", transform="log10"``. `recipe` holds the settings
        of this task, by default those of the hub. Other parameters are explained by the class.

        Gives the rows added and refused, and what the pass did. Raises `AlreadyExistsError` if
        there is a task or module of this name.
        """
        from moma_cl.commands.add_rows import add_task
        from moma_cl.readers.memory import sources_of

        return add_task(
            self.path,
            name,
            sources_of(data),
            _spec(spec, columns),
            reading=reading,
            recipe=recipe,
            compose=compose,
            dry_run=dry_run,
            wait=self._wait,
            progress=self._progress,
            device=self.device,
        )

    def add_tasks(
        self,
        data: Data,
        targets: Sequence[str] | None = None,
        *,
        units: Mapping[str, str] | None = None,
        module: ModuleKind | None = None,
        recipe: Recipe | None = None,
        reading: Reading | None = None,
        compose: bool = True,
        dry_run: bool = False,
    ) -> TasksAdded:
        """Add a task for each of several columns of the same rows, which are read once.

        `targets` names the columns, by default all with numbers; each task is called like its
        column. The unit of a column is that in `units`, or in its header, or that of the property.
        Nothing is stored if one of the tasks is refused. `module` says what their modules change;
        other parameters are explained by the class.
        """
        from moma_cl.commands.add_tasks import add_tasks
        from moma_cl.readers.memory import sources_of

        return add_tasks(
            self.path,
            sources_of(data),
            targets,
            units=units,
            module=module,
            reading=reading,
            recipe=recipe,
            compose=compose,
            dry_run=dry_run,
            wait=self._wait,
            progress=self._progress,
            device=self.device,
        )

    def add_data(
        self,
        name: str,
        data: Data,
        *,
        unit: str | None = None,
        replace: bool = False,
        reading: Reading | None = None,
        compose: bool = True,
        dry_run: bool = False,
    ) -> RowsAdded:
        """Add rows to a task, or correct earlier ones; gives the same as :meth:`add_task`.

        Targets that name no unit are in `unit`, by default the task's. A row whose id is stored
        with other content replaces the stored row if `replace` is true, and is refused otherwise.
        Other parameters are explained by the class.
        """
        from dataclasses import replace as changed

        from moma_cl.commands.add_rows import add_data
        from moma_cl.readers.memory import sources_of
        from moma_cl.readers.rows import Reading

        reading = reading or Reading()
        return add_data(
            self.path,
            name,
            sources_of(data),
            reading=changed(reading, unit=unit) if unit is not None else reading,
            replace=replace,
            compose=compose,
            dry_run=dry_run,
            wait=self._wait,
            progress=self._progress,
            device=self.device,
        )

    def retract(self, name: str, ids: Collection[str], *, compose: bool = True) -> RowsAdded:
        """Retract rows of a task by their ids: nothing is learned from them any more.

        Gives the rows that are left, and what the pass did. Raises `NotFoundError` if the task has
        no row of an id, and `InvalidInputError` if no row would be left.
        """
        from moma_cl.commands.add_rows import retract

        return retract(
            self.path,
            name,
            ids,
            compose=compose,
            wait=self._wait,
            progress=self._progress,
            device=self.device,
        )

    def remove_task(self, name: str) -> None:
        """Remove a task and its module; their records stay until :meth:`gc`."""
        from moma_cl.commands.tasks import remove_task

        remove_task(self.path, name, wait=self._wait)


def _spec(spec: TaskSpec | None, columns: Mapping[str, Any]) -> TaskSpec:
    from moma_cl.records.task_spec import TaskSpec
    from moma_store.errors import InvalidInputError

    if spec is not None and not columns:
        return spec
    fields = TaskSpec.__dataclass_fields__
    unknown = sorted(columns.keys() - fields.keys())
    if spec is not None or unknown or "target" not in columns:
        wrong = f"it has no {unknown[0]!r}" if unknown else "both or neither were given"
        raise InvalidInputError(
            f"a task needs a TaskSpec, or its attributes ({', '.join(fields)}; the target at "
            f"least): {wrong}"
        )
    return TaskSpec(**columns)
