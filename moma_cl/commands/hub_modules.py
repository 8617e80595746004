"""The verbs of a hub for what comes from elsewhere and goes there: backbones, modules, archives.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moma_cl.commands.hub_views import HubViews
from moma_cl.core.limits import check_seconds

if TYPE_CHECKING:
    from moma_cl.commands.add_backbone import BackboneAdded
    from moma_cl.commands.add_module import ModuleAdded, Weights
    from moma_store.archives import Exported
    from moma_store.importing import Imported


class HubModules(HubViews):
    """What a hub takes in besides rows, and gives away; `moma_cl.Hub` has it all.

    Parameters
    ----------
    path
        The hub's folder.
    wait
        How long a verb that writes waits for another program that is writing, s.
    """

    def __init__(self, path: Path, wait: float) -> None:
        super().__init__(path)
        check_seconds("wait", wait)
        self._wait = wait

    # backbones, modules from elsewhere, archives

    def add_backbone(self, name: str, *, starter: bool = True) -> BackboneAdded:
        """Add a backbone; the next pass composes and fits every task on it, too.

        Parameters
        ----------
        name
            Name of the backbone.
        starter
            Whether the modules of it that come with moma-cl are added.

        Returns
        -------
        BackboneAdded
            What was added.

        Raises
        ------
        AlreadyExistsError
            If the hub has the backbone.
        BackboneError
            If there is no backbone of this name.
        InvalidInputError
            If it does not know an element of a task's rows.
        """
        from moma_cl.commands.add_backbone import add_backbone

        return add_backbone(self.path, name, starter=starter, wait=self._wait)

    def add_module(
        self, name: str, weights: Weights, *, backbone: str | None = None
    ) -> ModuleAdded:
        """Add a module that was trained elsewhere from a backbone of the hub.

        Parameters
        ----------
        name
            Name of the module; no task or module may have it.
        weights
            The parameters, and what their maker declares of them.
        backbone
            Name of the backbone; it must be named where the hub has several.

        Returns
        -------
        ModuleAdded
            The module.

        Raises
        ------
        AlreadyExistsError
            If the name is taken.
        BackboneError
            If names or shapes of the tensors are not exactly the backbone's.
        NotFoundError
            If the hub has no such backbone.
        InvalidInputError
            If the hub has several backbones and none is named; or if the file, a name, or a
            structure that it was trained on cannot be used.
        """
        from moma_cl.commands.add_module import add_module

        return add_module(self.path, name, weights, backbone=backbone, wait=self._wait)

    def export(self, target: str | Path, *, modules: Sequence[str] | None = None) -> Exported:
        """Write the hub, or chosen modules with what they depend on, into one archive.

        Parameters
        ----------
        target
            The archive; nothing may be there.
        modules
            Names of modules, each with those of all backbones, or ``NAME@BACKBONE`` for one; the
            whole hub by default.

        Returns
        -------
        Exported
            What the archive holds.

        Raises
        ------
        NotFoundError
            If there is no such module.
        AlreadyExistsError
            If there is a file already.
        IntegrityError
            If something that belongs into the archive is damaged.
        """
        from moma_cl.commands.archive import export

        return export(self.path, Path(target), modules=modules)

    def import_archive(
        self, archive: str | Path, *, catalogue: str | Path | None = None
    ) -> Imported:
        """Add the modules of an archive, or make the hub that was exported where there is none.

        Parameters
        ----------
        archive
            What :meth:`export` wrote.
        catalogue
            Local folder for the catalogue of a hub that is made.

        Returns
        -------
        Imported
            What was new.

        Raises
        ------
        BackboneError
            If the archive has modules of a backbone that the hub has not.
        AlreadyExistsError
            If a name is taken.
        InvalidInputError
            If the archive is not what :meth:`export` writes.
        IntegrityError
            If it is damaged.
        """
        from moma_cl.commands.archive import import_archive

        return import_archive(
            self.path,
            Path(archive),
            catalogue=None if catalogue is None else Path(catalogue),
            wait=self._wait,
        )
